"""The tokenizer of a model: text to tokens and back.

Bytes need no library, a `tokenizer.json` needs `tokenizers`, and a `tokenizer.model` needs `sentencepiece`; all three are exact.
"""

import json
from pathlib import Path


class ByteTokenizer:
    """Every byte is a token; token 256 precedes a document."""

    vocabulary, separator = 257, 256

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, tokens) -> str:
        return bytes(token for token in map(int, tokens) if 0 <= token < 256).decode(errors="replace")


class PairTokenizer:
    """A `tokenizer.json`, through Hugging Face's `tokenizers`. Special tokens in a text are not recognised, as in ress."""

    def __init__(self, path: Path):
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(path))
        self.tokenizer.encode_special_tokens = True
        self.vocabulary = self.tokenizer.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, tokens) -> str:
        return self.tokenizer.decode([int(token) for token in tokens])


class PieceTokenizer:
    """A `tokenizer.model` of SentencePiece, through the package `sentencepiece`."""

    def __init__(self, path: Path):
        from sentencepiece import SentencePieceProcessor

        self.processor = SentencePieceProcessor(model_file=str(path))
        self.vocabulary = self.processor.get_piece_size()

    def encode(self, text: str) -> list[int]:
        return self.processor.encode(text)

    def decode(self, tokens) -> str:
        return self.processor.decode([int(token) for token in tokens])


def load_tokenizer(place: str | Path):
    """The tokenizer in a run's folder, a checkpoint's folder, or a folder of `export --format hf`; bytes where there is none."""
    place = Path(place)
    # The tokenizer of a checkpoint is in its run's folder.
    folder = place.parent if (place / "manifest.json").exists() else place
    if (folder / "tokenizer.model").exists():
        return PieceTokenizer(folder / "tokenizer.model")
    if (folder / "tokenizer.json").exists() and not _is_bytes(folder / "config.json"):
        return PairTokenizer(folder / "tokenizer.json")
    return ByteTokenizer()


def _is_bytes(config: Path) -> bool:
    return config.exists() and json.loads(config.read_text()).get("ress", {}).get("tokenizer") == "byte"
