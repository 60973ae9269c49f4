"""The data of the experiments: rows that generators make from a seed, and datasets that `ress data prepare` makes of them.

Rows come in three streams, train, valid and test, whose draws and, where they come from published sets, whose texts are apart. What is chosen
is chosen on valid; what is reported is measured on test.
"""

import gzip
import json
import random
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import graphs
import lookup
import made
import texts
import words


@dataclass(frozen=True)
class Measured:
    """One place on an experiment's axis: a dataset, and with what options `ress evaluate` reads it."""

    label: str
    dataset: str
    options: tuple = ()
    part: int | None = None  # of the losses that --parts tells apart
    trained: bool = False  # whether training had rows of this kind


@dataclass(frozen=True)
class Data:
    """What an experiment trains on, chooses by and reports."""

    train: str
    measured: tuple
    notes: tuple = ()  # sentences for the report


def rows(path):
    with gzip.open(path, "rt", encoding="utf-8") if str(path).endswith(".gz") else open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


class Sets:
    """Makes a dataset when it is first asked for; one that is there already is taken as it is.

    `source` is the folder of published sets, or None: then only experiments that make their own data can be had.
    """

    def __init__(self, ress, source, folder, quick):
        self.ress, self.source, self.folder, self.quick = ress, Path(source) if source else None, Path(folder), quick
        self.folder.mkdir(parents=True, exist_ok=True)
        # Of training, to choose by, and of each test.
        self.train_count, self.valid_count, self.test_count = (8000, 300, 300) if quick else (40000, 1000, 500)

    # ---- small parts

    def find(self, name):
        """A published set's file, compressed or not."""
        if self.source is None:
            raise FileNotFoundError(f"{name}.gz of the folder DATA")
        for candidate in (self.source / f"{name}.gz", self.source / name):
            if candidate.exists():
                return candidate
        raise FileNotFoundError(f"{self.source}/{name}.gz")

    def write(self, name, made_rows):
        path = self.folder / f"{name}.jsonl"
        with open(path, "w", encoding="utf-8") as file:
            for row in made_rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        return path

    def prepare(self, name, train, valid, *options):
        """`train` and `valid`: files, or functions that make rows."""
        path = self.folder / f"{name}.h5"
        if path.exists():
            return name
        files, own = [], []
        for kind, part in (("train", train), ("valid", valid)):
            if callable(part):
                own.append(self.write(f"{name}.{kind}", part()))
            if part:
                files.append(own[-1] if callable(part) else part)
        command = [self.ress, "data", "prepare", files[0], "--out", path, *options]
        if valid:
            command += ["--validation-file", files[1]]
        answer = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        if answer.returncode != 0:
            raise SystemExit(f"{name}: {answer.stderr or answer.stdout}")
        for file in own:
            file.unlink()
        return name

    def drawn(self, name, make, train, tests, *options, reading={}):
        """A dataset to train on, and one for each test. `make(draw, setting)` gives a row; `train` lists settings, drawn evenly.

        `tests`: {label: setting}. `reading`: {label: options of `ress evaluate`}. Streams are named, so that no test has the draws of training.
        """
        def stream(kind, settings, count):
            draw = random.Random(f"{name} {kind}")
            return lambda: [make(draw, settings[number % len(settings)]) for number in range(count)]

        self.prepare(name, stream("train", train, self.train_count), stream("valid", train, self.valid_count), *options)
        measured = []
        for label, setting in tests.items():
            test = stream(f"test {label}", [setting], self.test_count)
            dataset = self.prepare(f"{name}-{label}".replace(" ", "-"), test, test, *options)
            measured.append(Measured(label, dataset, reading.get(label, ()), trained=setting in train))
        return Data(name, tuple(measured))

    def word_tokenizer(self):
        path = self.folder / "words.json"
        if not path.exists():
            path.write_text(words.tokenizer(made.VOCABULARY))
        return path

    def paragraphs(self, split):
        """Stretches of HotpotQA's and NarrativeQA's texts, shorter ones where it is to be quick."""
        longest = texts.LONGEST_PARAGRAPH // (2 if self.quick else 1)
        found = {
            " ".join(piece) for row in rows(self.find(f"hotpotqa.{split}.jsonl")) for p in row["paragraphs"]
            for piece in texts.pieces(p["text"], longest)}
        found |= {" ".join(piece) for row in rows(self.find(f"narrativeqa.{split}.jsonl")) for piece in texts.pieces(row["context"], longest)}
        return [text.split() for text in sorted(found)]

    def text_tokenizer(self):
        """Byte pairs of the same texts and of the facts that stand among them."""
        path = self.folder / "texts.json"
        if not path.exists():
            draw = random.Random("tokenizer")
            lines = [" ".join(paragraph) for paragraph in self.paragraphs("train")]
            facts = [" ".join(texts.needle(draw, [], 0, hops=2)["words"]) for _ in range(400)]
            facts += [" ".join(texts.story(draw, [], 0, facts=2)["words"]) for _ in range(400)]
            source = self.folder / "texts.txt"
            source.write_text("\n".join([*lines, *facts]), encoding="utf-8")
            subprocess.run(
                [self.ress, "data", "tokenizer", "train", source, "--out", path, "--vocabulary", "2048"], check=True, capture_output=True)
        return path

    # ---- one function an experiment

    def recall(self):
        # The shortest rows fit one segment: what is learned of them is then needed across segments.
        lengths, pairs = ((32, 64, 128, 256, 1024), 3) if self.quick else ((32, 64, 128, 256, 512, 1024, 2048), 4)
        return self.drawn(
            "recall", lambda draw, length: made.recall(draw, length, pairs, queries=pairs), [32, 64, 128], {f"{length}": length for length in lengths[1:]}, "--task", "tag",
            "--relations", "--tokenizer", self.word_tokenizer())

    def far(self):
        backs, trained = ((1, 2, 4, 8, 16, 30), [1, 2]) if self.quick else ((1, 2, 4, 8, 16, 30, 62), [1, 2, 3, 4])
        data = self.drawn(
            "far", lambda draw, back: made.far(draw, back), trained, {f"{back} back": back for back in backs}, "--task", "tag", "--tokenizer",
            self.word_tokenizer(), reading={"62 back": ("--length", "1024")})  # twice as many words as a training sequence can have
        return data if self.quick else replace(data, notes=(
            "The dense mixture has neither memory nor cache and reads 512 words at once. A question 62 segments later is out of its reach.",))

    def among(self, name, make, *options, training=None):
        """Facts among 0 to 15 paragraphs, trained with up to two; where it is to be quick, trained with up to one and measured to seven.

        `training` makes the rows of training where these are others than `make`'s.
        """
        found = {split: self.paragraphs(split) for split in ("train", "valid")}
        training = training or make

        def row(draw, setting):
            split, count = setting
            return (training if split == "train" else make)(draw, found[split], count)

        counts = (0, 1, 3, 7) if self.quick else (0, 1, 3, 7, 15)
        # The texts of tests are other texts than those of training.
        return self.drawn(
            name, row, [("train", count) for count in ((0, 1) if self.quick else (0, 1, 2))], {f"{count} paragraphs": ("valid", count) for count in counts}, "--task",
            "tag", *options, "--tokenizer", self.text_tokenizer())

    def needles(self):
        return self.among("needles", lambda draw, found, count: texts.needle(draw, found, count), "--relations")

    def hops(self):
        # Half of the questions of training name the person. Without them a model that has learned one of the hops answers no
        # better than before, and so no model learned the other.
        return self.among(
            "hops", lambda draw, found, count: texts.needle(draw, found, count, hops=2), "--relations",
            training=lambda draw, found, count: texts.needle(draw, found, count, hops=2, direct=2))

    def stories(self):
        return self.among("stories", lambda draw, found, count: texts.story(draw, found, count, facts=2))

    def supporting(self):
        """HotpotQA's own questions: 300 to train on, 50 to choose by, 50 to report."""
        def split(name, part):
            return [made_row for number, row in enumerate(rows(self.find(f"hotpotqa.{name}.jsonl")))
                    if part is None or number % 2 == part for made_row in lookup.supporting(row)]

        options = ("--task", "multiple_choice", "--tokenizer", self.text_tokenizer())
        self.prepare("supporting", lambda: split("train", None), lambda: split("valid", 0), *options)
        test = split("valid", 1)
        self.prepare("supporting-test", lambda: test, lambda: test, *options)
        right = lookup.lexical_accuracy(test)
        return Data("supporting", (Measured("test", "supporting-test"),), (
            f"BM25 (k₁ 1.2, b .75), which learns nothing, ranks the right paragraph first in {100 * sum(right) / len(right):.1f} % of the "
            f"{len(test)} test questions; chance is {100 * sum(1 / len(row['choices']) for row in test) / len(test):.1f} %.",))

    def listops(self):
        # A list must have exactly its depth; deeper ones need room.
        return self.drawn(
            "listops", lambda draw, depth: made.listops(draw, depth, 60 if depth <= 5 else 160), [1, 2, 3, 4, 5],
            {f"depth {depth}": depth for depth in ((3, 5, 6, 8) if self.quick else (1, 3, 5, 6, 7, 8))}, "--task", "tag", "--tokenizer",
            self.word_tokenizer())

    def chase(self):
        return self.drawn(
            "chase", lambda draw, hops: made.chase(draw, hops), [1, 2, 3], {f"{hops} hops": hops for hops in (1, 2, 3, 4)}, "--task", "tag",
            "--tokenizer", self.word_tokenizer())

    def reach(self):
        sizes = (16, 32) if self.quick else (16, 24, 32, 64)
        tests = {f"{nodes} nodes": (nodes, False) for nodes in sizes} | {"16, edges reordered": (16, True)}

        def row(draw, setting):
            found = made.reach(draw, setting[0])
            return made.reordered_reach(draw, found) if setting[1] else found

        return self.drawn("reach", row, [(8, False), (12, False), (16, False)], tests, "--task", "tag", "--relations", "--tokenizer",
            self.word_tokenizer())

    def cora(self):
        nodes = rows(self.find("cora.jsonl"))
        options = ("--task", "graphs", "--relations")
        self.prepare("cora", self.find("cora.jsonl"), None, *options)
        self.prepare("cora-test", self.find("cora.jsonl"), None, *options, "--validation-split", "test")
        draw = random.Random("cora reordered")
        self.prepare("cora-reordered", lambda: graphs.reordered(draw, nodes), None, *options, "--validation-split", "test")
        path = self.folder / "cora-linear.json"
        if not path.exists():
            path.write_text(json.dumps(graphs.linear_references(nodes)))
        linear = json.loads(path.read_text())
        return Data("cora", (Measured("test", "cora-test"), Measured("reordered", "cora-reordered")), (
            f"Linear models on the same nodes: logistic regression on a node's own words has {100 * linear['own words']:.1f} %, on words "
            f"smoothed over two hops of the edges (SGC) {100 * linear['two hops (SGC)']:.1f} %.",
            "A model is given the set of nodes around the one asked, and how many hops away each is. The edges among them are relations, which "
            "ReSSFormer reads; its variant without relations and the dense models do not.",))

    def lookups(self):
        def make(split, name, strange=True, reorder=False, part=None):
            draw = random.Random(f"lookups {name}")
            tables = [row for number, row in enumerate(rows(self.find(f"tabfact.{split}.jsonl"))) if part is None or number % 2 == part]
            strangers = [value for row in tables for value in lookup.values(row)] if strange else ()
            repeats = 1 if self.quick or split == "valid" else 4
            found = [table for row in tables for _ in range(repeats) if (table := lookup.statements(draw, row, strangers))]
            return [lookup.reordered(draw, table) for table in found] if reorder else found

        options = ("--task", "tables", "--relations", "--tokenizer", self.table_tokenizer())
        self.prepare("lookups", lambda: make("train", "train"), lambda: make("valid", "valid", part=0), *options)
        tests = []
        for label, reorder in (("value of another row", False), ("the same, rows reordered", True)):
            test = make("valid", "test", strange=False, reorder=reorder, part=1)
            tests.append(Measured(label, self.prepare(f"lookups-{label.replace(' ', '-')}", lambda: test, lambda: test, *options)))
        return Data("lookups", tuple(tests), (
            "Half of the statements are false. In the tests they name a value of another row of the same column, in training half of them name a "
            "value of another table. Relations, which ReSSFormer reads, join the cells of a row, those of a column, a header and its cells, and the "
            "words of the statement with the cells and headers that they spell.",))

    def table_tokenizer(self):
        """Byte pairs of the tables' cells: most words of theirs are one or two."""
        path = self.folder / "tables.json"
        if not path.exists():
            cells = [" " + cell for row in rows(self.find("tabfact.train.jsonl")) for line in [row["header"], *row["rows"]] for cell in line]
            source = self.folder / "tables.txt"
            source.write_text("\n".join(cells), encoding="utf-8")
            subprocess.run(
                [self.ress, "data", "tokenizer", "train", source, "--out", path, "--vocabulary", "4096"], check=True, capture_output=True)
        return path

    # ---- language models: bits a byte, also of positions that training had not

    def language(self, name, train, valid, test):
        """`valid` and `test` are texts that are apart from `train` and from each other."""
        files = []
        if self.quick:
            test = test[:100_000]
        for kind, text in (("valid", valid), ("test", test)):
            path = self.folder / f"{name}.{kind}.txt"
            path.write_text(text, encoding="utf-8")
            files.append(path)
        source = self.folder / f"{name}.train.txt"
        source.write_text(train, encoding="utf-8")
        if not (self.folder / f"{name}.h5").exists():
            self.prepare(name, source, files[0])
        if not (self.folder / f"{name}-test.h5").exists():
            # Its training split is never read; a file cannot be in both.
            self.prepare(f"{name}-test", files[0], files[1])
        # Up to four times the trained length.
        length = 256
        parts = [
            Measured(f"bytes {length * part:,}–{length * (part + 1):,}", f"{name}-test", ("--length", str(4 * length), "--parts", "4"), part)
            for part in range(4)]
        return Data(name, (Measured(f"{length} bytes", f"{name}-test", trained=True), *parts))

    def shakespeare(self):
        def text(name):
            path = self.find(name)
            with gzip.open(path, "rt") if path.suffix == ".gz" else open(path) as file:
                return file.read()

        held = text("shakespeare.valid.txt")
        return self.language("shakespeare", text("shakespeare.train.txt"), held[: len(held) // 2], held[len(held) // 2 :])

    def wikitext(self):
        held = [row["text"] for row in rows(self.find("wikitext2.valid.jsonl"))]
        train = "\n".join(row["text"] for row in rows(self.find("wikitext2.train.jsonl")))
        return self.language("wikitext", train, "\n".join(held[0::2]), "\n".join(held[1::2]))

    def bible(self):
        """The King James Bible of the Debian package bible-kjv: of 66 books five validate and five test."""
        folder = self.folder / "bible"
        if not folder.exists():
            if not shutil.which("bible"):
                raise FileNotFoundError("the program 'bible' of the package bible-kjv")
            subprocess.run([Path(__file__).parents[2] / "scripts/prepare-bible.sh", folder], check=True, stdout=subprocess.DEVNULL)
        books = [path.read_text() for path in sorted(folder.glob("*.txt"))]
        pick = lambda rest: "".join(book for number, book in enumerate(books) if number % 13 == rest)
        train = "".join(book for number, book in enumerate(books) if number % 13 not in (5, 11))
        return self.language("bible", train, pick(5), pick(11))
