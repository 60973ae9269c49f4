"""The rest of docs/model.md in PyTorch: other heads, both ways of seeing, sets, the parts that can be left out, the dense baseline.

`ressformer.py` stays the causal language model, which should be read first; this file changes it where docs/model.md does, with the
same letters (and C for classes). Benchmarks/pytorch/check_peer.py compares it with finite differences.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .ressformer import (
    NEVER, Expert, ForgetGates, Losses, Map, Memory, ModelConfiguration, Norm, Output, ReSSFormer, Router, SparseAttention,
    Table, Tally, TokenGraph, Trace, decay, seen_of, tapped, taps_of)


@dataclass
class VariantConfiguration(ModelConfiguration):
    architecture: str = "ressformer"  # or transformer
    head: str = "lm"  # or classify, tag, span
    classes: int = 2
    class_pool: str = "memory"  # or tokens (the program's default), both; what classify reads where there is a memory
    ordered: bool = True
    structure_bias: bool = True
    feed_forward: str = "experts"  # or dense
    separate_blocks: bool = False
    blocks: int | None = None  # separate ones; None: one for each step
    block_order: str = "cycle"  # or middle
    pool_experts: bool = False  # of separate blocks
    positions: str = "rotary"  # or learned, none; the baseline's
    graph_degree: int | None = 32

    def __post_init__(self):
        if not self.ordered:
            self.cache, self.recency_taps, self.expert_taps, self.forget_gates = 0, 1, 1, False

    @property
    def causal(self) -> bool:
        return self.head == "lm"

    @property
    def both_ways(self) -> bool:
        return self.two_sided_taps and not self.causal

    @property
    def own_blocks(self) -> bool:
        return self.separate_blocks or self.architecture == "transformer"

    @property
    def block_count(self) -> int:
        return self.blocks or self.steps

    def block_of(self, t: int) -> int:
        """The block that a step uses. Steps beyond the trained ones use that of the last one."""
        t, last = min(t, self.steps - 1), self.block_count - 1
        if self.block_order == "cycle":
            return t % (last + 1)
        if t in (0, self.steps - 1):
            return 0 if t == 0 else last
        return 1 + (t - 1) * (last - 1) // (self.steps - 2)

    @property
    def pools(self) -> int:
        """Pools of experts: one for all blocks, or one for each."""
        return self.block_count if self.own_blocks and not self.pool_experts else 1

    def pool_of(self, t: int) -> int:
        """The pool that a step's router chooses from."""
        return self.block_of(t) if self.pools > 1 else 0

    @property
    def shares_memory(self) -> bool:
        """Whether separate blocks write the memory with the same weights."""
        return self.separate_blocks and self.pool_experts and self.architecture != "transformer"

    @property
    def dense(self) -> bool:
        return self.feed_forward == "dense" or self.architecture == "transformer"


class VariantGraph(TokenGraph):
    """The neighbours of a token where later tokens of the segment are visible as well."""

    def __init__(self, c: VariantConfiguration):
        super().__init__(c)
        self.causal, self.ordered = c.causal, c.ordered

    def sight(self, i_T1: Tensor, j_J: Tensor) -> tuple[Tensor, Tensor]:
        if self.causal:
            return super().sight(i_T1, j_J)
        window_TJ = (j_J - i_T1).abs() <= (self.window // 2 if self.ordered else 0)
        return window_TJ, ~window_TJ


class VariantAttention(SparseAttention):
    def __init__(self, c: VariantConfiguration):
        super().__init__(c)
        if not c.structure_bias:
            self.structure_gain = nn.Parameter(torch.zeros(c.heads), requires_grad=False)


class FullAttention(nn.Module):
    """The attention of the baseline: softmax over every allowed token."""

    def __init__(self, c: VariantConfiguration):
        super().__init__()
        self.heads, self.causal, self.rotary = c.heads, c.causal, c.positions == "rotary"
        wide = c.width**-0.5
        self.query, self.key, self.value = (Map(c.width, c.width, wide) for _ in range(3))
        self.output = Map(c.width, c.width, wide / math.sqrt(2 * c.steps))
        self.temperature = nn.Parameter(torch.full((c.heads,), math.log(0.5))) if c.score_scale == "learned" else None
        self.forget = ForgetGates(c) if c.forget_gates else None

    def forward(self, X_BTD: Tensor) -> Tensor:
        query_BNTH, key_BNTH, value_BNTH = (
            map(X_BTD).unflatten(-1, (self.heads, -1)).transpose(1, 2) for map in (self.query, self.key, self.value))
        if self.rotary:
            query_BNTH, key_BNTH = turned(query_BNTH), turned(key_BNTH)
        z_BNTT = query_BNTH @ key_BNTH.mT / math.sqrt(query_BNTH.shape[-1])
        if self.temperature is not None:
            z_BNTT = self.temperature.exp()[:, None, None] * z_BNTT
        if self.forget is not None:
            z_BNTT = z_BNTT + decay(self.forget(X_BTD), X_BTD.shape[1], self.causal)
        if self.causal:
            T = z_BNTT.shape[-1]
            z_BNTT = z_BNTT.masked_fill(torch.ones(T, T, dtype=torch.bool).triu(1), NEVER)
        return self.output((z_BNTT.softmax(-1) @ value_BNTH).transpose(1, 2).flatten(-2))


def turned(x_BNTH: Tensor) -> Tensor:
    """Rotates components n and n + H/2 by i · 10000^(−2n/H)."""
    T, H = x_BNTH.shape[-2:]
    angle_Tn = torch.arange(T, dtype=x_BNTH.dtype)[:, None] * 10000.0 ** (
        -2 * torch.arange(H // 2, dtype=x_BNTH.dtype) / H)
    a, b = x_BNTH.chunk(2, -1)
    return torch.cat([a * angle_Tn.cos() - b * angle_Tn.sin(), a * angle_Tn.sin() + b * angle_Tn.cos()], -1)


def add_block(parts: nn.Module, c: VariantConfiguration) -> None:
    """Adds the parts of one block, to the model itself or to a separate block."""
    parts.attn_norm, parts.moe_norm = Norm(c.width), Norm(c.width)
    if c.architecture == "transformer":
        parts.recency = taps_of(c, c.recency_taps) if c.recency_taps > 1 else None
        parts.attn = FullAttention(c)
    else:
        parts.recency = taps_of(c, c.recency_taps)
        parts.soes, parts.attn = VariantGraph(c), VariantAttention(c)
    parts.expert_recency = taps_of(c, c.expert_taps) if c.expert_taps > 1 else None
    if c.dense:
        width = c.active_experts * c.expert_width + (c.width_of_shared if c.shared_expert else 0)
        parts.feed_forward = Expert(c, width)
    else:
        parts.router = Router(c)
        own = c.shared_each_step and not c.own_blocks
        parts.shared_expert = Expert(c, c.width_of_shared) if c.shared_expert and not own else None


def add_memory(parts: nn.Module, c: VariantConfiguration) -> None:
    """Adds the parts that write the memory."""
    parts.pool_norm, parts.memory = Norm(c.width), Memory(c)


class Slots(nn.Module):
    def __init__(self, c: VariantConfiguration):
        super().__init__()
        self.initial = nn.Parameter(torch.randn(c.memory_slots, c.width) * 0.02)


class Variant(ReSSFormer):
    def __init__(self, configuration: VariantConfiguration):
        nn.Module.__init__(self)
        c = self.configuration = configuration
        self.embed, self.final_norm = Map(c.vocabulary, c.width, c.embedding_start), Norm(c.width)
        if c.architecture == "transformer":
            if c.positions == "learned":
                self.position = Table("weight", c.segment, c.width)
            if c.embedding_norm:
                self.embed_norm = Norm(c.width)
        else:
            self.embed_norm, self.memory_norm = Norm(c.width), Norm(c.width)
            self.step = Table("embedding", c.steps, c.width)
        if c.own_blocks:
            self.block = nn.ModuleDict({f"{t:04d}": nn.Module() for t in range(c.block_count)})
            for block in self.block.values():
                add_block(block, c)
            if c.shares_memory:
                add_memory(self, c)
            elif c.architecture != "transformer":
                for block in self.block.values():
                    add_memory(block, c)
                    del block.memory.initial
                self.memory = Slots(c)
        else:
            add_block(self, c)
            add_memory(self, c)
        count = 0 if c.dense else c.experts * c.pools
        self.experts = nn.ModuleDict({f"{index:04d}": Expert(c) for index in range(count)})
        self.own_expert = None
        if c.shared_expert and c.shared_each_step and not c.own_blocks and not c.dense:
            self.add_shared_experts()
        self.relation = None
        if c.architecture != "transformer":
            self.add_relations()
        if c.head != "lm":
            self.head = Map(2 if c.head == "span" else c.classes, c.width, 0.02)

    @property
    def is_causal(self) -> bool:
        return self.configuration.causal

    def parts(self, t: int) -> nn.Module:
        """The weights of a step."""
        c = self.configuration
        return self.block[f"{c.block_of(t):04d}"] if c.own_blocks else self

    def forward(
        self, input_BL: Tensor, target_B: Tensor | None = None, bptt_segments: int | None = None,
        trace: Trace | None = None, steps: int | None = None, relation_BLLU: Tensor | None = None,
    ) -> Output:
        """Logits, and losses if there are targets.

        `input_BL` holds tokens, or bags of features, BLn, where a feature below 0 is absent. All sequences have one length. `target_B` is
        BL for lm and tag, B1 for classify, B2 for span. `steps` is another K than the trained one. The logits are BLV for lm, BLC for tag,
        BL2 for span, and BC for classify. `relation_BLLU` is as in ressformer.py.
        """
        c = self.configuration
        self.steps = steps or c.steps
        B, L = input_BL.shape[:2]
        tally = VariantTally(c, B, self.steps)
        if c.architecture == "transformer":
            H_BLD, S_BMD = self.run_transformer(input_BL), None
        else:
            H_BLD, S_BMD = self.run_segments(input_BL, bptt_segments, tally, trace, relation_BLLU)
        last_BLD = self.final_norm(H_BLD)
        if c.head == "classify":
            logits = self.head(self.pooled(last_BLD, S_BMD))
        else:
            logits = last_BLD @ (self.embed.weight if c.head == "lm" else self.head.weight).T
        loads = torch.zeros(c.pools, tally.count_KBE.shape[-1], dtype=torch.long)
        for t in range(self.steps):
            loads[c.pool_of(t)] += tally.count_KBE[t].sum(0)
        loads = loads.flatten()
        losses = None if target_B is None else tally.losses(self.task_loss(logits, target_B), tokens=B * L)
        return Output(logits, losses, loads, S_BMD)

    def pooled(self, last_BLD: Tensor, S_BMD: Tensor | None) -> Tensor:
        """BD: what a class is computed from. A model without memory reads the tokens."""
        c = self.configuration
        slots_BD = self.final_norm(S_BMD).mean(1) if S_BMD is not None and c.memory_slots > 0 else None
        if slots_BD is None or c.class_pool == "tokens":
            return last_BLD.mean(1)
        return slots_BD + last_BLD.mean(1) if c.class_pool == "both" else slots_BD

    def task_loss(self, logits: Tensor, target_B: Tensor) -> Tensor:
        head = self.configuration.head
        if head == "classify":
            return F.cross_entropy(logits, target_B[:, 0])
        if head == "span":
            return (F.cross_entropy(logits[..., 0], target_B[:, 0]) + F.cross_entropy(logits[..., 1], target_B[:, 1])) / 2
        return F.cross_entropy(logits.flatten(0, 1), target_B.flatten(), ignore_index=-1)

    def run_transformer(self, x_BT: Tensor) -> Tensor:
        c = self.configuration
        H_BTD = self.token_vectors(x_BT)
        if c.positions == "learned":
            H_BTD = H_BTD + self.position.weight[: x_BT.shape[1]]
        if c.embedding_norm:
            H_BTD = self.embed_norm(H_BTD)
        for t in range(c.steps):
            block = self.parts(t)
            # A sequence is a single segment; nothing precedes it.
            X_BTD = tapped(block.recency, block.attn_norm(H_BTD), H_BTD[:, :0], c.both_ways)
            G_BTD = H_BTD + block.attn(X_BTD)
            Y_BTD = tapped(block.expert_recency, block.moe_norm(G_BTD), G_BTD[:, :0], c.both_ways)
            H_BTD = G_BTD + block.feed_forward(Y_BTD)
        return H_BTD

    def run_segments(
        self, input_BL: Tensor, bptt_segments: int | None, tally: "VariantTally", trace: Trace | None,
        relation_BLLU: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        c = self.configuration
        B = input_BL.shape[0]
        S_BMD = self.memory.initial.expand(B, -1, -1)
        caches = [self.empty_cache(B) for _ in range(self.steps)]
        rows = []
        for index, x_BT in enumerate(input_BL.split(c.segment, dim=1)):
            if bptt_segments is not None and index > 0 and index % bptt_segments == 0:
                S_BMD = S_BMD.detach()
            found_BMD, A_BTJ = S_BMD, None
            H_BTD = self.embedded(x_BT)
            relation_BTJU = seen_of(relation_BLLU, index * c.segment, x_BT.shape[1], c.cache)
            for t in range(self.steps):
                before_BTJ, parts = A_BTJ, self.parts(t)
                readS_BMD = self.memory_norm(found_BMD if c.causal else S_BMD)
                H_BTD, A_BTJ, caches[t] = self.run_step(t, parts, H_BTD, readS_BMD, caches[t], tally, trace, relation_BTJU)
                if before_BTJ is not None:
                    tally.smooth = tally.smooth + (A_BTJ - before_BTJ).square().sum()
                if c.memory_slots > 0:
                    own = self if c.shares_memory else parts
                    S_BMD = own.memory.write(S_BMD, self.memory_norm(S_BMD), own.pool_norm(H_BTD))
            rows.append(H_BTD)
        return torch.cat(rows, 1), S_BMD

    def feed(self, t: int, parts: nn.Module, Y_BTD: Tensor, tally: "VariantTally", trace: Trace | None) -> Tensor:
        return parts.feed_forward(Y_BTD) if self.configuration.dense else super().feed(t, parts, Y_BTD, tally, trace)

    def experts_of(self, t: int) -> list[Expert]:
        c = self.configuration
        first = c.pool_of(t) * c.experts
        return [self.experts[f"{first + index:04d}"] for index in range(c.experts)]


class VariantTally(Tally):
    def __init__(self, c: VariantConfiguration, B: int, steps: int):
        self.c, self.smooth, self.z, self.steps = c, 0.0, 0.0, steps
        experts = 0 if c.dense else c.experts
        self.count_KBE = torch.zeros(steps, B, experts, dtype=torch.long)
        self.P_sum: list[Tensor | float] = [0.0] * steps

    def losses(self, task: Tensor, tokens: int) -> Losses:
        c, K, zero = self.c, self.steps, task.new_zeros(())
        smooth = self.smooth / (tokens * (K - 1)) if K > 1 and c.architecture != "transformer" else zero
        if c.dense:
            return Losses(task + c.smooth_weight * smooth, task, smooth + zero, zero, zero)
        length = tokens // self.count_KBE.shape[1]
        f_KBE = self.count_KBE.to(task.dtype) / (min(c.active_experts, c.experts) * length)
        balance = c.experts * (f_KBE * torch.stack(self.P_sum) / length).sum(-1).mean()
        z = self.z / (tokens * K)
        total = task + c.smooth_weight * smooth + c.balance_weight * balance + c.router_z_weight * z
        return Losses(total, task, smooth + zero, balance, z)
