"""Writes Tests/Golden/tokenizer/patterns.json and pieces.json: what Hugging Face's `tokenizers` and Google's `sentencepiece` make of texts.

    python3 -m venv venv && venv/bin/pip install tokenizers 'sentencepiece==0.1.99'   # the line of Debian 12's library
    venv/bin/python Benchmarks/golden_tokenizers.py                      # writes the files again
    venv/bin/python Benchmarks/golden_tokenizers.py --check ress MODEL…  # compares a ress program with models of SentencePiece, on many texts

Patterns are stored with the borders of the pieces (offsets in UTF-8); models (trained here, small) with the tokens of the texts.
"""

import argparse
import io
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import sentencepiece
from tokenizers import pre_tokenizers

GOLDEN = Path(__file__).resolve().parents[1] / "Tests" / "Golden" / "tokenizer"
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
REST = r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def split(pattern: str, behavior: str = "Isolated", invert: bool = False, literal: bool = False) -> dict:
    return {"type": "Split", "pattern": {"String" if literal else "Regex": pattern}, "behavior": behavior, "invert": invert}


# Patterns that published tokenizers have, and each part of the syntax.
PATTERNS: dict[str, list[dict]] = {
    "gpt-4o": [split(rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CONTRACTIONS}?|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{CONTRACTIONS}?{REST}")],
    "qwen-2": [split(rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")],
    "cl100k of tiktoken": [split(r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s")],
    "deepseek-v3": [
        split(r"\p{N}{1,3}"), split("[一-龥\\u3040-ゟ゠-ヿ]+"),
        split("[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+")],
    "deepseek-coder": [
        split("[\r\n]"), split("\\s?\\p{L}+"), split("\\s?\\p{P}+"), split("[一-龥ࠀ-一가-퟿]+"),
        {"type": "Digits", "individual_digits": True}],
    "starcoder": [{"type": "Digits", "individual_digits": True}, {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}],
    "digits together": [{"type": "Digits", "individual_digits": False}],
    "words": [split(r"\w+|[^\w\s]+")],
    "borders of words": [split(r"\b"), split(r"(?<=[a-z])(?=[A-Z])")],
    "lines": [split(r"^[ \t]+|[^\n]+$|\n")],
    "scripts": [split(r"\p{Han}+|\p{Hiragana}+|\p{Greek}+|\p{^L}+")],
    "classes": [split(r"[[:alpha:]_-]+|[^[:space:]\d]+|\h+|\v|\R")],
    "empty matches": [split(r"x*")],
    "groups": [split(r"(?:ab|a(?!b))+|(?>\d+)\.|(?<!\s)\s(?=\S)")],
    "lazy": [split(r".+?[aeiou]{1,2}?|\n{,2}")],
    **{f"merged {behavior}{' inverted' if invert else ''}": [split(r"[\s,]", behavior, invert)]
       for behavior in ("Removed", "Isolated", "Contiguous", "MergedWithPrevious", "MergedWithNext") for invert in (False, True)},
    "a text": [split(".", "MergedWithPrevious", literal=True), split("of the", literal=True)],
}
# Meaning something else in PCRE2, or nothing.
REFUSED = [
    r"(a)\1", r"[a-z&&[^e]]", r"(?~abc)", r"\X", r"a{2}?", r"(?x) a", r"[[:upper:]]", r"\p{Letter}", r"(?i:ss)", r"(?i:\p{L})", r"[\W]",
    r"(?<n>a)", r"a**", r"\G", r"\K", r"(", "[a", r"\xff", r"(?m:a)", "", "a{2000}", r"\p{Foo}"]


def texts() -> list[str]:
    """The mixed-language text in parts, and random texts of what patterns treat differently."""
    whole = (GOLDEN / "text.txt").read_bytes().decode(errors="ignore")
    chance = random.Random(20)
    parts = [
        "a", "B", "ß", "É", "é", "ǅ", "ʰ", "的", "ひ", "カ", "가", "ω", "٣", "½", "Ⅷ", "1", "23", "4567", " ", "  ", "\t", "\n", "\r\n", "\n\n", "\u00a0",
        "\u3000", "\u180e", "\u200b", "\u0085", "\u2028", "'s", "'LL", "'ſ", "don't", "camelCase", "ABCdef", ".", ",", "!?", "/", "_", "-", "e\u0301", "🙂", "👩‍👩‍👧",
        "$", "™", "of the", "x", "xx", "ab", "aab", "ı", "ﬁ", "\ufeff"]
    drawn = ["".join(chance.choice(parts) for _ in range(chance.randint(1, 25))) for _ in range(50)]
    return [whole[start : start + 700] for start in range(0, len(whole), 1400)] + drawn + ["", " ", "\n"]


def pieces(steps: list[dict], text: str) -> list[int]:
    """Start and end of each piece, in bytes of UTF-8."""
    from tokenizers import Tokenizer, models

    tokenizer = Tokenizer(models.BPE())
    description = json.loads(tokenizer.to_str())
    description["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [
        step if step["type"] != "ByteLevel" else step | {"trim_offsets": True} for step in steps]}
    made = Tokenizer.from_str(json.dumps(description)).pre_tokenizer.pre_tokenize_str(text)
    offset = [0]
    for character in text:
        offset.append(offset[-1] + len(character.encode()))
    return [offset[place] for _, borders in made for place in borders]


TRAINING = dict(
    character_coverage=0.98, num_threads=1, train_extremely_large_corpus=False, minloglevel=2, shuffle_input_sentence=False,
    max_sentence_length=100_000, hard_vocab_limit=False)
# Options of the tokenizers of these models, at a small size.
MODELS = {
    "llama-2": dict(
        model_type="bpe", vocab_size=900, byte_fallback=True, split_digits=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, allow_whitespace_only_pieces=True),
    "gemma": dict(
        model_type="bpe", vocab_size=900, byte_fallback=True, split_digits=True, normalization_rule_name="identity",
        add_dummy_prefix=False, remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, pad_id=0, eos_id=1, bos_id=2, unk_id=3,
        user_defined_symbols=["\n", "\n\n", "▁▁", "▁▁▁▁", "<table>"]),
    "t5": dict(model_type="unigram", vocab_size=500, normalization_rule_name="nmt_nfkc", bos_id=-1, pad_id=0, eos_id=1, unk_id=2),
}


def train(options: dict) -> bytes:
    texts = [(GOLDEN / "text.txt").read_bytes().decode(errors="ignore"), (GOLDEN.parents[2] / "LICENSE").read_text()]
    lines = [line for text in texts for line in text.split("\n") if line.strip()]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=model, **TRAINING, **options)
    return model.getvalue()


def save() -> None:
    all_texts = texts()
    cases = [{"name": name, "steps": steps, "pieces": [pieces(steps, text) for text in all_texts]} for name, steps in PATTERNS.items()]
    write("patterns.json", {"texts": all_texts, "cases": cases, "refused": REFUSED})
    models = {}
    for name, options in MODELS.items():
        path = GOLDEN / f"{name}.model"
        path.write_bytes(train(options))
        processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
        tokens = [processor.encode(text) for text in all_texts]
        models[name] = {
            "tokens": tokens, "decoded": [processor.decode(list(line)) for line in tokens], "bos": processor.bos_id(), "eos": processor.eos_id(),
            "vocabulary": processor.get_piece_size()}
    write("pieces.json", {"texts": all_texts, "models": models})


def write(name: str, content: dict) -> None:
    path = GOLDEN / name
    path.write_text(json.dumps(content, ensure_ascii=True, separators=(",", ":")) + "\n")
    print(f"{name}: {path.stat().st_size / 1024:.0f} KB")


def check(ress: str, models: list[str]) -> int:
    """Compares the tokens of many texts, drawn from text.txt and at random; exits with 1 where they differ."""
    chance = random.Random(3)
    pool = [text for text in texts() if text]
    wrong = 0
    for model in models:
        processor = sentencepiece.SentencePieceProcessor(model_file=model)
        count = 0
        with tempfile.TemporaryDirectory() as folder:
            for number in range(40):
                text = "".join(chance.choice(pool) for _ in range(25))
                path = Path(folder) / "text"
                path.write_bytes(text.encode())
                done = subprocess.run([ress, "data", "tokenizer", "encode", model, str(path)], capture_output=True, text=True, check=True)
                tokens = [int(line) for line in done.stdout.split()]
                count += len(tokens)
                if tokens != processor.encode(text):
                    wrong += 1
                    print(f"{model}: text {number} differs", file=sys.stderr)
        print(f"{model}: {processor.get_piece_size():,} pieces, {count:,} tokens compared")
    return 1 if wrong else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", nargs="+", metavar=("RESS", "MODEL"))
    arguments = parser.parse_args()
    sys.exit(check(arguments.check[0], arguments.check[1:]) if arguments.check else save())
