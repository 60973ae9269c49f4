#!/usr/bin/env python3
"""The cost of a checkpoint: how much longer steps take while one is written, and how fast the last one is written, after training.

    swift build -c release --product ress && Benchmarks/checkpoint.py
    Benchmarks/checkpoint.py --ress OTHER/ress     # measures another build

The model has 52 million parameters, which is some 600 MB of parameters and moments. The stall is the time that steps take in excess of
the median of those steps during which no checkpoint is written, as a share of `--every` steps. The write rate is that of the whole last
checkpoint, from the appearance of its first file to the rename of its folder; it is compared with `dd conv=fsync` of as many bytes on the
same disk. All files are in a temporary folder.
"""
import argparse, json, os, shutil, statistics, subprocess, tempfile, threading, time

here = os.path.dirname(os.path.abspath(__file__))
words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
words.add_argument("--ress", default=os.path.join(here, "..", ".build", "release", "ress"))
words.add_argument("--steps", type=int, default=33)
words.add_argument("--period", type=int, default=11, help="steps between checkpoints of the measured run")
words.add_argument("--every", type=int, default=100, help="checkpoint.every that the stall is stated for")
words.add_argument("--folder", help="on the disk to measure; otherwise a temporary one")
given = words.parse_args()

CONFIG = """
run: bench
data: {path: text.h5, sequence_length: 128}
model: {width: 512, heads: 8, steps: 2, segment: 128, memory_slots: 4, cache: 16, window: 8, structure_rank: 8,
        graph_degree: 8, keys: 8, experts: 16, active_experts: 2, expert_width: 2048}
training: {seed: 3, steps: %d, batch_sequences: 8, evaluate_sequences: 0}
checkpoint: {every: %d, directory: checkpoints}
cluster: {workers: 1, threads: %d}
""" % (given.steps, given.period, os.cpu_count())


class Watch(threading.Thread):
    """When the last checkpoint's folder appeared and when it was committed; polls a thousand times a second."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.folder, self.begun, self.ended = folder, None, None
        self.name = "step-%08d" % given.steps

    def run(self):
        while self.ended is None:
            for name in os.listdir(self.folder) if os.path.isdir(self.folder) else []:
                if name == self.name:
                    self.ended = time.monotonic()
                elif name.startswith(self.name) and self.begun is None:
                    self.begun = time.monotonic()
            time.sleep(0.001)


folder = tempfile.mkdtemp(dir=given.folder)
try:
    with open(folder + "/text.txt", "w") as text:
        text.write(open(os.path.join(here, "README.md")).read() * 20)
    with open(folder + "/run.yaml", "w") as config:
        config.write(CONFIG)
    subprocess.run([given.ress, "data", "prepare", "text.txt", "--out", "text.h5"], cwd=folder, check=True,
                   capture_output=True)
    watch = Watch(folder + "/checkpoints/bench")
    watch.start()
    subprocess.run([given.ress, "train", "run.yaml"], cwd=folder, check=True, capture_output=True)
    watch.join(10)
    seconds = {}
    with open(folder + "/checkpoints/bench/metrics.jsonl") as lines:
        for line in lines:
            record = json.loads(line)
            if "seconds" in record:
                seconds[record["step"]] = record["seconds"]
    # The first period is warm-up. In the first half of a period a checkpoint is being written, in
    # the second half it is not.
    period = given.period
    quiet = [s for step, s in seconds.items() if step > 2 and (step <= period or (step - 1) % period >= period // 2)]
    median = statistics.median(quiet)
    saves = [step for step in range(period, given.steps, period)]
    beside = [[seconds[step + 1 + n] for n in range(period // 2)] for step in saves]
    extra = statistics.mean(sum(s - median for s in steps) for steps in beside)
    last = "%s/checkpoints/bench/step-%08d" % (folder, given.steps)
    size = sum(os.path.getsize(last + "/" + name) for name in os.listdir(last))
    rate = size / (watch.ended - watch.begun) / 1e6
    print("state           %.0f MB" % (size / 1e6))
    print("a step          %.2f s (median of %d without a checkpoint beside them)" % (median, len(quiet)))
    print("beside one      " + "; ".join(" ".join("%.2f" % s for s in steps) for steps in beside))
    print("a checkpoint    %.2f s more: %.2f %% of %d steps" % (extra, 100 * extra / (given.every * median), given.every))
    dd = []
    for _ in range(3):
        begun = time.monotonic()
        subprocess.run(["dd", "if=/dev/zero", "of=" + folder + "/dd", "bs=1M", "count=%d" % (size >> 20), "conv=fsync"],
                       check=True, capture_output=True)
        dd.append(size / (time.monotonic() - begun) / 1e6)
        os.remove(folder + "/dd")
    print("the last one    %.0f MB/s; dd conv=fsync %.0f MB/s; ratio %.2f" % (rate, max(dd), rate / max(dd)))
finally:
    shutil.rmtree(folder)
