"""Times whole training steps of the PyTorch models on random tokens and prints one JSON line.

    python time_step.py --model ressformer --shape bench-small --form gathered --mode eager --threads 1 --seconds 10

A step is forward, backward, clipping by the global norm and AdamW, on one sequence of `sequence_length` tokens; for
ReSSFormer the balancer too. With --precision bf16 the forward runs under torch.autocast. --check-compiled compares a compiled ressformer with the reference instead (some minutes).
"""

import argparse
import json
import os
import statistics
import sys
import time
from dataclasses import fields
from pathlib import Path

import torch
from torch import nn

import package  # noqa: F401  python/ on the path
from dense_transformer import DenseTransformer, TransformerConfiguration
from fast_ressformer import FORMS, FastReSSFormer, check
from ress.model.ressformer import RECIPE, ModelConfiguration
from training import decays, move_router_bias

# By default glibc returns large blocks to the system when they are freed, and later steps pay for
# their pages again. It reads these variables only when a process starts. At bench-small and
# bench-long they made no clear difference on a quiet machine; while another program was compiling,
# both of two pairs of runs were faster by a third or more.
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_TOP_PAD_": "268435456"}
SHAPES = Path(__file__).parent.parent / "shapes.json"


def multiply_adds(shape: dict) -> float:
    """Multiply-adds a token that the forward's matrix products need: the mean over the tokens of one sequence.

    With `allowed` the tokens in sight, itself included (L_a their mean over the sequence), N = min(allowed, W + g),
    and O = N + m options:
      ReSSFormer, a step     4 D²              query, key, value, output
                             2 R D + R L_a     structure query and key, an edge to every allowed token
                             D O + D min(k, O) scores of the options, values of those kept
                             E D + e 3 F D     router, active experts (and 3 D times a shared expert's width)
                             2 m D + m D² / T  pool scores and pooled rows of the slots; pool_value on the pooled rows
         a segment           2 m D² / T        keys and values of the slots
         a sequence          m D² / L          pool_query · pool_key
      Transformer, a layer   4 D² + 2 D L_a + 3 e F D (and 3 D times a shared expert's width)
      both                   N D               a step's forget gates
                             V D               logits
    What a program computes in addition (scores that are masked away) is not counted.
    """
    D, K, V, T = (shape[key] for key in ("width", "steps", "vocabulary", "segment"))
    e, F, L = shape["active_experts"], shape["expert_width"], shape["sequence_length"]
    shape = RECIPE | shape
    added = shape["heads"] * D if shape["forget_gates"] else 0
    if shape["shared_expert"]:
        added += 3 * D * (shape.get("shared_width") or F)
    if shape["architecture"] == "transformer":
        return K * (4 * D**2 + 2 * D * (L + 1) / 2 + 3 * e * F * D + added) + V * D
    m, R, E = shape["memory_slots"], shape["structure_rank"], shape["experts"]
    allowed = [min(shape["cache"], i - i % T) + i % T + 1 for i in range(L)]
    neighbours = [min(a, shape["window"] + shape["graph_degree"]) for a in allowed]
    step = 4 * D**2 + 2 * R * D + R * statistics.fmean(allowed)
    step += D * statistics.fmean(n + m + min(shape["keys"], n + m) for n in neighbours)
    step += E * D + e * 3 * F * D + added
    step += 2 * m * D + m * D**2 / T
    return K * step + 2 * m * D**2 / T + m * D**2 / L + V * D


def gflop_per_token(shape: dict) -> float:
    """Forward and backward: each product of the forward has two in the backward, and a multiply-add is two operations."""
    return 3 * 2 * multiply_adds(shape) / 1e9


def sgemm_gflops() -> float:
    """The best of torch.mm at 512³ and 768³."""
    best = 0.0
    for size in (512, 768):
        a, b = torch.randn(size, size), torch.randn(size, size)
        out = torch.empty(size, size)
        for _ in range(30):
            start = time.perf_counter()
            torch.mm(a, b, out=out)
            best = max(best, 2 * size**3 / (time.perf_counter() - start) / 1e9)
    return best


def configured(kind: type, shape: dict):
    """A shape says what differs from the program's defaults."""
    names = {f.name for f in fields(kind)}
    return kind(**{key: value for key, value in (RECIPE | shape).items() if key in names})


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    """β, ε and decay of docs/model.md, at a small rate. Fused: one kernel a tensor."""
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[decays(name.replace(".", "/"))].append(parameter)
    return torch.optim.AdamW(
        [dict(params=groups[True], weight_decay=0.1), dict(params=groups[False], weight_decay=0.0)],
        lr=1e-4, betas=(0.9, 0.95), eps=1e-8, fused=True)


def make_step(arguments: argparse.Namespace, shape: dict):
    compiled = arguments.mode == "compile"
    if arguments.model == "ressformer":
        model = FastReSSFormer(configured(ModelConfiguration, shape), arguments.form, compiled)
    else:
        model = DenseTransformer(configured(TransformerConfiguration, shape))
        if compiled:
            model.compile(dynamic=False, fullgraph=True)
    optimizer = adamw(model)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def step() -> float:
        tokens = torch.randint(shape["vocabulary"], (1, shape["sequence_length"] + 1))
        optimizer.zero_grad(set_to_none=True)
        # The backward runs in the types that the forward chose.
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.precision == "bf16"):
            result = model(tokens[:, :-1], tokens[:, 1:])
        loss = result[0].total if arguments.model == "ressformer" else result
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        optimizer.step()
        if arguments.model == "ressformer":
            move_router_bias(model.router.bias, result[1], model.configuration)
        return loss.item()

    return step


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=("ressformer", "transformer"), default="ressformer")
    parser.add_argument("--shape", default="bench-small", help="a name in shapes.json")
    parser.add_argument("--form", choices=(*FORMS, "sdpa"), help="gathered, or sdpa for the transformer, by default")
    parser.add_argument("--mode", choices=("eager", "compile"), default="eager")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="bf16: under torch.autocast")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10, help="how long to time, after the warm-up")
    parser.add_argument("--check-compiled", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(1)
    arguments.form = arguments.form or ("sdpa" if arguments.model == "transformer" else "gathered")
    if arguments.check_compiled:
        print(f"compiled, {arguments.form}: within {check({}, arguments.form, compiled=True):.0e}")
        return

    shape = json.loads(SHAPES.read_text())[arguments.shape]
    if shape["architecture"] != arguments.model or (arguments.form == "sdpa") != (arguments.model == "transformer"):
        parser.error(f"{arguments.shape} is a {shape['architecture']}; forms are {', '.join(FORMS)}, for a transformer sdpa")
    step = make_step(arguments, shape)
    start = time.perf_counter()
    for _ in range(3):
        assert step() > 0
    warm_up = time.perf_counter() - start

    peak, seconds = sgemm_gflops(), []
    while len(seconds) < 3 or sum(seconds) < arguments.seconds:
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    peak = max(peak, sgemm_gflops())
    rate, needed = shape["sequence_length"] / statistics.median(seconds), gflop_per_token(shape)
    print(json.dumps(dict(
        program="pytorch", model=arguments.model, shape=arguments.shape, form=arguments.form, mode=arguments.mode,
        precision=arguments.precision, threads=arguments.threads, tokens_per_second=round(rate, 1), steps=len(seconds), sgemm_gflops=round(peak, 1),
        gflop_per_token=round(needed, 6), share_of_sgemm=round(rate * needed / peak, 4), warm_up_seconds=round(warm_up, 1))))


if __name__ == "__main__":
    if not ALLOCATOR.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.argv], ALLOCATOR | os.environ)
    main()
