"""The data of the paper's experiments: rows made of published sets, and datasets that `ress data prepare` makes of them."""

import gzip
import json
import random
import subprocess
from pathlib import Path

TOPICS = 10
RETRIEVAL_TRAIN, RETRIEVAL_VALID = 4000, 400
# Distractor paragraphs around the sentence, in training and at evaluation.
RETRIEVAL_TRAINED, RETRIEVAL_MEASURED = (1, 3), (0, 1, 3, 7, 15)
# Bytes of context around a question's paragraph.
QA_TRAINED, QA_MEASURED = (0, 1500), (0, 1500, 3000, 6000)

DIGITS = "zero one two three four five six seven eight nine".split()


def rows(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def write(path, rows):
    with open(path, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


class Sets:
    """Makes a dataset when it is first asked for; one that is there already is taken as it is."""

    def __init__(self, ress, source, folder):
        self.ress, self.source, self.folder = ress, Path(source), Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def find(self, name):
        """The set's file, packed or not."""
        for candidate in (self.source / f"{name}.gz", self.source / name):
            if candidate.exists():
                return candidate
        raise FileNotFoundError(f"{self.source}/{name}.gz")

    def prepare(self, name, train, valid, *options):
        path = self.folder / f"{name}.h5"
        if not path.exists():
            words = [self.ress, "data", "prepare", train, "--out", path, *options]
            if valid:
                words += ["--validation-file", valid]
            subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL)
        return path

    def tokenizer(self):
        """2,048 byte pairs of SQuAD's paragraphs."""
        path = self.folder / "tokenizer.json"
        if not path.exists():
            text = self.folder / "paragraphs.txt"
            text.write_text("\n".join(sorted({row["context"] for row in rows(self.find("squad.train.jsonl"))})))
            subprocess.run(
                [self.ress, "data", "tokenizer", "train", text, "--out", path, "--vocabulary", "2048"],
                check=True, stdout=subprocess.DEVNULL)
        return path

    # One function an experiment. Each returns the names of the datasets to measure on, with what the axis says.

    def lm(self):
        self.prepare("lm", self.find("shakespeare.train.txt"), self.find("shakespeare.valid.txt"))
        return {"lm": None}

    def qa(self):
        train, valid = self.find("squad.train.jsonl"), self.find("squad.valid.jsonl")
        for size in sorted({*QA_TRAINED, *QA_MEASURED}):
            self.prepare(
                f"qa-{size}", train, valid, "--task", "span", "--context-bytes", size, "--tokenizer", self.tokenizer())
        return {f"qa-{size}": size for size in QA_MEASURED}

    def retrieval(self):
        paragraphs = {
            split: sorted({row["context"] for row in rows(self.find(f"squad.{split}.jsonl"))})
            for split in ("train", "valid")
        }
        for count in sorted({*RETRIEVAL_TRAINED, *RETRIEVAL_MEASURED}):
            files = []
            for split, examples in (("train", RETRIEVAL_TRAIN), ("valid", RETRIEVAL_VALID)):
                path = self.folder / f"retrieval-{count}.{split}.jsonl"
                files.append(path)
                if path.exists():
                    continue
                draw = random.Random(f"{split} {count}")
                made = []
                for _ in range(examples):
                    digit = draw.randrange(10)
                    parts = draw.sample(paragraphs[split], count)
                    parts.insert(draw.randint(0, count), f"The secret number is {DIGITS[digit]}.")
                    made.append({"text": "\n".join(parts), "label": digit})
                write(path, made)
            self.prepare(f"retrieval-{count}", *files, "--task", "classify", "--tokenizer", self.tokenizer())
        return {f"retrieval-{count}": count for count in RETRIEVAL_MEASURED}

    def tables(self):
        self.prepare("tables", self.find("tabfact.train.jsonl"), self.find("tabfact.valid.jsonl"), "--task", "tables")
        return {"tables": None}

    def graphs(self):
        self.prepare("graphs", self.find("cora.jsonl"), None, "--task", "graphs")
        return {"graphs": None}

    def topics(self):
        articles = {}
        for row in rows(self.find("squad.train.jsonl")):
            articles.setdefault(row["title"], set()).add(row["context"])
        most = sorted(articles, key=lambda title: (-len(articles[title]), title))[:TOPICS]
        train, valid, shuffled = [], [], []
        draw = random.Random("topics")
        for title in most:
            for number, text in enumerate(sorted(articles[title])):
                row = {"text": text, "label": title}
                (valid if number % 5 == 0 else train).append(row)
        for row in valid:
            words = row["text"].split()
            draw.shuffle(words)
            shuffled.append({**row, "text": " ".join(words)})
        files = [
            write(self.folder / f"topics.{name}.jsonl", made)
            for name, made in (("train", train), ("valid", valid), ("shuffled", shuffled))
        ]
        options = ("--task", "classify", "--tokenizer", self.tokenizer())
        self.prepare("topics", files[0], files[1], *options)
        self.prepare("topics-shuffled", files[0], files[2], *options)
        return {"topics": "as written", "topics-shuffled": "words shuffled"}
