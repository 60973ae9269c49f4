"""ReSSFormer's causal language model in PyTorch: the peer that checks the Swift code.

It follows docs/model.md line by line and prefers the plain form of every equation (dense masks, one
whole sequence in one autograd graph) to the fast one, so that it can be read as the reference. Values
that Swift tests compare against come from here, in float64 (save_golden.py).

Letters at the end of a name are its shape:
  B sequences    L targets a sequence    T tokens of this segment    C cached tokens    J = C + T tokens in sight
  M memory slots    D width    N heads    H = D / N head width    R structure rank    O = J + M attention options
  E experts    A experts a token reaches    F expert width    V vocabulary    K steps    W recency taps
A trailing 1 is a dimension of one. `_BNTO` is indexed [sequence, head, token, option].
"""

import math
from dataclasses import asdict, dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPSILON = 1e-5
NEVER = float("-inf")


@dataclass
class ModelConfiguration:
    """Sizes and loss weights, with the names of Sources/Configuration/RunConfiguration.swift in snake case."""

    width: int = 128
    heads: int = 4
    steps: int = 4
    segment: int = 256
    memory_slots: int = 16
    cache: int = 128
    window: int = 16
    structure_rank: int = 16
    graph_degree: int = 32
    keys: int = 16
    recency_taps: int = 4
    experts: int = 8
    active_experts: int = 2
    expert_width: int = 256
    shared_expert: bool = False
    vocabulary: int = 257
    smooth_weight: float = 1e-2
    balance_weight: float = 1e-3
    router_z_weight: float = 1e-4
    balancer_rate: float = 1e-3

    as_dict = asdict


@dataclass
class Losses:
    """total = task + λ_s smooth + λ_b balance + λ_z z; all scalars."""

    total: Tensor
    task: Tensor
    smooth: Tensor
    balance: Tensor
    z: Tensor


@dataclass
class Output:
    logits_BLV: Tensor
    losses: Losses
    loads_E: Tensor  # (token, slot) assignments to each expert, over the batch and all steps
    memory_BMD: Tensor  # after the last segment


@dataclass
class Trace:
    """What a forward saw on its way, for tests: how close its decisions were, and values inside a segment.

    `margins[kind]` is the smallest gap between the last chosen and the first refused candidate;
    for `support` it is the smallest distance of a kept score from sparsemax's threshold.
    With `exact_ties`, candidates that are equal to the last bit do not count as close.
    """

    exact_ties: bool = False
    margins: dict[str, float] = field(default_factory=dict)
    hidden: list[list[Tensor]] = field(default_factory=list)  # [segment][step] H after the step, BTD
    graph: list[list[Tensor]] = field(default_factory=list)  # [segment][step] A, BTJ
    memory: list[Tensor] = field(default_factory=list)  # [segment] S after the segment, BMD

    def note(self, kind: str, gap: Tensor) -> None:
        gap = gap[gap.isfinite()]
        if self.exact_ties:
            gap = gap[gap > 0]
        if gap.numel():
            self.margins[kind] = min(self.margins.get(kind, math.inf), gap.min().item())


# ---------------------------------------------------------------------------------------------------------
# Small parts


class Norm(nn.Module):
    """s ⊙ x / sqrt(mean(x²) + 1e-5)"""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + NORM_EPSILON)


class Map(nn.Module):
    """y = x Wᵀ, weight [out, in], no bias."""

    def __init__(self, out_width: int, in_width: int, deviation: float):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_width, in_width) * deviation)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T


class Table(nn.Module):
    """Bare rows under a name of their own: `step.embedding`, `recency.weight`."""

    def __init__(self, name: str, *shape: int, deviation: float = 0.02):
        super().__init__()
        self.register_parameter(name, nn.Parameter(torch.randn(*shape) * deviation))


def largest(scores: Tensor, count: int, kind: str, trace: Trace | None) -> Tensor:
    """Indices of the `count` largest along the last dimension, the earlier index first among equals.

    Callers order the candidates so that the earlier index is the one that wins a tie. -inf marks what is
    no candidate; it comes last, so a row with fewer candidates than `count` is filled up with it.
    """
    values, order = torch.sort(scores.detach(), dim=-1, descending=True, stable=True)
    count = min(count, scores.shape[-1])
    if trace is not None and 0 < count < scores.shape[-1]:
        trace.note(kind, values[..., count - 1] - values[..., count])
    return order[..., :count]


def chosen(scores: Tensor, count: int, kind: str, trace: Trace | None) -> Tensor:
    """Mask of the `count` largest along the last dimension; ties go to the larger index, -inf is never chosen."""
    order = scores.shape[-1] - 1 - largest(scores.flip(-1), count, kind, trace)
    mask = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, order, True)
    return mask & (scores > NEVER)


def sparsemax(z: Tensor, trace: Trace | None = None) -> Tensor:
    """The Euclidean projection of z on the simplex (arXiv 1602.02068), over the last dimension, sorted falling.

    max(z − τ, 0) with τ such that the result sums to one. -inf entries get 0. The gradient is autograd's
    through τ, which is the exact one: τ is the mean over the support, less 1 / its size.
    """
    rank = torch.arange(1, z.shape[-1] + 1, dtype=z.dtype)
    support = 1 + rank * z > z.cumsum(-1)
    total = torch.where(support, z, 0).sum(-1, keepdim=True)
    threshold = (total - 1) / support.sum(-1, keepdim=True)
    if trace is not None:
        trace.note("support", (z - threshold).detach().abs())
    return torch.where(support, z - threshold, 0).clamp_min(0)


def last_rows(x: Tensor, count: int) -> Tensor:
    """The last `count` rows of dimension 1, or as many as there are."""
    return x[:, max(0, x.shape[1] - count) :]


# ---------------------------------------------------------------------------------------------------------
# SOES: the token graph


class TokenGraph(nn.Module):
    def __init__(self, c: ModelConfiguration):
        super().__init__()
        self.window, self.degree = c.window, c.graph_degree
        self.query = Map(c.structure_rank, c.width, c.width**-0.5)
        self.key = Map(c.structure_rank, c.width, c.width**-0.5)

    def forward(self, query_BTR: Tensor, key_BJR: Tensor, trace: Trace | None) -> tuple[Tensor, Tensor]:
        """log A over each token's neighbours (0 elsewhere) and the mask of neighbours, both BTJ."""
        T, J = query_BTR.shape[1], key_BJR.shape[1]
        # Cached tokens come first in J, so that a larger j is always a more recent token.
        i_T1, j_J = torch.arange(J - T, J)[:, None], torch.arange(J)
        window_TJ = (j_J <= i_T1) & (j_J > i_T1 - self.window)
        beyond_TJ = j_J <= i_T1 - self.window

        edge_BTJ = query_BTR @ key_BJR.mT / math.sqrt(query_BTR.shape[-1])
        added_BTJ = chosen(edge_BTJ.masked_fill(~beyond_TJ, NEVER), self.degree, "graph", trace)
        neighbour_BTJ = window_TJ | added_BTJ
        logA_BTJ = edge_BTJ.masked_fill(~neighbour_BTJ, NEVER).log_softmax(-1)
        return logA_BTJ.masked_fill(~neighbour_BTJ, 0), neighbour_BTJ


# ---------------------------------------------------------------------------------------------------------
# ASAM: sparse attention along the graph and over the memory, and the experts


class SparseAttention(nn.Module):
    def __init__(self, c: ModelConfiguration):
        super().__init__()
        self.heads, self.keys = c.heads, c.keys
        wide = c.width**-0.5
        self.query, self.key, self.value = (Map(c.width, c.width, wide) for _ in range(3))
        self.output = Map(c.width, c.width, wide / math.sqrt(2 * c.steps))
        self.structure_gain = nn.Parameter(torch.ones(c.heads))
        self.memory_bias = nn.Parameter(torch.zeros(c.heads))

    def split(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # BNTH

    def forward(
        self, query_BTD: Tensor, key_BOD: Tensor, value_BOD: Tensor, logA_BTJ: Tensor, neighbour_BTJ: Tensor,
        trace: Trace | None,
    ) -> Tensor:
        """Options are the J tokens in sight, then the M memory slots."""
        query_BNTH, key_BNOH, value_BNOH = self.split(query_BTD), self.split(key_BOD), self.split(value_BOD)
        J = logA_BTJ.shape[-1]
        z_BNTO = query_BNTH @ key_BNOH.mT / math.sqrt(query_BNTH.shape[-1])
        size_BT1 = neighbour_BTJ.sum(-1, keepdim=True).to(z_BNTO.dtype)
        structure_BTJ = logA_BTJ + size_BT1.log()
        token_BNTJ = z_BNTO[..., :J] + self.structure_gain[:, None, None] * structure_BTJ[:, None]
        token_BNTJ = token_BNTJ.masked_fill(~neighbour_BTJ[:, None], NEVER)
        slot_BNTM = z_BNTO[..., J:] + self.memory_bias[:, None, None]

        # The order in which ties are won: recent tokens, older tokens, then slots from the first.
        ordered_BNTO = torch.cat([token_BNTJ.flip(-1), slot_BNTM], -1)
        order_BNTk = largest(ordered_BNTO, self.keys, "keys", trace)
        p_BNTk = sparsemax(ordered_BNTO.gather(-1, order_BNTk), trace)
        p_BNTO = torch.zeros_like(ordered_BNTO).scatter(-1, order_BNTk, p_BNTk)
        p_BNTO = torch.cat([p_BNTO[..., :J].flip(-1), p_BNTO[..., J:]], -1)
        return self.output((p_BNTO @ value_BNOH).transpose(1, 2).flatten(-2))


class Router(nn.Module):
    def __init__(self, c: ModelConfiguration):
        super().__init__()
        self.active = c.active_experts
        self.weight = nn.Parameter(torch.randn(c.experts, c.width) * 0.02)
        self.bias = nn.Parameter(torch.zeros(c.experts), requires_grad=False)  # moved by the balancer alone

    def forward(self, y_BTD: Tensor, trace: Trace | None) -> tuple[Tensor, Tensor, Tensor]:
        """l (BTE), the experts of each token and their weights (both BTA)."""
        l_BTE = y_BTD @ self.weight.T
        expert_BTA = largest(l_BTE + self.bias, self.active, "experts", trace)
        return l_BTE, expert_BTA, l_BTE.gather(-1, expert_BTA).softmax(-1)


class Expert(nn.Module):
    """(silu(y gateᵀ) ⊙ (y upᵀ)) downᵀ"""

    def __init__(self, c: ModelConfiguration):
        super().__init__()
        self.gate = nn.Parameter(torch.randn(c.expert_width, c.width) * c.width**-0.5)
        self.up = nn.Parameter(torch.randn(c.expert_width, c.width) * c.width**-0.5)
        self.down = nn.Parameter(torch.randn(c.width, c.expert_width) * (2 * c.steps * c.expert_width) ** -0.5)

    def forward(self, y: Tensor) -> Tensor:
        return (F.silu(y @ self.gate.T) * (y @ self.up.T)) @ self.down.T


# ---------------------------------------------------------------------------------------------------------
# R2MU: the memory that crosses segments, and the state of a sequence


class Memory(nn.Module):
    def __init__(self, c: ModelConfiguration):
        super().__init__()
        self.initial = nn.Parameter(torch.randn(c.memory_slots, c.width) * 0.02)
        self.pool_query = nn.Parameter(torch.randn(c.memory_slots, c.width) * 0.02)
        self.pool_key = Map(c.width, c.width, c.width**-0.5)
        self.pool_value = Map(c.width, c.width, c.width**-0.5)
        self.gate = Table("weight", 2 * c.width)
        self.gate.bias = nn.Parameter(torch.zeros(1))

    def write(self, S_BMD: Tensor, normS_BMD: Tensor, Z_BTD: Tensor) -> Tensor:
        score_BMT = self.pool_query @ self.pool_key(Z_BTD).mT / math.sqrt(Z_BTD.shape[-1])
        pooled_BMD = score_BMT.softmax(-1) @ self.pool_value(Z_BTD)
        alpha_BM = torch.sigmoid(torch.cat([normS_BMD, pooled_BMD], -1) @ self.gate.weight + self.gate.bias)
        return alpha_BM[..., None] * S_BMD + (1 - alpha_BM[..., None]) * pooled_BMD


@dataclass
class StepCache:
    """What one step leaves to the next segment: no gradient flows through it. Oldest token first."""

    key_BCD: Tensor
    value_BCD: Tensor
    structure_BCR: Tensor
    row_BwD: Tensor  # the last w − 1 rows of X before the recency sum

    def after(
        self, c: ModelConfiguration, key_BJD: Tensor, value_BJD: Tensor, structure_BJR: Tensor, row_BTD: Tensor
    ) -> "StepCache":
        """What the segment in hand leaves, given all keys and values in sight and its own rows."""
        return StepCache(
            last_rows(key_BJD, c.cache).detach(), last_rows(value_BJD, c.cache).detach(),
            last_rows(structure_BJR, c.cache).detach(),
            last_rows(torch.cat([self.row_BwD, row_BTD], 1), c.recency_taps - 1).detach())


def recency_sum(weight_wD: Tensor, row_BTD: Tensor, cached_BwD: Tensor) -> Tensor:
    """X + Σ_τ recency[τ−1] ⊙ X shifted τ tokens back; before the sequence there is 0."""
    T, reach = row_BTD.shape[1], weight_wD.shape[0]
    padded = F.pad(torch.cat([cached_BwD, row_BTD], 1), (0, 0, reach - cached_BwD.shape[1], 0))
    X_BTD = row_BTD
    for tau in range(1, reach + 1):
        X_BTD = X_BTD + weight_wD[tau - 1] * padded[:, reach - tau : reach - tau + T]
    return X_BTD


# ---------------------------------------------------------------------------------------------------------
# The model


class ReSSFormer(nn.Module):
    def __init__(self, configuration: ModelConfiguration):
        super().__init__()
        c = self.configuration = configuration
        self.embed = Map(c.vocabulary, c.width, 0.02)
        self.embed_norm, self.attn_norm, self.moe_norm = Norm(c.width), Norm(c.width), Norm(c.width)
        self.pool_norm, self.memory_norm, self.final_norm = Norm(c.width), Norm(c.width), Norm(c.width)
        self.step = Table("embedding", c.steps, c.width)
        self.recency = Table("weight", c.recency_taps - 1, c.width)
        self.soes = TokenGraph(c)
        self.attn = SparseAttention(c)
        self.router = Router(c)
        self.experts = nn.ModuleDict({f"{index:04d}": Expert(c) for index in range(c.experts)})
        self.shared_expert = Expert(c) if c.shared_expert else None
        self.memory = Memory(c)

    def forward(
        self, input_BL: Tensor, target_BL: Tensor, bptt_segments: int | None = None, trace: Trace | None = None
    ) -> Output:
        """Logits and losses of whole sequences. A target of −1 is no target: the token counts everywhere else."""
        c = self.configuration
        B, L = input_BL.shape
        S_BMD = self.memory.initial.expand(B, -1, -1)
        caches = [self.empty_cache(B) for _ in range(c.steps)]
        tally = Tally(c, B)
        logits = []
        for index, x_BT in enumerate(input_BL.split(c.segment, dim=1)):
            if bptt_segments is not None and index > 0 and index % bptt_segments == 0:
                S_BMD = S_BMD.detach()
            H_BTD, S_BMD, caches = self.run_segment(x_BT, S_BMD, caches, tally, trace)
            logits.append(self.final_norm(H_BTD) @ self.embed.weight.T)
        logits_BLV = torch.cat(logits, 1)
        task = F.cross_entropy(logits_BLV.flatten(0, 1), target_BL.flatten(), ignore_index=-1)
        return Output(logits_BLV, tally.losses(task, tokens=B * L), tally.count_KBE.sum((0, 1)), S_BMD)

    def run_segment(
        self, x_BT: Tensor, S_BMD: Tensor, caches: list[StepCache], tally: "Tally", trace: Trace | None
    ) -> tuple[Tensor, Tensor, list[StepCache]]:
        """All K steps of one segment: H, the memory it leaves and the caches it leaves."""
        readS_BMD = self.memory_norm(S_BMD)  # every step reads the memory as it stood when the segment began
        H_BTD = self.embed_norm(self.embed.weight[x_BT])
        A_BTJ, left, hidden, graph = None, [], [], []
        for t in range(self.configuration.steps):
            before_BTJ = A_BTJ
            H_BTD, A_BTJ, cache = self.run_step(t, H_BTD, readS_BMD, caches[t], tally, trace)
            if before_BTJ is not None:
                tally.smooth = tally.smooth + (A_BTJ - before_BTJ).square().sum()
            if self.configuration.memory_slots > 0:
                S_BMD = self.memory.write(S_BMD, self.memory_norm(S_BMD), self.pool_norm(H_BTD))
            left.append(cache)
            hidden.append(H_BTD.detach())
            graph.append(A_BTJ.detach())
        if trace is not None:
            trace.hidden.append(hidden)
            trace.graph.append(graph)
            trace.memory.append(S_BMD.detach())
        return H_BTD, S_BMD, left

    def run_step(
        self, t: int, H_BTD: Tensor, readS_BMD: Tensor, cache: StepCache, tally: "Tally", trace: Trace | None
    ) -> tuple[Tensor, Tensor, StepCache]:
        c = self.configuration
        row_BTD = self.attn_norm(H_BTD + self.step.embedding[t])
        X_BTD = recency_sum(self.recency.weight, row_BTD, cache.row_BwD)
        # SOES: the token graph
        structure_BJR = torch.cat([cache.structure_BCR, self.soes.key(X_BTD)], 1)
        logA_BTJ, neighbour_BTJ = self.soes(self.soes.query(X_BTD), structure_BJR, trace)
        # ASAM: sparse attention along the graph, and over the memory
        key_BJD = torch.cat([cache.key_BCD, self.attn.key(X_BTD)], 1)
        value_BJD = torch.cat([cache.value_BCD, self.attn.value(X_BTD)], 1)
        key_BOD = torch.cat([key_BJD, self.attn.key(readS_BMD)], 1)
        value_BOD = torch.cat([value_BJD, self.attn.value(readS_BMD)], 1)
        G_BTD = H_BTD + self.attn(self.attn.query(X_BTD), key_BOD, value_BOD, logA_BTJ, neighbour_BTJ, trace)
        # ASAM: experts
        Y_BTD = self.moe_norm(G_BTD)
        l_BTE, expert_BTA, u_BTA = self.router(Y_BTD, trace)
        tally.count_routes(t, l_BTE, expert_BTA)
        H_BTD = G_BTD + self.mix_experts(Y_BTD, expert_BTA, u_BTA)

        left = cache.after(c, key_BJD, value_BJD, structure_BJR, row_BTD)
        return H_BTD, torch.where(neighbour_BTJ, logA_BTJ.exp(), 0), left

    def mix_experts(self, Y_BTD: Tensor, expert_BTA: Tensor, u_BTA: Tensor) -> Tensor:
        """Dropless: every expert computes all the tokens that chose it."""
        Y_nD = Y_BTD.flatten(0, 1)
        mixed_nD = torch.zeros_like(Y_nD)
        for index, expert in enumerate(self.experts.values()):
            token, slot = (expert_BTA.flatten(0, 1) == index).nonzero(as_tuple=True)
            weight = u_BTA.flatten(0, 1)[token, slot, None]
            mixed_nD = mixed_nD.index_add(0, token, weight * expert(Y_nD[token]))
        if self.shared_expert is not None:
            mixed_nD = mixed_nD + self.shared_expert(Y_nD)
        return mixed_nD.view_as(Y_BTD)

    def empty_cache(self, B: int) -> StepCache:
        c, like = self.configuration, self.embed.weight
        D, R = c.width, c.structure_rank
        return StepCache(*(like.new_zeros(B, 0, width) for width in (D, D, R, D)))

    def named_paths(self) -> list[tuple[str, nn.Parameter]]:
        """Parameters by their path in docs/model.md: `experts/0003/gate`."""
        return [(name.replace(".", "/"), parameter) for name, parameter in self.named_parameters()]


class Tally:
    """Sums for the auxiliary losses, over the segments of a batch of sequences."""

    def __init__(self, c: ModelConfiguration, B: int):
        self.c = c
        self.smooth: Tensor | float = 0.0
        self.z: Tensor | float = 0.0
        self.count_KBE = torch.zeros(c.steps, B, c.experts, dtype=torch.long)
        self.P_sum: list[Tensor | float] = [0.0] * c.steps  # each BE: sum over tokens of softmax l

    def count_routes(self, t: int, l_BTE: Tensor, expert_BTA: Tensor) -> None:
        self.z = self.z + l_BTE.logsumexp(-1).square().sum()
        self.P_sum[t] = self.P_sum[t] + l_BTE.softmax(-1).sum(1)
        self.count_KBE[t] += F.one_hot(expert_BTA, self.c.experts).sum((1, 2))

    def losses(self, task: Tensor, tokens: int) -> Losses:
        """The means of docs/model.md. All sequences have one length, so their weights in L_balance are equal."""
        c, K = self.c, self.c.steps
        length = tokens // self.count_KBE.shape[1]
        f_KBE = self.count_KBE.to(task.dtype) / (min(c.active_experts, c.experts) * length)
        P_KBE = torch.stack(self.P_sum) / length
        balance = c.experts * (f_KBE * P_KBE).sum(-1).mean()
        smooth = self.smooth / (tokens * (K - 1)) if K > 1 else task.new_zeros(())
        z = self.z / (tokens * K)
        total = task + c.smooth_weight * smooth + c.balance_weight * balance + c.router_z_weight * z
        return Losses(total, task, smooth, balance, z)
