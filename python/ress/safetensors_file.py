"""Safetensors files with numpy alone: eight bytes with the length of the header, the header in JSON, and the numbers.

Format: https://github.com/huggingface/safetensors, section "Format". Sizes and offsets are checked before anything is read.
"""

import json
import os
import struct
from pathlib import Path

import numpy as np

TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "U8": "u1"}
HEADER_LIMIT = 100 << 20


def read_safetensors(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors by name, floating-point ones as float32, and the metadata. Raises ValueError where the file is damaged."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = struct.unpack("<Q", file.read(8))[0] if size >= 8 else size
        if length > min(size - 8, HEADER_LIMIT):
            raise ValueError(f"{path}: not a safetensors file, or one that was truncated")
        header = json.loads(file.read(length))
        metadata = header.pop("__metadata__", {})
        tensors = {}
        for name, entry in header.items():
            start, end = entry["data_offsets"]
            if entry["dtype"] not in TYPES:
                raise ValueError(f"{path}: {name} has type {entry['dtype']}; this package reads {', '.join(TYPES)}")
            kind = np.dtype(TYPES[entry["dtype"]])
            count = int(np.prod(entry["shape"], dtype=np.int64))
            if not 0 <= start <= end <= size - 8 - length or end - start != count * kind.itemsize:
                raise ValueError(f"{path}: {name} does not fit in the file; it is damaged or was truncated")
            file.seek(8 + length + start)
            values = np.frombuffer(file.read(end - start), kind)
            if entry["dtype"] == "BF16":
                values = (values.astype(np.uint32) << 16).view(np.float32)
            elif kind.kind == "f":
                values = values.astype(np.float32)
            tensors[name] = values.reshape(entry["shape"])
    return tensors, metadata


def write_safetensors(path: str | Path, tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """Writes float32 tensors, to a temporary file that is then renamed."""
    header: dict = {"__metadata__": metadata}
    offset = 0
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [offset, offset + 4 * values.size]}
        offset += 4 * values.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the numbers begin at a multiple of eight bytes
    aside = f"{path}.tmp"
    with open(aside, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for values in tensors.values():
            file.write(np.ascontiguousarray(values, "<f4").tobytes())
    os.replace(aside, path)
