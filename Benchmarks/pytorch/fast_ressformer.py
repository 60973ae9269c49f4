"""ReSSFormer's causal language model in PyTorch, optimised for speed: the program that the Swift trainer is compared with.

The mathematics and the parameters are those of ressformer.py, whose state dicts can be loaded. The sparse attention has three forms,
because it depends on the shape which of them is fastest:
  masked    dense scores of every option, everything except the neighbours masked, top-k over all options, dense p @ value
  picked    dense scores, of which only those of the neighbours are used; dense p @ value
  gathered  only the graph's scores are dense: scores and sums along rows of indices, with the kernels of embedding_bag
What does not depend on the segment is computed once per pass (joined weights, pool_query · pool_key); what does not depend on the
step, once per segment (the memory's keys and values). Of equal scores, either may be chosen.

Under torch.autocast linear maps and products of matrices are bf16, and softmax, norms and losses fp32. scatter and embedding_bag want one
type for all that they read, and autocast does not change theirs, so their casts are written out; without autocast they do nothing.

With `compiled`, the parts whose sizes are fixed go through torch.compile, and experts too, with a dynamic number of tokens.

    python fast_ressformer.py      # compares losses and gradients with ressformer.py in float64

Shape suffixes are those of ressformer.py, and
  n tokens of all sequences, B · T    Q neighbours a token, window + graph_degree    P places that taps reach back
  k keys kept    X joined output width of the projections, 3 D + 2 R, and N where there are forget gates
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

import package  # noqa: F401  python/ on the path
from ress.model.ressformer import NEVER, NORM_EPSILON, RECIPE, Losses, ModelConfiguration, ReSSFormer, Table, last_rows, opened

FORMS = ("masked", "picked", "gathered")


def norm(x: Tensor, weight: Tensor) -> Tensor:
    return F.rms_norm(x, weight.shape, weight, NORM_EPSILON)


class Sparsemax(Function):
    """Over the last dimension, which must be in descending order, as torch.topk returns it. -inf gets 0."""

    @staticmethod
    def forward(ctx, z: Tensor) -> Tensor:
        sums = z.cumsum(-1)
        support = 1 + torch.arange(1, z.shape[-1] + 1, dtype=z.dtype) * z > sums
        size = support.sum(-1, keepdim=True)
        threshold = (sums.gather(-1, size - 1) - 1) / size
        ctx.save_for_backward(support, size)
        return (z - threshold).clamp_min(0)

    @staticmethod
    def backward(ctx, dp: Tensor) -> Tensor:
        support, size = ctx.saved_tensors
        dp = dp * support
        return (dp - dp.sum(-1, keepdim=True) / size) * support


class PickedScores(Function):
    """query_rH · key_sH[index_rQ]: rQ. The forward is a kernel that embedding_bag keeps for its own backward."""

    @staticmethod
    def forward(ctx, query_rH: Tensor, key_sH: Tensor, index_rQ: Tensor) -> Tensor:
        r, Q = index_rQ.shape
        index, row = index_rQ.flatten(), torch.arange(r).repeat_interleave(Q)
        ctx.save_for_backward(query_rH, key_sH, index, row)
        score = torch.ops.aten._embedding_bag_per_sample_weights_backward(
            query_rH, key_sH, index, torch.arange(0, r * Q, Q), row, 0)
        return score.view(r, Q)

    @staticmethod
    def backward(ctx, dscore_rQ: Tensor) -> tuple[Tensor, Tensor, None]:
        query_rH, key_sH, index, row = ctx.saved_tensors
        r, Q = dscore_rQ.shape
        dscore_rQ = dscore_rQ.contiguous()
        dquery_rH = F.embedding_bag(index.view(r, Q), key_sH, per_sample_weights=dscore_rQ, mode="sum")
        dkey_sH = torch.ops.aten._embedding_bag_dense_backward(
            query_rH, index, row, row.new_full((r,), Q), row.new_zeros(r), key_sH.shape[0], False, 0, dscore_rQ.view(-1), -1)
        return dquery_rH, dkey_sH, None


class GraphChange(Function):
    """Σ (A − A before)² over the union of the neighbours, where an index that repeats has weight 0 but once."""

    @staticmethod
    def forward(ctx, A_BTQ: Tensor, index_BTQ: Tensor, before_BTQ: Tensor, index_before_BTQ: Tensor, J: int) -> Tensor:
        change_BTJ = A_BTQ.new_zeros(*A_BTQ.shape[:2], J)
        change_BTJ.scatter_add_(-1, index_BTQ, A_BTQ).scatter_add_(-1, index_before_BTQ, -before_BTQ)
        ctx.save_for_backward(change_BTJ.gather(-1, index_BTQ), change_BTJ.gather(-1, index_before_BTQ))
        return torch.dot(change_BTJ.view(-1), change_BTJ.view(-1))

    @staticmethod
    def backward(ctx, d: Tensor) -> tuple[Tensor, None, Tensor, None, None]:
        change_BTQ, change_before_BTQ = ctx.saved_tensors
        return 2 * d * change_BTQ, None, -2 * d * change_before_BTQ, None, None


@dataclass
class Sight:
    """The tokens that a segment's tokens see, by their index in J: the same for all steps."""

    window_TW: Tensor  # indices; an index before the first token is 0, and invalid
    window_valid_TW: Tensor
    window_mask_TJ: Tensor
    refused_TJ: Tensor  # 0 where the graph may choose, older than the window; −inf elsewhere
    log_size_T1: Tensor  # log |N_i|

    @staticmethod
    def of(c: ModelConfiguration, T: int, C: int, dtype: torch.dtype) -> "Sight":
        i_T1, j_J = torch.arange(C, C + T)[:, None], torch.arange(C + T)
        window_TW = i_T1 - torch.arange(c.window)
        return Sight(
            window_TW.clamp_min(0), window_TW >= 0, (j_J <= i_T1) & (j_J > i_T1 - c.window),
            torch.zeros(T, C + T, dtype=dtype).masked_fill(j_J > i_T1 - c.window, NEVER),
            (i_T1 + 1).clamp_max(c.window + c.graph_degree).to(dtype).log())


@dataclass
class Weights:
    """What is computed from the parameters once per pass over a sequence."""

    project_XD: Tensor  # attn query (over √H, times the head's scale), key, value, soes query (over √R), key, forget gates
    gate_up: list[Tensor]  # of each expert, 2F × D
    pool_query_MD: Tensor  # pool_query · pool_key / √D


@dataclass
class Cache:
    """What a step passes on to the next segment, oldest token first. No gradient flows through it."""

    key_BCD: Tensor
    value_BCD: Tensor
    structure_BCR: Tensor
    term_BCN: Tensor  # of the forget gates; without them no heads wide
    row_BPD: Tensor
    expert_row_BPD: Tensor


def tapped(taps: Table | None, rows_BjD: Tensor, T: int) -> Tensor:
    """The last T rows, each plus the rows before it times the taps."""
    if taps is None:
        return rows_BjD
    P = rows_BjD.shape[1] - T
    X_BTD = rows_BjD[:, P:]
    for tau in range(1, P + 1):
        X_BTD = torch.addcmul(X_BTD, taps.weight[tau - 1], rows_BjD[:, P - tau : P - tau + T])
    return X_BTD


class FastReSSFormer(ReSSFormer):
    def __init__(self, configuration: ModelConfiguration, form: str = "gathered", compiled: bool = False):
        super().__init__(configuration)
        assert form in FORMS, f"no form is called {form!r}"
        assert configuration.activation in ("sparsemax", "softmax"), "written for sparsemax and softmax"
        self.form = form
        self.sights: dict[tuple[int, int], Sight] = {}
        if compiled:
            fixed, free = dict(dynamic=False, fullgraph=True), dict(dynamic=True, fullgraph=True)
            self.attend = torch.compile(self.attend, **fixed)
            self.write_memory = torch.compile(self.write_memory, **fixed)
            self.task_loss = torch.compile(self.task_loss, **fixed)
            self.run_expert = torch.compile(self.run_expert, **free)

    def forward(self, input_BL: Tensor, target_BL: Tensor) -> tuple[Losses, Tensor]:
        """Losses, and the assignments to each expert over the batch and all steps."""
        c = self.configuration
        B, L = input_BL.shape
        weights = self.join_weights()
        S_BMD = self.memory.initial.expand(B, -1, -1)
        caches = [self.empty_cache(B) for _ in range(c.steps)]
        task = smooth = z = 0.0
        P_sum, counts = [0.0] * c.steps, [0] * c.steps
        for x_BT, target_BT in zip(input_BL.split(c.segment, 1), target_BL.split(c.segment, 1)):
            T, C = x_BT.shape[1], caches[0].key_BCD.shape[1]
            sight = self.sight(T, C)
            slotkey_BMD, slotvalue_BMD = F.linear(
                norm(S_BMD, self.memory_norm.weight), weights.project_XD[c.width : 3 * c.width]).split(c.width, -1)
            H_BTD = F.embedding(x_BT, self.embed.weight)
            if c.embedding_norm:
                H_BTD = norm(H_BTD, self.embed_norm.weight)
            graph = None
            for t in range(c.steps):
                before = graph
                G_BTD, Y_BTD, l_BTE, expert_BTA, graph, routes, caches[t] = self.attend(
                    H_BTD, self.step.embedding[t], weights.project_XD, slotkey_BMD, slotvalue_BMD, caches[t], sight)
                # Not in attend: there the compiler of torch 2.13 computes wrong gradients of the
                # softmax.
                u_BTA = opened(l_BTE.gather(-1, expert_BTA), c.gates)
                H_BTD = G_BTD + self.mix_experts(t, Y_BTD, expert_BTA, u_BTA, weights)
                if before is not None:
                    smooth = smooth + self.graph_change(graph, before, C + T)
                if c.memory_slots > 0:
                    S_BMD = self.write_memory(S_BMD, H_BTD, weights.pool_query_MD)
                z, P_sum[t], counts[t] = z + routes[0], P_sum[t] + routes[1], counts[t] + routes[2]
            task = task + self.task_loss(H_BTD, target_BT)
        task = task / (target_BL >= 0).sum()
        return self.sum_losses(task, smooth, z, torch.stack(P_sum), torch.stack(counts), B, L)

    def sum_losses(
        self, task: Tensor, smooth: Tensor | float, z: Tensor, P_KBE: Tensor, count_KBE: Tensor, B: int, L: int
    ) -> tuple[Losses, Tensor]:
        c = self.configuration
        f_KBE = count_KBE.to(task.dtype) / (min(c.active_experts, c.experts) * L)
        balance = c.experts * (f_KBE * P_KBE / L).sum(-1).mean()
        smooth = smooth / (B * L * (c.steps - 1)) if c.steps > 1 else task.new_zeros(())
        z = z / (B * L * c.steps)
        total = task + c.smooth_weight * smooth + c.balance_weight * balance + c.router_z_weight * z
        return Losses(total, task, smooth, balance, z), count_KBE.sum((0, 1))

    def join_weights(self) -> Weights:
        c, a, s, m = self.configuration, self.attn, self.soes, self.memory
        query_NHD = a.query.weight.unflatten(0, (c.heads, -1)) / math.sqrt(c.width // c.heads)
        project_XD = torch.cat([
            self.scaled(query_NHD).flatten(0, 1), a.key.weight, a.value.weight,
            s.query.weight / math.sqrt(c.structure_rank), s.key.weight, *([a.forget.weight] if a.forget is not None else [])])
        gate_up = [torch.cat([expert.gate, expert.up]) for expert in self.experts.values()]
        return Weights(project_XD, gate_up, m.pool_query @ m.pool_key.weight / math.sqrt(c.width))

    def scaled(self, x_N11: Tensor) -> Tensor:
        """Multiplies by each head's factor of its scores."""
        return x_N11 if self.attn.temperature is None else x_N11 * self.attn.temperature.exp()[:, None, None]

    def slot_bias(self) -> Tensor:
        return self.scaled(self.attn.memory_bias[:, None, None])

    # -----------------------------------------------------------------------------------------------------
    # The graph and the attention, up to the choice of experts

    def attend(
        self, H_BTD: Tensor, step_D: Tensor, project_XD: Tensor, slotkey_BMD: Tensor, slotvalue_BMD: Tensor, cache: Cache,
        sight: Sight,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, tuple[Tensor, Tensor], tuple[Tensor, Tensor, Tensor], Cache]:
        """G, moe_norm of G, the router's l and each token's experts, the graph, sums over the routes, the cache."""
        c, D, R = self.configuration, self.configuration.width, self.configuration.structure_rank
        N = self.configuration.heads if self.attn.forget is not None else 0
        rows_BjD = torch.cat([cache.row_BPD, norm(H_BTD + step_D, self.attn_norm.weight)], 1)
        T = H_BTD.shape[1]
        X_BTD = tapped(self.recency, rows_BjD, T)

        query_BTD, key_BTD, value_BTD, a_BTR, b_BTR, forget_BTN = F.linear(X_BTD, project_XD).split([D, D, D, R, R, N], -1)
        b_BJR = torch.cat([cache.structure_BCR.to(b_BTR.dtype), b_BTR], 1)
        key_BOD = torch.cat([cache.key_BCD.to(key_BTD.dtype), key_BTD, slotkey_BMD], 1)
        value_BOD = torch.cat([cache.value_BCD.to(value_BTD.dtype), value_BTD, slotvalue_BMD], 1)
        J = b_BJR.shape[1]
        term_BJN = cache.term_BCN
        if N > 0:
            term_BJN = torch.cat([term_BJN, F.logsigmoid(forget_BTN + self.attn.forget.bias)], 1)
        sum_BNJ = term_BJN.cumsum(1).mT  # what is forgotten up to each token; two of them differ by what lies between

        if self.form == "masked":
            graph, out_BTD = self.attend_masked(query_BTD, key_BOD, value_BOD, a_BTR, b_BJR, sum_BNJ, sight)
        else:
            index_BTQ, logA_BTQ = self.choose(a_BTR, b_BJR, sight)
            graph = (logA_BTQ.exp(), index_BTQ)
            attend = self.attend_picked if self.form == "picked" else self.attend_gathered
            out_BTD = attend(query_BTD, key_BOD, value_BOD, index_BTQ, logA_BTQ, sum_BNJ, sight)

        G_BTD = H_BTD + F.linear(out_BTD, self.attn.output.weight)
        expert_rows_BjD = torch.cat([cache.expert_row_BPD, norm(G_BTD, self.moe_norm.weight)], 1)
        Y_BTD = tapped(self.expert_recency, expert_rows_BjD, T)
        left = Cache(
            last_rows(key_BOD[:, :J], c.cache).detach(), last_rows(value_BOD[:, :J], c.cache).detach(),
            last_rows(b_BJR, c.cache).detach(), last_rows(term_BJN, c.cache).detach(),
            last_rows(rows_BjD, c.recency_taps - 1).detach(), last_rows(expert_rows_BjD, c.expert_taps - 1).detach())
        l_BTE = F.linear(Y_BTD, self.router.weight)
        expert_BTA = (l_BTE.detach() + self.router.bias).topk(min(c.active_experts, c.experts)).indices
        routes = (
            l_BTE.logsumexp(-1).square().sum(), l_BTE.softmax(-1).sum(1), F.one_hot(expert_BTA, c.experts).sum((1, 2)))
        return G_BTD, Y_BTD, l_BTE, expert_BTA, graph, routes, left

    def choose(self, a_BTR: Tensor, b_BJR: Tensor, sight: Sight) -> tuple[Tensor, Tensor]:
        """Each token's neighbours and log A; −inf at indices that are no neighbours."""
        edge_BTJ = a_BTR @ b_BJR.mT
        with torch.no_grad():
            added = (edge_BTJ + sight.refused_TJ).topk(min(self.configuration.graph_degree, b_BJR.shape[1]), sorted=False)
        B = len(a_BTR)
        index_BTQ = torch.cat([sight.window_TW.expand(B, -1, -1), added.indices], -1)
        valid_BTQ = torch.cat([sight.window_valid_TW.expand(B, -1, -1), added.values > NEVER], -1)
        return index_BTQ, edge_BTJ.gather(-1, index_BTQ).masked_fill(~valid_BTQ, NEVER).log_softmax(-1)

    def structure_scores(self, logA_BTQ: Tensor, sight: Sight) -> tuple[Tensor, Tensor]:
        """structure_gain · (log A + log |N|) by head, 0 where the mask, the second result, says no neighbour."""
        missing_BTQ = logA_BTQ == NEVER
        structure_BTQ = (logA_BTQ + sight.log_size_T1).masked_fill(missing_BTQ, 0)
        return self.scaled(self.attn.structure_gain[:, None, None]) * structure_BTQ[:, None], missing_BTQ[:, None]

    @staticmethod
    def decay(sum_BNJ: Tensor, index_BTQ: Tensor) -> Tensor | float:
        """The decay of the scores of each token for those at its indices, BNTQ."""
        (B, N, J), (_, T, Q) = sum_BNJ.shape, index_BTQ.shape
        if N == 0:
            return 0.0
        there_BNTQ = sum_BNJ.gather(-1, index_BTQ.flatten(1)[:, None].expand(-1, N, -1)).view(B, N, T, Q)
        return sum_BNJ[..., J - T :, None] - there_BNTQ

    def split(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.unflatten(-1, (self.configuration.heads, -1)).transpose(1, 2)  # BNTH

    def kept(self, z_BNTq: Tensor) -> tuple[Tensor, Tensor]:
        """p of the k largest scores and where they stand."""
        z_BNTk, place_BNTk = z_BNTq.topk(min(self.configuration.keys or z_BNTq.shape[-1], z_BNTq.shape[-1]))
        softmax = self.configuration.activation == "softmax"
        return z_BNTk.softmax(-1) if softmax else Sparsemax.apply(z_BNTk), place_BNTk

    def attend_masked(
        self, query_BTD: Tensor, key_BOD: Tensor, value_BOD: Tensor, a_BTR: Tensor, b_BJR: Tensor, sum_BNJ: Tensor, sight: Sight
    ) -> tuple[tuple[Tensor], Tensor]:
        edge_BTJ, J = a_BTR @ b_BJR.mT, b_BJR.shape[1]
        with torch.no_grad():
            added = (edge_BTJ + sight.refused_TJ).topk(min(self.configuration.graph_degree, J), sorted=False)
            neighbour_BTJ = sight.window_mask_TJ.expand_as(edge_BTJ).scatter(-1, added.indices, added.values > NEVER)
            neighbour_BTJ = neighbour_BTJ | sight.window_mask_TJ
        logA_BTJ = edge_BTJ.masked_fill(~neighbour_BTJ, NEVER).log_softmax(-1)

        z_BNTO = self.split(query_BTD) @ self.split(key_BOD).mT
        structure_BNTJ, missing_BNTJ = self.structure_scores(logA_BTJ, sight)
        decay_BNTJ = sum_BNJ[..., -query_BTD.shape[1] :, None] - sum_BNJ[..., None, :] if sum_BNJ.shape[1] > 0 else 0.0
        token_BNTJ = (z_BNTO[..., :J] + structure_BNTJ + decay_BNTJ).masked_fill(missing_BNTJ, NEVER)
        slot_BNTM = z_BNTO[..., J:] + self.slot_bias()
        p_BNTk, option_BNTk = self.kept(torch.cat([token_BNTJ, slot_BNTM], -1))
        p_BNTO = torch.zeros_like(z_BNTO).scatter(-1, option_BNTk, p_BNTk.to(z_BNTO.dtype))
        return (logA_BTJ.exp(),), (p_BNTO @ self.split(value_BOD)).transpose(1, 2).flatten(-2)

    def attend_picked(
        self, query_BTD: Tensor, key_BOD: Tensor, value_BOD: Tensor, index_BTQ: Tensor, logA_BTQ: Tensor, sum_BNJ: Tensor,
        sight: Sight,
    ) -> Tensor:
        z_BNTO = self.split(query_BTD) @ self.split(key_BOD).mT
        J = z_BNTO.shape[-1] - self.configuration.memory_slots
        structure_BNTQ, missing_BNTQ = self.structure_scores(logA_BTQ, sight)
        index_BNTQ = index_BTQ[:, None].expand_as(structure_BNTQ)
        token_BNTQ = z_BNTO.gather(-1, index_BNTQ) + structure_BNTQ + self.decay(sum_BNJ, index_BTQ)
        token_BNTQ = token_BNTQ.masked_fill(missing_BNTQ, NEVER)
        slot_BNTM = z_BNTO[..., J:] + self.slot_bias()
        p_BNTk, place_BNTk = self.kept(torch.cat([token_BNTQ, slot_BNTM], -1))
        # Where an index is not a neighbour, p is 0; but it may equal a neighbour's index, so the
        # values must be added.
        p_BNTO = torch.zeros_like(z_BNTO).scatter_add(-1, self.option(index_BNTQ, place_BNTk, J), p_BNTk.to(z_BNTO.dtype))
        return (p_BNTO @ self.split(value_BOD)).transpose(1, 2).flatten(-2)

    def attend_gathered(
        self, query_BTD: Tensor, key_BOD: Tensor, value_BOD: Tensor, index_BTQ: Tensor, logA_BTQ: Tensor, sum_BNJ: Tensor,
        sight: Sight,
    ) -> Tensor:
        (B, T, D), O, N = query_BTD.shape, key_BOD.shape[1], self.configuration.heads
        J, H = O - self.configuration.memory_slots, D // N
        # Row (b, j, head) of the keys, for every row (b, i, head) of the queries.
        sequence_B111 = torch.arange(B)[:, None, None, None] * O
        head_N1 = torch.arange(N)[:, None]
        row_BTNQ = (sequence_B111 + index_BTQ[:, :, None]) * N + head_N1
        token_BTNQ = PickedScores.apply(
            query_BTD.reshape(-1, H), key_BOD.reshape(-1, H), row_BTNQ.view(B * T * N, -1)).view(B, T, N, -1)
        structure_BNTQ, missing_BNTQ = self.structure_scores(logA_BTQ, sight)
        added_BNTQ = structure_BNTQ + self.decay(sum_BNJ, index_BTQ)
        token_BTNQ = (token_BTNQ + added_BNTQ.transpose(1, 2)).masked_fill(missing_BNTQ.transpose(1, 2), NEVER)
        slot_BNTM = self.split(query_BTD) @ self.split(key_BOD[:, J:]).mT + self.slot_bias()
        p_BTNk, place_BTNk = self.kept(torch.cat([token_BTNQ, slot_BNTM.transpose(1, 2)], -1))
        index_BTNQ = index_BTQ[:, :, None].expand(-1, -1, N, -1)
        row_BTNk = (sequence_B111 + self.option(index_BTNQ, place_BTNk, J)) * N + head_N1
        k = p_BTNk.shape[-1]
        weight_rk = p_BTNk.view(-1, k).to(value_BOD.dtype)
        out_rH = F.embedding_bag(row_BTNk.view(-1, k), value_BOD.reshape(-1, H), per_sample_weights=weight_rk, mode="sum")
        return out_rH.view(B, T, D)

    @staticmethod
    def option(index: Tensor, place: Tensor, J: int) -> Tensor:
        """From places among neighbours and slots to numbers among the options."""
        Q = index.shape[-1]
        return torch.where(place < Q, index.gather(-1, place.clamp_max(Q - 1)), place - Q + J)

    def graph_change(self, graph: tuple[Tensor, ...], before: tuple[Tensor, ...], J: int) -> Tensor:
        if self.form == "masked":
            return (graph[0] - before[0]).square().sum()
        return GraphChange.apply(*graph, *before, J)

    # -----------------------------------------------------------------------------------------------------
    # Experts, memory, the task's loss

    def mix_experts(self, t: int, Y_BTD: Tensor, expert_BTA: Tensor, u_BTA: Tensor, weights: Weights) -> Tensor:
        """Dropless: tokens sorted by expert, a product of matrices an expert, and each token's sum over its experts."""
        Y_nD, A = Y_BTD.flatten(0, 1), expert_BTA.shape[-1]
        order = expert_BTA.flatten().argsort(stable=True)
        counts = torch.bincount(expert_BTA.flatten(), minlength=self.configuration.experts).tolist()
        parts = Y_nD.index_select(0, order // A).split(counts)
        out = torch.cat([
            self.run_expert(part, gate_up, expert.down)
            for part, gate_up, expert in zip(parts, weights.gate_up, self.experts.values()) if len(part) > 0])
        place_nA = torch.empty_like(order).scatter_(0, order, torch.arange(len(order))).view(-1, A)
        mixed_nD = F.embedding_bag(place_nA, out, per_sample_weights=u_BTA.view(-1, A).to(out.dtype), mode="sum")
        if (shared := self.shared_of(t, self)) is not None:
            mixed_nD = mixed_nD + shared(Y_nD)
        return mixed_nD.view_as(Y_BTD)

    @staticmethod
    def run_expert(y_nD: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
        gate, up = F.linear(y_nD, gate_up).chunk(2, -1)
        return F.linear(F.silu(gate) * up, down)

    def write_memory(self, S_BMD: Tensor, H_BTD: Tensor, pool_query_MD: Tensor) -> Tensor:
        """Both maps of Z are applied on the side of the M slots in their products."""
        Z_BTD, m = norm(H_BTD, self.pool_norm.weight), self.memory
        pooled_BMD = F.linear((pool_query_MD @ Z_BTD.mT).softmax(-1) @ Z_BTD, m.pool_value.weight)
        seen_BMX = torch.cat([norm(S_BMD, self.memory_norm.weight), pooled_BMD], -1)
        alpha_BM1 = torch.sigmoid(seen_BMX @ m.gate.weight + m.gate.bias)[..., None]
        return torch.lerp(pooled_BMD.to(S_BMD.dtype), S_BMD, alpha_BM1.to(S_BMD.dtype))

    def task_loss(self, H_BTD: Tensor, target_BT: Tensor) -> Tensor:
        logits_BTV = F.linear(norm(H_BTD, self.final_norm.weight), self.embed.weight)
        return F.cross_entropy(logits_BTV.flatten(0, 1), target_BT.flatten(), ignore_index=-1, reduction="sum")

    # -----------------------------------------------------------------------------------------------------

    def sight(self, T: int, C: int) -> Sight:
        if (T, C) not in self.sights:
            self.sights[T, C] = Sight.of(self.configuration, T, C, self.embed.weight.dtype)
        return self.sights[T, C]

    def empty_cache(self, B: int) -> Cache:
        c, like = self.configuration, self.embed.weight
        D, R, N = c.width, c.structure_rank, c.heads if c.forget_gates else 0
        seen = (like.new_zeros(B, 0, width) for width in (D, D, R, N))
        return Cache(*seen, *(like.new_zeros(B, taps - 1, D) for taps in (c.recency_taps, c.expert_taps)))


# ---------------------------------------------------------------------------------------------------------


def check(changes: dict, form: str, compiled: bool = False) -> float:
    """The largest difference from ressformer.py, relative to the largest value of each loss or gradient, in float64."""
    torch.manual_seed(3)
    c = ModelConfiguration(**(dict(
        width=16, heads=2, steps=3, segment=16, memory_slots=3, cache=10, window=3, structure_rank=4, graph_degree=4, keys=5,
        recency_taps=3, experts=4, active_experts=2, expert_width=12, vocabulary=400) | changes))
    reference = ReSSFormer(c).double()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    fast = FastReSSFormer(c, form, compiled).double()
    fast.load_state_dict(reference.state_dict())
    tokens = torch.stack([torch.randperm(c.vocabulary)[:43] for _ in range(2)])
    target = tokens[:, 1:].clone()
    target[0, 5:9] = -1
    expected = reference(tokens[:, :-1], target)
    losses, loads_E = fast(tokens[:, :-1], target)
    expected.losses.total.backward()
    losses.total.backward()
    assert torch.equal(loads_E, expected.loads_E), "other loads"
    pairs = [(getattr(losses, name), getattr(expected.losses, name)) for name in ("total", "task", "smooth", "balance", "z")]
    slopes = dict(fast.named_parameters())
    for name, parameter in reference.named_parameters():
        if parameter.grad is None:
            assert slopes[name].grad is None or not slopes[name].grad.any(), f"{name} has a gradient here alone"
        elif parameter.numel() > 0:
            pairs.append((slopes[name].grad, parameter.grad))
    return max(((a - b).abs().max() / b.abs().max().clamp_min(1e-12)).item() for a, b in pairs)


CHECKS = {
    "base": {}, "no memory": dict(memory_slots=0), "no cache": dict(cache=0), "long cache": dict(cache=40),
    "one step, one tap": dict(steps=1, recency_taps=1), "all keys, shared expert": dict(keys=100, shared_expert=True),
    "one segment, wide graph": dict(segment=64, graph_degree=60), "one expert a token": dict(active_experts=1),
    "forget gates": dict(forget_gates=True), "learned scale": dict(score_scale="learned"), "sigmoid gates": dict(gates="sigmoid"),
    "expert taps": dict(expert_taps=4), "all parts": RECIPE | dict(shared_width=20),
    "all parts, no norm, all keys": RECIPE | dict(embedding_norm=False, keys=None, shared_each_step=False),
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, changes in CHECKS.items():
        for form in FORMS:
            difference = check(changes, form)
            print(f"{name}, {form}: within {difference:.0e}")
            assert difference < 1e-8, "too far from the reference"
