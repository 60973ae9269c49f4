"""Cora: what linear models make of it, with the edges and without, so that a model's accuracy has something to be measured by.

Multinomial logistic regression by gradient descent with momentum, on sparse features. Words are 0 or 1, scaled so that a node's add up to one. SGC
(arXiv 1902.07153) replaces them by their mean over neighbours, twice: S = D^-1/2 (A + I) D^-1/2, then logistic regression.
"""

import math


def features(nodes):
    """A sparse row a node: {word: share}."""
    return {node["id"]: {word: 1 / len(node["words"]) for word in node["words"]} for node in nodes}


def smoothed(nodes, rows, hops=2):
    """S^hops X, computed for all nodes. Neighbours that are no nodes of the set are passed over."""
    known = {node["id"] for node in nodes}
    near = {node["id"]: [other for other in dict.fromkeys([node["id"], *node["neighbors"]]) if other in known] for node in nodes}
    scale = {node: len(others) ** -0.5 for node, others in near.items()}
    for _ in range(hops):
        following = {}
        for node, others in near.items():
            row = {}
            for other in others:
                weight = scale[node] * scale[other]
                for word, value in rows[other].items():
                    row[word] = row.get(word, 0.0) + weight * value
            following[node] = row
        rows = following
    return rows


def logistic(rows, labels, classes, steps=200, rate=20.0, decay=5e-5, momentum=0.9):
    """Weights {word: [class]} and biases that fit the labelled rows."""
    words = sorted({word for row in rows for word in row})
    weights = {word: [0.0] * classes for word in words}
    speeds = {word: [0.0] * classes for word in words}
    bias, bias_speed = [0.0] * classes, [0.0] * classes
    for _ in range(steps):
        slopes = {word: [decay * value for value in weights[word]] for word in words}
        bias_slope = [0.0] * classes
        for row, label in zip(rows, labels):
            shares = softmax(scores(row, weights, bias))
            shares[label] -= 1
            errors = [share / len(rows) for share in shares]
            for place in range(classes):
                bias_slope[place] += errors[place]
            for word, value in row.items():
                slope = slopes[word]
                for place in range(classes):
                    slope[place] += value * errors[place]
        for word in words:
            for place in range(classes):
                speeds[word][place] = momentum * speeds[word][place] - rate * slopes[word][place]
                weights[word][place] += speeds[word][place]
        for place in range(classes):
            bias_speed[place] = momentum * bias_speed[place] - rate * bias_slope[place]
            bias[place] += bias_speed[place]
    return weights, bias


def scores(row, weights, bias):
    sums = list(bias)
    for word, value in row.items():
        for place, weight in enumerate(weights.get(word, ())):
            sums[place] += value * weight
    return sums


def softmax(values):
    most = max(values)
    shares = [math.exp(value - most) for value in values]
    return [share / sum(shares) for share in shares]


def linear_references(nodes, split="test"):
    """Accuracies on a split: {"own words": share, "two hops (SGC)": share}."""
    plain = features(nodes)
    train = [node for node in nodes if node["split"] == "train"]
    held = [node for node in nodes if node["split"] == split]
    classes = 1 + max(node["label"] for node in train)
    found = {}
    for name, rows in (("own words", plain), ("two hops (SGC)", smoothed(nodes, plain))):
        weights, bias = logistic([rows[n["id"]] for n in train], [n["label"] for n in train], classes)
        right = 0
        for node in held:
            values = scores(rows[node["id"]], weights, bias)
            right += values.index(max(values)) == node["label"]
        found[name] = right / len(held)
    return found


def reordered(draw, nodes):
    """The same graph: nodes and the neighbours of each in another order."""
    return [{**node, "neighbors": draw.sample(node["neighbors"], len(node["neighbors"]))} for node in draw.sample(nodes, len(nodes))]
