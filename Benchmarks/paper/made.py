"""Tasks in made-up languages, which need no data: keyed recall, a pair n segments back, tables of steps, nested lists, paths in graphs.

Each generator is a function of a `random.Random` and sizes, and gives a row of the task `tag` (docs/tasks.md): words, and a class at the
words that are asked about. A row may hold fields more, which `ress data prepare` does not read.
"""

from collections import deque
from itertools import combinations

import words

# Keyed recall: keys, values and words that mean nothing.
KEYS, VALUES, FILLER = words.names(16, "bcdf"), words.names(8, "gh"), words.names(16, "jkl")
# Nodes of graphs: none of them is special, and training must show all.
NODES = words.names(64, "npqw")
OPERATIONS = {"max": max, "min": min, "med": lambda values: sorted(values)[len(values) // 2], "sum": lambda values: sum(values) % 10}
DIGITS = words.names(10, "rt")
OPEN, CLOSE, ASK, STEP = "vu", "xu", "zu", "wu"
VOCABULARY = [*KEYS, *VALUES, *FILLER, *NODES, *DIGITS, *OPERATIONS, OPEN, CLOSE, ASK, STEP]


def recall(draw, length, pairs=4, queries=4):
    """Keys with a value behind each, anywhere among words that mean nothing; at the end some of the keys ask for their values (MQAR).

    `relations`: the places of one key are related.
    """
    body = length - 1 - 2 * queries
    if body < 2 * pairs:
        raise ValueError(f"{length} words have no room for {pairs} pairs and {queries} queries")
    keys = draw.sample(range(len(KEYS)), pairs)
    values = [draw.randrange(len(VALUES)) for _ in keys]
    # Where the pairs stand: places among the filler words that are left.
    gaps = sorted(draw.randrange(body - 2 * pairs + 1) for _ in keys)
    row, place = [words.START], 0
    for key, value, gap in zip(keys, values, gaps):
        row += [draw.choice(FILLER) for _ in range(gap - place)] + [KEYS[key], VALUES[value]]
        place = gap
    row += [draw.choice(FILLER) for _ in range(body - 2 * pairs - place)]
    tags = [None] * len(row)
    for number in draw.sample(range(pairs), queries):
        row += [ASK, KEYS[keys[number]]]
        tags += [None, values[number]]
    return {"words": row, "tags": tags, "relations": words.mentions(row, KEYS)}


def far(draw, back, segment=16):
    """One key with its value in the first segment, and a question `back` segments later: only what crosses segments answers it."""
    length = (back + 1) * segment
    place = draw.randrange(1, segment - 2)
    value = draw.randrange(len(VALUES))
    row = [words.START] + [draw.choice(FILLER) for _ in range(length - 2)] + [ASK]
    row[place : place + 2] = [KEYS[0], VALUES[value]]
    return words.asked_at_end(row, value)


def chase(draw, hops, nodes=5, named=8):
    """A table of steps from node to node, whose rows are in any order; asked is where a number of steps leads from each node.

    One lookup answers one hop, and each further hop takes the answer of the one before it. The steps are one cycle through some of the `named`
    nodes, so that none is likelier than another, and fewer hops than nodes never lead back.
    """
    cycle = draw.sample(range(named), nodes)
    steps = list(zip(cycle, [*cycle[1:], cycle[0]]))
    draw.shuffle(steps)
    row = [words.START, *(word for a, b in steps for word in (STEP, NODES[a], NODES[b])), ASK]
    tags = [None] * len(row)
    for place in draw.sample(range(nodes), nodes):
        row += [DIGITS[hops], NODES[cycle[place]]]
        tags += [None, cycle[(place + hops) % nodes]]
    return {"words": row, "tags": tags}


def listops(draw, depth, longest=100):
    """A nested list of operations on digits, of exactly that depth; the last word asks for its value."""
    while True:
        row, value = nested(draw, depth)
        if len(row) + 2 <= longest:
            return words.asked_at_end([words.START, *row, ASK], value, depth=depth)


def nested(draw, depth):
    if depth == 0:
        digit = draw.randrange(10)
        return [DIGITS[digit]], digit
    name = draw.choice(list(OPERATIONS))
    # One argument has the whole depth; each other is a digit, or now and then a list of any lesser depth.
    count = draw.randint(2, 4)
    deepest = draw.randrange(count)
    parts = [
        nested(draw, depth - 1 if place == deepest else draw.randrange(depth) if draw.random() < 0.3 else 0) for place in range(count)]
    return [OPEN, name, *(word for row, _ in parts for word in row), CLOSE], OPERATIONS[name]([value for _, value in parts])


# Kinds of relations between words.
EDGE, NAME = 0, 1


def reach(draw, nodes, hops=4, asked=4):
    """Which nodes one node reaches along edges that are listed in any order: of those asked about, half, in at most `hops`.

    The graph is four paths with edges added within each: nodes of one path are joined, those of different ones are not, and how often a
    node is named says nothing. `relations` has pairs of word numbers (from 0): of kind 0 the two names of an edge, of kind 1 two names of one
    node.
    """
    order = draw.sample(range(len(NODES)), nodes)
    paths = [order[place::4] for place in range(4)]
    edges = []
    for path in paths:
        edges += list(zip(path, path[1:]))
        # Shortcuts, so that a path's ends are not the only ones named once.
        edges += [tuple(draw.sample(path, 2)) for _ in range(len(path) // 3)]
    source = draw.choice(order)
    distances = {node: hops_between(source, node, edges) for node in order if node != source}
    near = [node for node, distance in distances.items() if distance is not None and distance <= hops]
    far_away = [node for node, distance in distances.items() if distance is None]
    count = min(asked, len(near))
    targets = [(node, 1) for node in draw.sample(near, count)] + [(node, 0) for node in draw.sample(far_away, count)]
    draw.shuffle(targets)
    return reach_row(draw, edges, source, targets)


def reach_row(draw, edges, source, targets):
    edges = [edge if draw.random() < 0.5 else edge[::-1] for edge in edges]
    draw.shuffle(edges)
    row, places, relations = [words.START], {}, []
    for edge in edges:
        relations.append([len(row) + 1, len(row) + 2, EDGE])
        for place, node in enumerate(edge):
            places.setdefault(node, []).append(len(row) + 1 + place)
        row += [STEP, *(NODES[node] for node in edge)]
    tags = [None] * (len(row) + 2)
    places[source].append(len(row) + 1)
    row += [ASK, NODES[source]]
    for node, answer in targets:
        places[node].append(len(row))
        row.append(NODES[node])
        tags.append(answer)
    for there in places.values():
        relations += [[i, j, NAME] for i, j in combinations(there, 2)]
    return {"words": row, "tags": tags, "relations": relations, "listed": edges, "asked": [source, targets]}


def reordered_reach(draw, row):
    """The same questions of the same graph with its edges listed in another order."""
    return reach_row(draw, row["listed"], *row["asked"])


def hops_between(a, b, edges):
    """Edges on the shortest way between two nodes, or None. Edges have no direction."""
    near = {}
    for x, y in edges:
        near.setdefault(x, []).append(y)
        near.setdefault(y, []).append(x)
    found, waiting = {a: 0}, deque([a])
    while waiting:
        node = waiting.popleft()
        if node == b:
            return found[node]
        for other in near.get(node, []):
            if other not in found:
                found[other] = found[node] + 1
                waiting.append(other)
    return None
