"""The rest of docs/model.md in PyTorch: other heads, both ways of seeing, sets, the parts that can be left out, the dense baseline.

`ressformer.py` stays the causal language model that one reads first; this file changes it where the page says so, in the same
letters (C classes beside them), and is held against finite differences by check_peer.py.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ressformer import (
    NEVER, Expert, Losses, Map, Memory, ModelConfiguration, Norm, Output, ReSSFormer, Router, SparseAttention, StepCache,
    Table, Tally, TokenGraph, Trace, chosen, largest, recency_sum, sparsemax)


@dataclass
class VariantConfiguration(ModelConfiguration):
    architecture: str = "ressformer"  # or transformer
    head: str = "lm"  # or classify, tag, span
    classes: int = 2
    ordered: bool = True
    activation: str = "sparsemax"  # or entmax15, softmax
    structure_bias: bool = True
    feed_forward: str = "experts"  # or dense
    separate_blocks: bool = False
    positions: str = "rotary"  # or learned, none; the baseline's
    keys: int | None = 16
    graph_degree: int | None = 32

    def __post_init__(self):
        if not self.ordered:
            self.cache, self.recency_taps = 0, 1

    @property
    def causal(self) -> bool:
        return self.head == "lm"

    @property
    def own_blocks(self) -> bool:
        return self.separate_blocks or self.architecture == "transformer"

    @property
    def dense(self) -> bool:
        return self.feed_forward == "dense" or self.architecture == "transformer"


@dataclass
class NetworkSizes:
    """What Expert wants to know."""

    width: int
    expert_width: int
    steps: int


def entmax15(z: Tensor) -> Tensor:
    """max(z/2 − τ, 0)² with the τ that makes the result sum to one, over the last dimension, sorted falling (arXiv 1905.05702)."""
    # A refused option is far below any threshold; a finite number keeps its gradient one.
    z = z.clamp_min(-1e4) / 2
    rank = torch.arange(1, z.shape[-1] + 1, dtype=z.dtype)
    mean = z.cumsum(-1) / rank
    spread = z.square().cumsum(-1) - rank * mean.square()
    tau = mean - ((1 - spread) / rank).clamp_min(0).sqrt()
    count = (tau <= z).sum(-1, keepdim=True)
    # τ again from the support alone, as a function that autograd differentiates.
    support = rank <= count
    inside = torch.where(support, z, 0)
    mean = inside.sum(-1, keepdim=True) / count
    spread = torch.where(support, (z - mean).square(), 0).sum(-1, keepdim=True)
    threshold = mean - ((1 - spread) / count).sqrt()
    return torch.where(support, z - threshold, 0).clamp_min(0).square()


class VariantGraph(TokenGraph):
    """A token's neighbours where later tokens of the segment are in sight too."""

    def __init__(self, c: VariantConfiguration):
        super().__init__(c)
        self.causal, self.ordered = c.causal, c.ordered

    def forward(self, query_BTR: Tensor, key_BJR: Tensor, trace: Trace | None) -> tuple[Tensor, Tensor]:
        T, J = query_BTR.shape[1], key_BJR.shape[1]
        i_T1, j_J = torch.arange(J - T, J)[:, None], torch.arange(J)
        if self.causal:
            allowed_TJ = j_J <= i_T1
            window_TJ = allowed_TJ & (j_J > i_T1 - self.window)
        else:
            allowed_TJ = torch.ones(T, J, dtype=torch.bool)
            window_TJ = (j_J - i_T1).abs() <= (self.window // 2 if self.ordered else 0)
        edge_BTJ = query_BTR @ key_BJR.mT / math.sqrt(query_BTR.shape[-1])
        degree = J if self.degree is None else self.degree
        added_BTJ = chosen(edge_BTJ.masked_fill(window_TJ | ~allowed_TJ, NEVER), degree, "graph", trace)
        neighbour_BTJ = window_TJ | added_BTJ
        logA_BTJ = edge_BTJ.masked_fill(~neighbour_BTJ, NEVER).log_softmax(-1)
        return logA_BTJ.masked_fill(~neighbour_BTJ, 0), neighbour_BTJ


class VariantAttention(SparseAttention):
    def __init__(self, c: VariantConfiguration):
        super().__init__(c)
        self.activation = c.activation
        if not c.structure_bias:
            self.structure_gain = nn.Parameter(torch.zeros(c.heads), requires_grad=False)

    def forward(
        self, query_BTD: Tensor, key_BOD: Tensor, value_BOD: Tensor, logA_BTJ: Tensor, neighbour_BTJ: Tensor,
        trace: Trace | None,
    ) -> Tensor:
        query_BNTH, key_BNOH, value_BNOH = self.split(query_BTD), self.split(key_BOD), self.split(value_BOD)
        J = logA_BTJ.shape[-1]
        z_BNTO = query_BNTH @ key_BNOH.mT / math.sqrt(query_BNTH.shape[-1])
        structure_BTJ = logA_BTJ + neighbour_BTJ.sum(-1, keepdim=True).to(z_BNTO.dtype).log()
        token_BNTJ = z_BNTO[..., :J] + self.structure_gain[:, None, None] * structure_BTJ[:, None]
        token_BNTJ = token_BNTJ.masked_fill(~neighbour_BTJ[:, None], NEVER)
        slot_BNTM = z_BNTO[..., J:] + self.memory_bias[:, None, None]
        ordered_BNTO = torch.cat([token_BNTJ.flip(-1), slot_BNTM], -1)
        order_BNTk = largest(ordered_BNTO, self.keys or ordered_BNTO.shape[-1], "keys", trace)
        z_BNTk = ordered_BNTO.gather(-1, order_BNTk)
        p_BNTk = {
            "sparsemax": lambda: sparsemax(z_BNTk, trace), "entmax15": lambda: entmax15(z_BNTk),
            "softmax": lambda: z_BNTk.softmax(-1)}[self.activation]()
        p_BNTO = torch.zeros_like(ordered_BNTO).scatter(-1, order_BNTk, p_BNTk)
        p_BNTO = torch.cat([p_BNTO[..., :J].flip(-1), p_BNTO[..., J:]], -1)
        return self.output((p_BNTO @ value_BNOH).transpose(1, 2).flatten(-2))


class FullAttention(nn.Module):
    """The baseline's: every allowed token, softmax."""

    def __init__(self, c: VariantConfiguration):
        super().__init__()
        self.heads, self.causal, self.rotary = c.heads, c.causal, c.positions == "rotary"
        wide = c.width**-0.5
        self.query, self.key, self.value = (Map(c.width, c.width, wide) for _ in range(3))
        self.output = Map(c.width, c.width, wide / math.sqrt(2 * c.steps))

    def forward(self, X_BTD: Tensor) -> Tensor:
        query_BNTH, key_BNTH, value_BNTH = (
            map(X_BTD).unflatten(-1, (self.heads, -1)).transpose(1, 2) for map in (self.query, self.key, self.value))
        if self.rotary:
            query_BNTH, key_BNTH = turned(query_BNTH), turned(key_BNTH)
        z_BNTT = query_BNTH @ key_BNTH.mT / math.sqrt(query_BNTH.shape[-1])
        if self.causal:
            T = z_BNTT.shape[-1]
            z_BNTT = z_BNTT.masked_fill(torch.ones(T, T, dtype=torch.bool).triu(1), NEVER)
        return self.output((z_BNTT.softmax(-1) @ value_BNTH).transpose(1, 2).flatten(-2))


def turned(x_BNTH: Tensor) -> Tensor:
    """Components n and n + H/2 turn by i · 10000^(−2n/H)."""
    T, H = x_BNTH.shape[-2:]
    angle_Tn = torch.arange(T, dtype=x_BNTH.dtype)[:, None] * 10000.0 ** (
        -2 * torch.arange(H // 2, dtype=x_BNTH.dtype) / H)
    a, b = x_BNTH.chunk(2, -1)
    return torch.cat([a * angle_Tn.cos() - b * angle_Tn.sin(), a * angle_Tn.sin() + b * angle_Tn.cos()], -1)


def add_block(parts: nn.Module, c: VariantConfiguration) -> None:
    """What one block has, as attributes of the model itself or of a block of its own."""
    parts.attn_norm, parts.moe_norm = Norm(c.width), Norm(c.width)
    if c.architecture == "transformer":
        parts.attn = FullAttention(c)
    else:
        parts.pool_norm = Norm(c.width)
        parts.recency = Table("weight", c.recency_taps - 1, c.width)
        parts.soes, parts.attn = VariantGraph(c), VariantAttention(c)
        parts.memory = Memory(c)
    if c.dense:
        width = (c.active_experts + c.shared_expert) * c.expert_width
        parts.feed_forward = Expert(NetworkSizes(c.width, width, c.steps))
    else:
        parts.router = Router(c)
        parts.shared_expert = Expert(c) if c.shared_expert else None


class Slots(nn.Module):
    def __init__(self, c: VariantConfiguration):
        super().__init__()
        self.initial = nn.Parameter(torch.randn(c.memory_slots, c.width) * 0.02)


class Variant(ReSSFormer):
    def __init__(self, configuration: VariantConfiguration):
        nn.Module.__init__(self)
        c = self.configuration = configuration
        self.embed, self.final_norm = Map(c.vocabulary, c.width, 0.02), Norm(c.width)
        if c.architecture == "transformer":
            if c.positions == "learned":
                self.position = Table("weight", c.segment, c.width)
        else:
            self.embed_norm, self.memory_norm = Norm(c.width), Norm(c.width)
            self.step = Table("embedding", c.steps, c.width)
        if c.own_blocks:
            self.block = nn.ModuleDict({f"{t:04d}": nn.Module() for t in range(c.steps)})
            for block in self.block.values():
                add_block(block, c)
                if c.architecture != "transformer":
                    del block.memory.initial
            if c.architecture != "transformer":
                self.memory = Slots(c)
        else:
            add_block(self, c)
        count = 0 if c.dense else c.experts * (c.steps if c.own_blocks else 1)
        self.experts = nn.ModuleDict({f"{index:04d}": Expert(c) for index in range(count)})
        if c.head != "lm":
            self.head = Map(2 if c.head == "span" else c.classes, c.width, 0.02)

    def parts(self, t: int) -> nn.Module:
        return self.block[f"{t:04d}"] if self.configuration.own_blocks else self

    def forward(
        self, input_BL: Tensor, target_B: Tensor, bptt_segments: int | None = None, trace: Trace | None = None,
        steps: int | None = None,
    ) -> Output:
        """`target_B` is BL for lm and tag, B1 for classify, B2 for span. `steps`: another K than the trained one."""
        c = self.configuration
        self.steps = steps or c.steps
        B, L = input_BL.shape
        tally = VariantTally(c, B, self.steps)
        if c.architecture == "transformer":
            H_BLD, pooled_BD = self.run_transformer(input_BL), None
        else:
            H_BLD, S_BMD = self.run_segments(input_BL, bptt_segments, tally, trace)
            pooled_BD = self.final_norm(S_BMD).mean(1) if c.memory_slots > 0 else None
        last_BLD = self.final_norm(H_BLD)
        if c.head == "classify":
            logits = self.head(last_BLD.mean(1) if pooled_BD is None else pooled_BD)
            task = F.cross_entropy(logits, target_B[:, 0])
        else:
            logits = last_BLD @ (self.embed.weight if c.head == "lm" else self.head.weight).T
            if c.head == "span":
                task = (F.cross_entropy(logits[..., 0], target_B[:, 0]) + F.cross_entropy(logits[..., 1], target_B[:, 1])) / 2
            else:
                task = F.cross_entropy(logits.flatten(0, 1), target_B.flatten(), ignore_index=-1)
        loads = tally.count_KBE.sum(1)
        loads = loads.flatten() if c.own_blocks else loads.sum(0)
        memory = None if c.architecture == "transformer" else S_BMD
        return Output(logits, tally.losses(task, tokens=B * L), loads, memory)

    def run_transformer(self, x_BT: Tensor) -> Tensor:
        c = self.configuration
        H_BTD = self.embed.weight[x_BT]
        if c.positions == "learned":
            H_BTD = H_BTD + self.position.weight[: x_BT.shape[1]]
        for t in range(c.steps):
            block = self.parts(t)
            G_BTD = H_BTD + block.attn(block.attn_norm(H_BTD))
            H_BTD = G_BTD + block.feed_forward(block.moe_norm(G_BTD))
        return H_BTD

    def run_segments(
        self, input_BL: Tensor, bptt_segments: int | None, tally: "VariantTally", trace: Trace | None
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
            H_BTD = self.embed_norm(self.embed.weight[x_BT])
            for t in range(self.steps):
                before_BTJ, parts = A_BTJ, self.parts(t)
                readS_BMD = self.memory_norm(found_BMD if c.causal else S_BMD)
                H_BTD, A_BTJ, caches[t] = self.run_part(t, parts, H_BTD, readS_BMD, caches[t], tally, trace)
                if before_BTJ is not None:
                    tally.smooth = tally.smooth + (A_BTJ - before_BTJ).square().sum()
                if c.memory_slots > 0:
                    S_BMD = parts.memory.write(S_BMD, self.memory_norm(S_BMD), parts.pool_norm(H_BTD))
            rows.append(H_BTD)
        return torch.cat(rows, 1), S_BMD

    def run_part(
        self, t: int, parts: nn.Module, H_BTD: Tensor, readS_BMD: Tensor, cache: StepCache, tally: "VariantTally",
        trace: Trace | None,
    ) -> tuple[Tensor, Tensor, StepCache]:
        c = self.configuration
        row_BTD = parts.attn_norm(H_BTD + self.step.embedding[min(t, c.steps - 1)])
        X_BTD = recency_sum(parts.recency.weight, row_BTD, cache.row_BwD)
        structure_BJR = torch.cat([cache.structure_BCR, parts.soes.key(X_BTD)], 1)
        logA_BTJ, neighbour_BTJ = parts.soes(parts.soes.query(X_BTD), structure_BJR, trace)
        key_BJD = torch.cat([cache.key_BCD, parts.attn.key(X_BTD)], 1)
        value_BJD = torch.cat([cache.value_BCD, parts.attn.value(X_BTD)], 1)
        key_BOD = torch.cat([key_BJD, parts.attn.key(readS_BMD)], 1)
        value_BOD = torch.cat([value_BJD, parts.attn.value(readS_BMD)], 1)
        G_BTD = H_BTD + parts.attn(parts.attn.query(X_BTD), key_BOD, value_BOD, logA_BTJ, neighbour_BTJ, trace)
        Y_BTD = parts.moe_norm(G_BTD)
        if c.dense:
            H_BTD = G_BTD + parts.feed_forward(Y_BTD)
        else:
            l_BTE, expert_BTA, u_BTA = parts.router(Y_BTD, trace)
            tally.count_routes(t, l_BTE, expert_BTA)
            H_BTD = G_BTD + self.mix(t, parts, Y_BTD, expert_BTA, u_BTA)
        left = cache.after(c, key_BJD, value_BJD, structure_BJR, row_BTD)
        return H_BTD, torch.where(neighbour_BTJ, logA_BTJ.exp(), 0), left

    def mix(self, t: int, parts: nn.Module, Y_BTD: Tensor, expert_BTA: Tensor, u_BTA: Tensor) -> Tensor:
        c = self.configuration
        first = t * c.experts if c.own_blocks else 0
        Y_nD = Y_BTD.flatten(0, 1)
        mixed_nD = torch.zeros_like(Y_nD)
        for index in range(c.experts):
            token, slot = (expert_BTA.flatten(0, 1) == index).nonzero(as_tuple=True)
            weight = u_BTA.flatten(0, 1)[token, slot, None]
            mixed_nD = mixed_nD.index_add(0, token, weight * self.experts[f"{first + index:04d}"](Y_nD[token]))
        if parts.shared_expert is not None:
            mixed_nD = mixed_nD + parts.shared_expert(Y_nD)
        return mixed_nD.view_as(Y_BTD)


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
