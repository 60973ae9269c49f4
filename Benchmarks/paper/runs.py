"""The runs of the experiments: a cluster on this machine that trains them, and what is measured of each."""

import json
import os
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    experiment: str
    variant: str
    seed: int
    config: str
    settings: tuple
    kind: str = ""  # of a sweep: which rate

    @property
    def name(self):
        plain = "-".join("".join(c if c.isalnum() else " " for c in self.variant).split())
        return f"{self.experiment}-{plain}-{self.kind}{self.seed}"


class Cluster:
    """A coordinator and a worker a core, which end with this program. What was trained stays when it is interrupted."""

    def __init__(self, ress, folder, workers):
        self.ress, self.folder = ress, Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.sockets = tempfile.TemporaryDirectory(prefix="ress-paper-")
        self.address = f"ipc://{self.sockets.name}/coordinator"
        self.workers, self.processes = workers, []

    def __enter__(self):
        self.start("coordinator", "--listen", self.address, "--store", self.folder / "runs.db")
        for number in range(self.workers):
            self.start("worker", "--coordinator", self.address, "--name", f"paper-{number}", "--threads", 1, "--listen",
                       f"ipc://{self.sockets.name}/worker-{number}")
        return self

    def start(self, *words):
        log = open(self.folder / f"{words[0]}-{len(self.processes)}.log", "a")
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        self.processes.append(subprocess.Popen(
            [str(word) for word in (self.ress, *words)], stdout=log, stderr=log, env=environment))

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        self.sockets.cleanup()

    def call(self, *words):
        return subprocess.run(
            [str(word) for word in (self.ress, *words, "--coordinator", self.address)], check=True, capture_output=True,
            text=True).stdout

    def listed(self):
        """The runs. A busy coordinator may not answer in time; then it is asked again."""
        for attempt in range(5):
            try:
                return self.call("runs", "--json")
            except subprocess.CalledProcessError as error:
                last = error.stderr
                time.sleep(1 + attempt)
        raise SystemExit(f"the coordinator does not list its runs:\n{last}")

    def submit(self, run):
        words = ["submit", run.config, "--key", run.name, "--json"]
        for setting in [*run.settings, f"run={run.name}", f"training.seed={run.seed}"]:
            words += ["--set", setting]
        try:
            self.call(*words)
        except subprocess.CalledProcessError as error:
            raise SystemExit(f"{run.name} was refused:\n{error.stderr}") from None

    def train(self, runs):
        """Submits all and waits for all; tells of each that ends."""
        for run in runs:
            self.submit(run)
        waiting, began, done = {run.name for run in runs}, time.monotonic(), 0
        while waiting:
            # Sixteen of these may wait at once, and a list of all runs is not a small question.
            time.sleep(2)
            for process in self.processes:
                if process.poll() is not None:
                    raise SystemExit(f"a process of the cluster ended; see {self.folder}/*.log")
            for line in self.listed().splitlines():
                row = json.loads(line)
                if row["run"] not in waiting or row["state"] not in ("finished", "failed", "cancelled", "paused"):
                    continue
                if row["state"] != "finished":
                    raise SystemExit(f"{row['run']}: {row['state']}, {row['reason']}")
                waiting.discard(row["run"])
                done += 1
                print(f"  {done}/{len(runs)}  {time.monotonic() - began:5.0f} s  {row['run']}", flush=True)


def trained_seconds(checkpoints, run):
    """Seconds of a run's steps, by its metrics; evaluations are not in it."""
    total = 0.0
    for line in open(Path(checkpoints) / run.name / "metrics.jsonl", encoding="utf-8"):
        row = json.loads(line)
        if "tokens" in row:
            total += row.get("seconds", 0.0)
    return total


def key(run, measured, more=()):
    return " ".join([run.name, measured.dataset, *measured.options, *more])


def evaluate(ress, checkpoints, data, run, measured, more, scratch):
    """What `ress evaluate` says of one run at one place: metrics, the losses by part, and a number for each example."""
    sheet = Path(scratch) / f"{run.name}-{measured.dataset}-{'-'.join([*measured.options, *more])}.answers"
    command = [ress, "evaluate", f"{checkpoints}/{run.name}", "--data", f"{data}/{measured.dataset}.h5", "--threads", "1", "--json",
               "--answers", sheet, *measured.options, *more]
    answer = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if answer.returncode != 0:
        raise SystemExit(f"{run.name} on {measured.dataset}: {answer.stderr}")
    result = json.loads(answer.stdout)
    found = {"loss": result["validation_loss"], **result["metrics"], "parts": result.get("parts", []), "seconds": trained_seconds(checkpoints, run)}
    rows = [json.loads(line) for line in open(sheet, encoding="utf-8")]
    found["examples"] = [row["right"] / row["answers"] if row["answers"] else row["loss"] for row in rows]
    if found["parts"]:
        found["examples_by_part"] = [[row["parts"][part] for row in rows] for part in range(len(found["parts"]))]
    sheet.unlink()
    return found


def measure(ress, checkpoints, jobs, data, cores, known, save):
    """`jobs`: (run, measured, more options). `known` are results of an earlier call; what is new is added, and saved now and then."""
    wanted = {key(run, measured, more): (run, measured, more) for run, measured, more in jobs}
    missing = {name: job for name, job in wanted.items() if name not in known}
    with tempfile.TemporaryDirectory(prefix="ress-paper-") as scratch, ThreadPoolExecutor(cores) as pool:
        work = {name: pool.submit(evaluate, ress, checkpoints, data, *job, scratch) for name, job in missing.items()}
        try:
            for number, (name, future) in enumerate(work.items()):
                known[name] = future.result()
                if number % 50 == 49:
                    save(known)
        except BaseException:
            # Told to end, it does not measure the rest first; what is measured is kept.
            pool.shutdown(wait=False, cancel_futures=True)
            save(known)
            raise
    save(known)
    return known
