"""Checks the peer before other code is compared with it: gradients, causality, dense limit, ties.

    python check_peer.py        # about a minute; raises an error at the first check that fails
"""

import torch

import package  # noqa: F401  python/ on the path
from ress.model.ressformer import ModelConfiguration, ReSSFormer, StepCache, Trace, sparsemax
from save_golden import BASE, CASES, DEFAULTS, VARIANTS, is_clear, prepare, prepare_variant, randomise, relations_for
from ress.model.variants import Variant, VariantConfiguration


class FrozenCaches:
    """Replays the caches of a first forward, so that finite differences do not follow paths through them either."""

    def replay(self, on: bool) -> None:
        self.recorded = getattr(self, "recorded", {})
        self.replaying, self.calls = on, 0

    def run_step(self, t, parts, H_BTD, readS_BMD, cache: StepCache, tally, trace, relation_BTJU=None):
        if self.replaying:
            cache = self.recorded[self.calls]
        else:
            self.recorded[self.calls] = cache
        self.calls += 1
        return super().run_step(t, parts, H_BTD, readS_BMD, cache, tally, trace, relation_BTJU)


class FrozenReSSFormer(FrozenCaches, ReSSFormer):
    pass


class FrozenVariant(FrozenCaches, Variant):
    pass


def check_slopes(name: str) -> None:
    """Compares the slope of the total loss along a random direction of each parameter with central differences."""
    for seed in range(1000):
        if name in VARIANTS:
            plain, inputs, targets, _ = prepare_variant(name, seed)
        else:
            plain, tokens = prepare(name, seed)
            inputs, targets = tokens[:, :-1], tokens[:, 1:]
        trace = Trace()
        given = {} if plain.configuration.relation_kinds == 0 else dict(relation_BLLU=relations_for(plain.configuration, seed))
        plain(inputs, targets, trace=trace, **given)
        if is_clear(trace, 1e-3):
            break
    model = (FrozenVariant if name in VARIANTS else FrozenReSSFormer)(plain.configuration).double()
    model.load_state_dict(plain.state_dict())

    def loss(replay: bool):
        model.replay(replay)
        return model(inputs, targets, **given).losses.total

    loss(False).backward()
    worst = 0.0
    for path, p in model.named_paths():
        if not p.requires_grad or p.numel() == 0:
            continue
        direction = torch.randn_like(p)
        slope = 0.0 if p.grad is None else (p.grad * direction).sum().item()
        step, values = 1e-6, p.data.clone()
        ends = []
        for sign in (1, -1):
            p.data = values + sign * step * direction
            with torch.no_grad():
                ends.append(loss(True).item())
        p.data = values
        measured = (ends[0] - ends[1]) / (2 * step)
        error = abs(measured - slope) / max(1e-2, abs(slope))
        assert error < 1e-5, f"{name} {path}: autograd {slope}, differences {measured}"
        worst = max(worst, error)
    print(f"slopes of {name}: worst relative error {worst:.1e}")


def check_causality(name: str) -> None:
    """Changing token j, or what it is related to, changes no logit before j, and a change of the token changes the one at j.

    Not to the last bit, as in the Swift code: BLAS adds an expert's rows in an order that depends on their number.
    """
    if name in VARIANTS:
        model, inputs, targets, _ = prepare_variant(name, 1)
    else:
        model, tokens = prepare(name, 1)
        inputs, targets = tokens[:, :-1], tokens[:, 1:]
    inputs, targets = inputs[:1], targets[:1]
    c = model.configuration
    given = {} if c.relation_kinds == 0 else dict(relation_BLLU=relations_for(c, 1)[:1])
    before = model(inputs, targets, **given).logits_BLV
    for j in range(inputs.shape[1]):
        changed = inputs.clone()
        changed[0, j] = (changed[0, j] + 1) % model.configuration.vocabulary
        others = {}
        if given:
            relation = given["relation_BLLU"].clone()
            relation[:, j], relation[:, :, j] = ~relation[:, j], ~relation[:, :, j]
            others = dict(relation_BLLU=relation)
        after = model(changed, targets, **others).logits_BLV
        difference = (before - after).abs().amax((0, 2))
        assert (difference[:j] < 1e-12).all(), f"{name}: token {j} changed an earlier logit"
        assert difference[j] > 1e-6, f"{name}: token {j} did not change its own logit"
    print(f"causality of {name}: holds at {inputs.shape[1]} tokens")


def check_sets() -> None:
    """Permuting the elements of a set within a segment does not change the class's logits."""
    model, inputs, targets, _ = prepare_variant("defaults-unordered", 1)
    T = model.configuration.segment
    order = torch.cat([part[torch.randperm(len(part))] for part in torch.arange(inputs.shape[1]).split(T)])
    before, after = model(inputs, targets), model(inputs[:, order], targets)
    difference = (before.logits_BLV - after.logits_BLV).abs().max().item()
    assert difference < 1e-12, difference
    # With relations, which move with their tokens, each element keeps its logits.
    model, inputs, targets, _ = prepare_variant("relations-unordered", 1)
    relation = relations_for(model.configuration, 1)
    before = model(inputs, targets, relation_BLLU=relation)
    after = model(inputs[:, order], targets[:, order], relation_BLLU=relation[:, order][:, :, order])
    difference = (before.logits_BLV[:, order] - after.logits_BLV).abs().max().item()
    assert difference < 1e-12, difference
    print(f"sets: other orders within segments agree within {difference:.0e}")


def check_one_model() -> None:
    """The causal model of variants.py equals that of ressformer.py, with all optional parts and without any."""
    for change in ({}, DEFAULTS, DEFAULTS | dict(activation="entmax15", shared_each_step=False)):
        plain = ReSSFormer(ModelConfiguration(**BASE | change)).double()
        randomise(plain, 2)
        variant = Variant(VariantConfiguration(**BASE | change)).double()
        variant.load_state_dict(plain.state_dict())
        _, tokens = prepare("base", 2)
        a, b = (model(tokens[:, :-1], tokens[:, 1:]) for model in (plain, variant))
        assert torch.equal(a.logits_BLV, b.logits_BLV) and a.losses.total == b.losses.total
    print("variants: the causal model is the same")


def check_reach() -> None:
    """If gradients may cross all borders, memory carries a gradient from the last segment to the first."""
    model, tokens = prepare("base", 1)
    model(tokens[:, :-1], torch.cat([torch.full((2, 19), -1), tokens[:, -1:]], 1)).losses.task.backward()
    assert model.memory.initial.grad.abs().max() > 0 and model.memory.gate.weight.grad.abs().max() > 0
    model.zero_grad()
    model(tokens[:, :-1], tokens[:, 1:], bptt_segments=1).losses.total.backward()
    assert model.memory.initial.grad.abs().max() > 0
    assert model.memory.gate.weight.grad is None or model.memory.gate.weight.grad.abs().max() == 0
    print("reach: whole sequence passes gradients to memory writes, bptt 1 does not")


def check_segments_agree(change: dict) -> None:
    """With a cache as long as the sequence and without memory, the division into segments changes no logit."""
    c = BASE | change | dict(memory_slots=0, cache=32)
    one, many = (ReSSFormer(ModelConfiguration(**c | dict(segment=segment))).double() for segment in (20, 3))
    randomise(one, 5)
    many.load_state_dict(one.state_dict())
    _, tokens = prepare("base", 5)
    a, b = (m(tokens[:, :-1], tokens[:, 1:]) for m in (one, many))
    difference = (a.logits_BLV - b.logits_BLV).abs().max().item()
    assert difference < 1e-12, difference
    assert abs(a.losses.total.item() - b.losses.total.item()) < 1e-12
    print(f"segments: one of 20 and seven of 3 agree within {difference:.0e}")


def check_sparsemax() -> None:
    """Compares with the projection onto the simplex, computed by bisection of its threshold."""
    z = torch.randn(500, 7, dtype=torch.float64).sort(-1, descending=True).values
    low, high = z.min(-1, keepdim=True).values - 1, z.max(-1, keepdim=True).values
    for _ in range(80):
        middle = (low + high) / 2
        over = (z - middle).clamp_min(0).sum(-1, keepdim=True) > 1
        low, high = torch.where(over, middle, low), torch.where(over, high, middle)
    assert torch.allclose(sparsemax(z), (z - low).clamp_min(0), atol=1e-12)
    short = torch.tensor([[0.5, 0.2, float("-inf")]], dtype=torch.float64)
    assert torch.allclose(sparsemax(short), torch.tensor([[0.65, 0.35, 0.0]], dtype=torch.float64))
    print("sparsemax: is the projection")


def check_float() -> None:
    """The same in float32, so that the golden values can be reproduced with that precision."""
    model, tokens = prepare("base", 1)
    wide = model(tokens[:, :-1], tokens[:, 1:])
    narrow = model.float()(tokens[:, :-1], tokens[:, 1:])
    difference = (wide.logits_BLV - narrow.logits_BLV).abs().max().item()
    assert torch.equal(wide.loads_E, narrow.loads_E) and difference < 1e-4, difference
    print(f"float32: logits within {difference:.0e} of float64, the same loads")


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    check_sparsemax()
    check_one_model()
    for name in ("base", "cache-long", "cache-none", "no-memory", "one-step", *VARIANTS):
        check_slopes(name)
    for name in (*CASES, "wide-taps", "defaults", "defaults-separate-blocks", "defaults-pooled-experts", "transformer-helped", "relations",
                 "relations-defaults"):
        check_causality(name)
    check_sets()
    check_segments_agree({})
    check_segments_agree(DEFAULTS)
    check_reach()
    check_float()
