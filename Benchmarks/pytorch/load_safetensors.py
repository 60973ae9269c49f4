"""Loads a file of `ress checkpoint export` into PyTorch, and verifies that it is the same model.

    python load_safetensors.py demo.safetensors            compares logits with the file's proof; exits with 1 where they differ
    python load_safetensors.py demo.safetensors --out x.safetensors    writes the model again, for `ress checkpoint import`

`load(path)` returns the model and the metadata, for use in other programs.
"""

import argparse
import json
import re
import sys
from dataclasses import fields

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ressformer import ReSSFormer
from variants import Variant, VariantConfiguration

PROOF = ("ress_proof.tokens", "ress_proof.logits")


def load(path: str) -> tuple[torch.nn.Module, dict[str, torch.Tensor], dict[str, str]]:
    """The model, the proof's tensors, and the metadata."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    proof = {name: tensors.pop(name) for name in PROOF if name in tensors}
    model = Variant(configuration(metadata, vocabulary=tensors["embed.weight"].shape[0]))
    # A tensor without values is not in the file, for example the taps of a model of sets.
    empty = {name: value for name, value in model.state_dict().items() if value.numel() == 0}
    model.load_state_dict(empty | tensors, strict=True)
    return model.eval(), proof, metadata


def configuration(metadata: dict[str, str], vocabulary: int) -> VariantConfiguration:
    """The `model` section of the run's configuration; Swift's names become Python's."""
    model = json.loads(metadata["ress_configuration"])["model"]
    snake = {re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(): value for name, value in model.items()}
    known = {field.name for field in fields(VariantConfiguration)}
        # Values that are null in Swift are absent from the JSON.
    absent = {name: None for name in ("keys", "graph_degree", "shared_width") if name not in snake}
    if "expert_taps" not in snake and snake.get("architecture") == "transformer":
        # Exported before the baseline had taps and a norm of its embedding, whatever was written of the taps.
        absent |= dict(recency_taps=1, embedding_norm=False)
    return VariantConfiguration(**{name: value for name, value in snake.items() if name in known} | absent | {"vocabulary": vocabulary})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--out", help="write the model here, without its proof")
    arguments = parser.parse_args()
    model, proof, metadata = load(arguments.file)
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{arguments.file}: {count:,} parameters, run {metadata['ress_run']} at step {metadata['ress_step']}")
    if arguments.out:
        tensors = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
        save_file(tensors, arguments.out, metadata)
    if not proof:
        print("the file has no proof, so nothing was compared")
        return 0
    tokens, expected = (proof[name] for name in PROOF)
    tokens = tokens.long()[None]
    # The model computes a loss too, which wants targets of its head's shape.
    c = model.configuration
    targets = {"classify": tokens[:, :1] % c.classes, "span": tokens[:, :2] * 0}.get(c.head, tokens * 0)
    with torch.no_grad():
        own = model(tokens, targets).logits_BLV.reshape(expected.shape)
    distance = ((own - expected).abs().max() / expected.abs().max()).item()
    print(f"logits {tuple(expected.shape)}: largest difference {distance:.2e} of the largest")
    return 0 if distance <= 1e-4 else 1


if __name__ == "__main__":
    sys.exit(main())
