#!/usr/bin/env python3
"""The paper's experiments, small: `make paper` and `make paper-quick`.

Trains ReSSFormer, its dense twins and ReSSFormer with one part changed, with several seeds each, by a coordinator and a worker a core; then
measures, draws and writes OUT/report.md. After an interruption it continues where it was. Without --data, experiments that make their own data are run.
"""

import argparse
import gzip
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import draw
import significance
from experiments import EXPERIMENTS
from runs import Cluster, Run, key, measure
from sets import Measured, Sets
from variants import EXPLAINED, OURS, PART, PLAIN, TWIN, Variants

# What a sweep multiplies the configuration's rate by.
RATES = (0.5, 1.0, 2.0)
# Without a sweep: a plain Transformer trains best at a lower rate than one with taps (docs/model.md).
PLAIN_RATE = 0.5
# Runs of each variant, and of the two models that all this is about.
SEEDS, COMPARED, COMPARED_SEEDS = 3, (OURS, TWIN), 5


class Paper:
    def __init__(self, options):
        self.options, self.out = options, Path(options.out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.ress = os.path.abspath(options.ress)
        self.data = Path(options.datasets)
        self.sets = Sets(self.ress, options.data, self.data, options.quick)
        self.found, self.variants, self.own, self.costs, self.rates = {}, {}, {}, {}, {}
        self.runs = []

    # ---- what is to be done

    def prepare(self):
        wanted = self.options.only or [name for name, e in EXPERIMENTS.items() if e.quick_steps or not self.options.quick]
        for name in wanted:
            try:
                self.found[name] = getattr(self.sets, name)()
            except FileNotFoundError as error:
                print(f"left out: {name}, which needs {error}")
                continue
            self.plan(EXPERIMENTS[name])
        if not self.found:
            raise SystemExit(
                f"no experiment has its data in {self.options.data}; Benchmarks/paper/README.md says what they are and where from")

    def plan(self, experiment):
        name, config = experiment.name, Path(experiment.config)
        text = config.read_text()
        ordered = "ordered: false" not in text
        longest = int(text.split("sequence_length:")[1].split()[0])
        shown = json.loads(subprocess.run(
            [self.ress, "data", "show", self.data / f"{self.found[name].train}.h5", "--json"], check=True, capture_output=True,
            text=True).stdout)
        train = shown["train"]
        length = train["tokens"] // train["examples"] if "examples" in train else longest
        settings = [f"data.path={self.data / self.found[name].train}.h5", f"checkpoint.directory={self.out}/checkpoints"]
        if self.options.quick or self.options.steps:
            steps = self.options.steps or experiment.quick_steps or 250
            settings += [f"training.steps={steps}", f"optimizer.warmup_steps={max(1, steps // 10)}"]
        variants = Variants(self.ress, config, shown["vocabulary"], length, longest, ordered, settings)
        self.variants[name] = [v for v in experiment.variants(self.options.quick) if not self.options.variants or v in self.options.variants]
        for variant in self.variants[name]:
            own = variants.settings(variant)
            self.own[name, variant] = [*settings, *own]
            self.costs[name, variant] = variants.count(own)
            rate = float(text.split("learning_rate:")[1].split(",")[0].split("}")[0].split()[0])
            self.rates[name, variant] = rate * (PLAIN_RATE if variant == PLAIN else 1)

    def run(self, name, variant, seed, rate, kind=""):
        settings = (*self.own[name, variant], f"optimizer.learning_rate={rate:.6g}")
        return Run(name, variant, seed, EXPERIMENTS[name].config, settings, kind)

    # ---- training

    def train(self, jobs, known):
        """Trains the runs of `jobs` (run, place, more options) of which not all results are known."""
        # By seeds: an interrupted evening has whole comparisons of the first.
        runs = {run.name: run for run, place, more in jobs if key(run, place, more) not in known}
        if not runs:
            return
        with Cluster(self.ress, self.out, self.options.cores) as cluster:
            cluster.train(sorted(runs.values(), key=lambda run: run.seed))

    def sweep(self):
        """Three rates of some variants, one seed, chosen by the validation split of the training data."""
        jobs = {(name, variant, factor): (
                    self.run(name, variant, 0, self.rates[name, variant] * factor, f"rate {factor} ".replace(" ", "-")),
                    Measured("validation", data.train), ())
                for name, data in self.found.items() for variant in self.variants[name] if variant in EXPERIMENTS[name].swept for factor in RATES}
        results = self.measured(list(jobs.values()), "sweep of rates")
        best = {}
        # The loss is compared, which moves before accuracy does. With --report some may not be known.
        losses = {place: results[key(*job)]["loss"] for place, job in jobs.items() if key(*job) in results}
        for name, variant, factor in sorted(losses, key=losses.get):
            best.setdefault((name, variant), factor)
        for name in self.found:
            for variant in self.variants[name]:
                self.rates[name, variant] *= best.get((name, EXPERIMENTS[name].swept_for(variant)), 1.0)

    def go(self):
        if self.options.sweep:
            self.sweep()
        self.runs = [self.run(name, variant, seed, self.rates[name, variant])
                     for name in self.found for variant in self.variants[name] for seed in self.seeds_of(name, variant)]
        jobs = [(run, place, more) for run in self.runs for place in self.found[run.experiment].measured for more in self.more_steps(run)]
        self.results = self.measured(jobs, "comparison")
        if self.options.report:
            self.leave_out()

    def leave_out(self):
        """Leaves out of the report the runs of which nothing was measured, and the places that were not measured for all others. Prints both."""
        known = {name.split(" ")[0] for name in self.results}
        self.runs = [run for run in self.runs if run.name in known]
        for name, data in list(self.found.items()):
            left = {run.variant for run in self.runs if run.experiment == name}
            absent = [variant for variant in self.variants[name] if variant not in left]
            if OURS in absent:
                print(f"not measured: {name}")
                del self.found[name]
                continue
            if absent:
                print(f"not measured: {name}, the models {', '.join(absent)}")
                self.variants[name] = [variant for variant in self.variants[name] if variant in left]
                data = self.found[name] = replace(data, notes=(*data.notes, f"Not trained: {', '.join(absent)}."))
            runs = [run for run in self.runs if run.experiment == name]
            missing = [place for place in data.measured if any(
                key(run, place, more) not in self.results for run in runs for more in self.more_steps(run))]
            kept = tuple(place for place in data.measured if place not in missing)
            if not missing:
                continue
            labels = ", ".join(place.label for place in missing)
            print(f"not measured: {name}, {labels}")
            if kept:
                self.found[name] = replace(data, measured=kept, notes=(*data.notes, f"Not measured: {labels}."))
            else:
                del self.found[name]
        self.runs = [run for run in self.runs if run.experiment in self.found]

    def seeds_of(self, name, variant):
        more = variant in COMPARED or self.options.report  # A report takes what was measured.
        count = self.options.seeds or (COMPARED_SEEDS if more and not self.options.quick else SEEDS)
        most = EXPERIMENTS[name].quick_seeds if self.options.quick else None
        return range(1, count + 1)[:most]

    def more_steps(self, run):
        """Options of an evaluation beside the plain one: other numbers of steps, where one block is shared."""
        recurrences = EXPERIMENTS[run.experiment].recurrences if run.variant == OURS else ()
        return [(), *(("--recurrence", str(steps)) for steps in recurrences)]

    def measured(self, jobs, title):
        """The results of `jobs`; what is missing is trained and measured, unless only a report is wanted."""
        known = self.load("results.json")
        if self.options.report:
            return known
        print(f"{title}: {len({run.name for run, _, _ in jobs})} runs on {self.options.cores} workers", flush=True)
        self.train(jobs, known)
        return measure(
            self.ress, self.out / "checkpoints", jobs, self.data, self.options.cores, known, lambda found: self.save("results.json", found))

    def load(self, name):
        """The results of earlier calls, and of other machines."""
        known = {}
        for path in map(Path, self.options.known):
            known |= json.loads(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
        own = self.out / name
        return known | (json.loads(own.read_text()) if own.exists() else {})

    def save(self, name, value):
        path = self.out / name
        path.with_suffix(".tmp").write_text(json.dumps(value))
        path.with_suffix(".tmp").rename(path)

    # ---- results

    def by_seed(self, name, variant, place, more=()):
        """One number a seed: accuracy in percent, or bits a byte."""
        found = []
        for run in self.runs:
            if run.experiment != name or run.variant != variant:
                continue
            result = self.results[key(run, place, more)]
            if EXPERIMENTS[name].lower:
                found.append((result["loss"] if place.part is None else result["parts"][place.part]) / math.log(2))
            else:
                found.append(100 * result["accuracy"])
        return found

    def by_example(self, name, variant, place):
        """One number an example, the mean over seeds."""
        lists = []
        for run in self.runs:
            if run.experiment == name and run.variant == variant:
                result = self.results[key(run, place)]
                lists.append(result["examples"] if place.part is None else result["examples_by_part"][place.part])
        return [statistics.fmean(values) for values in zip(*lists)]

    def seconds(self, name, variant):
        place = self.found[name].measured[0]
        return statistics.fmean(
            self.results[key(run, place)]["seconds"] for run in self.runs if (run.experiment, run.variant) == (name, variant))

    def chart(self, name):
        experiment, places = EXPERIMENTS[name], self.found[name].measured
        series = {v: [significance.mean_and_deviation(self.by_seed(name, v, p)) for p in places] for v in self.variants[name]}
        labels = [place.label for place in places]
        title = experiment.title
        text = (draw.lines(title, experiment.unit, experiment.axis, labels, series) if experiment.axis is not None
                else draw.bars(title, experiment.unit, labels, series))
        path = self.out / f"{name}.svg"
        path.write_text(text)
        if shutil.which("rsvg-convert"):
            subprocess.run(["rsvg-convert", "-z", "2", path, "-o", path.with_suffix(".png")], check=True)
        return path.name

    def table(self, name):
        places = self.found[name].measured
        times = self.options.times
        lines = ["| model | parameters | MFLOP a token | seeds | " + ("seconds a run | " if times else "") + "rate | "
                 + " | ".join(place.label for place in places) + " |",
                 "|---|---:|---:|---:|---:|" + ("---:|" if times else "") + "---:|" * len(places)]
        for variant in self.variants[name]:
            cost = self.costs[name, variant]
            cells = ["{:.2f} ± {:.2f}".format(*significance.mean_and_deviation(self.by_seed(name, variant, place))) for place in places]
            lines.append(
                f"| {variant} | {cost['parameters']:,} | {cost['operations_a_token'] / 1e6:.3f} | {self.trained_seeds(name, variant)} "
                + (f"| {self.seconds(name, variant):.0f} " if times else "")
                + f"| {self.rates[name, variant]:.4g} | " + " | ".join(cells) + " |")
        for steps in EXPERIMENTS[name].recurrences:
            more = ("--recurrence", str(steps))
            cells = ["{:.2f} ± {:.2f}".format(*significance.mean_and_deviation(self.by_seed(name, OURS, place, more))) for place in places]
            lines.append(f"| {OURS}, K = {steps} at the test | | | | " + ("| " if times else "") + "| " + " | ".join(cells) + " |")
        return lines

    def verdicts(self, name):
        experiment, places = EXPERIMENTS[name], self.found[name].measured
        lines = []
        for other in self.variants[name][1:]:
            parts = []
            for place in places:
                word, p, interval = significance.verdict(
                    self.by_seed(name, OURS, place), self.by_seed(name, other, place), self.by_example(name, OURS, place),
                    self.by_example(name, other, place), experiment.lower)
                scale = 1 / math.log(2) if experiment.lower else 100
                told = f"p {p:.2g}" if p is not None else "one seed"
                parts.append(f"{place.label}: **{word}** ({told}; examples {scale * interval[0]:+.2f} to {scale * interval[1]:+.2f})")
            what = f"*{other}*" + (f" ({PART[other]})" if other in PART else "")
            lines.append(f"- Against {what}: " + "; ".join(parts) + ".")
        ours, values = self.variants[name][0], [
            significance.mean_and_deviation(self.by_seed(name, v, p))[0] for v in self.variants[name] for p in places]
        if experiment.chance and max(values) < 1.25 * experiment.chance:
            lines.append(f"- The best of them is near chance ({experiment.chance:.0f} %): none has learned the task, and this says nothing of the claim.")
        target = self.costs[name, ours]
        for variant in self.variants[name][1:]:
            cost = self.costs[name, variant]
            for measure_, word in (("operations_a_token", "FLOPs"), ("parameters", "parameters")):
                ratio = cost[measure_] / target[measure_]
                if abs(ratio - 1) > (0.02 if word == "FLOPs" else 0.1):
                    lines.append(f"- *{variant}* has {ratio:.2f} times ReSSFormer's {word}.")
        return [*lines, *(f"- {note}" for note in self.found[name].notes)]

    def summary(self):
        """Experiments by what their verdicts are, places that training had not seen among them."""
        lines = ["| experiment | against | ahead at | behind at | no difference shown at |", "|---|---|---|---|---|"]
        for name in self.found:
            for other in self.variants[name][1:]:
                found = {"ahead": [], "behind": []}
                rest = []
                for place in self.found[name].measured:
                    word = significance.verdict(
                        self.by_seed(name, OURS, place), self.by_seed(name, other, place), self.by_example(name, OURS, place),
                        self.by_example(name, other, place), EXPERIMENTS[name].lower)[0]
                    found.get(word, rest).append(place.label)
                cells = [", ".join(part) for part in (found["ahead"], found["behind"], rest)]
                lines.append(f"| {name} | {other} | " + " | ".join(cells) + " |")
        return lines

    def trained_seeds(self, name, variant):
        return sum((run.experiment, run.variant) == (name, variant) for run in self.runs)

    def told_seeds(self):
        counts = sorted({self.trained_seeds(name, variant) for name in self.found for variant in self.variants[name]})
        return f"{counts[0]} to {counts[-1]} seeds of each model" if len(counts) > 1 else f"{counts[0]} seeds of each model"

    def report(self, seconds):
        scale = "quick: minutes, so that every model is far from trained out" if self.options.quick else "full"
        version = subprocess.run([self.ress, "--version"], check=True, capture_output=True, text=True).stdout.splitlines()[0]
        chosen = ("Rates of ReSSFormer and of the dense twin (on text also of the plain dense model) were swept (half, once and twice the configuration's), with "
                  "a seed of their own, by the loss on validation data. The other dense models take the twin's best factor, the variants of ReSSFormer its own."
                  if self.options.sweep else
                  "Rates were not swept: the configuration's for all, half of it for the plain dense model.")
        if self.options.quick:
            chosen += (" Sizes and steps of the quick tasks were chosen by runs of ReSSFormer alone, one seed each, whose test figures were seen, so that "
                       "it learns them in the time; the dense models had no such choice.")
        text = [
            "# ReSSFormer's claims, reproduced small", "",
            f"Made by `make paper{'-quick' if self.options.quick else ''}` ({scale}) with {version}: {len(self.runs)} runs, "
            f"{self.told_seeds()}" + (f", {seconds / 60:.0f} minutes on {self.options.cores} cores" if self.options.times else "")
            + ". Mean ± standard deviation over the seeds.", "",
            chosen + " What is reported is measured on a test split that no rate or variant was chosen on, on all its examples.",
            "FLOPs and parameters are those that `ress plan` counts, at the mean length of a training example. "
            + ("“Seconds a run” are of training steps on one core." if self.options.times else
               "Times are left out: the machine was busy with other work, on which losses do not depend."), "",
            "“Ahead” and “behind” are said where two tests agree: Welch's t over the seeds has p < .05, and the interval that holds 95 % of the mean "
            "differences when examples are drawn anew (a paired bootstrap) leaves out 0. Nothing is corrected for the number of comparisons: of "
            "twenty without a difference one has p < .05. These models are some hundred thousand parameters; the paper's are larger, and what "
            "holds here need not hold there, nor the other way round.", "",
            *(f"- *{name}*: {words}." for name, words in EXPLAINED.items() if any(name in v for v in self.variants.values())), "",
            "All models of an experiment read their answer at the same place: the last word of the question or, where a text or a table has one "
            "class, the mean of all tokens. So no comparison is one of ways to pool; max pooling is not offered by the trainer.", "",
            "## In short", "", *self.summary(), "",
        ]
        for name in self.found:
            experiment = EXPERIMENTS[name]
            text += [f"## {experiment.title}", "", f"The claim ({experiment.figure}): {experiment.claim}.", "",
                     f"![{experiment.title}]({self.chart(name)})", ""]
            text += [*self.table(name), "", *self.verdicts(name), ""]
            run = next(r for r in self.runs if r.experiment == name)
            text += [f"A run of it: `ress submit {run.config} " + " ".join(f"--set {s}" for s in run.settings) + "`", ""]
        path = self.out / "report.md"
        path.write_text("\n".join(text))
        print("\n".join(self.summary()))
        print(f"\n{path}, with charts beside it")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="the folder of the published sets (Benchmarks/paper/README.md)")
    parser.add_argument("--out", default=None, help="where runs and report go; paper/full or paper/quick")
    parser.add_argument("--datasets", default=None, help="where datasets are made; paper/data or paper/data-quick")
    parser.add_argument("--known", nargs="*", default=[], help="results.json of other machines, or .gz: what they measured is not trained again")
    parser.add_argument("--quick", action="store_true", help="smaller: a quarter of an hour instead of hours")
    parser.add_argument("--only", nargs="*", choices=list(EXPERIMENTS), help="these experiments alone")
    parser.add_argument("--variants", nargs="*", help="these variants alone, ReSSFormer among them")
    parser.add_argument("--seeds", type=int, default=None, help="runs of each variant; 3, and of ReSSFormer and the dense twin 5 if not quick")
    parser.add_argument("--steps", type=int, default=None, help="training steps, in place of each experiment's own")
    parser.add_argument("--sweep", action=argparse.BooleanOptionalAction, default=None, help="choose rates first; not when quick")
    parser.add_argument("--report", action="store_true", help="train and measure nothing; write the report of what OUT/results.json has")
    parser.add_argument("--times", action=argparse.BooleanOptionalAction, default=True, help="whether the report has times; not from a busy machine")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="workers, each on one core")
    parser.add_argument("--ress", default=".build/release/ress")
    options = parser.parse_args()
    options.out = options.out or ("paper/quick" if options.quick else "paper/full")
    options.datasets = options.datasets or ("paper/data-quick" if options.quick else "paper/data")
    options.sweep = not options.quick if options.sweep is None else options.sweep
    # Told to end, it takes its cluster along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    paper = Paper(options)
    paper.prepare()
    paper.go()
    paper.report(time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(main())
