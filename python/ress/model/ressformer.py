"""ReSSFormer's causal language model in PyTorch: the only definition of the model outside of the Swift code, and the peer that checks it.

It follows docs/model.md line by line, and prefers the plain form of every equation (dense masks, a whole sequence in one autograd
graph) to a fast one, so that it can be read as the reference. The values that Swift tests compare with are computed here, in float64
(Benchmarks/pytorch/save_golden.py).

Letters at the end of a name are its shape:
  B sequences    L targets a sequence    T tokens of this segment    C cached tokens    J = C + T tokens in sight
  M memory slots    U kinds of relations    D width    N heads    H = D / N head width    R structure rank    O = J + M attention options
  E experts    A experts a token reaches    F expert width    V vocabulary    K steps    w rows of taps
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
    """Sizes and loss weights, with the names of Sources/Base/Configuration/RunConfiguration.swift in snake case.

    Every part that was added to the first form of the model is off by default; RECIPE has the program's defaults.
    """

    width: int = 128
    heads: int = 4
    steps: int = 4
    segment: int = 256
    memory_slots: int = 16
    cache: int = 128
    window: int = 16
    structure_rank: int = 16
    graph_degree: int = 32
    relation_kinds: int = 0
    relation_start: float = 2.0
    keys: int | None = 16
    activation: str = "sparsemax"  # or entmax15, softmax
    forget_gates: bool = False
    score_scale: str = "fixed"  # or learned
    recency_taps: int = 4  # before attention; 1: none
    expert_taps: int = 1  # before the router and the experts
    two_sided_taps: bool = False  # not read by a causal model
    tap_start: float = 0.02
    embedding_start: float = 0.02
    embedding_norm: bool = True
    experts: int = 8
    active_experts: int = 2
    expert_width: int = 256
    gates: str = "softmax"  # or sigmoid
    router_start: float = 0.02
    shared_expert: bool = False
    shared_width: int | None = None  # None: expert_width
    shared_each_step: bool = False
    vocabulary: int = 257
    smooth_weight: float = 1e-2
    balance_weight: float = 1e-3
    router_z_weight: float = 1e-4
    balancer_rate: float = 1e-3

    as_dict = asdict

    @property
    def width_of_shared(self) -> int:
        return self.expert_width if self.shared_width is None else self.shared_width

    @property
    def both_ways(self) -> bool:
        """Whether taps look ahead as well; variants.py has the models that see later tokens."""
        return False


# The program's defaults, where they differ from the first form of the model.
RECIPE = dict(
    activation="softmax", forget_gates=True, score_scale="learned", recency_taps=4, expert_taps=4, two_sided_taps=True,
    tap_start=0.6, embedding_start=0.1, embedding_norm=True, gates="sigmoid", router_start=0.1, shared_expert=True,
    shared_each_step=True)


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
    losses: Losses | None  # None without targets
    loads_E: Tensor  # (token, slot) assignments to each expert, over the batch and all steps
    memory_BMD: Tensor  # after the last segment


@dataclass
class Trace:
    """Records of a forward pass, for tests: how close its decisions were, and values inside a segment.

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

    Callers order the candidates so that the earlier index must win a tie. -inf marks an entry that is not a candidate; it
    comes last, so a row with fewer candidates than `count` is filled up with such entries.
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


def chosen_related_first(scores: Tensor, related: Tensor, count: int, kind: str, trace: Trace | None) -> Tensor:
    """As `chosen`, but every candidate of the mask `related` comes before all others."""
    mask = chosen(scores.masked_fill(~related, NEVER), count, kind, trace)
    places = count - mask.sum(-1)
    others = scores.masked_fill(related, NEVER)
    for left in places.unique().tolist():
        rows = places == left
        mask[rows] |= chosen(others[rows], left, kind, trace)
    return mask


def sparsemax(z: Tensor, trace: Trace | None = None) -> Tensor:
    """The Euclidean projection of z on the simplex (arXiv 1602.02068), over the last dimension, in descending order.

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


def entmax15(z: Tensor) -> Tensor:
    """max(z/2 − τ, 0)² with the τ that makes the result sum to one, over the last dimension, sorted falling (arXiv 1905.05702)."""
    # A refused option is far below any threshold; a finite value keeps its gradient finite.
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


def activated(z: Tensor, activation: str, trace: Trace | None = None) -> Tensor:
    """Weights that add up to one, for scores in descending order along the last dimension."""
    if activation == "sparsemax":
        return sparsemax(z, trace)
    return entmax15(z) if activation == "entmax15" else z.softmax(-1)


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

    def forward(
        self, query_BTR: Tensor, key_BJR: Tensor, trace: Trace | None, relation_BTJU: Tensor | None = None,
        bias_U: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """log A over each token's neighbours (0 elsewhere) and the mask of neighbours, both BTJ."""
        T, J = query_BTR.shape[1], key_BJR.shape[1]
        # Cached tokens are first in J, so a larger j is always a more recent token.
        i_T1, j_J = torch.arange(J - T, J)[:, None], torch.arange(J)
        window_TJ, beyond_TJ = self.sight(i_T1, j_J)

        edge_BTJ = query_BTR @ key_BJR.mT / math.sqrt(query_BTR.shape[-1])
        degree = J if self.degree is None else self.degree
        if relation_BTJU is None:
            added_BTJ = chosen(edge_BTJ.masked_fill(~beyond_TJ, NEVER), degree, "graph", trace)
        else:
            edge_BTJ = edge_BTJ + relation_BTJU.to(edge_BTJ.dtype) @ bias_U
            related_BTJ = relation_BTJU.any(-1) & beyond_TJ
            added_BTJ = chosen_related_first(edge_BTJ.masked_fill(~beyond_TJ, NEVER), related_BTJ, degree, "graph", trace)
        neighbour_BTJ = window_TJ | added_BTJ
        logA_BTJ = edge_BTJ.masked_fill(~neighbour_BTJ, NEVER).log_softmax(-1)
        return logA_BTJ.masked_fill(~neighbour_BTJ, 0), neighbour_BTJ

    def sight(self, i_T1: Tensor, j_J: Tensor) -> tuple[Tensor, Tensor]:
        """The window of each token, and the tokens that it may choose beyond."""
        return (j_J <= i_T1) & (j_J > i_T1 - self.window), j_J <= i_T1 - self.window


# ---------------------------------------------------------------------------------------------------------
# ASAM: sparse attention along the graph and over the memory, and the experts


class ForgetGates(nn.Module):
    """How much of a score outlives each token: f = log σ(X forgetᵀ + bias), a term a token and head, never above 0."""

    def __init__(self, c: ModelConfiguration):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c.heads, c.width) * 0.02)
        place = torch.arange(c.heads) / (c.heads - 1) if c.heads > 1 else torch.tensor([0.5])
        self.bias = nn.Parameter((3 * 64**place).log())

    def forward(self, X_BTD: Tensor) -> Tensor:
        return F.logsigmoid(X_BTD @ self.weight.T + self.bias)  # BTN


def decay(term_BJN: Tensor, T: int, causal: bool) -> Tensor:
    """The decay of the scores of the last T tokens for all J, BNTJ: the sum of the terms of the tokens after j up to i.

    Where later tokens are in sight, the sum of those after i up to j for j > i. Causal scores for j > i are not read.
    """
    sum_BNJ = term_BJN.cumsum(1).transpose(1, 2)
    difference_BNTJ = sum_BNJ[..., -T:, None] - sum_BNJ[..., None, :]
    return difference_BNTJ if causal else -difference_BNTJ.abs()


class SparseAttention(nn.Module):
    def __init__(self, c: ModelConfiguration):
        super().__init__()
        self.heads, self.keys, self.activation = c.heads, c.keys, c.activation
        wide = c.width**-0.5
        self.query, self.key, self.value = (Map(c.width, c.width, wide) for _ in range(3))
        self.output = Map(c.width, c.width, wide / math.sqrt(2 * c.steps))
        self.structure_gain = nn.Parameter(torch.ones(c.heads))
        self.memory_bias = nn.Parameter(torch.zeros(c.heads))
        self.temperature = nn.Parameter(torch.full((c.heads,), math.log(0.5))) if c.score_scale == "learned" else None
        self.forget = ForgetGates(c) if c.forget_gates else None

    def split(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # BNTH

    def forward(
        self, query_BTD: Tensor, key_BOD: Tensor, value_BOD: Tensor, logA_BTJ: Tensor, neighbour_BTJ: Tensor,
        decay_BNTJ: Tensor | None, trace: Trace | None,
    ) -> Tensor:
        """Options are the J tokens in sight, then the M memory slots. Slots have no decay."""
        query_BNTH, key_BNOH, value_BNOH = self.split(query_BTD), self.split(key_BOD), self.split(value_BOD)
        J = logA_BTJ.shape[-1]
        z_BNTO = query_BNTH @ key_BNOH.mT / math.sqrt(query_BNTH.shape[-1])
        size_BT1 = neighbour_BTJ.sum(-1, keepdim=True).to(z_BNTO.dtype)
        structure_BTJ = logA_BTJ + size_BT1.log()
        token_BNTJ = z_BNTO[..., :J] + self.structure_gain[:, None, None] * structure_BTJ[:, None]
        slot_BNTM = z_BNTO[..., J:] + self.memory_bias[:, None, None]
        if self.temperature is not None:
            scale_N11 = self.temperature.exp()[:, None, None]
            token_BNTJ, slot_BNTM = scale_N11 * token_BNTJ, scale_N11 * slot_BNTM
        if decay_BNTJ is not None:
            token_BNTJ = token_BNTJ + decay_BNTJ
        token_BNTJ = token_BNTJ.masked_fill(~neighbour_BTJ[:, None], NEVER)

        # The order of preference among equal scores: recent tokens, older tokens, then slots from
        # the first.
        ordered_BNTO = torch.cat([token_BNTJ.flip(-1), slot_BNTM], -1)
        order_BNTk = largest(ordered_BNTO, self.keys or ordered_BNTO.shape[-1], "keys", trace)
        p_BNTk = activated(ordered_BNTO.gather(-1, order_BNTk), self.activation, trace)
        p_BNTO = torch.zeros_like(ordered_BNTO).scatter(-1, order_BNTk, p_BNTk)
        p_BNTO = torch.cat([p_BNTO[..., :J].flip(-1), p_BNTO[..., J:]], -1)
        return self.output((p_BNTO @ value_BNOH).transpose(1, 2).flatten(-2))


class Router(nn.Module):
    def __init__(self, c: ModelConfiguration):
        super().__init__()
        self.active, self.gates = c.active_experts, c.gates
        self.weight = nn.Parameter(torch.randn(c.experts, c.width) * c.router_start)
        self.bias = nn.Parameter(torch.zeros(c.experts), requires_grad=False)  # moved by the balancer alone

    def forward(self, y_BTD: Tensor, trace: Trace | None) -> tuple[Tensor, Tensor, Tensor]:
        """l (BTE), the experts of each token and their weights (both BTA)."""
        l_BTE = y_BTD @ self.weight.T
        expert_BTA = largest(l_BTE + self.bias, self.active, "experts", trace)
        return l_BTE, expert_BTA, opened(l_BTE.gather(-1, expert_BTA), self.gates)


def opened(l_BTA: Tensor, gates: str) -> Tensor:
    """The weights of the chosen experts: shares of one, or each its own, whatever their sum."""
    return l_BTA.softmax(-1) if gates == "softmax" else l_BTA.sigmoid()


class Expert(nn.Module):
    """(silu(y gateᵀ) ⊙ (y upᵀ)) downᵀ"""

    def __init__(self, c: ModelConfiguration, inner: int | None = None):
        super().__init__()
        f = c.expert_width if inner is None else inner
        self.gate = nn.Parameter(torch.randn(f, c.width) * c.width**-0.5)
        self.up = nn.Parameter(torch.randn(f, c.width) * c.width**-0.5)
        self.down = nn.Parameter(torch.randn(c.width, f) * (2 * c.steps * f) ** -0.5)

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
    """What one step passes on to the next segment, oldest token first. No gradient flows through it."""

    key_BCD: Tensor
    value_BCD: Tensor
    structure_BCR: Tensor
    term_BCN: Tensor  # of the forget gates; without them no heads wide
    row_BwD: Tensor  # the last w − 1 rows of X before the taps
    expert_row_BwD: Tensor  # the last w' − 1 rows of Y before the taps

    def after(
        self, c: ModelConfiguration, key_BJD: Tensor, value_BJD: Tensor, structure_BJR: Tensor, term_BJN: Tensor,
        row_BTD: Tensor, expert_row_BTD: Tensor,
    ) -> "StepCache":
        """The cache after the current segment, from all visible keys and values and the segment's own rows."""
        sight = (last_rows(x, c.cache).detach() for x in (key_BJD, value_BJD, structure_BJR, term_BJN))
        return StepCache(
            *sight, last_rows(torch.cat([self.row_BwD, row_BTD], 1), c.recency_taps - 1).detach(),
            last_rows(torch.cat([self.expert_row_BwD, expert_row_BTD], 1), c.expert_taps - 1).detach())


def tapped(taps: "Table | None", row_BTD: Tensor, cached_BwD: Tensor, both_ways: bool = False) -> Tensor:
    """X + Σ_τ taps[τ−1] ⊙ X shifted τ tokens back; before the sequence there is 0.

    With both ways the second half of the rows is for X shifted τ tokens ahead; beyond the segment there is 0.
    """
    if taps is None:
        return row_BTD
    T = row_BTD.shape[1]
    reach = len(taps.weight) // 2 if both_ways else len(taps.weight)
    padded = F.pad(torch.cat([cached_BwD, row_BTD], 1), (0, 0, reach - cached_BwD.shape[1], reach))
    X_BTD = row_BTD
    for tau in range(1, reach + 1):
        X_BTD = X_BTD + taps.weight[tau - 1] * padded[:, reach - tau : reach - tau + T]
        if both_ways:
            X_BTD = X_BTD + taps.weight[reach + tau - 1] * padded[:, reach + tau : reach + tau + T]
    return X_BTD


def seen_of(relation_BLLU: Tensor | None, start: int, T: int, cache: int) -> Tensor | None:
    """The relations of a segment's tokens to the tokens in sight, those of the cache first."""
    return None if relation_BLLU is None else relation_BLLU[:, start : start + T, max(0, start - cache) : start + T]


def taps_of(c: ModelConfiguration, taps: int) -> "Table":
    """taps − 1 rows for each way that they look."""
    return Table("weight", (taps - 1) * (2 if c.both_ways else 1), c.width, deviation=c.tap_start)


# ---------------------------------------------------------------------------------------------------------
# The model


class ReSSFormer(nn.Module):
    is_causal = True

    def __init__(self, configuration: ModelConfiguration):
        super().__init__()
        c = self.configuration = configuration
        self.embed = Map(c.vocabulary, c.width, c.embedding_start)
        self.embed_norm, self.attn_norm, self.moe_norm = Norm(c.width), Norm(c.width), Norm(c.width)
        self.pool_norm, self.memory_norm, self.final_norm = Norm(c.width), Norm(c.width), Norm(c.width)
        self.step = Table("embedding", c.steps, c.width)
        self.recency = taps_of(c, c.recency_taps)
        self.soes = TokenGraph(c)
        self.attn = SparseAttention(c)
        self.expert_recency = taps_of(c, c.expert_taps) if c.expert_taps > 1 else None
        self.router = Router(c)
        self.experts = nn.ModuleDict({f"{index:04d}": Expert(c) for index in range(c.experts)})
        self.add_shared_experts()
        self.memory = Memory(c)
        self.add_relations()

    def add_relations(self) -> None:
        """A bias for each kind of relation and step."""
        c = self.configuration
        self.relation = Table("bias", c.steps, c.relation_kinds) if c.relation_kinds else None
        if self.relation is not None:
            nn.init.constant_(self.relation.bias, c.relation_start)

    def add_shared_experts(self) -> None:
        """One expert that every token reaches at every step, or one for each step."""
        c = self.configuration
        own = c.shared_expert and c.shared_each_step
        self.shared_expert = Expert(c, c.width_of_shared) if c.shared_expert and not own else None
        self.own_expert = nn.ModuleDict(
            {f"{t:04d}": Expert(c, c.width_of_shared) for t in range(c.steps)}) if own else None

    def forward(
        self, input_BL: Tensor, target_BL: Tensor, bptt_segments: int | None = None, trace: Trace | None = None,
        relation_BLLU: Tensor | None = None,
    ) -> Output:
        """Logits and losses of whole sequences. A target of −1 is no target: the token counts everywhere else.

        `relation_BLLU[b, i, j, u]` is whether token j is related to token i in the way u; docs/model.md, "Relations".
        """
        c = self.configuration
        B, L = input_BL.shape[:2]
        S_BMD = self.memory.initial.expand(B, -1, -1)
        caches = [self.empty_cache(B) for _ in range(c.steps)]
        tally = Tally(c, B)
        logits = []
        for index, x_BT in enumerate(input_BL.split(c.segment, dim=1)):
            if bptt_segments is not None and index > 0 and index % bptt_segments == 0:
                S_BMD = S_BMD.detach()
            relation_BTJU = seen_of(relation_BLLU, index * c.segment, x_BT.shape[1], c.cache)
            H_BTD, S_BMD, caches = self.run_segment(x_BT, S_BMD, caches, tally, trace, relation_BTJU)
            logits.append(self.final_norm(H_BTD) @ self.embed.weight.T)
        logits_BLV = torch.cat(logits, 1)
        task = F.cross_entropy(logits_BLV.flatten(0, 1), target_BL.flatten(), ignore_index=-1)
        return Output(logits_BLV, tally.losses(task, tokens=B * L), tally.count_KBE.sum((0, 1)), S_BMD)

    def run_segment(
        self, x_BT: Tensor, S_BMD: Tensor, caches: list[StepCache], tally: "Tally", trace: Trace | None,
        relation_BTJU: Tensor | None,
    ) -> tuple[Tensor, Tensor, list[StepCache]]:
        """All K steps of one segment: H, the memory it leaves and the caches it leaves."""
        readS_BMD = self.memory_norm(S_BMD)  # every step reads the memory as it was at the segment's start
        H_BTD = self.embedded(x_BT)
        A_BTJ, left, hidden, graph = None, [], [], []
        for t in range(self.configuration.steps):
            before_BTJ = A_BTJ
            H_BTD, A_BTJ, cache = self.run_step(t, self, H_BTD, readS_BMD, caches[t], tally, trace, relation_BTJU)
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

    def embedded(self, x_BT: Tensor) -> Tensor:
        e_BTD = self.token_vectors(x_BT)
        return self.embed_norm(e_BTD) if self.configuration.embedding_norm else e_BTD

    def token_vectors(self, x_BT: Tensor) -> Tensor:
        """A token's row of the table. A bag, BTn, has n features a token, of which those below 0 are absent: the sum of their rows."""
        if x_BT.dim() == 2:
            return self.embed.weight[x_BT]
        return (self.embed.weight[x_BT.clamp_min(0)] * (x_BT >= 0)[..., None]).sum(2)

    def run_step(
        self, t: int, parts: nn.Module, H_BTD: Tensor, readS_BMD: Tensor, cache: StepCache, tally: "Tally",
        trace: Trace | None, relation_BTJU: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, StepCache]:
        """`parts` has the block's weights: the model itself, or a block of its own in variants.py."""
        c, attn = self.configuration, parts.attn
        row_BTD = parts.attn_norm(H_BTD + self.step.embedding[min(t, c.steps - 1)])
        X_BTD = tapped(parts.recency, row_BTD, cache.row_BwD, c.both_ways)
        # SOES: the token graph
        structure_BJR = torch.cat([cache.structure_BCR, parts.soes.key(X_BTD)], 1)
        bias_U = None if self.relation is None else self.relation.bias[min(t, c.steps - 1)]
        logA_BTJ, neighbour_BTJ = parts.soes(
            parts.soes.query(X_BTD), structure_BJR, trace, None if bias_U is None else relation_BTJU, bias_U)
        # ASAM: sparse attention along the graph, and over the memory
        key_BJD = torch.cat([cache.key_BCD, attn.key(X_BTD)], 1)
        value_BJD = torch.cat([cache.value_BCD, attn.value(X_BTD)], 1)
        key_BOD = torch.cat([key_BJD, attn.key(readS_BMD)], 1)
        value_BOD = torch.cat([value_BJD, attn.value(readS_BMD)], 1)
        term_BJN, decay_BNTJ = cache.term_BCN, None
        if attn.forget is not None:
            term_BJN = torch.cat([cache.term_BCN, attn.forget(X_BTD)], 1)
            decay_BNTJ = decay(term_BJN, X_BTD.shape[1], self.is_causal)
        G_BTD = H_BTD + attn(attn.query(X_BTD), key_BOD, value_BOD, logA_BTJ, neighbour_BTJ, decay_BNTJ, trace)
        # ASAM: experts
        expert_row_BTD = parts.moe_norm(G_BTD)
        Y_BTD = tapped(parts.expert_recency, expert_row_BTD, cache.expert_row_BwD, c.both_ways)
        H_BTD = G_BTD + self.feed(t, parts, Y_BTD, tally, trace)

        left = cache.after(c, key_BJD, value_BJD, structure_BJR, term_BJN, row_BTD, expert_row_BTD)
        return H_BTD, torch.where(neighbour_BTJ, logA_BTJ.exp(), 0), left

    def feed(self, t: int, parts: nn.Module, Y_BTD: Tensor, tally: "Tally", trace: Trace | None) -> Tensor:
        """The experts' output for Y. Dropless: every expert computes all tokens that chose it."""
        l_BTE, expert_BTA, u_BTA = parts.router(Y_BTD, trace)
        tally.count_routes(t, l_BTE, expert_BTA)
        Y_nD = Y_BTD.flatten(0, 1)
        mixed_nD = torch.zeros_like(Y_nD)
        for index, expert in enumerate(self.experts_of(t)):
            token, slot = (expert_BTA.flatten(0, 1) == index).nonzero(as_tuple=True)
            weight = u_BTA.flatten(0, 1)[token, slot, None]
            mixed_nD = mixed_nD.index_add(0, token, weight * expert(Y_nD[token]))
        if (shared := self.shared_of(t, parts)) is not None:
            mixed_nD = mixed_nD + shared(Y_nD)
        return mixed_nD.view_as(Y_BTD)

    def experts_of(self, t: int) -> list[Expert]:
        return list(self.experts.values())

    def shared_of(self, t: int, parts: nn.Module) -> Expert | None:
        """The expert of every token at step t; steps beyond those trained have the last one's."""
        if self.own_expert is not None:
            return self.own_expert[f"{min(t, len(self.own_expert) - 1):04d}"]
        return parts.shared_expert

    def empty_cache(self, B: int) -> StepCache:
        c, like = self.configuration, self.embed.weight
        D, R, N = c.width, c.structure_rank, c.heads if c.forget_gates else 0
        return StepCache(*(like.new_zeros(B, 0, width) for width in (D, D, R, N, D, D)))

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
