"""Writes Tests/Golden/*.json: what the PyTorch peer computes, in float64, for the Swift tests to compare with.

A file holds a configuration, tokens, all parameters, and what follows from them: losses, logits, the gradient
of every parameter. Parameters are multiples of 2^-10, so that they are the same numbers in decimal, in float
and in double; the rest is printed with ten significant digits.

If a top-k choice were close to a tie, it could differ in float, and the comparison would be meaningless.
Therefore seeds are tried until no choice is within MARGIN of a tie; the file records the smallest distance.
"""

import json
import sys
from pathlib import Path

import torch

import package  # noqa: F401  python/ on the path
from ress.model.ressformer import RECIPE, ModelConfiguration, Output, ReSSFormer, Trace
from training import OptimizerConfiguration, Trainer, learning_rate
from ress.model.variants import Variant, VariantConfiguration

GOLDEN = Path(__file__).resolve().parents[2] / "Tests" / "Golden"
MARGIN = 1e-3
# Crossing sparsemax's threshold changes no value, only a slope, and there are many more scores than
# choices.
SUPPORT_MARGIN = 1e-4
SEQUENCES, TARGETS = 2, 20

# The model as it was first specified; parts that were added later are named, and off.
BASE = dict(
    width=16, heads=2, steps=3, segment=8, memory_slots=3, cache=6, window=3, structure_rank=4, graph_degree=3,
    keys=5, recency_taps=3, experts=4, active_experts=2, expert_width=12, shared_expert=False, vocabulary=13,
    smooth_weight=0.3, balance_weight=0.2, router_z_weight=0.05, balancer_rate=1e-3,
    activation="sparsemax", forget_gates=False, score_scale="fixed", expert_taps=1, two_sided_taps=False, tap_start=0.02,
    embedding_start=0.02, embedding_norm=True, gates="softmax", router_start=0.02, shared_width=None, shared_each_step=False)

# name: (what differs from BASE, bptt_segments)
CASES: dict[str, tuple[dict, int | None]] = {
    "base": ({}, None),
    "cache-long": (dict(cache=12), None),
    "cache-none": (dict(cache=0, window=1), None),
    "no-memory": (dict(memory_slots=0), None),
    # Without recency a token's first step depends on the token alone, so equal tokens tie exactly.
    # Tokens that do not repeat (tokens_for) avoid ties in this case; the case `ties` consists of
    # them.
    "one-step": (dict(steps=1, recency_taps=1, shared_expert=True, vocabulary=23), None),
    "ties": (dict(steps=1, recency_taps=1, vocabulary=5), None),
    # The memory is first read one border after it is written, so with bptt 1 the writing parameters
    # have no gradient; with bptt 2 and three segments, border 1 passes gradients and border 2 stops
    # them.
    "bptt": ({}, 1),
    "bptt-two": ({}, 2),
}

# What docs/model.md adds to the causal language model: name: (what differs from BASE, bptt_segments). Whole sequences are 20 tokens,
# which is no multiple of the segment; tokens do not repeat where nothing else would tell them apart (taps 1).
TRANSFORMER = dict(architecture="transformer", segment=20, recency_taps=1, embedding_norm=False, vocabulary=23)
# The program's defaults, at the sizes of BASE; and the baseline with all that helps it.
DEFAULTS = RECIPE | dict(shared_width=10)
HELPED = TRANSFORMER | DEFAULTS | dict(expert_taps=3, vocabulary=13)
VARIANTS: dict[str, tuple[dict, int | None]] = {
    "tag": (dict(head="tag", classes=4), None),
    "tag-softmax": (dict(head="tag", classes=4, activation="softmax", keys=None, graph_degree=None), None),
    "classify": (dict(head="classify", classes=5), None),
    "classify-no-memory": (dict(head="classify", classes=5, memory_slots=0), None),
    "classify-tokens": (dict(head="classify", classes=5, class_pool="tokens"), None),
    "classify-both": (dict(head="classify", classes=5, class_pool="both"), None),
    "span": (dict(head="span"), None),
    "span-entmax": (dict(head="span", activation="entmax15"), None),
    "unordered": (dict(head="classify", classes=3, ordered=False, vocabulary=23), None),
    "lm-entmax": (dict(activation="entmax15"), None),
    "no-structure-bias": (dict(structure_bias=False), None),
    "dense-feed-forward": (dict(feed_forward="dense", shared_expert=True), None),
    "separate-blocks": (dict(separate_blocks=True), None),
    "separate-blocks-tag": (dict(separate_blocks=True, head="tag", classes=4), None),
    "pooled-experts": (dict(separate_blocks=True, pool_experts=True), None),
    "alternating-blocks": (dict(separate_blocks=True, steps=3, blocks=2), None),
    "bidirectional-bptt": (dict(head="tag", classes=4), 1),
    "more-steps": ({}, None),
    "transformer-rotary": (TRANSFORMER, None),
    "transformer-learned": (TRANSFORMER | dict(positions="learned"), None),
    "transformer-classify": (TRANSFORMER | dict(head="classify", classes=5), None),
    "transformer-tag": (TRANSFORMER | dict(head="tag", classes=4, positions="none"), None),
    # Each of the parts that were added, alone.
    "expert-taps": (dict(expert_taps=3), None),
    "wide-taps": (dict(segment=4, recency_taps=7, expert_taps=6), None),  # that reach beyond what one segment leaves
    "two-sided-taps": (dict(head="tag", classes=4, two_sided_taps=True, expert_taps=4), None),
    "sigmoid-gates": (dict(gates="sigmoid"), None),
    "forget-gates": (dict(forget_gates=True), None),
    "forget-gates-tag": (dict(forget_gates=True, head="tag", classes=4), None),
    "learned-scale": (dict(score_scale="learned"), None),
    "shared-width": (dict(shared_expert=True, shared_width=10), None),
    "shared-each-step": (dict(shared_expert=True, shared_width=10, shared_each_step=True), None),
    # All of them.
    "defaults": (DEFAULTS, None),
    "defaults-bptt": (DEFAULTS, 1),
    "defaults-tag": (DEFAULTS | dict(head="tag", classes=4), None),
    "defaults-span": (DEFAULTS | dict(head="span"), None),
    "defaults-classify": (DEFAULTS | dict(head="classify", classes=5, class_pool="tokens"), None),
    "defaults-unordered": (DEFAULTS | dict(head="classify", classes=3, ordered=False, vocabulary=23), None),
    "defaults-separate-blocks": (DEFAULTS | dict(separate_blocks=True), None),
    "defaults-pooled-experts": (DEFAULTS | dict(separate_blocks=True, pool_experts=True), None),
    "defaults-pooled-experts-tag": (DEFAULTS | dict(separate_blocks=True, pool_experts=True, head="tag", classes=4), None),
    "defaults-pooled-experts-more-steps": (DEFAULTS | dict(separate_blocks=True, pool_experts=True), None),
    "defaults-middle-block-tag": (
        DEFAULTS | dict(separate_blocks=True, pool_experts=True, steps=4, blocks=3, block_order="middle", head="tag", classes=4), None),
    "defaults-dense": (DEFAULTS | dict(feed_forward="dense"), None),
    "defaults-sparsemax": (DEFAULTS | dict(activation="sparsemax"), None),
    "defaults-more-steps": (DEFAULTS, None),
    # Relations between tokens: more of some tokens than there are places, and across segments.
    "relations": (dict(relation_kinds=2), None),
    "relations-tag": (dict(relation_kinds=3, head="tag", classes=4), None),
    "relations-defaults": (DEFAULTS | dict(relation_kinds=2), None),
    "relations-defaults-tag": (DEFAULTS | dict(relation_kinds=2, head="tag", classes=4), None),
    "relations-unordered": (DEFAULTS | dict(relation_kinds=2, head="tag", classes=3, ordered=False, vocabulary=23), None),
    "relations-separate-blocks": (DEFAULTS | dict(relation_kinds=2, separate_blocks=True), None),
    "relations-more-steps": (DEFAULTS | dict(relation_kinds=2), None),
    "transformer-helped": (HELPED, None),
    "transformer-helped-learned": (HELPED | dict(positions="learned"), None),
    "transformer-helped-tag": (HELPED | dict(head="tag", classes=4, positions="none"), None),
}
MORE_STEPS = 5


def randomise(model: ReSSFormer, seed: int) -> None:
    """Parameters of a size at which every path of the model shows in the losses and gradients."""
    c = model.configuration
    generator = torch.Generator().manual_seed(seed)
    wide = c.width**-0.5
    scales = {  # path: (mean, deviation); for what is not named: (0, d^-1/2)
        "embed/weight": (0, 0.5), "step/embedding": (0, 0.3), "recency/weight": (0, 0.4),
        "expert_recency/weight": (0, 0.4), "attn/temperature": (-0.3, 0.3), "attn/forget/bias": (1, 0.7),
        "attn/structure_gain": (1, 0.3), "attn/memory_bias": (0.5, 0.3),
        "soes/query/weight": (0, 1.5 * wide), "soes/key/weight": (0, 1.5 * wide),
        "router/weight": (0, 1.5 * wide), "router/bias": (0, 0.2),
        "memory/initial": (0, 0.7), "memory/pool_query": (0, 1), "memory/pool_key/weight": (0, 2 * wide),
        "memory/gate/weight": (0, 0.4), "memory/gate/bias": (0.3, 0.1), "relation/bias": (0.7, 0.6),
    }
    for path, parameter in model.named_paths():
        path = path.split("/", 2)[2] if path.startswith("block/") else path
        if path == "attn/structure_gain" and not parameter.requires_grad:
            continue
        mean, deviation = (1, 0.2) if "_norm/" in path else scales.get(path, (0, wide))
        values = mean + deviation * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data = (values * 1024).round() / 1024


def tokens_for(seed: int, vocabulary: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed + 1_000_000)
    if vocabulary > TARGETS:
        return torch.stack([torch.randperm(vocabulary, generator=generator)[: TARGETS + 1] for _ in range(SEQUENCES)])
    return torch.randint(vocabulary, (SEQUENCES, TARGETS + 1), generator=generator)


def tensor(values: torch.Tensor) -> dict:
    return {"shape": list(values.shape), "values": [number(v) for v in values.detach().flatten().tolist()]}


def number(value: float) -> float:
    return float(f"{value:.10g}")


def losses(output: Output) -> dict:
    return {name: number(getattr(output.losses, name).item()) for name in ("total", "task", "smooth", "balance", "z")}


def is_clear(trace: Trace, margin: float) -> bool:
    """Whether every choice was farther than the margin from a tie."""
    close = dict(support=min(margin, SUPPORT_MARGIN))
    return all(gap > close.get(kind, margin) for kind, gap in trace.margins.items())


def prepare(name: str, seed: int) -> tuple[ReSSFormer, torch.Tensor]:
    model = ReSSFormer(ModelConfiguration(**BASE | CASES[name][0])).double()
    randomise(model, seed)
    return model, tokens_for(seed, model.configuration.vocabulary)


def golden_case(name: str, seed: int) -> dict | None:
    """One forward and backward; None where a choice was too close to a tie."""
    bptt = CASES[name][1]
    model, tokens = prepare(name, seed)
    trace = Trace(exact_ties=name == "ties")
    output = model(tokens[:, :-1], tokens[:, 1:], bptt, trace)
    if not is_clear(trace, MARGIN):
        return None
    output.losses.total.backward()
    gradients = {
        path: tensor(torch.zeros_like(p) if p.grad is None else p.grad) for path, p in model.named_paths()}
    return header(name, seed, trace, tokens) | {
        "parameters": {path: tensor(p) for path, p in model.named_paths()},
        "losses": losses(output),
        "loads": output.loads_E.tolist(),
        "logits": tensor(output.logits_BLV[0]),
        "memory": tensor(output.memory_BMD),
        "gradients": gradients,
        "first_segment": {
            "hidden": [tensor(h) for h in trace.hidden[0]],
            "graph": [tensor(a) for a in trace.graph[0]],
            "memory": tensor(trace.memory[0]),
        } if name == "base" else None,
    }


def targets_for(c: VariantConfiguration, tokens: torch.Tensor, seed: int) -> torch.Tensor:
    """Random targets of a head: BL labels of which every fourth is missing, B1 classes, B2 starts and ends."""
    generator = torch.Generator().manual_seed(seed + 2_000_000)
    B, L = tokens.shape
    if c.head == "classify":
        return torch.randint(c.classes, (B, 1), generator=generator)
    if c.head == "span":
        return torch.randint(L, (B, 2), generator=generator)
    labels = torch.randint(c.classes, (B, L), generator=generator)
    return labels.masked_fill(torch.arange(L) % 4 == 1, -1)


def relations_for(c: VariantConfiguration, seed: int) -> torch.Tensor | None:
    """Random relations BLLU: each token is related to about two others, and one in the middle to every other token."""
    if c.relation_kinds == 0:
        return None
    generator = torch.Generator().manual_seed(seed + 3_000_000)
    drawn = torch.rand(SEQUENCES, TARGETS, TARGETS, c.relation_kinds, generator=generator) < 2 / TARGETS / c.relation_kinds
    drawn[:, TARGETS // 2, :, 0] = True
    drawn[:, torch.arange(TARGETS), torch.arange(TARGETS)] = False
    return drawn


def prepare_variant(name: str, seed: int) -> tuple[Variant, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The model, inputs, targets, and the tokens that a language model's two are cut from."""
    c = VariantConfiguration(**BASE | VARIANTS[name][0])
    model = Variant(c).double()
    randomise(model, seed)
    tokens = tokens_for(seed, c.vocabulary)
    inputs = tokens[:, :-1]
    return model, inputs, tokens[:, 1:] if c.head == "lm" else targets_for(c, inputs, seed), tokens


def golden_variant(name: str, seed: int) -> dict | None:
    """As golden_case, for what VARIANTS lists."""
    change, bptt = VARIANTS[name]
    model, inputs, targets, tokens = prepare_variant(name, seed)
    c = model.configuration
    trace = Trace()
    steps = MORE_STEPS if name.endswith("more-steps") else None
    relations = relations_for(c, seed)
    output = model(inputs, targets, bptt, trace, steps, relations)
    if not is_clear(trace, MARGIN):
        return None
    output.losses.total.backward()
    gradients = {
        path: tensor(torch.zeros_like(p) if p.grad is None else p.grad) for path, p in model.named_paths()}
    logits = output.logits_BLV[0]
    return {
        "configuration": BASE | change | {"bptt_segments": bptt, "evaluation_steps": steps},
        "seed": seed,
        "margins": {kind: number(gap) for kind, gap in trace.margins.items()},
        "tokens": (tokens if c.head == "lm" else inputs).tolist(),
        "targets": None if c.head == "lm" else targets.tolist(),
        # Token, related token and kind, of each sequence.
        "relations": None if relations is None else [one.nonzero().tolist() for one in relations],
        "parameters": {path: tensor(p) for path, p in model.named_paths()},
        "losses": losses(output),
        "loads": output.loads_E.tolist(),
        "logits": tensor(logits if logits.dim() == 2 else logits[None]),
        "gradients": gradients,
    }


def golden_trajectory(seed: int) -> dict | None:
    """The base case trained five steps on one batch, with clipping that bites."""
    model, tokens = prepare("base", seed)
    model.configuration.balancer_rate = 0.01
    optimizer = OptimizerConfiguration(
        steps=5, learning_rate=0.01, weight_decay=0.1, clip=0.5, warmup_steps=2, schedule="cosine", final_fraction=0.1)
    trainer = Trainer(model, optimizer)
    trace = Trace()
    start = {path: tensor(p) for path, p in model.named_paths()}
    steps = []
    for s in range(optimizer.steps):
        output, norm = trainer.step(tokens[:, :-1], tokens[:, 1:], trace=trace)
        if not is_clear(trace, MARGIN / 5):  # five steps make five times the choices
            return None
        assert norm > 2 * optimizer.clip, f"clipping does not bite at step {s}: norm {norm}"
        steps.append({
            "learning_rate": number(learning_rate(s, optimizer)), "losses": losses(output), "norm": number(norm),
            "loads": output.loads_E.tolist(), "router_bias": tensor(model.router.bias)})
    case = header("base", seed, trace, tokens)
    case["configuration"]["balancer_rate"] = model.configuration.balancer_rate
    return case | {
        "optimizer": optimizer.as_dict(),
        "parameters": start,
        "steps": steps,
        "final": {path: tensor(p) for path, p in model.named_paths()},
    }


def golden_schedule() -> dict:
    """The learning rate of every step for each kind of schedule."""
    rows = []
    for schedule in ("cosine", "wsd", "constant"):
        for warmup in (0, 4):
            o = OptimizerConfiguration(
                steps=20, learning_rate=0.01, warmup_steps=warmup, schedule=schedule, final_fraction=0.1,
                decay_fraction=0.25)
            rows.append({"optimizer": o.as_dict(), "rates": [number(learning_rate(s, o)) for s in range(o.steps)]})
    return {"schedules": rows}


def header(name: str, seed: int, trace: Trace, tokens: torch.Tensor) -> dict:
    change, bptt = CASES[name]
    return {
        "configuration": BASE | change | {"sequence_length": TARGETS, "bptt_segments": bptt},
        "seed": seed,
        "margins": {kind: number(gap) for kind, gap in trace.margins.items()},
        "tokens": tokens.tolist(),
    }


def first_clear(make, limit: int = 3_000) -> dict:
    for seed in range(limit):
        if (case := make(seed)) is not None:
            return {key: value for key, value in case.items() if value is not None}
    sys.exit(f"no seed below {limit} keeps its choices clear of ties")


def write(name: str, case: dict) -> None:
    GOLDEN.mkdir(parents=True, exist_ok=True)
    path = GOLDEN / f"{name}.json"
    path.write_text(json.dumps(case, separators=(",", ":"), allow_nan=False) + "\n")
    shown = {key: case[key] for key in ("seed", "margins", "losses") if key in case}
    print(f"{path.name}: {path.stat().st_size / 1024:.0f} KB {shown}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    wanted = sys.argv[1:] or [*CASES, *VARIANTS, "trajectory", "schedule"]
    for name in wanted:
        if name == "trajectory":
            write(name, first_clear(golden_trajectory))
        elif name == "schedule":
            write(name, golden_schedule())
        elif name in VARIANTS:
            write(name, first_clear(lambda seed: golden_variant(name, seed)))
        else:
            write(name, first_clear(lambda seed: golden_case(name, seed)))
