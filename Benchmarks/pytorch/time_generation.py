"""Times the dense baseline writing text with a cache of keys and values, and prints one JSON line for each batch.

    python time_generation.py --shape dense-small --texts 1,16 --tokens 512 --threads 1

The texts of a batch are computed together, one token of each in a step. Sampling is softmax and multinomial on logits / 0.8.
`ress-bench generate` is its counterpart.
"""

import argparse
import json
import time
from dataclasses import fields
from pathlib import Path

import torch
import torch.nn.functional as F

from dense_transformer import DenseTransformer, TransformerConfiguration, norm, rotate

SHAPES = Path(__file__).parent.parent / "shapes.json"


class Writer:
    """Keys and values of all layers for the longest text, filled token by token."""

    def __init__(self, model: DenseTransformer, texts: int):
        c = model.configuration
        self.model, self.count = model, 0
        shape = (c.steps, texts, c.heads, c.segment, c.width // c.heads)
        self.keys, self.values = torch.zeros(shape), torch.zeros(shape)

    def logits(self, tokens_B: torch.Tensor) -> torch.Tensor:
        """The logits (B, V) after one more token of each text."""
        m, i = self.model, self.count
        H_BD = F.embedding(tokens_B, m.embed.weight)
        if m.position is not None:
            H_BD = H_BD + m.position.weight[i]
        for layer, block in enumerate(m.block.values()):
            X_BD = norm(H_BD, block.attn_norm.weight)
            query, key, value = (
                F.linear(X_BD, map.weight).unflatten(-1, (block.attn.heads, 1, -1))
                for map in (block.attn.query, block.attn.key, block.attn.value))
            if m.configuration.positions == "rotary":
                query, key = (rotate(x, m.cosine[i : i + 1], m.sine[i : i + 1]) for x in (query, key))
            self.keys[layer][:, :, i : i + 1], self.values[layer][:, :, i : i + 1] = key, value
            out = F.scaled_dot_product_attention(
                query, self.keys[layer][:, :, : i + 1], self.values[layer][:, :, : i + 1])
            G_BD = H_BD + F.linear(out.flatten(1), block.attn.output.weight)
            Y_BD, f = norm(G_BD, block.moe_norm.weight), block.feed_forward
            H_BD = G_BD + F.linear(F.silu(F.linear(Y_BD, f.gate)) * F.linear(Y_BD, f.up), f.down)
        self.count += 1
        return F.linear(norm(H_BD, m.final_norm.weight), m.embed.weight)


def write(model: DenseTransformer, texts: int, tokens: int) -> float:
    """Seconds for texts of that many tokens."""
    begun = time.perf_counter()
    writer, last = Writer(model, texts), torch.ones(texts, dtype=torch.long)
    for _ in range(tokens):
        last = torch.multinomial((writer.logits(last) / 0.8).softmax(-1), 1)[:, 0]
    return time.perf_counter() - begun


def check(model: DenseTransformer) -> float:
    """The largest difference between the loss of the cached and of the whole computation."""
    tokens = torch.randint(0, model.configuration.vocabulary, (2, 20))
    writer = Writer(model, 2)
    logits = torch.stack([writer.logits(tokens[:, i]) for i in range(19)], 1)
    cached = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    return abs(cached - model(tokens[:, :-1], tokens[:, 1:])).item()


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", default="dense-small")
    parser.add_argument("--texts", default="1,16")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    shape = json.loads(SHAPES.read_text())[options.shape]
    names = {field.name for field in fields(TransformerConfiguration)}
    torch.manual_seed(1)
    model = DenseTransformer(TransformerConfiguration(**{k: v for k, v in shape.items() if k in names}))
    assert check(model) < 1e-4
    for texts in map(int, options.texts.split(",")):
        write(model, texts, min(32, options.tokens))
        seconds = write(model, texts, options.tokens)
        print(json.dumps({
            "program": "torch", "shape": options.shape, "threads": options.threads, "texts": texts,
            "tokens": options.tokens, "tokens_per_second": texts * options.tokens / seconds}), flush=True)


if __name__ == "__main__":
    main()
