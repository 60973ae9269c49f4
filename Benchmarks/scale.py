#!/usr/bin/env python3
"""What a second host brings: tokens a second of one host and of two, with the network unshaped, at 10 and at 1 Gbit/s.

    swift build -c release --product ress && sudo Benchmarks/scale.py
    sudo Benchmarks/scale.py --links 1000 --choices travel,copy --rounds 3 --ress OLD/ress,.build/release/ress
    sudo Benchmarks/scale.py --python PYTHON-WITH-TORCH                 # PyTorch DDP over Gloo as well, in turn
    sudo Benchmarks/scale.py --shape bench-experts --choices travel --links 10000,1000     # 200 M parameters in 64 experts

Hosts are network namespaces of this machine, with one core each, on a bridge in a namespace of its own; nothing can leave
it. Everything that is compared runs in turn, --rounds times; the table has the median of the steps of each run, and of
these the best, because other programs on the machine only ever make a step slower (nice -n -15 in front of the command
helps too). Needs root, iproute2, and a text
dataset (--data; the demo's by default). The batch is 8 sequences of the shape's length on one host and on two.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PREFIX, NET = f"rs{os.getpid() % 10000}h", "10.78.0"
KEYS = {"width", "heads", "steps", "segment", "memory_slots", "cache", "window", "structure_rank", "graph_degree", "keys",
        "recency_taps", "experts", "active_experts", "expert_width", "vocabulary"}
BATCH = 8

DDP = r"""
import json, os, statistics, sys, time
sys.path.insert(0, sys.argv[1])
import torch, torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from time_step import SHAPES, adamw, configured
from fast_ressformer import FastReSSFormer
from ress.model.ressformer import ModelConfiguration
shape, batch, steps = json.loads(SHAPES.read_text())[sys.argv[2]], int(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(1)
torch.manual_seed(1)
ranks = int(os.environ["WORLD_SIZE"])
model = FastReSSFormer(configured(ModelConfiguration, shape), "gathered", False)
optimizer = adamw(model)
parameters = [p for p in model.parameters() if p.requires_grad]
if ranks > 1:
    dist.init_process_group("gloo")
    model = DistributedDataParallel(model, find_unused_parameters=True)
seconds = []
for step in range(steps):
    begun = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    for sequence in range(batch // ranks):
        tokens = torch.randint(shape["vocabulary"], (1, shape["sequence_length"] + 1))
        last = sequence == batch // ranks - 1
        if ranks > 1: model.require_backward_grad_sync = last
        model(tokens[:, :-1], tokens[:, 1:])[0].total.backward()
    nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
    optimizer.step()
    seconds.append(time.perf_counter() - begun)
if int(os.environ["RANK"]) == 0: print(json.dumps(seconds[2:]))
"""


def ip(*words):
    subprocess.run(["ip", *words], check=True)


class Hosts:
    """`count` hosts at NET.1, NET.2, … on one bridge."""

    def __init__(self, count):
        self.count, self.bridge = count, PREFIX + "b"
        ip("netns", "add", self.bridge)
        ip("-n", self.bridge, "link", "add", "br0", "type", "bridge")
        ip("-n", self.bridge, "link", "set", "br0", "up")
        for host in range(1, count + 1):
            name = PREFIX + str(host)
            ip("netns", "add", name)
            ip("-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", f"v{host}", "netns", self.bridge)
            ip("-n", self.bridge, "link", "set", f"v{host}", "master", "br0", "up")
            ip("-n", name, "addr", "add", f"{NET}.{host}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                ip("-n", name, "link", "set", link, "up")

    def shape(self, megabits):
        """Limits what each host sends; 0 removes the limit."""
        for host in range(1, self.count + 1):
            tc = ["tc", "-n", PREFIX + str(host), "qdisc"]
            if megabits:
                subprocess.run(tc + ["replace", "dev", "eth0", "root", "tbf", "rate", f"{megabits}mbit", "burst", "256kb",
                                     "latency", "100ms"], check=True)
            else:
                subprocess.run(tc + ["del", "dev", "eth0", "root"], stderr=subprocess.DEVNULL)

    def start(self, host, words, **more):
        """Under a host name of its own, on a core of its own where the machine has enough."""
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0"; exec "$@"', f"host{host}"]
        core = ["taskset", "-c", str((host - 1) % os.cpu_count())]
        return subprocess.Popen(["ip", "netns", "exec", PREFIX + str(host), *named, *core, *words], **more)

    def close(self):
        for name in [PREFIX + str(host) for host in range(1, self.count + 1)] + [self.bridge]:
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)


def configuration(shape, options, workers, choice, old):
    model = "\n".join(f"  {key}: {value}" for key, value in shape.items() if key in KEYS)
    experts = "" if old else f"\n  experts: {choice}"
    return f"""run: scale
data:
  path: {options.data}
  sequence_length: {shape["sequence_length"]}
model:
{model}
training:
  steps: {options.steps}
  batch_sequences: {BATCH}
  evaluate_sequences: 0
checkpoint:
  every: 0
cluster:
  workers: {workers}
  minimum_workers: {workers}
  threads: 1
  mirror_every: 0{experts}
"""


def ress(program, hosts, shape, options, workers, choice):
    """Seconds of each step after the first ones, and the losses of all steps."""
    folder = tempfile.mkdtemp(prefix="ress-scale-")
    reference = subprocess.run([program, "config", "reference"], capture_output=True, text=True, check=True).stdout
    old = "travel" not in reference
    pathlib.Path(folder, "run.yaml").write_text(configuration(shape, options, workers, choice, old))
    address = f"tcp://{NET}.1:7077"
    log = open(f"{folder}/log", "wb")
    more = dict(cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    started = [hosts.start(1, [program, "coordinator", "--listen", address, "--insecure"], **more)]
    try:
        for host in range(1, workers + 1):
            started.append(hosts.start(
                host, [program, "worker", "--coordinator", address, "--name", f"w{host}", "--listen",
                       f"tcp://{NET}.{host}:*", "--insecure"], **more))
        done = hosts.start(1, [program, "train", "run.yaml", "--coordinator", address], **more).wait(timeout=options.limit)
        metrics = pathlib.Path(folder, "checkpoints/scale/metrics.jsonl")
        lines = metrics.read_text().splitlines() if metrics.exists() else []
        steps = [json.loads(line) for line in lines]
        if done != 0 or not steps:
            sys.exit(f"the run ended with code {done}; {folder}/log:\n{pathlib.Path(folder, 'log').read_text()[-3000:]}")
        kept = [step["seconds"] for step in steps if "seconds" in step][options.warm:]
        said = [line for line in pathlib.Path(folder, "log").read_text().splitlines() if "expected for messages" in line]
        if options.verbose:
            print("\n".join(said), file=sys.stderr)
        curve = [step.get("loss") for step in steps]
    finally:
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
        for process in started:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
        log.close()
    shutil.rmtree(folder)
    return kept, curve


def ddp(hosts, name, options, workers):
    script = pathlib.Path(tempfile.mkdtemp(prefix="ress-scale-"), "ddp.py")
    script.write_text(DDP)
    ranks = []
    for rank in range(workers):
        own = dict(os.environ, RANK=str(rank), WORLD_SIZE=str(workers), MASTER_ADDR=f"{NET}.1", MASTER_PORT="29511",
                   OMP_NUM_THREADS="1", GLOO_SOCKET_IFNAME="eth0")
        ranks.append(hosts.start(
            rank + 1, [options.python, str(script), str(ROOT / "Benchmarks/pytorch"), name, str(BATCH), str(options.steps)],
            env=own, stdout=subprocess.PIPE, text=True))
    outputs = [rank.communicate(timeout=options.limit)[0] for rank in ranks]
    shutil.rmtree(script.parent)
    return json.loads(outputs[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="bench-small", help="a name in shapes.json")
    parser.add_argument("--links", default="0,10000,1000", help="megabits a second of each host; 0 is unshaped")
    parser.add_argument("--choices", default="auto", help="values of cluster.experts")
    parser.add_argument("--ress", default=str(ROOT / ".build/release/ress"), help="one program, or several to compare")
    parser.add_argument("--python", help="a Python with torch, for DDP")
    parser.add_argument("--data", default=str(ROOT / "data/demo.h5"))
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--warm", type=int, default=3, help="steps that are left out at the beginning")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--limit", type=float, default=900, help="seconds that a run may take")
    parser.add_argument("--verbose", action="store_true", help="print what auto expected")
    options = parser.parse_args()
    if os.getuid() != 0:
        sys.exit("network namespaces need root: sudo Benchmarks/scale.py")
    shape = json.loads((ROOT / "Benchmarks/shapes.json").read_text())[options.shape]
    tokens = BATCH * shape["sequence_length"]
    links = [int(link) for link in options.links.split(",")]
    # Runs have folders of their own.
    programs = [os.path.abspath(program) for program in options.ress.split(",")]
    options.data = os.path.abspath(options.data)
    if not os.path.exists(options.data):
        sys.exit(f"{options.data} does not exist; `make demo` makes the demo's, and --data names another dataset of bytes")
    results, curves = {}, {}
    hosts = Hosts(2)
    try:
        for _ in range(options.rounds):
            for link in links:
                hosts.shape(link)
                for program in programs:
                    runs = [(1, "travel")] if link == links[0] else []
                    for workers, choice in runs + [(2, choice) for choice in options.choices.split(",")]:
                        seconds, curve = ress(program, hosts, shape, options, workers, choice)
                        key = (program, workers, choice if workers > 1 else "", link if workers > 1 else None)
                        results.setdefault(key, []).append(statistics.median(seconds))
                        curves.setdefault(program, set()).add(json.dumps(curve))
                if options.python:
                    for workers in ([1, 2] if link == links[0] else [2]):
                        seconds = ddp(hosts, options.shape, options, workers)
                        results.setdefault(("DDP", workers, "", link if workers > 1 else None), []).append(
                            statistics.median(seconds))
    finally:
        hosts.close()
    print(f"{options.shape}, {BATCH} sequences of {shape['sequence_length']} tokens, {options.rounds} rounds in turn\n")
    print("| program | hosts | experts | Mbit/s | best ms a step | all rounds | tokens/s | of twice one host |")
    print("|---|---:|---|---:|---:|---|---:|---:|")
    for (program, workers, choice, link), medians in results.items():
        best, one = min(medians), min(results[(program, 1, "", None)])
        share = f"{one / best / 2:.2f}" if workers > 1 else ""
        rounds = " ".join(f"{1e3 * value:.0f}" for value in medians)
        name = "" if link is None else link or "unshaped"
        print(f"| {program} | {workers} | {choice} | {name} | {1e3 * best:.0f} | {rounds} | {tokens / best:.0f} | {share} |")
    for program, found in curves.items():
        print(f"\n{program}: {'one curve in all runs' if len(found) == 1 else 'THE CURVES DIFFER'}")


if __name__ == "__main__":
    main()
