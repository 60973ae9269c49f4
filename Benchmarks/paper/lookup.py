"""Statements that a table's own cells decide: "COLUMN of KEY is VALUE", over TabFact's tables; and what a lexical baseline says of text.

A statement is true where it names the cell of the key's row and the column. A false one names another row's value of the same column, so that
the statement's words are all in the table and only their places differ, or, what is easier to find out, a value of another table.
"""

import math
from collections import Counter

LONGEST_CELL, MOST_ROWS, MOST_COLUMNS = 4, 8, 5


def usable(row):
    """The table cut to what a small model can read, or None where too little is left: (header, rows)."""
    header = row["header"][:MOST_COLUMNS]
    rows = [line[: len(header)] for line in row["rows"] if len(line) >= len(header)]
    rows = [line for line in rows if all(0 < len(cell.split()) <= LONGEST_CELL for cell in line)][:MOST_ROWS]
    keys = [line[0] for line in rows]
    if len(header) < 2 or len(rows) < 3 or len(set(keys)) < len(keys):
        return None
    return header, rows


def values(row):
    """The cells of a table that statements can name: those beside the keys."""
    table = usable(row)
    return [cell for line in table[1] for cell in line[1:]] if table else []


def statements(draw, row, strangers=(), count=4):
    """A table of the task `tables` with as many true statements as false ones, or None where it is of no use.

    `strangers`: values of other tables, which half of the false statements name; without them no false statement does. As a task by themselves
    the other false statements are learned late or not at all: nothing rewards a model that only looks up whether the table has the value.
    """
    table = usable(row)
    if table is None:
        return None
    header, rows = table
    made = []
    for number in range(50 * count):
        column, line = draw.randrange(1, len(header)), draw.choice(rows)
        others = [other[column] for other in rows if other[column] != line[column]]
        if not others:
            continue
        label = len(made) % 2
        value = line[column] if label else draw.choice(others)
        if strangers and len(made) % 4 == 0:
            value = stranger(draw, strangers, rows) or value
        made.append({"text": f"{header[column]} of {line[0]} is {value}", "label": label})
        if len(made) == count:
            return {"header": header, "rows": rows, "statements": made}
    return None


def stranger(draw, strangers, rows):
    """A value that no cell of these rows has, or None where 100 draws find none."""
    own = {cell for line in rows for cell in line}
    return next((value for value in draw.choices(strangers, k=100) if value not in own), None)


def reordered(draw, row):
    """The same statements of a table whose rows stand in another order."""
    return {**row, "rows": draw.sample(row["rows"], len(row["rows"]))}


class BM25:
    """The usual lexical score of texts for a question: k₁ 1.2, b .75, words in lower case without punctuation."""

    def __init__(self, texts, k1=1.2, b=0.75):
        self.k1, self.b = k1, b
        self.counts = [Counter(plain_words(text)) for text in texts]
        self.lengths = [sum(counts.values()) for counts in self.counts]
        self.mean = sum(self.lengths) / max(1, len(self.lengths))
        holding = Counter(word for counts in self.counts for word in counts)
        self.weight = {word: math.log(1 + (len(texts) - n + 0.5) / (n + 0.5)) for word, n in holding.items()}

    def scores(self, question):
        asked = set(plain_words(question))
        return [
            sum(self.weight[word] * counts[word] * (self.k1 + 1)
                / (counts[word] + self.k1 * (1 - self.b + self.b * length / self.mean)) for word in asked if word in counts)
            for counts, length in zip(self.counts, self.lengths)]


def plain_words(text):
    return "".join(letter if letter.isalnum() else " " for letter in text.lower()).split()


def supporting(row, longest=60):
    """Questions "which of these paragraphs does it take", one for each that it takes, as rows of the task `multiple_choice`."""
    texts = {p["title"]: " ".join(f"{p['title']} : {p['text']}".split()[:longest]) for p in row["paragraphs"]}
    wrong = [text for title, text in texts.items() if title not in row["supporting"]]
    rows = []
    for title in row["supporting"]:
        if title in texts and wrong:
            # The right one's place among the choices says nothing: a model sees each choice by itself.
            rows.append({"context": row["question"], "choices": [texts[title], *wrong], "answer": 0})
    return rows


def lexical_accuracy(rows):
    """The share of rows in which BM25 ranks the right paragraph above all others; an equal score is half right."""
    right = []
    for row in rows:
        best, *others = BM25(row["choices"]).scores(row["context"])
        right.append(1.0 if best > max(others) else 0.5 if best == max(others) else 0.0)
    return right
