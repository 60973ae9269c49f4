"""The runs of the experiments: their variants, a cluster on this machine that trains them, and what is measured of each."""

import json
import os
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ABLATIONS = {
    "without R2MU": ["model.steps=1", "model.memory_slots=0"],
    "without ASAM": ["model.keys=null", "model.activation=softmax", "model.feed_forward=dense"],
    "without SOES": ["model.structure_bias=false", "model.graph_degree=null"],
}
DENSE = {"dense, equal parameters": "parameters", "dense, equal FLOPs": "operations_a_token"}
SEEDS = (1, 2, 3)


class Run:
    def __init__(self, experiment, variant, seed, settings, config):
        self.experiment, self.variant, self.seed, self.settings, self.config = experiment, variant, seed, settings, config
        words = "".join(c if c.isalnum() else "-" for c in variant).replace("--", "-")
        self.name = f"{experiment}-{words}-{seed}"


class Variants:
    """The settings of each variant, and what it costs: parameters, and operations a token at the mean length of an example."""

    def __init__(self, ress, config, vocabulary, length, settings):
        self.ress, self.config, self.vocabulary, self.length, self.base = ress, str(config), vocabulary, length, settings
        self.plain = self.count([])

    def count(self, settings):
        words = [self.ress, "plan", self.config, "--json", "--vocabulary", str(self.vocabulary)]
        dense = "model.architecture=transformer" in settings
        length = [f"data.sequence_length={self.length}"] + ([f"model.segment={self.length}"] if dense else [])
        for setting in [*self.base, *settings, *length]:
            words += ["--set", setting]
        return json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)

    def settings(self, name, ordered, longest):
        if name in ABLATIONS:
            return ABLATIONS[name]
        return self.dense(DENSE[name], ordered, longest) if name in DENSE else []

    def dense(self, measure, ordered, longest):
        """A dense Transformer of as many layers as ReSSFormer has steps, its width chosen so that `measure` comes nearest."""
        def settings(width):
            return [
                "model.architecture=transformer", f"model.positions={'rotary' if ordered else 'none'}",
                f"model.segment={longest}", "model.experts=1", "model.active_experts=1", f"model.expert_width={width}"]

        def count(width):
            return self.count(settings(width))[measure]

        low, high, target = 1, 16384, self.plain[measure]
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if count(middle) <= target else (low, middle)
        return settings(low if abs(count(low) - target) <= abs(count(high) - target) else high)


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
            time.sleep(0.5)
            for process in self.processes:
                if process.poll() is not None:
                    raise SystemExit(f"a process of the cluster ended; see {self.folder}/*.log")
            for line in self.call("runs", "--json").splitlines():
                row = json.loads(line)
                if row["run"] not in waiting or row["state"] not in ("finished", "failed", "cancelled", "paused"):
                    continue
                if row["state"] != "finished":
                    raise SystemExit(f"{row['run']}: {row['state']}, {row['reason']}")
                waiting.discard(row["run"])
                done += 1
                print(f"  {done}/{len(runs)}  {time.monotonic() - began:5.0f} s  {row['run']}", flush=True)


def measure(ress, checkpoints, runs, sets, data, sequences, cores, known):
    """`ress evaluate` of every run on every set of its experiment; `known` are results of an earlier call, by run and set."""
    def one(job):
        run, name = job
        words = [ress, "evaluate", f"{checkpoints}/{run.name}", "--data", f"{data}/{name}.h5", "--threads", "1", "--json",
                 "--sequences", str(sequences)]
        answer = subprocess.run(words, capture_output=True, text=True)
        if answer.returncode != 0:
            raise SystemExit(f"{run.name} on {name}: {answer.stderr}")
        result = json.loads(answer.stdout)
        return f"{run.name} {name}", {**result["metrics"], "loss": result["validation_loss"]}

    jobs = [(run, name) for run in runs for name in sets[run.experiment] if f"{run.name} {name}" not in known]
    with ThreadPoolExecutor(cores) as pool:
        for key, value in pool.map(one, jobs):
            known[key] = value
    return known
