#!/usr/bin/env python3
"""Times the exchanges between workers: ress over ZeroMQ, ress in shared memory, ress over MPI, and Gloo through torch.distributed, with the same
bytes. Rows for experts (all-to-all) never go through shared memory.

    swift build -c release --product ress-exchange && scripts/mpi.sh
    Benchmarks/exchange.py [--ranks 2,4] [--python PYTHON-WITH-TORCH]

Prints one table of medians in milliseconds. The column of a system that is not installed (torch, MPI) is empty.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = ROOT / ".build/release/ress-exchange"
OPERATIONS = [("all-to-all", 4 << 10), ("all-to-all", 64 << 10), ("all-to-all", 4 << 20), ("all-reduce", 4 << 20), ("all-reduce", 64 << 20)]

GLOO = r"""
import json, os, sys, time
import torch, torch.distributed as dist
rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
torch.set_num_threads(1)
dist.init_process_group("gloo")
for name, count in json.loads(sys.argv[1]):
    numbers = torch.zeros(count // 4)
    other = torch.empty_like(numbers)
    run = (lambda: dist.all_reduce(numbers)) if name == "all-reduce" else (lambda: dist.all_to_all_single(other, numbers))
    seconds, begun, over = [], time.perf_counter(), torch.zeros(1)
    while not over.item():
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
        if len(seconds) % 10 == 0:
            over[0] = float(time.perf_counter() - begun > 3)
            dist.broadcast(over, 0)
    if rank == 0:
        kept = sorted(seconds[5:])
        print(json.dumps({"exchange": "gloo", "operation": name, "ranks": size, "bytes": count,
                          "median_us": int(kept[len(kept) // 2] * 1e6), "best_us": int(kept[0] * 1e6), "rounds": len(kept)}), flush=True)
"""


def lines(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def ress(exchange, ranks, shared=False):
    with tempfile.TemporaryDirectory(prefix="ress-exchange-") as folder:
        address = f"ipc://{folder}/c"
        host = subprocess.Popen([PROGRAM, "host", "--ranks", str(ranks), "--exchange", exchange, "--address", address,
                                 "--shared-memory", str(shared).lower()])
        words = [str(PROGRAM), "rank", "--address", address, "--exchange", exchange]
        try:
            if exchange == "mpi":
                own = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                           OMPI_MCA_rmaps_base_oversubscribe="1", OMPI_MCA_hwloc_base_binding_policy="none")
                done = subprocess.run(["mpirun", "-n", str(ranks)] + words, env=own, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=300)
                return lines(done.stdout)
            workers = [subprocess.Popen(words + ["--name", f"w{rank}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for rank in range(ranks)]
            found = [line for worker in workers for line in lines(worker.communicate(timeout=300)[0])]
            return [dict(line, exchange="shared") if shared else line for line in found if not shared or line["operation"] == "all-reduce"]
        finally:
            host.kill()


def gloo(python, ranks):
    with tempfile.TemporaryDirectory(prefix="ress-gloo-") as folder:
        script = pathlib.Path(folder) / "gloo.py"
        script.write_text(GLOO)
        workers = []
        for rank in range(ranks):
            own = dict(os.environ, RANK=str(rank), WORLD_SIZE=str(ranks), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(29500 + os.getpid() % 1000 + ranks), OMP_NUM_THREADS="1")
            workers.append(subprocess.Popen([python, script, json.dumps(OPERATIONS)], env=own, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True))
        return [line for worker in workers for line in lines(worker.communicate(timeout=300)[0])]


def middle(values):
    return statistics.median(values) if values else None


def size(count):
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count >> 10} KiB"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", default="2,4")
    parser.add_argument("--rounds", type=int, default=1, help="repetitions; the median is printed, since other programs disturb")
    parser.add_argument("--python", default=sys.executable, help="a Python that has torch")
    options = parser.parse_args()
    found = {}
    for ranks in map(int, options.ranks.split(",")):
        runs = [lambda: ress("zeromq", ranks), lambda: ress("zeromq", ranks, shared=True)]
        if shutil.which("mpirun"):
            runs.append(lambda: ress("mpi", ranks))
        if subprocess.run([options.python, "-c", "import torch"], capture_output=True).returncode == 0:
            runs.append(lambda: gloo(options.python, ranks))
        for run in runs * options.rounds:
            for line in run():
                # The model's size is close to the requested one, not equal to the byte.
                near = min(OPERATIONS, key=lambda wanted: (wanted[0] != line["operation"], abs(wanted[1] - line["bytes"])))
                found.setdefault((ranks, near, line["exchange"]), []).append(line["median_us"] / 1000)
    print("| operation | a rank | ranks | ZeroMQ | shared memory | MPI | Gloo | ZeroMQ / Gloo | shared / Gloo |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for ranks in map(int, options.ranks.split(",")):
        for operation in OPERATIONS:
            values = [middle(found.get((ranks, operation, exchange), [])) for exchange in ("zeromq", "shared", "mpi", "gloo")]
            text = lambda value: "" if value is None else f"{value:.2f} ms" if value >= 1 else f"{value:.3f} ms"
            ratio = lambda value: f"{value / values[3]:.2f}" if value and values[3] else ""
            print(f"| {operation[0]} | {size(operation[1])} | {ranks} | {' | '.join(map(text, values))} | {ratio(values[0])} | {ratio(values[1])} |")


if __name__ == "__main__":
    main()
