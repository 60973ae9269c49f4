#!/usr/bin/env python3
"""The paper's experiments, small: `make paper` and `make paper-quick`.

Trains ReSSFormer, the dense Transformer of equal parameters and of equal FLOPs, and ReSSFormer without each of its parts, with three seeds
each, by a coordinator and a worker a core; then measures, draws and writes OUT/report.md. Interrupted, it goes on where it was.
"""

import argparse
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import draw
from runs import ABLATIONS, DENSE, SEEDS, Cluster, Run, Variants, measure
from sets import Sets

OURS = "ReSSFormer"


class Experiment:
    def __init__(self, title, metric, unit, quick, ablations=False, settings=(), axis=None, lower=False, claim="", chance=None, poor=None):
        self.title, self.metric, self.unit, self.quick, self.axis = title, metric, unit, quick, axis
        self.settings, self.lower, self.claim, self.chance, self.poor = list(settings), lower, claim, chance, poor
        self.variants = [OURS, *DENSE, *(ABLATIONS if ablations else ())]


EXPERIMENTS = {
    "qa": Experiment(
        "Question answering over long contexts (SQuAD)", "f1", "F1, %", 200, axis="bytes of context around the paragraph",
        claim="accuracy holds as the input grows", poor=20),
    "retrieval": Experiment(
        "Noise: one sentence among distractor paragraphs", "accuracy", "accuracy, %", 150, ablations=True,
        axis="distractor paragraphs (trained with 1 and 3)", claim="accuracy holds as noise is added", chance=10),
    "tables": Experiment(
        "Tables (TabFact): does the statement follow?", "accuracy", "accuracy, %", 300, claim="structure is found without positions",
        chance=50),
    "graphs": Experiment(
        "Graphs (Cora): the topic of a paper", "accuracy", "accuracy, %", 60, ablations=True,
        claim="structure is found without positions", chance=100 / 7),
    "topics": Experiment(
        "Shuffled text: the article of a paragraph", "accuracy", "accuracy, %", 100, settings=["model.classes=10"],
        claim="accuracy holds when words are shuffled", chance=10),
    "lm": Experiment(
        "Language modelling (Shakespeare, bytes)", "perplexity", "perplexity a byte, lower is better", 80, ablations=True, lower=True,
        claim="perplexity is lower"),
}


def summary(values):
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def verdict(ours, theirs, lower):
    """Whether the difference of two means is beyond two standard errors of it."""
    (a, s), (b, t) = summary(ours), summary(theirs)
    error = 2 * math.sqrt(s * s / len(ours) + t * t / len(theirs))
    if abs(a - b) <= error:
        return "no difference that these seeds show"
    return "ahead" if (a < b) == lower else "behind"


class Paper:
    def __init__(self, options):
        self.options, self.out = options, Path(options.out)
        self.ress = os.path.abspath(options.ress)
        self.data = Path("paper/data")
        self.sets = Sets(self.ress, options.data, self.data)
        self.measured, self.runs, self.costs = {}, [], {}

    def prepare(self):
        for name, experiment in EXPERIMENTS.items():
            if self.options.only and name not in self.options.only:
                continue
            try:
                self.measured[name] = getattr(self.sets, name)()
            except FileNotFoundError as error:
                print(f"left out: {name}, which needs {error}")
                continue
            self.plan(name, experiment)
        if not self.runs:
            raise SystemExit(
                f"no experiment has its data in {self.options.data}; Benchmarks/paper/README.md says what they are and where from")

    def plan(self, name, experiment):
        config = Path(f"configs/paper/{name}.yaml")
        text = config.read_text()
        ordered, longest = "ordered: false" not in text, int(text.split("sequence_length:")[1].split()[0])
        first = next(iter(self.measured[name]))
        trained = {"qa": "qa-1500", "retrieval": "retrieval-3"}.get(name, first)
        shown = json.loads(subprocess.run(
            [self.ress, "data", "show", self.data / f"{trained}.h5", "--json"], check=True, capture_output=True,
            text=True).stdout)
        train = shown["train"]
        length = train["tokens"] // train["examples"] if "examples" in train else longest
        settings = [*experiment.settings, f"checkpoint.directory={self.out}/checkpoints"]
        if self.options.quick:
            steps = experiment.quick
            settings += [f"training.steps={steps}", f"optimizer.warmup_steps={max(1, steps // 10)}",
                         f"training.evaluate_every={max(1, steps // 2)}"]
        variants = Variants(self.ress, config, shown["vocabulary"], length, settings)
        for variant in experiment.variants:
            own = variants.settings(variant, ordered, longest)
            self.costs[name, variant] = variants.count(own)
            for seed in SEEDS:
                self.runs.append(Run(name, variant, seed, [*settings, *own], str(config)))

    def train(self):
        print(f"{len(self.runs)} runs on {self.options.cores} workers")
        with Cluster(self.ress, self.out, self.options.cores) as cluster:
            # By seeds: an interrupted evening has whole comparisons of the first.
            cluster.train(sorted(self.runs, key=lambda run: run.seed))

    def measure(self):
        path = self.out / "results.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        sequences = 100 if self.options.quick else 400
        print("measuring")
        self.results = measure(
            self.ress, self.out / "checkpoints", self.runs, self.measured, self.data, sequences, self.options.cores, known)
        path.write_text(json.dumps(self.results, indent=1))

    def values(self, experiment, variant, dataset):
        metric = EXPERIMENTS[experiment].metric
        scale = 1 if metric == "perplexity" else 100
        return [scale * self.results[f"{run.name} {dataset}"][metric] for run in self.runs
                if run.experiment == experiment and run.variant == variant]

    def chart(self, name):
        experiment, sets = EXPERIMENTS[name], self.measured[name]
        series = {v: [summary(self.values(name, v, d)) for d in sets] for v in experiment.variants}
        labels = [label if label is not None else "" for label in sets.values()]
        text = (draw.lines(experiment.title, experiment.unit, experiment.axis, labels, series) if experiment.axis
                else draw.bars(experiment.title, experiment.unit, labels, series))
        path = self.out / f"{name}.svg"
        path.write_text(text)
        if shutil.which("rsvg-convert"):
            subprocess.run(["rsvg-convert", "-z", "2", path, "-o", path.with_suffix(".png")], check=True)
        return path.name

    def table(self, name):
        experiment, sets = EXPERIMENTS[name], self.measured[name]
        heads = [f"{experiment.unit.split(',')[0]}{'' if label is None else f', {label}'}" for label in sets.values()]
        lines = ["| model | parameters | MFLOP a token | " + " | ".join(heads) + " |", "|---|---:|---:|" + "---:|" * len(heads)]
        for variant in experiment.variants:
            cost = self.costs[name, variant]
            cells = ["{:.2f} ± {:.2f}".format(*summary(self.values(name, variant, d))) for d in sets]
            lines.append(f"| {variant} | {cost['parameters']:,} | {cost['operations_a_token'] / 1e6:.3f} | " + " | ".join(cells) + " |")
        return lines

    def verdicts(self, name):
        experiment, sets = EXPERIMENTS[name], self.measured[name]
        lines = []
        for other in experiment.variants[1:]:
            found = {}
            for dataset, label in sets.items():
                word = verdict(self.values(name, OURS, dataset), self.values(name, other, dataset), experiment.lower)
                found.setdefault(word, []).append("" if label is None else str(label))
            words = "; ".join(
                word + (f" at {', '.join(places)}" if any(places) and len(found) > 1 else "") for word, places in found.items())
            lines.append(f"- Against *{other}*: **{words}**.")
        best = max(summary(self.values(name, v, d))[0] for v in experiment.variants for d in sets)
        if experiment.chance and best < 1.15 * experiment.chance:
            lines.append(f"- All of them are near chance ({experiment.chance:.0f} %): this says nothing of the claim.")
        if experiment.poor and best < experiment.poor:
            lines.append(f"- The best of them has {best:.1f} %: none has learned the task, and this says little of the claim.")
        for variant, measure in DENSE.items():
            ours, theirs = self.costs[name, OURS][measure], self.costs[name, variant][measure]
            if theirs > 1.05 * ours:
                lines.append(f"- *{variant}* has {theirs / ours:.1f} times ReSSFormer's at its narrowest: attention alone costs as much.")
        return lines

    def report(self, seconds):
        scale = "quick: minutes, so that every model is far from trained out" if self.options.quick else "full"
        version = subprocess.run([self.ress, "--version"], check=True, capture_output=True, text=True).stdout.splitlines()[0]
        text = [
            "# ReSSFormer's claims, reproduced small", "",
            f"Made by `make paper{'-quick' if self.options.quick else ''}` ({scale}) with {version}: {len(self.runs)} runs, "
            f"{len(SEEDS)} seeds each, {seconds / 60:.0f} minutes on {self.options.cores} cores. Mean ± standard deviation over the seeds.",
            "FLOPs are counted of matrix products, forward and backward, at the mean length of an example.", "",
            "“Ahead” and “behind” mean that the means differ by more than two standard errors. These models are some hundred thousand "
            "parameters; the paper's are larger, and what holds here need not hold there, nor the other way round.", "",
            "- *without R2MU*: one step, no memory. *Without ASAM*: every key kept, softmax, one dense network. "
            "*Without SOES*: no graph; every visible token is a neighbour and none is weighed.",
            "- *dense*: a Transformer of as many layers as ReSSFormer has steps; its feed-forward width makes the parameters or the FLOPs equal.", "",
        ]
        for name in self.measured:
            experiment = EXPERIMENTS[name]
            text += [f"## {experiment.title}", "", f"The claim: {experiment.claim}.", "", f"![{experiment.title}]({self.chart(name)})", ""]
            text += [*self.table(name), "", *self.verdicts(name), ""]
            run = next(r for r in self.runs if r.experiment == name and r.seed == 1)
            text += [f"A run of it: `ress submit {run.config} " + " ".join(f"--set {s}" for s in run.settings) + "`", ""]
        path = self.out / "report.md"
        path.write_text("\n".join(text))
        for line in text:
            if line.startswith(("## ", "|", "- A", "- The best", "- *dense, equal")):
                print(line)
        print(f"\n{path}, with charts beside it")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the folder of the sets (Benchmarks/paper/README.md)")
    parser.add_argument("--out", default=None, help="where runs and report go; paper/full or paper/quick")
    parser.add_argument("--quick", action="store_true", help="a quarter of an hour instead of hours")
    parser.add_argument("--only", nargs="*", choices=list(EXPERIMENTS), help="these experiments alone")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="workers, each on one core")
    parser.add_argument("--ress", default=".build/release/ress")
    options = parser.parse_args()
    options.out = options.out or ("paper/quick" if options.quick else "paper/full")
    # Told to end, it takes its cluster along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    paper = Paper(options)
    paper.prepare()
    paper.train()
    paper.measure()
    paper.report(time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(main())
