"""Reads a trained model: a checkpoint's folder, a run's folder, or what `ress checkpoint export` wrote.

The values are read with numpy and h5py alone; `Checkpoint.module` needs torch.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .safetensors_file import read_safetensors, write_safetensors

PROOF = ("ress_proof.tokens", "ress_proof.logits")


class CheckpointError(Exception):
    """A checkpoint that cannot be read; the message names the file."""


@dataclass
class Checkpoint:
    """A model's values and what describes them."""

    path: Path
    run: str
    step: int
    # The run's configuration as ress writes it: sections of camel-case keys. Keys whose value is null are absent.
    configuration: dict
    # By name with dots: `embed.weight`, `experts.0003.gate`. float32, in the shapes of docs/model.md.
    tensors: dict[str, np.ndarray]
    # Tokens and the logits that ress computed for them; empty for a checkpoint's folder.
    proof: dict[str, np.ndarray] = field(default_factory=dict)
    # SHA-256 of the tokenizer, as `Tokenizer.digest` in Swift; None where the file does not name one.
    tokenizer_digest: str | None = None

    @property
    def vocabulary(self) -> int:
        return self.tensors["embed.weight"].shape[0]

    @property
    def parameter_count(self) -> int:
        return sum(values.size for values in self.tensors.values())

    def model_configuration(self) -> dict:
        """The keyword arguments of `ress.model.VariantConfiguration`."""
        model = self.configuration["model"]
        snake = {re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(): value for name, value in model.items()}
        # Values that are null in Swift are absent from the JSON.
        for name in ("keys", "graph_degree", "shared_width"):
            snake.setdefault(name, None)
        if "expert_taps" not in snake and snake.get("architecture") == "transformer":
            # Written before the baseline had taps and a norm of its embedding.
            snake |= dict(recency_taps=1, embedding_norm=False)
        return snake | {"vocabulary": self.vocabulary}

    def module(self):
        """The model as a `torch.nn.Module` in evaluation mode: `module(tokens_BL).logits_BLV`. Needs torch.

        A sequence has at most `configuration["model"]["segment"]` tokens if the model is the baseline with learned positions; there is
        no other limit.
        """
        try:
            import torch
        except ImportError as error:
            raise ImportError("a model is computed with PyTorch, which is not installed: pip install './python[torch]'") from error

        from .model import Variant, VariantConfiguration

        known = VariantConfiguration.__dataclass_fields__
        given = {name: value for name, value in self.model_configuration().items() if name in known}
        module = Variant(VariantConfiguration(**given))
        # A tensor without values is not in the files, for example the taps of a model of sets.
        state = {name: value for name, value in module.state_dict().items() if value.numel() == 0}
        state |= {name: torch.from_numpy(np.array(values)) for name, values in self.tensors.items()}
        module.load_state_dict(state, strict=True)
        return module.eval()

    def proof_distance(self) -> float | None:
        """Largest difference of the module's logits from the proof's, over the largest logit; None without a proof. Needs torch."""
        if not self.proof:
            return None
        import torch

        tokens = torch.from_numpy(self.proof[PROOF[0]].astype(np.int64))[None]
        expected = self.proof[PROOF[1]].astype(np.float64)
        with torch.no_grad():
            logits = self.module()(tokens).logits_BLV.numpy().astype(np.float64).reshape(expected.shape)
        return float(np.abs(logits - expected).max() / np.abs(expected).max())

    def write(self, path: str | Path) -> None:
        """Writes the values and the configuration as safetensors, without the proof; `ress checkpoint import` reads the file."""
        metadata = {
            "format": "pt", "ress_configuration": json.dumps(self.configuration), "ress_run": self.run,
            "ress_step": str(self.step)}
        if self.tokenizer_digest:
            metadata["ress_tokenizer"] = self.tokenizer_digest
        write_safetensors(path, self.tensors, metadata)


def load(place: str | Path) -> Checkpoint:
    """Reads a model.

    `place` is a checkpoint's folder, a run's folder (then its newest complete checkpoint), a folder of `export --format hf`, or a
    safetensors file of `export`. Raises CheckpointError.
    """
    place = Path(place)
    if place.is_file():
        return _exported(place)
    if (place / "config.json").exists():
        return _hugging_face(place)
    if (place / "manifest.json").exists():
        return _folder(place)
    steps = sorted(folder for folder in place.glob("step-*") if (folder / "manifest.json").exists() and folder.suffix == "")
    if not steps:
        raise CheckpointError(f"{place}: no checkpoint, run or exported model is there")
    return _folder(steps[-1])


def _folder(folder: Path) -> Checkpoint:
    import h5py

    manifest = json.loads((folder / "manifest.json").read_text())
    if manifest.get("format") not in (1, 2):
        raise CheckpointError(f"{folder}/manifest.json: format {manifest.get('format')}; this package reads 1 and 2")
    for file in manifest["files"]:
        _check(folder / file["name"], file["sha256"])
    tensors: dict[str, np.ndarray] = {}
    # The shards are read directly, because the links in model.h5 would be followed to whatever file they name.
    shards = [file["name"] for file in manifest["files"] if file["name"] != "model.h5"]
    for name in shards:
        with h5py.File(folder / name, "r") as shard:
            if "model" in shard:
                _collect(shard["model"], "", tensors)
    _join_rows(folder, tensors)
    if "embed.weight" not in tensors:
        raise CheckpointError(f"{folder}: the shards have no embed/weight")
    return Checkpoint(
        path=folder, run=manifest["run"], step=manifest["step"], configuration=manifest["configuration"], tensors=tensors,
        tokenizer_digest=(manifest.get("data") or {}).get("tokenizer"))


def _check(path: Path, expected: str) -> None:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    if digest.hexdigest() != expected:
        raise CheckpointError(f"{path}: its SHA-256 differs from the manifest's; the file is damaged")


def _collect(group, prefix: str, tensors: dict[str, np.ndarray]) -> None:
    import h5py

    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise CheckpointError(f"{group.file.filename}: {group.name}/{name} is a link")
        item = group[name]
        if isinstance(item, h5py.Group):
            _collect(item, f"{prefix}{name}.", tensors)
        else:
            tensors[prefix + name] = item[()].astype(np.float32, copy=False)


# Rows of a large tensor that one of its owners wrote: the tensor's name and its first row.
_ROWS = re.compile(r"(.+)\.rows-from-(\d+)")


def _join_rows(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    """Puts tensors together whose rows are in the shards of several owners."""
    parts: dict[str, list[tuple[int, np.ndarray]]] = {}
    for name in [name for name in tensors if _ROWS.fullmatch(name)]:
        tensor, first = _ROWS.fullmatch(name).groups()
        parts.setdefault(tensor, []).append((int(first), tensors.pop(name)))
    for name, ranges in parts.items():
        ranges.sort(key=lambda rows: rows[0])
        row = 0
        for first, values in ranges:
            if first != row or values.shape[1:] != ranges[0][1].shape[1:]:
                raise CheckpointError(f"{folder}: {name}: its rows from {first} on do not follow row {row - 1}")
            row += len(values)
        tensors[name] = np.concatenate([values for _, values in ranges])


def _exported(path: Path) -> Checkpoint:
    tensors, metadata = read_safetensors(path)
    if "ress_configuration" not in metadata:
        raise CheckpointError(f"{path}: its metadata has no ress_configuration, so `ress checkpoint export` did not write it")
    proof = {name: tensors.pop(name) for name in PROOF if name in tensors}
    return Checkpoint(
        path=path, run=metadata["ress_run"], step=int(metadata["ress_step"]),
        configuration=json.loads(metadata["ress_configuration"]), tensors=tensors, proof=proof,
        tokenizer_digest=metadata.get("ress_tokenizer"))


def _hugging_face(folder: Path) -> Checkpoint:
    config = json.loads((folder / "config.json").read_text())
    if "ress" not in config:
        raise CheckpointError(f"{folder}/config.json: no section 'ress', so `ress checkpoint export --format hf` did not write it")
    found = _exported(folder / "model.safetensors")
    if config["vocab_size"] != found.vocabulary:
        raise CheckpointError(
            f"{folder}: config.json has a vocabulary of {config['vocab_size']}, model.safetensors one of {found.vocabulary}")
    found.path, found.configuration = folder, config["ress"]["configuration"]
    return found
