"""What differences mean: Student's t over seeds, and a paired bootstrap over examples. Nothing but the standard library."""

import math
import random
import statistics


def mean_and_deviation(values):
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def incomplete_beta(a, b, x):
    """I_x(a, b), by Lentz's continued fraction (Numerical Recipes, 6.4)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(1 - x)) / a
    tiny, c, d = 1e-300, 1.0, 0.0
    value = 1.0
    for number in range(400):
        half = number // 2
        if number == 0:
            term = 1.0
        elif number % 2 == 0:
            term = half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
        else:
            term = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        d = 1 + term * d
        d = 1 / (d if abs(d) > tiny else tiny)
        c = 1 + term / (c if abs(c) > tiny else tiny)
        value *= c * d
        if abs(1 - c * d) < 1e-12:
            break
    return front * (value - 1)


def t_probability(t, freedom):
    """Two-sided: how often Student's t is further from 0 than this."""
    return incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))


def welch(ours, theirs):
    """p of Welch's test that two lists of seeds have one mean; None with fewer than two seeds in either."""
    if min(len(ours), len(theirs)) < 2:
        return None
    (a, s), (b, t) = mean_and_deviation(ours), mean_and_deviation(theirs)
    u, v = s * s / len(ours), t * t / len(theirs)
    if u + v == 0:
        return 1.0 if a == b else 0.0
    freedom = (u + v) ** 2 / (u * u / (len(ours) - 1) + v * v / (len(theirs) - 1))
    return t_probability((a - b) / math.sqrt(u + v), freedom)


def paired_bootstrap(ours, theirs, rounds=2000, seed=1):
    """The middle 95 % of the mean difference when examples are drawn anew. `ours[k]` and `theirs[k]` are of the same example."""
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} examples cannot be paired with {len(theirs)}")
    differences = [a - b for a, b in zip(ours, theirs)]
    draw, count = random.Random(seed), len(differences)
    means = sorted(sum(draw.choices(differences, k=count)) / count for _ in range(rounds))
    return means[round(0.025 * rounds)], means[min(rounds - 1, round(0.975 * rounds))]


def verdict(ours, theirs, our_examples, their_examples, lower=False):
    """Whether ours are better than theirs, by seeds and by examples: a word, p over seeds, and the interval over examples.

    "ahead" or "behind" is said only where both agree: p below .05, and an interval on one side of 0.
    """
    p = welch(ours, theirs)
    interval = paired_bootstrap(our_examples, their_examples) if our_examples else None
    difference = statistics.fmean(ours) - statistics.fmean(theirs)
    sure = p is not None and p < 0.05 and (interval is None or interval[0] > 0 or interval[1] < 0)
    word = "no difference that these seeds and examples show"
    if sure:
        word = "ahead" if (difference < 0) == lower else "behind"
    return word, p, interval
