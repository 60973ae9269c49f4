#!/usr/bin/env python3
"""The laboratory: trains each design of designs.py with the same budget, measures it, and writes a table, OUT/RESULTS.md.

    nice python3 Benchmarks/lab/lab.py --ress .build/release/ress

What decides most is trained first, so that an interrupted laboratory has whole comparisons; started again, it goes on where it was. --report writes
the table of what is there and trains nothing.
"""

import argparse
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "paper"))

from designs import DESIGNS  # noqa: E402
from runs import Cluster, Run, evaluate, key  # noqa: E402
from sets import Measured, Sets  # noqa: E402
from significance import t_probability  # noqa: E402
from variants import Variants  # noqa: E402

LENGTH, PARTS = 2048, 8  # where losses by position are measured; training has 256
PLACES = [(0, "0–255"), (1, "256–511"), (3, "768–1,023"), (7, "1,792–2,047")]


TEXT = "Benchmarks/lab/kjv.yaml"


class Task:
    """What designs train on: a configuration, a dataset and the places where they are measured. The first place decides."""

    def __init__(self, name, title, config, quick, steps, lower, places):
        self.name, self.title, self.config, self.quick, self.steps = name, title, config, quick, steps
        self.lower, self.places = lower, places
        self.train = "bible" if name.startswith("kjv") else name.removesuffix("-long")  # the dataset

    def prepare(self, ress, data):
        getattr(Sets(ress, data, self.folder, self.quick), self.train)()
        return self

    @property
    def is_text(self):
        return self.config == TEXT

    @property
    def folder(self):
        return Path("paper/data-quick" if self.quick else "paper/data")


TASKS = {
    "kjv": Task(
        "kjv", "Language model: bytes of the King James Bible", TEXT, False, 200, True,
        [Measured("validation", "bible", ("--sequences", "256"))]),
    "kjv-long": Task(
        "kjv-long", "The same language model, trained for longer", TEXT, False, 600, True,
        [Measured("validation", "bible", ("--sequences", "256"))]),
    **{
        name: Task(
            name, f"{title}, to the end: the default, its dense twin and the candidates for the default", TEXT, False, 1500, True,
            [Measured("test", f"{name}-test", ("--sequences", "256")), Measured("validation", name, ("--sequences", "256"))])
        for name, title in (("bible", "King James Bible"), ("shakespeare", "Shakespeare"), ("wikitext", "WikiText-2"))},
    "chase": Task(
        "chase", "Steps of a table, trained with 1 to 3 hops", "configs/paper/chase.yaml", True, 600, False,
        [Measured(f"{hops} hops", f"chase-{hops}-hops") for hops in (1, 2, 3)]),
    "chase-long": Task(
        "chase-long", "The same steps of a table, trained for longer", "configs/paper/chase.yaml", True, 3000, False,
        [Measured(f"{hops} hops", f"chase-{hops}-hops") for hops in (1, 2, 3, 4)]),
    "recall": Task(
        "recall", "Keyed recall among words that mean nothing (MQAR), trained with 32 to 128 words", "configs/paper/recall.yaml", True, 500, False,
        [Measured(length, f"recall-{length}") for length in ("64", "128", "256", "1024")]),
    "recall-long": Task(
        "recall-long", "The same recall, trained for longer", "configs/paper/recall.yaml", True, 2000, False,
        [Measured(length, f"recall-{length}") for length in ("64", "128", "256", "1024")]),
    "far": Task(
        "far", "A pair in the first segment, asked for n segments later, trained with 1 and 2", "configs/paper/far.yaml", True, 300, False,
        [Measured(f"{back} back", f"far-{back}-back") for back in (2, 8, 16)]),
    "needles": Task(
        "needles", "Codes of people among paragraphs, trained with at most one", "configs/paper/needles.yaml", True, 400, False,
        [Measured(f"{count} paragraphs", f"needles-{count}-paragraphs") for count in (1, 3, 7)]),
    **{
        name: Task(
            name, f"Which nodes a path joins, trained with 8 to 16 nodes; edges, and names of one node, are relations{more}", "configs/paper/reach.yaml",
            True, steps, False, [Measured(place, f"reach-{place.replace(' ', '-')}") for place in ("16 nodes", "32 nodes", "16, edges reordered")])
        for name, more, steps in (("reach", "", 600), ("reach-long", ", trained for longer", 2000))},
    "cora": Task(
        "cora", "Topics of papers in a citation graph (Cora); edges are relations", "configs/paper/cora.yaml", True, 100, False,
        [Measured("test", "cora-test"), Measured("reordered", "cora-reordered")]),
    "lookups": Task(
        "lookups", "Statements that one cell of a table decides; cells of a row, of a column, their header, and words that spell a cell are relations",
        "configs/paper/lookups.yaml", True, 1500, False,
        [Measured(place, f"lookups-{place.replace(' ', '-')}") for place in ("value of another row", "the same, rows reordered")]),
}

def by_position(task):
    return Measured("by position", task.train, ("--length", str(LENGTH), "--parts", str(PARTS), "--sequences", "16"))


class Laboratory:
    def __init__(self, options):
        self.options, self.out = options, Path(options.out)
        self.ress = os.path.abspath(options.ress)
        # The cluster is of the first task, so that two laboratories with different tasks can run side by side.
        self.cluster = self.out / options.tasks[0]
        self.results, self.costs, self.own = {name: {} for name in TASKS}, {}, {}
        self.lock = threading.Lock()
        for name in TASKS:
            self.load(name)

    def load(self, name):
        path = self.out / f"{name}.json"
        if path.exists():
            self.results[name], costs = json.loads(path.read_text())
            self.costs.update(costs)

    def save(self, name):
        path = self.out / f"{name}.json"
        costs = {title: cost for title, cost in self.costs.items() if title.split()[0] == name}
        path.with_suffix(".tmp").write_text(json.dumps([self.results[name], costs]))
        path.with_suffix(".tmp").rename(path)

    # ---- what is to be done

    def plan(self):
        for name in self.options.tasks:
            task = TASKS[name].prepare(self.ress, self.options.data)
            shown = json.loads(subprocess.run(
                [self.ress, "data", "show", task.folder / f"{task.train}.h5", "--json"], check=True, capture_output=True, text=True).stdout)
            text = Path(task.config).read_text()
            longest = int(text.split("sequence_length:")[1].split()[0])
            train = shown["train"]
            length = train["tokens"] // train["examples"] if "examples" in train else longest
            # The baseline sees a sequence whole, also where a longer one is measured.
            whole = LENGTH if task.is_text else longest
            narrow = round(0.69 * int(text.split("expert_width:")[1].split()[0]))
            base = [
                f"data.path={task.folder / task.train}.h5", f"checkpoint.directory={self.cluster}/checkpoints", f"training.steps={task.steps}",
                f"optimizer.warmup_steps={task.steps // 10}"]
            variants = Variants(self.ress, task.config, shown["vocabulary"], length, longest, True, base)
            for design in self.designs(name):
                own = [setting.format(length=whole, narrow=narrow) for setting in design.settings]
                if "ordered: false" in text and "model.architecture=transformer" in own:
                    own.append("model.positions=none")
                if own:
                    own.append(variants.matched(own, design.fit, "operations_a_token"))
                self.own[name, design.name] = (*base, *own)
                # Of a sequence whose length is that of training, whatever segment it is cut into.
                counted = [setting.replace(f"model.segment={whole}", f"model.segment={length}") for setting in own]
                cost = variants.count(counted)
                self.costs[f"{name} {design.name}"] = [cost["parameters"], cost["operations_a_token"], own]

    def designs(self, task):
        return [design for design in DESIGNS if task in design.tasks]

    def is_wanted(self, design):
        return not self.options.only or any(word in design.name for word in self.options.only)

    def jobs(self):
        jobs = [(seed, name, design) for name in self.options.tasks for design in self.designs(name) if self.is_wanted(design)
                for seed in range(1, self.options.seeds + 1) if seed <= design.seeds]
        # Task by task two seeds of the designs that decide something and one of the others, then the third seeds.
        return sorted(jobs, key=lambda job: (job[0] > 2, self.options.tasks.index(job[1]), job[2].seeds == 1, job[0]))

    def run(self, seed, name, design):
        return Run(f"lab-{name}", design.name, seed, TASKS[name].config, self.own[name, design.name])

    # ---- training and measuring

    def go(self):
        self.plan()
        jobs = self.jobs()
        with Cluster(self.ress, self.cluster, self.options.cores) as cluster, ThreadPoolExecutor(self.options.cores) as pool:
            work = [pool.submit(self.one, cluster, *job) for job in jobs]
            try:
                for future in work:
                    future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def one(self, cluster, seed, name, design):
        run, task = self.run(seed, name, design), TASKS[name]
        places = [*task.places, *([by_position(task)] if design.positions and task.is_text else [])]
        if all(key(run, place) in self.results[name] for place in places):
            return
        cluster.train([run])
        with tempfile.TemporaryDirectory(prefix="ress-lab-") as scratch:
            for place in places:
                found = evaluate(self.ress, self.cluster / "checkpoints", task.folder, run, place, (), scratch)
                value = found["loss"] if task.lower else 100 * found["accuracy"]
                with self.lock:
                    self.results[name][key(run, place)] = {"value": value, "parts": found["parts"]}
                    self.save(name)
        self.report()

    # ---- the table

    def values(self, name, design, place):
        found = []
        for seed in range(1, design.seeds + 1):
            result = self.results[name].get(key(Run(f"lab-{name}", design.name, seed, "", ()), place))
            if result:
                found.append(result["value"])
        return found

    def deviation(self, name, place):
        """The standard deviation of seeds, pooled over all designs that have more than one; and its degrees of freedom."""
        squares, freedom = 0.0, 0
        for design in self.designs(name):
            values = self.values(name, design, place)
            if len(values) > 1:
                squares += sum((value - statistics.fmean(values)) ** 2 for value in values)
                freedom += len(values) - 1
        return (math.sqrt(squares / freedom) if freedom else None), freedom

    def difference(self, name, design, place):
        """Of a design and the one it is compared with: the difference of means, and its p by the pooled deviation."""
        other = next(d for d in DESIGNS if d.name == design.against)
        ours, theirs = self.values(name, design, place), self.values(name, other, place)
        if not ours or not theirs or design is other:
            return None
        difference = statistics.fmean(ours) - statistics.fmean(theirs)
        deviation, freedom = self.deviation(name, place)
        if not deviation:
            return difference, None
        return difference, t_probability(difference / (deviation * math.sqrt(1 / len(ours) + 1 / len(theirs))), freedom)

    def cell(self, name, design, place):
        values = self.values(name, design, place)
        digits = 3 if TASKS[name].lower else 1
        if not values:
            return "–"
        text = f"{statistics.fmean(values):.{digits}f}"
        found = self.difference(name, design, place)
        if found:
            difference, p = found
            text += f" ({difference:+.{digits}f}" + (f", p {p:.2g}" if p is not None else "") + ")"
        return text

    def report(self):
        with self.lock:
            lines = [(HERE / "head.md").read_text()]
            for name in TASKS:
                if name not in self.options.tasks:
                    self.load(name)
                lines += self.section(name)
            (self.out / "RESULTS.md").write_text("\n".join(lines).rstrip() + "\n")

    def section(self, name):
        task = TASKS[name]
        designs = [design for design in self.designs(name) if any(self.values(name, design, place) for place in task.places)]
        if not designs:
            return []
        unit = "nats a byte, less is better" if task.lower else "accuracy in %, more is better"
        lines = [f"## {task.title}", "", f"{task.steps} steps of `{task.config}`; {unit}."]
        for place in task.places:
            deviation, freedom = self.deviation(name, place)
            if deviation:
                lines.append(f"Seeds at “{place.label}”: pooled standard deviation {deviation:.3f}, {freedom} degrees of freedom.")
        lines += ["", "| part | design | parameters | MFLOP a token | seeds | " + " | ".join(place.label for place in task.places) + " |",
                  "|---|---|---:|---:|---:|" + "---:|" * len(task.places)]
        for design in sorted(designs, key=lambda d: ["", "baseline", "R2MU", "memory", "ASAM", "SOES"].index(d.part)):
            parameters, operations, _ = self.costs[f"{name} {design.name}"]
            title = design.name if design.against == "default" else f"{design.name} (compared with: {design.against})"
            cells = [self.cell(name, design, place) for place in task.places]
            lines.append(f"| {design.part} | {title} | {parameters:,} | {operations / 1e6:.3f} | {len(self.values(name, design, task.places[0]))} | "
                         + " | ".join(cells) + " |")
        lines.append("")
        if task.is_text:
            lines += self.positions(name, designs)
        return lines

    def positions(self, name, designs):
        lines = [f"Loss by position in sequences of {LENGTH:,} bytes; training had 256. Means of the seeds.", "",
                 "| design | seeds | " + " | ".join(label for _, label in PLACES) + " |", "|---|---:|" + "---:|" * len(PLACES)]
        for design in designs:
            found = [self.results[name].get(key(Run(f"lab-{name}", design.name, seed, "", ()), by_position(TASKS[name]))) for seed in range(1, design.seeds + 1)]
            parts = [result["parts"] for result in found if result]
            if parts:
                cells = [f"{statistics.fmean(part[place] for part in parts):.3f}" for place, _ in PLACES]
                lines.append(f"| {design.name} | {len(parts)} | " + " | ".join(cells) + " |")
        return [*lines, ""]

    def commands(self):
        """What each design sets, for those who want to train one by itself."""
        for title, (parameters, operations, own) in self.costs.items():
            print(f"{title}: {parameters:,} parameters, {operations / 1e6:.3f} MFLOP a token:", *(f"--set {setting}" for setting in own))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="paper/lab", help="where runs and numbers go")
    parser.add_argument("--tasks", nargs="*", default=["kjv"], choices=list(TASKS))
    parser.add_argument("--only", nargs="*", metavar="WORDS", help="train the designs whose names contain one of these")
    parser.add_argument("--seeds", type=int, default=3, help="at most so many of each design")
    parser.add_argument("--data", help="the folder of published sets, for needles, cora and lookups (Benchmarks/paper/README.md)")
    parser.add_argument("--cores", type=int, default=1, help="workers, each on one core")
    parser.add_argument("--report", action="store_true", help="write the table of what is there")
    parser.add_argument("--list", action="store_true", help="print costs and settings of all designs, and train nothing")
    parser.add_argument("--ress", default=".build/release/ress")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    laboratory = Laboratory(options)
    laboratory.out.mkdir(parents=True, exist_ok=True)
    if options.list or options.report:
        laboratory.plan()
        laboratory.report() if options.report else laboratory.commands()
        return
    laboratory.go()


if __name__ == "__main__":
    sys.exit(main())
