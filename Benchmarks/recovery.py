#!/usr/bin/env python3
"""How fast a run of real processes gets over a dead worker, a dead coordinator and a stopped worker.

    swift build -c release --product ress && Benchmarks/recovery.py

Prints for each fault when it was noticed and when the next new step was recorded, and whether the losses are those of the undisturbed
run. Everything happens in a temporary folder.
"""
import json, os, random, shutil, signal, subprocess, sys, tempfile, time

RESS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".build", "release", "ress")
STEPS = 1200
CONFIG = """
run: bench
data: {path: text.h5, sequence_length: 64}
model: {width: 64, heads: 2, steps: 2, segment: 32, memory_slots: 4, cache: 16, window: 4, structure_rank: 4,
        graph_degree: 4, keys: 6, recency_taps: 3, experts: 4, active_experts: 2, expert_width: 96}
training: {seed: 3, steps: %d, batch_sequences: 12, evaluate_every: 400, evaluate_sequences: 4}
checkpoint: {every: 200}
cluster: {patience_seconds: 10, threads: 1}
""" % STEPS


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


def wait(condition, seconds=60):
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
            for name in ("seconds", "time"):
                record.pop(name, None)
            lines.append(record)
    return lines


def main():
    folder = tempfile.mkdtemp(prefix="ress-recovery-")
    random.seed(7)
    words = "sea ship wind shore gull tide mast rope light storm".split()
    with open(folder + "/text.txt", "w") as text:
        text.write(" ".join(random.choice(words) for _ in range(6000)))
    with open(folder + "/run.yaml", "w") as config:
        config.write(CONFIG)
    for command in (["data", "prepare", "text.txt", "--out", "text.h5"], ["train", "run.yaml", "--set", "run=whole"]):
        subprocess.run([RESS, *command], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    cluster = Cluster(folder)
    try:
        for name in "abc":
            cluster.worker(name)
        cluster.ask("submit", "run.yaml", "--workers", "3", "--set", "run=faults")
        for fault, name in (("kill -9", "b"), ("kill -9", "coordinator"), ("kill -9", "c"), ("SIGSTOP", "a")):
            wait(lambda: cluster.step() > 60)
            time.sleep(2)
            known, before = len(cluster.log()), cluster.step()
            begun = time.time()
            cluster.processes[name].send_signal(signal.SIGSTOP if fault == "SIGSTOP" else signal.SIGKILL)
            found = None
            if name == "coordinator":
                time.sleep(1)
                cluster.coordinator()
            else:
                wait(lambda: "worker %s " % name in cluster.log()[known:])
                found = time.time() - begun
                before = cluster.step()
            wait(lambda: cluster.step() > before)
            again = time.time() - begun
            noticed = "" if found is None else "noticed after %.2f s, " % found
            print("%-8s %-12s %snew steps after %.2f s" % (fault, name, noticed, again), flush=True)
            if fault == "SIGSTOP":
                cluster.processes[name].send_signal(signal.SIGCONT)
            elif name != "coordinator":
                cluster.worker(name)
        wait(lambda: cluster.step() == STEPS, 300)
        wait(lambda: "faults: finished" in cluster.log())
        print("losses equal to the undisturbed run's:", curve(folder, "faults") == curve(folder, "whole"))
        print(cluster.ask("status", "faults"))
    finally:
        for process in cluster.processes.values():
            process.kill()
        shutil.rmtree(folder)


main()
