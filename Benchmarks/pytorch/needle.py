"""Finds a token several segments back. Only the gated memory can solve this task, because the cache is too short.

A sequence (tokens: 16 values, KEY, QUERY and 14 noise tokens; a value never occurs as noise):

    segment 0                       segments 1 ... back-1        last segment
    noise KEY value noise noise     noise noise noise noise      noise noise noise QUERY → value

KEY is at a random position of segment 0, followed by its value. QUERY is the last input, and its target is the value. The loss is the
mean over the targets that count: only the value (`--targets value`, the others are −1), or all of them (`--targets all`), of which all
but one are random noise. Then the value is 1/160 of the loss, and is not learned.

    python needle.py                  # the setting that learns: about 250 steps, a minute on one core
    python needle.py --slots 0        # without memory: chance
    python needle.py --defaults       # with all parts that the program's defaults turn on
"""

import argparse
import math
import time

import torch

import package  # noqa: F401  python/ on the path
from ress.model.ressformer import RECIPE, ModelConfiguration, ReSSFormer
from training import OptimizerConfiguration, Trainer

VALUES = 16
KEY, QUERY, NOISE = VALUES, VALUES + 1, VALUES + 2


def batch(count: int, o: argparse.Namespace, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets, both [count, L], L = (back + 1) segments."""
    L = (o.back + 1) * o.segment
    if o.filler == "random":
        sequence = torch.randint(NOISE, NOISE + o.noise, (count, L + 1), generator=generator)
    else:
        phase = torch.randint(0, o.noise, (count, 1), generator=generator)
        sequence = NOISE + (phase + torch.arange(L + 1)) % o.noise
    place = torch.randint(0, o.segment - 1, (count,), generator=generator)  # KEY and value both in segment 0
    value = torch.randint(0, VALUES, (count,), generator=generator)
    row = torch.arange(count)
    sequence[row, place], sequence[row, place + 1] = KEY, value
    sequence[:, -2 * o.queries :: 2], sequence[:, 1 - 2 * o.queries :: 2] = QUERY, value[:, None]
    inputs, targets = sequence[:, :-1], sequence[:, 1:].clone()
    if o.targets == "value":
        targets[inputs != QUERY] = -1
    return inputs, targets


def first_query(o: argparse.Namespace) -> int:
    return 1 - 2 * o.queries  # counted from the end; the only target for which the cache is useless


def accuracy(model: ReSSFormer, o: argparse.Namespace, generator: torch.Generator) -> float:
    with torch.no_grad():
        inputs, targets = batch(128, o, generator)
        found = model(inputs, targets).logits_BLV[:, first_query(o), :VALUES].argmax(-1)
    return (found == targets[:, first_query(o)]).float().mean().item()


def main() -> None:
    p = argparse.ArgumentParser()
    p.add_argument("--targets", choices=["value", "all"], default="value")
    p.add_argument("--filler", choices=["random", "cycle"], default="random")
    p.add_argument("--queries", type=int, default=1)
    p.add_argument("--back", type=int, default=4)
    p.add_argument("--segment", type=int, default=32)
    p.add_argument("--noise", type=int, default=14)
    p.add_argument("--width", type=int, default=64)
    p.add_argument("--heads", type=int, default=4)
    p.add_argument("--model-steps", type=int, default=2)
    p.add_argument("--slots", type=int, default=8)
    p.add_argument("--cache", type=int, default=16)
    p.add_argument("--window", type=int, default=4)
    p.add_argument("--degree", type=int, default=8)
    p.add_argument("--keys", type=int, default=8)
    p.add_argument("--rank", type=int, default=8)
    p.add_argument("--taps", type=int, default=4)
    p.add_argument("--experts", type=int, default=4)
    p.add_argument("--active", type=int, default=2)
    p.add_argument("--expert-width", type=int, default=32)
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--rate", type=float, default=7e-4)
    p.add_argument("--warmup", type=int, default=20)
    p.add_argument("--decay", type=float, default=0.1)
    p.add_argument("--schedule", default="constant")
    p.add_argument("--steps", type=int, default=600)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--enough", type=float, default=0.99)
    p.add_argument("--defaults", action="store_true")
    p.add_argument("--quiet", action="store_true")
    o = p.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(o.seed)
    model = ReSSFormer(ModelConfiguration(**(RECIPE if o.defaults else {}) | dict(
        width=o.width, heads=o.heads, steps=o.model_steps, segment=o.segment, memory_slots=o.slots, cache=o.cache,
        window=o.window, structure_rank=o.rank, graph_degree=o.degree, keys=o.keys, recency_taps=o.taps,
        experts=o.experts, active_experts=o.active, expert_width=o.expert_width, vocabulary=NOISE + o.noise)))
    optimizer = OptimizerConfiguration(
        steps=o.steps, learning_rate=o.rate, warmup_steps=o.warmup, schedule=o.schedule, weight_decay=o.decay)
    trainer = Trainer(model, optimizer)
    count = sum(p.numel() for p in model.parameters())
    print(f"{count} parameters, chance loss {math.log(VALUES):.3f}", flush=True)

    train, test = torch.Generator().manual_seed(o.seed), torch.Generator().manual_seed(o.seed + 1000)
    start, recent = time.monotonic(), 0.0
    for s in range(o.steps):
        inputs, targets = batch(o.batch, o, train)
        output, norm = trainer.step(inputs, targets)
        last = torch.nn.functional.cross_entropy(output.logits_BLV[:, first_query(o)], targets[:, first_query(o)]).item()
        recent = last if s == 0 else 0.9 * recent + 0.1 * last
        if (s + 1) % 25 == 0:
            share = accuracy(model, o, test)
            if not o.quiet:
                print(f"step {s + 1:5d}  loss {output.losses.task.item():.3f}  needle loss {recent:.3f}  "
                      f"found {share:.2f}  norm {norm:.2f}  {time.monotonic() - start:.0f} s", flush=True)
            if share >= o.enough:
                print(f"found: {share:.3f} of the needles after {s + 1} steps, {time.monotonic() - start:.0f} s")
                return
    print(f"not found: {share:.3f} of the needles after {o.steps} steps, {time.monotonic() - start:.0f} s")
    raise SystemExit(1)


if __name__ == "__main__":
    main()
