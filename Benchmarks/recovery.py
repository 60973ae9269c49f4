#!/usr/bin/env python3
"""How fast a run of real processes recovers from a dead worker, a dead coordinator, a stopped coordinator and a stopped worker.

    swift build -c release --product ress && Benchmarks/recovery.py            # 92,000 parameters, short steps
    Benchmarks/recovery.py --large                                             # 50 million parameters

For each fault it prints when it was noticed, when the run continued, when the first new step was recorded, and how many steps were
computed again; and finally whether the losses equal those of an undisturbed run. All files are in a temporary folder.
"""
import json, os, random, re, shutil, signal, subprocess, sys, tempfile, time

RESS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".build", "release", "ress")
LARGE = "--large" in sys.argv[1:]
STEPS = 120 if LARGE else 1200
CONFIG = """
run: bench
data: {path: text.h5, sequence_length: 64}
model: {width: 512, heads: 8, steps: 2, segment: 64, memory_slots: 8, cache: 16, window: 8, structure_rank: 16,
        graph_degree: 8, keys: 16, recency_taps: 4, experts: 16, active_experts: 2, expert_width: 1920}
training: {seed: 3, steps: %d, batch_sequences: 6, evaluate_every: 0}
checkpoint: {every: 30}
cluster: {patience_seconds: 10, threads: 1, mirror_every: 5}
""" if LARGE else """
run: bench
data: {path: text.h5, sequence_length: 64}
model: {width: 64, heads: 2, steps: 2, segment: 32, memory_slots: 4, cache: 16, window: 4, structure_rank: 4,
        graph_degree: 4, keys: 6, recency_taps: 3, experts: 4, active_experts: 2, expert_width: 96}
training: {seed: 3, steps: %d, batch_sequences: 12, evaluate_every: 400, evaluate_sequences: 4}
checkpoint: {every: 200}
cluster: {patience_seconds: 10, threads: 1}
"""
CONFIG %= STEPS
# Steps before the first fault, and between two.
QUIET = 12 if LARGE else 60


class Cluster:
    def __init__(self, folder):
        self.folder, self.processes = folder, {}
        self.address = "ipc://%s/cluster" % folder
        self.coordinator()

    def spawn(self, name, *words):
        log = open("%s/%s.log" % (self.folder, name), "ab")
        self.processes[name] = subprocess.Popen(
            [RESS, *words], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def coordinator(self):
        self.spawn("coordinator", "coordinator", "--listen", self.address)

    def worker(self, name):
        self.spawn(name, "worker", "--coordinator", self.address, "--name", name,
                   "--listen", "ipc://%s/data-%s" % (self.folder, name))

    def ask(self, *words):
        return subprocess.run([RESS, *words, "--coordinator", self.address], cwd=self.folder, capture_output=True,
                              text=True, check=True).stdout

    def step(self):
        try:
            with open(self.folder + "/checkpoints/faults/metrics.jsonl") as lines:
                return max((json.loads(line)["step"] for line in lines), default=0)
        except FileNotFoundError:
            return 0

    def log(self):
        with open(self.folder + "/coordinator.log") as log:
            return log.read()


def wait(condition, seconds=600):
    begun = time.time()
    while not condition():
        if time.time() - begun > seconds:
            sys.exit("gave up after %d s" % seconds)
        time.sleep(0.01)
    return time.time() - begun


def curve(folder, run):
    lines = []
    with open("%s/checkpoints/%s/metrics.jsonl" % (folder, run)) as file:
        for line in file:
            record = json.loads(line)
            for key in ("seconds", "time"):
                record.pop(key, None)
            lines.append(record)
    return lines


def strike(cluster, fault, name):
    """Causes one fault and prints its cost."""
    known, before = len(cluster.log()), cluster.step()
    begun = time.time()
    cluster.processes[name].send_signal(signal.SIGKILL if fault == "kill -9" else signal.SIGSTOP)
    said = lambda: cluster.log()[known:]
    words = []
    if name == "coordinator":
        time.sleep(1 if fault == "kill -9" else 15)
        cluster.coordinator() if fault == "kill -9" else cluster.processes[name].send_signal(signal.SIGCONT)
        if "STOP" in fault:
            begun = time.time()
    else:
        wait(lambda: "worker %s " % name in said() and " is lost" in said())
        words.append("noticed after %.2f s" % (time.time() - begun))
        before = cluster.step()
        wait(lambda: re.search("running: continues from step", said()))
        words.append("running after %.2f s" % (time.time() - begun))
    wait(lambda: cluster.step() > before)
    words.append("new steps after %.2f s" % (time.time() - begun))
    again = re.findall("continues from step ([0-9]+)", said())
    words.append("%d steps computed again" % (before - int(again[0]) if again else 0))
    print("%-8s %-12s %s" % (fault, name, ", ".join(words)), flush=True)
    if fault == "SIGSTOP" and name != "coordinator":
        cluster.processes[name].send_signal(signal.SIGCONT)
    elif name != "coordinator":
        cluster.worker(name)


def main():
    folder = tempfile.mkdtemp(prefix="ress-recovery-", dir=os.environ.get("RESS_SCRATCH"))
    random.seed(7)
    words = "sea ship wind shore gull tide mast rope light storm".split()
    with open(folder + "/text.txt", "w") as text:
        text.write(" ".join(random.choice(words) for _ in range(6000)))
    with open(folder + "/run.yaml", "w") as config:
        config.write(CONFIG)
    subprocess.run([RESS, "data", "prepare", "text.txt", "--out", "text.h5"], cwd=folder, check=True,
                   stdout=subprocess.DEVNULL)
    print(subprocess.run([RESS, "plan", "run.yaml", "--workers", "3", "--count-only"], cwd=folder, check=True,
                         capture_output=True, text=True).stdout)
    subprocess.run([RESS, "train", "run.yaml", "--set", "run=whole"], cwd=folder, check=True,
                   stdout=subprocess.DEVNULL)
    cluster = Cluster(folder)
    try:
        for name in "abc":
            cluster.worker(name)
        cluster.ask("submit", "run.yaml", "--workers", "3", "--set", "run=faults", "--set", "cluster.minimum_workers=1")
        wait(lambda: cluster.step() > QUIET)
        faults = (("kill -9", "b"), ("kill -9", "coordinator"), ("SIGSTOP", "coordinator"), ("kill -9", "c"), ("SIGSTOP", "a"))
        for fault, name in faults:
            quiet = cluster.step() + QUIET
            wait(lambda: cluster.step() > quiet)
            # Not at the same time as the change that a returning worker causes.
            wait(lambda: json.loads(cluster.ask("status", "faults", "--json").splitlines()[0])["state"] == "running")
            strike(cluster, fault, name)
        wait(lambda: cluster.step() == STEPS, 3600)
        wait(lambda: "faults: finished" in cluster.log())
        print("losses equal to the undisturbed run's:", curve(folder, "faults") == curve(folder, "whole"))
        print(cluster.ask("status", "faults"))
    finally:
        for process in cluster.processes.values():
            process.kill()
        shutil.rmtree(folder)


main()
