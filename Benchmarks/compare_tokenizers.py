#!/usr/bin/env python3
"""Compares ress's tokenizer with Hugging Face's `tokenizers` and OpenAI's `tiktoken`: equal tokens, equal learned vocabulary, and speed.

    python3 -m venv venv && venv/bin/pip install tokenizers tiktoken
    swift build -c release --product ress
    venv/bin/python Benchmarks/compare_tokenizers.py [FILE]     # one thread each; FILE is text of some megabytes, generated if absent
    venv/bin/python Benchmarks/compare_tokenizers.py --save     # writes Tests/Golden/tokenizer again
"""
import json, os, random, subprocess, sys, tempfile, time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
import tiktoken
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
RESS = os.path.join(HERE, "..", ".build", "release", "ress")
GOLDEN = os.path.join(HERE, "..", "Tests", "Golden", "tokenizer")
PATTERNS = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "gpt4": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
SPECIAL = "<|endoftext|>"


def mixed(pieces, seed=5):
    """Text in many scripts, with everything that pretokenizers treat differently."""
    draw = random.Random(seed)
    parts = [
        "Hello world! It's we'll I'VE they'd 'S 'Ll don't\tWhat's\r\n\r\n  the  matter?   \n\n x",
        "Größe Straße naïve café résumé", "Привет, мир! Как дела? 123 456789 ١٢٣٤", "日本語のテキストです。中文字符，测试！",
        "한국어 텍스트 예제", "עברית שלום", "हिन्दी पाठ उदाहरण क्षेत्र", "ไทยภาษา", "🙂👩‍👩‍👧‍👦🇩🇪 emoji",
        "foo_bar(x) { return x->y[0] + 0xFF; } // c\n\t\tif (a&&b) {\n    }\n", "½ Ⅷ ² x²",
        "\u00a0nbsp\u2003em\u3000ideographic\u0085nel\u2028ls", "ſ 'ſ K 'K", "e\u0301 combining", "   leading", "trailing   ",
        "\n\n\n", "\t \t\n \r\n\r x", "a'b''c 's's't", "...!!!???\n\n\nfoo", "$100.00 3.14159 1,000,000",
        "abcabcabc" * 12, "the worker and the coordinator share the experts of the model",
    ]
    blocks = [(32, 127), (0xA0, 0x250), (0x370, 0x600), (0x4E00, 0x4F00), (0x1F300, 0x1F650), (32, 33), (10, 11)]
    out = []
    for _ in range(pieces):
        kind = draw.random()
        if kind < 0.75:
            out.append(draw.choice(parts))
        elif kind < 0.9:
            out.append("".join(chr(draw.randrange(*draw.choice(blocks))) for _ in range(draw.randrange(1, 30))))
        else:
            out.append(" " * draw.randrange(1, 6) + "\n" * draw.randrange(0, 4))
        out.append(draw.choice(["", " ", "\n", "  ", "\n\n"]))
    return "".join(out)


def learn(pattern, texts, size):
    tokenizer = Tokenizer(models.BPE())
    if pattern == "gpt2":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(PATTERNS[pattern]), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.train_from_iterator(texts, trainer=trainers.BpeTrainer(
        vocab_size=size, special_tokens=[SPECIAL], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False, min_frequency=2))
    return tokenizer


def tiktokens(pattern, model):
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in visible]
    byte_of = {chr(byte): byte for byte in visible} | {chr(256 + place): byte for place, byte in enumerate(others)}
    ranks = {bytes(byte_of[c] for c in text): token for text, token in model["vocab"].items() if text != SPECIAL}
    return tiktoken.Encoding(name=pattern, pat_str=PATTERNS[pattern], mergeable_ranks=ranks, special_tokens={})


def save():
    text = mixed(260)
    with open(GOLDEN + "/text.txt", "w", newline="") as file:
        file.write(text)
    for pattern in PATTERNS:
        tokenizer = learn(pattern, [text], 700)
        tokens = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokens == tiktokens(pattern, json.loads(tokenizer.to_str())["model"]).encode_ordinary(text)
        with open(f"{GOLDEN}/{pattern}.json", "w") as file:
            file.write(tokenizer.to_str())
        with open(f"{GOLDEN}/{pattern}.tokens", "w") as file:
            file.write(" ".join(map(str, tokens)) + "\n")


def save_added():
    """Added tokens of every kind, in text where they are next to words, spaces and each other."""
    tokenizer = Tokenizer.from_file(GOLDEN + "/gpt2.json")
    kinds = [
        AddedToken("  ", special=False, normalized=True), AddedToken("   ", special=False, normalized=True),
        AddedToken("        ", special=False, normalized=True), AddedToken("\t\t", special=False, normalized=True),
        AddedToken("<tool>", special=False, normalized=False), AddedToken("<tool><b>", special=False, normalized=True),
        AddedToken("word", special=False, single_word=True, normalized=True),
        AddedToken("größe", special=False, single_word=True, normalized=False),
        AddedToken("<mask>", special=False, lstrip=True, normalized=False),
        AddedToken("<cut>", special=False, rstrip=True, normalized=False),
        AddedToken("<both>", special=False, lstrip=True, rstrip=True, normalized=True),
        AddedToken("New York", special=False, normalized=True), AddedToken("<|im_end|>", special=True, normalized=False),
        AddedToken("<|im", special=False, normalized=False),
    ]
    tokenizer.add_tokens([one for one in kinds if not one.special])
    tokenizer.add_special_tokens([one for one in kinds if one.special])
    draw = random.Random(11)
    parts = [one.content for one in kinds] + [SPECIAL, " ", "    ", "\n", "\u00a0", "\u3000", "a", "Größe", "x1", "_", "e\u0301", "!", "the ",
                                              "word word", "sword", "wordy", "и", "日本", "<", "<tool", "New", " York", "\t", "'s"]
    text = "".join(draw.choice(parts) for _ in range(1500))
    with open(GOLDEN + "/added.txt", "w", newline="") as file:
        file.write(text)
    with open(GOLDEN + "/added.json", "w") as file:
        file.write(tokenizer.to_str())
    for name, plain in [("added.tokens", True), ("added-specials.tokens", False)]:
        tokenizer.encode_special_tokens = plain
        with open(f"{GOLDEN}/{name}", "w") as file:
            file.write(" ".join(map(str, tokenizer.encode(text, add_special_tokens=False).ids)) + "\n")


def timed(body):
    best, result = 1e9, None
    for _ in range(3):
        begun = time.perf_counter()
        result = body()
        best = min(best, time.perf_counter() - begun)
    return best, result


def compare(path):
    text = open(path, newline="").read() if path else mixed(60_000)
    size = len(text.encode()) / 1e6
    with tempfile.TemporaryDirectory() as folder:
        source = folder + "/text.txt"
        with open(source, "w", newline="") as file:
            file.write(text)
        for pattern in PATTERNS:
            name = f"{folder}/{pattern}.json"
            learning, _ = timed(lambda: subprocess.run(
                [RESS, "data", "tokenizer", "train", source, "--out", name, "--vocabulary", "8000", "--pattern", pattern,
                 "--threads", "1", "--force"], check=True, capture_output=True))
            theirs, trained = timed(lambda: learn(pattern, [text], 8000))
            model, mine = json.loads(trained.to_str())["model"], json.load(open(name))["model"]
            same = mine["merges"] == model["merges"] and mine["vocab"] == model["vocab"]
            print(f"{pattern}: learning 8000 tokens of {size:.1f} MB: ress {learning:.2f} s, tokenizers {theirs:.2f} s, "
                  f"vocabularies {'equal' if same else 'DIFFER'}")
            encoded = [subprocess.run([RESS, "data", "tokenizer", "encode", name, source, "--time"], check=True,
                                      capture_output=True, text=True) for _ in range(3)]
            speed = max(float(run.stderr.split(": ")[-1].split()[0]) for run in encoded)
            tokens = [int(word) for word in encoded[0].stdout.split()]
            lines = text.splitlines(keepends=True)
            hf_whole, whole = timed(lambda: trained.encode(text, add_special_tokens=False).ids)
            hf_lines, _ = timed(lambda: [trained.encode(line, add_special_tokens=False).ids for line in lines])
            tk = tiktokens(pattern, model)
            tk_seconds, tk_tokens = timed(lambda: tk.encode_ordinary(text))
            print(f"{pattern}: encoding: ress {speed:.1f} MB/s, tiktoken {size / tk_seconds:.1f} MB/s, "
                  f"tokenizers {size / min(hf_whole, hf_lines):.1f} MB/s; tokens "
                  f"{'equal' if tokens == whole == tk_tokens else 'DIFFER'}")


if __name__ == "__main__":
    (save(), save_added()) if sys.argv[1:] == ["--save"] else compare(sys.argv[1] if len(sys.argv) > 1 else None)
