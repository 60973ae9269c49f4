"""A tokenizer for made-up languages: every word of a given list is one token, whatever else the text holds is bytes.

It is a tokenizer.json of byte pairs, as `ress data prepare --tokenizer` reads them. A word gets a token because its letters are
merged from the space before it onwards, and by no other merge. The first word of a row has no space before it, so rows begin with START.
"""

import json
from itertools import combinations, product
from string import ascii_lowercase

START = "s"


def names(count, first="bcdfghjklmnpqrtvwxz"):
    """Words of a consonant, a vowel and a consonant, which begin with one of `first`: `bab`, `bac`, …"""
    words = ["".join(letters) for letters in product(first, "aeiou", "bcdfghjklmnpqrtvwxz")]
    if count > len(words):
        raise ValueError(f"{count} names were asked for, and there are {len(words)}")
    # Neighbours in the list look alike; steps through it do not.
    return [words[number * 7 % len(words)] for number in range(count)]


def byte_letters():
    """The printable letters that stand for the 256 bytes in GPT-2's files, in its order."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(byte) for byte in plain] + [chr(256 + number) for number in range(256 - len(plain))]


def tokenizer(words):
    """The text of a tokenizer.json in which each of `words`, of lower-case letters alone, is one token behind a space."""
    for word in words:
        if not word or set(word) - set(ascii_lowercase):
            raise ValueError(f"'{word}' is not a word of lower-case letters")
    space, merges, known = "\u0120", [], set()
    for word in words:
        piece = space
        for letter in word:
            if piece + letter not in known:
                known.add(piece + letter)
                merges.append([piece, letter])
            piece += letter
    end = "<|endoftext|>"
    pieces = [end, *byte_letters(), *(a + b for a, b in merges)]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return json.dumps({
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": 0, "content": end, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
                          "special": True}],
        "normalizer": None, "pre_tokenizer": level, "post_processor": None, "decoder": level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {piece: number for number, piece in enumerate(pieces)}, "merges": merges}})


def asked_at_end(words, answer, **more):
    """A row of the task `tag` that asks one thing, at its last word, and nothing of the others."""
    return {"words": words, "tags": [None] * (len(words) - 1) + [answer], **more}


def mentions(row, names):
    """Relations of kind 0 between all places of a row at which the same one of `names` stands; words are counted from 0."""
    known, places = set(names), {}
    for place, word in enumerate(row):
        if word in known:
            places.setdefault(word, []).append(place)
    return [[i, j] for there in places.values() for i, j in combinations(there, 2)]
