"""How a step moves the peer's parameters: schedule, clipping, AdamW and the balancer, as docs/model.md has them.

The formulas are written out, in the order in which the Swift side applies them, rather than taken from torch.optim.
"""

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

import package  # noqa: F401  python/ on the path
from ress.model.ressformer import ModelConfiguration, Output, ReSSFormer

DECAYED_ENDINGS = (
    "soes/query/weight", "soes/key/weight", "attn/query/weight", "attn/key/weight", "attn/value/weight",
    "attn/output/weight", "attn/forget/weight", "router/weight", "memory/pool_key/weight", "memory/pool_value/weight",
    "head/weight", "embed/weight", "/gate", "/up", "/down",
)


def decays(path: str) -> bool:
    """Weight decay acts on matrices only, not on step and slot embeddings, taps, temperatures, norms, gains and biases."""
    return path.endswith(DECAYED_ENDINGS)


@dataclass
class OptimizerConfiguration:
    """Names of RunConfiguration.swift in snake case; `steps` is training.steps."""

    steps: int
    learning_rate: float = 3e-3
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 0.1
    clip: float = 1.0
    warmup_steps: int = 50
    schedule: str = "cosine"
    final_fraction: float = 0.1
    decay_fraction: float = 0.2

    as_dict = asdict


def learning_rate(s: int, o: OptimizerConfiguration) -> float:
    """The rate of step s (the first is 0). The decay would end at s = steps, one after the last step."""
    if s < o.warmup_steps:
        return o.learning_rate * (s + 1) / o.warmup_steps
    if o.schedule == "cosine":
        progress = (s - o.warmup_steps) / max(1, o.steps - o.warmup_steps)
        height = 0.5 * (1 + math.cos(math.pi * progress))
    elif o.schedule == "wsd":
        length = o.decay_fraction * o.steps
        height = 1.0 if length <= 0 else 1 - max(0.0, (s - (o.steps - length)) / length)
    elif o.schedule == "constant":
        height = 1.0
    else:
        raise ValueError(f"unknown schedule {o.schedule!r}; use cosine, wsd or constant")
    return o.learning_rate * (o.final_fraction + (1 - o.final_fraction) * height)


class Trainer:
    def __init__(self, model: ReSSFormer, optimizer: OptimizerConfiguration):
        self.model, self.optimizer, self.step_index = model, optimizer, 0
        self.trained = [(path, p) for path, p in model.named_paths() if p.requires_grad]
        self.first = {path: torch.zeros_like(p) for path, p in self.trained}
        self.second = {path: torch.zeros_like(p) for path, p in self.trained}

    def step(self, input_BL: Tensor, target_BL: Tensor, bptt_segments: int | None = None, trace=None) -> tuple[Output, float]:
        """One step: forward, backward, clip, AdamW, balancer. Returns the forward's output and the gradient's norm."""
        self.model.zero_grad()
        output = self.model(input_BL, target_BL, bptt_segments, trace)
        output.losses.total.backward()
        norm = self.apply_gradients()
        move_router_bias(self.model.router.bias, output.loads_E, self.model.configuration)
        self.step_index += 1
        return output, norm

    @torch.no_grad()
    def apply_gradients(self) -> float:
        o = self.optimizer
        rate = learning_rate(self.step_index, o)
        gradients = {path: torch.zeros_like(p) if p.grad is None else p.grad for path, p in self.trained}
        norm = math.sqrt(sum(g.double().square().sum().item() for g in gradients.values()))
        scale = min(1.0, o.clip / norm) if o.clip > 0 and norm > 0 else 1.0
        correction1 = 1 - o.beta1 ** (self.step_index + 1)
        correction2 = 1 - o.beta2 ** (self.step_index + 1)
        for path, p in self.trained:
            g, first, second = gradients[path] * scale, self.first[path], self.second[path]
            first.mul_(o.beta1).add_(g, alpha=1 - o.beta1)
            second.mul_(o.beta2).add_(g.square(), alpha=1 - o.beta2)
            if decays(path):
                p.mul_(1 - rate * o.weight_decay)
            p.sub_(rate * (first / correction1) / ((second / correction2).sqrt() + o.epsilon))
        return norm


@torch.no_grad()
def move_router_bias(bias_E: Tensor, loads_E: Tensor, c: ModelConfiguration) -> None:
    """router_bias_j += u · sign(mean load − load_j). sign(0) is 0."""
    loads_E = loads_E.to(torch.float64)
    bias_E.add_(c.balancer_rate * torch.sign(loads_E.mean() - loads_E).to(bias_E.dtype))
