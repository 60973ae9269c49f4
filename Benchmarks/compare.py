#!/usr/bin/env python3
"""Times ress and its PyTorch peers alternately, and prints a Markdown table.

    Benchmarks/compare.py --shapes bench-small,dense-small --threads 1,2 --seconds 20 --rounds 3 --out lines.jsonl

In a round every program runs once, ress first, so that all of them see the same conditions; a cell is the median over the rounds.
Rates are of whole training steps on one sequence. With --precision bf16, ress rounds the factors of its large products to bf16 and
PyTorch's forward runs under torch.autocast. The variables OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE are unset, because they
choose kernels of older processors; on AMD, PyTorch's MKL is told by a small preloaded library to take its fast path, which it
otherwise keeps for Intel. A program that is missing, fails or takes too long is reported on standard error
and has an empty cell. Only Python 3 is needed; --python names an environment with PyTorch.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TIME_STEP = ROOT / "Benchmarks" / "pytorch" / "time_step.py"
SHAPES = ROOT / "Benchmarks" / "shapes.json"
FORMS = {"ressformer": ("masked", "picked", "gathered"), "transformer": ("sdpa",)}
MODES = ("eager", "compile")
WARM_UP = 120  # seconds that a program without a compiler may take in addition to the measured time

Column = str  # "ress", or a form and a mode: "gathered compile"


def main() -> None:
    arguments = parse()
    shapes = json.loads(SHAPES.read_text())
    unknown = [name for name in arguments.shapes if name not in shapes]
    if unknown:
        sys.exit(f"no shape is called {', '.join(unknown)}: {SHAPES} has {', '.join(shapes)}")
    lines: dict[tuple[str, int, Column], list[dict]] = {}
    failed: set[tuple[str, int, Column]] = set()
    with open(arguments.out, "a") as out, tempfile.TemporaryDirectory() as scratch:
        variables = environment(scratch)
        for round_index in range(arguments.rounds):
            for shape in arguments.shapes:
                for threads in arguments.threads:
                    for column, command, limit in programs(shape, shapes[shape]["architecture"], threads, arguments):
                        cell = (shape, threads, column)
                        if cell in failed:
                            continue
                        line = run(command, limit, f"{shape}, {threads} threads, {column}", variables)
                        if line is None:
                            failed.add(cell)
                            continue
                        lines.setdefault(cell, []).append(line)
                        out.write(json.dumps(line | {"round": round_index, "load": os.getloadavg()[0]}) + "\n")
                        out.flush()
    print(table(lines, arguments))
    print(f"\n{arguments.precision}, rounds: {arguments.rounds}, {arguments.seconds:g} s each. Raw lines: {arguments.out}")


def programs(shape: str, architecture: str, threads: int, arguments) -> list[tuple[Column, list[str], float]]:
    """What a round runs for a shape: the column, the command, and how many seconds it may take."""
    common = [
        "--shape", shape, "--threads", str(threads), "--seconds", f"{arguments.seconds:g}", "--precision", arguments.precision]
    limit = arguments.seconds + WARM_UP
    chosen = [("ress", [arguments.ress, "step", *common], limit)]
    for form in FORMS[architecture]:
        for mode in MODES:
            if form in arguments.forms and mode in arguments.modes:
                command = [arguments.python, str(TIME_STEP), "--model", architecture, "--form", form, "--mode", mode, *common]
                chosen.append((f"{form} {mode}", command, limit + (arguments.limit if mode == "compile" else 0)))
    return chosen


def environment(scratch: str) -> dict[str, str]:
    """The environment of all programs: the best kernels of each library on this processor."""
    chosen = {key: value for key, value in os.environ.items() if key not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
    processor = Path("/proc/cpuinfo").read_text()
    if "GenuineIntel" in processor and "avx512f" in processor:
        # OpenBLAS 0.3.21 does not know processors after Cooper Lake, and takes its kernels of 2004 for them.
        chosen["OPENBLAS_CORETYPE"] = "SkylakeX"
    if "AuthenticAMD" in processor:
        library, source = f"{scratch}/fast-mkl.so", "int mkl_serv_intel_cpu_true(void) { return 1; }"
        built = subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", library], input=source, text=True)
        if built.returncode == 0:
            chosen["LD_PRELOAD"] = " ".join(filter(None, [library, os.environ.get("LD_PRELOAD")]))
        else:
            print("there is no C compiler: PyTorch's MKL takes its slow path on this processor", file=sys.stderr)
    return chosen


def run(command: list[str], limit: float, what: str, variables: dict[str, str]) -> dict | None:
    """The program's JSON line. Its whole process group is stopped at the limit: torch.compile has compilers running."""
    start = time.monotonic()
    try:
        process = subprocess.Popen(
            command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    except OSError as error:
        return report(what, f"cannot start {command[0]}: {error.strerror}")
    try:
        output, errors = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        stop(process)
        return report(what, f"stopped after {limit:g} s")
    except KeyboardInterrupt:
        stop(process)
        sys.exit("interrupted")
    if process.returncode != 0:
        last = (errors.strip() or output.strip() or "it said nothing").splitlines()[-1]
        return report(what, f"ended with status {process.returncode}: {last[:200]}")
    try:
        line = json.loads(output.strip().splitlines()[-1])
        rate, share = line["tokens_per_second"], line["share_of_sgemm"]
    except (IndexError, ValueError, KeyError, TypeError):
        return report(what, "printed no JSON line with tokens_per_second and share_of_sgemm")
    print(f"{what}: {rate:.0f} tokens/s, {share:.0%} of sgemm ({time.monotonic() - start:.0f} s)", file=sys.stderr, flush=True)
    return line


def stop(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def report(what: str, fault: str) -> None:
    print(f"{what}: {fault}", file=sys.stderr, flush=True)


def table(lines: dict[tuple[str, int, Column], list[dict]], arguments) -> str:
    columns = [
        f"{form} {mode}" for form in dict.fromkeys(form for forms in FORMS.values() for form in forms) for mode in MODES]
    columns = [column for column in columns if any(cell[2] == column for cell in lines)]
    heads = ["shape", "threads", "ress tokens/s", "ress of sgemm", *columns, "best PyTorch", "of sgemm", "ress / best"]
    rows = [heads, ["---", *["---:"] * (len(heads) - 1)]]

    def median(cell: tuple[str, int, Column], key: str) -> float | None:
        return statistics.median(line[key] for line in lines[cell]) if cell in lines else None

    for shape in arguments.shapes:
        for threads in arguments.threads:
            ress = median((shape, threads, "ress"), "tokens_per_second")
            peers = {column: median((shape, threads, column), "tokens_per_second") for column in columns}
            ran = {column: rate for column, rate in peers.items() if rate is not None}
            best = max(ran, key=ran.get) if ran else None
            rows.append([
                shape, str(threads), number(ress), percent(median((shape, threads, "ress"), "share_of_sgemm")),
                *(number(rate) for rate in peers.values()), best or "",
                percent(median((shape, threads, best), "share_of_sgemm")) if best else "",
                f"{ress / ran[best]:.2f}" if ress is not None and best else ""])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def parse() -> argparse.Namespace:
    def words(text: str) -> list[str]:
        return [word for word in text.split(",") if word]

    def numbers(text: str) -> list[int]:
        return [int(word) for word in words(text)]

    every_form = [form for forms in FORMS.values() for form in forms]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", type=words, default=["bench-small"], help="names in shapes.json, with commas between")
    parser.add_argument("--threads", type=numbers, default=[1], help="numbers of threads, with commas between")
    parser.add_argument("--seconds", type=float, default=10, help="what a program times in a round")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--forms", type=words, default=every_form, help=f"of {', '.join(every_form)}")
    parser.add_argument("--modes", type=words, default=list(MODES), help=f"of {', '.join(MODES)}")
    parser.add_argument("--limit", type=float, default=600, help="seconds that torch.compile may take")
    parser.add_argument("--python", default="/opt/torch-venv/bin/python")
    parser.add_argument("--ress", default=str(ROOT / ".build/release/ress-bench"))
    parser.add_argument("--out", default="bench.jsonl", help="the raw JSON lines are added to this file")
    arguments = parser.parse_args()
    for given, allowed in ((arguments.forms, every_form), (arguments.modes, MODES)):
        wrong = [word for word in given if word not in allowed]
        if wrong:
            parser.error(f"{', '.join(wrong)}: choose from {', '.join(allowed)}")
    return arguments


if __name__ == "__main__":
    main()
