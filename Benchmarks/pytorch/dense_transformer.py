"""The dense baseline of docs/model.md, `architecture: transformer`, as a causal language model in PyTorch.

Pre-norm, one block per layer, softmax attention by scaled_dot_product_attention, SwiGLU, output tied to the embedding. A sequence is
one segment. Shape suffixes are those of ressformer.py. Optional parts that improve it (taps, a norm of the embedding, forget gates, a
learned scale) are off by default.

    python dense_transformer.py    # compares the loss and its gradients with the equations written out, in float64;
                                   # with all optional parts, compares with variants.py
"""

import math
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import package  # noqa: F401  python/ on the path
from ress.model.ressformer import RECIPE, Expert, ForgetGates, Map, Norm, Table, decay, tapped, taps_of
from ress.model.variants import Variant, VariantConfiguration


@dataclass
class TransformerConfiguration:
    """Names of a run's `model` section in snake case. The feed-forward's width is active_experts · expert_width, and a shared expert's."""

    width: int = 256
    heads: int = 4
    steps: int = 4  # layers
    segment: int = 1024
    active_experts: int = 2
    expert_width: int = 512
    vocabulary: int = 4096
    positions: str = "rotary"  # or learned, none
    recency_taps: int = 1  # 1: none
    expert_taps: int = 1
    tap_start: float = 0.02
    embedding_start: float = 0.02
    embedding_norm: bool = False
    forget_gates: bool = False
    score_scale: str = "fixed"  # or learned
    shared_expert: bool = False
    shared_width: int | None = None  # None: expert_width

    both_ways = False

    @property
    def feed_forward_width(self) -> int:
        shared = self.expert_width if self.shared_width is None else self.shared_width
        return self.active_experts * self.expert_width + (shared if self.shared_expert else 0)


class Attention(nn.Module):
    def __init__(self, c: TransformerConfiguration):
        super().__init__()
        self.heads = c.heads
        wide = c.width**-0.5
        self.query, self.key, self.value = (Map(c.width, c.width, wide) for _ in range(3))
        self.output = Map(c.width, c.width, wide / math.sqrt(2 * c.steps))
        self.temperature = nn.Parameter(torch.full((c.heads,), math.log(0.5))) if c.score_scale == "learned" else None
        self.forget = ForgetGates(c) if c.forget_gates else None

    def forward(self, X_BTD: Tensor, turn: tuple[Tensor, Tensor] | None) -> Tensor:
        query_BNTH, key_BNTH, value_BNTH = (
            F.linear(X_BTD, map.weight).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for map in (self.query, self.key, self.value))
        if turn is not None:
            query_BNTH, key_BNTH = rotate(query_BNTH, *turn), rotate(key_BNTH, *turn)
        if self.temperature is not None:
            query_BNTH = query_BNTH * self.temperature.exp()[:, None, None]
        if self.forget is None:
            out_BNTH = F.scaled_dot_product_attention(query_BNTH, key_BNTH, value_BNTH, is_causal=True)
        else:
            T = X_BTD.shape[1]
            later_TT = torch.ones(T, T, dtype=torch.bool).triu(1)
            added_BNTT = decay(self.forget(X_BTD), T, causal=True).masked_fill(later_TT, float("-inf"))
            out_BNTH = F.scaled_dot_product_attention(query_BNTH, key_BNTH, value_BNTH, attn_mask=added_BNTT)
        return F.linear(out_BNTH.transpose(1, 2).flatten(-2), self.output.weight)


class Block(nn.Module):
    def __init__(self, c: TransformerConfiguration):
        super().__init__()
        self.attn_norm, self.moe_norm = Norm(c.width), Norm(c.width)
        self.recency = taps_of(c, c.recency_taps) if c.recency_taps > 1 else None
        self.attn = Attention(c)
        self.expert_recency = taps_of(c, c.expert_taps) if c.expert_taps > 1 else None
        self.feed_forward = Expert(c, c.feed_forward_width)

    def forward(self, H_BTD: Tensor, turn: tuple[Tensor, Tensor] | None) -> Tensor:
        none_B0D = H_BTD[:, :0]
        G_BTD = H_BTD + self.attn(tapped(self.recency, norm(H_BTD, self.attn_norm.weight), none_B0D), turn)
        Y_BTD, f = tapped(self.expert_recency, norm(G_BTD, self.moe_norm.weight), none_B0D), self.feed_forward
        return G_BTD + F.linear(F.silu(F.linear(Y_BTD, f.gate)) * F.linear(Y_BTD, f.up), f.down)


class DenseTransformer(nn.Module):
    """`embed.weight`, `position.weight` (learned only), `block.0000.attn.query.weight`, …, `final_norm.weight`."""

    def __init__(self, configuration: TransformerConfiguration):
        super().__init__()
        c = self.configuration = configuration
        self.embed = Map(c.vocabulary, c.width, c.embedding_start)
        self.position = Table("weight", c.segment, c.width) if c.positions == "learned" else None
        self.embed_norm = Norm(c.width) if c.embedding_norm else None
        self.block = nn.ModuleDict({f"{index:04d}": Block(c) for index in range(c.steps)})
        self.final_norm = Norm(c.width)
        if c.positions == "rotary":
            for name, table in zip(("cosine", "sine"), turns(c.segment, c.width // c.heads)):
                self.register_buffer(name, table, persistent=False)

    def forward(self, input_BT: Tensor, target_BT: Tensor) -> Tensor:
        """The mean cross-entropy over the targets other than −1."""
        T = input_BT.shape[1]
        H_BTD = F.embedding(input_BT, self.embed.weight)
        if self.position is not None:
            H_BTD = H_BTD + self.position.weight[:T]
        if self.embed_norm is not None:
            H_BTD = norm(H_BTD, self.embed_norm.weight)
        turn = (self.cosine[:T], self.sine[:T]) if self.configuration.positions == "rotary" else None
        for block in self.block.values():
            H_BTD = block(H_BTD, turn)
        logits_BTV = F.linear(norm(H_BTD, self.final_norm.weight), self.embed.weight)
        return F.cross_entropy(logits_BTV.flatten(0, 1), target_BT.flatten(), ignore_index=-1)


def norm(x: Tensor, weight: Tensor) -> Tensor:
    return F.rms_norm(x, weight.shape, weight, 1e-5)


def turns(T: int, H: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines (TH) of i · 10000^(−2n/H); component n + H/2 turns with n, and its sine's sign is in the table."""
    angle_Th = torch.arange(T, dtype=torch.float64)[:, None] * 10000.0 ** (-2 * torch.arange(H // 2, dtype=torch.float64) / H)
    cosine, sine = angle_Th.cos(), angle_Th.sin()
    return torch.cat([cosine, cosine], -1).float(), torch.cat([-sine, sine], -1).float()


def rotate(x_BNTH: Tensor, cosine_TH: Tensor, sine_TH: Tensor) -> Tensor:
    return x_BNTH * cosine_TH + x_BNTH.roll(x_BNTH.shape[-1] // 2, -1) * sine_TH


def check(positions: str) -> float:
    """The largest difference of the loss and its gradients from the equations of docs/model.md, written with loops."""
    torch.manual_seed(5)
    c = TransformerConfiguration(16, 2, 2, 12, 2, 12, 50, positions)
    model = DenseTransformer(c).double()
    turn_exactly(model)
    tokens = torch.randint(0, 50, (1, 13))

    H = model.embed.weight[tokens[0, :-1]]
    if positions == "learned":
        H = H + model.position.weight
    for block in model.block.values():
        X = block.attn_norm(H)
        q, k, v = (map(X).view(12, 2, 8) for map in (block.attn.query, block.attn.key, block.attn.value))
        heads = []
        for n in range(2):
            rows = []
            for i in range(12):
                z = torch.stack([turned(q[i, n], i, positions) @ turned(k[j, n], j, positions) for j in range(i + 1)])
                rows.append((z / math.sqrt(8)).softmax(0) @ v[: i + 1, n])
            heads.append(torch.stack(rows))
        G = H + block.attn.output(torch.cat(heads, -1))
        H = G + block.feed_forward(block.moe_norm(G))
    logits = model.final_norm(H) @ model.embed.weight.T
    loss = -logits.log_softmax(-1)[torch.arange(12), tokens[0, 1:]].mean()
    names, parameters = zip(*model.named_parameters())
    expected = torch.autograd.grad(loss, parameters)
    got = model(tokens[:, :-1], tokens[:, 1:])
    slopes = torch.autograd.grad(got, parameters)
    return max([abs(got - loss).item()] + [(a - b).abs().max().item() for a, b in zip(slopes, expected)])


def turn_exactly(model: DenseTransformer) -> None:
    """The angles of 12 positions and heads of 8 in full precision."""
    if model.configuration.positions == "rotary":
        angle = torch.arange(12).double()[:, None] * 10000.0 ** (-2 * torch.arange(4).double() / 8)
        model.cosine, model.sine = angle.cos().repeat(1, 2), torch.cat([-angle.sin(), angle.sin()], -1)


def check_helped(positions: str) -> float:
    """The same with all optional parts, compared with the plain form in variants.py."""
    torch.manual_seed(6)
    sizes = dict(width=16, heads=2, steps=2, segment=12, active_experts=2, expert_width=12, vocabulary=50, positions=positions)
    plain = Variant(VariantConfiguration(**RECIPE | sizes, shared_width=20, architecture="transformer")).double()
    names = {field.name for field in fields(TransformerConfiguration)}
    helped = {name: value for name, value in RECIPE.items() if name in names}
    model = DenseTransformer(TransformerConfiguration(**helped | sizes, shared_width=20)).double()
    model.load_state_dict(plain.state_dict())
    turn_exactly(model)
    tokens = torch.randint(0, 50, (2, 13))
    expected, got = plain(tokens[:, :-1], tokens[:, 1:]).losses.task, model(tokens[:, :-1], tokens[:, 1:])
    slopes = [torch.autograd.grad(loss, dict(sorted(owner.named_parameters())).values()) for loss, owner in ((expected, plain), (got, model))]
    return max([abs(got - expected).item()] + [(a - b).abs().max().item() for a, b in zip(*slopes)])


def turned(x: Tensor, i: int, positions: str) -> Tensor:
    if positions != "rotary":
        return x
    half = len(x) // 2
    angle = i * 10000.0 ** (-2 * torch.arange(half).double() / len(x))
    a, b = x[:half], x[half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()])


if __name__ == "__main__":
    for positions in ("rotary", "learned", "none"):
        difference = check(positions)
        helped = check_helped(positions)
        print(f"positions {positions}: within {difference:.0e}, with all that helps within {helped:.0e}")
        assert max(difference, helped) < 1e-10
