"""The models that are compared: ReSSFormer, its dense twins, and ReSSFormer with one part changed, all of the same FLOPs.

A variant is a list of settings. FLOPs and parameters are those that `ress plan` counts, at the mean length of an example. Where a change
would alter the FLOPs, the width of the network that every token passes (`shared_width`, or for the baseline `expert_width`) makes up for it.
"""

import json
import subprocess

OURS = "ReSSFormer"
TWIN, WIDER, BLIND, PLAIN, MIXTURE = (
    "dense twin", "dense twin, equal parameters", "dense twin, no positions", "plain dense", "dense mixture")
# The models of the architecture `transformer`.
DENSE_MODELS = (TWIN, WIDER, BLIND, PLAIN)

DENSE = ["model.architecture=transformer", "model.shared_expert=false", "model.experts=1", "model.active_experts=1"]
# Parts that improve ReSSFormer but belong to none of the three that the paper proposes: taps, a norm and a larger start of the embedding, forget gates, a learned scale.
BARE = [
    "model.recency_taps=1", "model.expert_taps=1", "model.embedding_norm=false", "model.embedding_start=0.02", "model.forget_gates=false",
    "model.score_scale=fixed"]

# name: settings. Every one of them changes one thing.
ABLATIONS = {
    "one step": ["model.steps=1"],
    "separate blocks": ["model.separate_blocks=true", "model.pool_experts=false"],
    "no memory": ["model.memory_slots=0"],
    "all keys": ["model.keys=null"],
    "sparsemax": ["model.activation=sparsemax"],
    "one network": ["model.feed_forward=dense"],
    "no graph": ["model.graph_degree=null", "model.structure_bias=false", "model.relation_kinds=0"],
}
# Of the experiments whose data has relations.
RELATED = {
    "no relations": ["model.relation_kinds=0"],
    "relations only choose": ["model.structure_bias=false"],
}
# Of the experiments whose words name something again: all places of one name are related.
MENTIONS = ["model.relation_kinds=1", "model.relation_start=8"]
# The cache holds the whole sequence, so that related tokens are neighbours at any distance; `settings` adds its size.
NAMED, WHOLE = "one name is related", "cache of all tokens"
CACHED = {NAMED: MENTIONS, WHOLE: []}
PART = {
    "one step": "R2MU", "separate blocks": "R2MU", "no memory": "R2MU", "all keys": "ASAM", "sparsemax": "ASAM", "one network": "ASAM",
    "no graph": "SOES", "no relations": "SOES", "relations only choose": "SOES", NAMED: "SOES", WHOLE: "memory"}

EXPLAINED = {
    TWIN: "a dense Transformer of as many layers as ReSSFormer has steps, with the same taps, norm and starts of the embedding, forget gates and "
    "learned scale, and rotary positions; its networks' width makes the FLOPs equal",
    WIDER: "the same with the width that makes the parameters equal",
    BLIND: "the dense twin without rotary positions",
    PLAIN: "a pre-norm Transformer with rotary positions and none of that help",
    MIXTURE: "dense attention and a mixture of experts in separate blocks: no graph, no top-k, no memory, no recurrence",
    "one step": "K = 1, its network wider",
    "separate blocks": "K blocks of their own in place of one, fewer experts in each",
    "no memory": "no memory slots; what crosses segments is the cache",
    "all keys": "every score of a neighbour is kept",
    "sparsemax": "sparsemax in place of softmax",
    "one network": "one dense network in place of routed experts",
    "no graph": "every visible token is a neighbour and none is weighed; no relations",
    "no relations": "the graph is made from content alone",
    "relations only choose": "related tokens are neighbours, and no edge is weighed",
    WHOLE: "the cache holds the whole sequence",
    NAMED: "all places of one key, or of one person's name, are related, which no other model is told, and the cache holds every token",
}


class Variants:
    """Settings and costs of an experiment's variants."""

    def __init__(self, ress, config, vocabulary, length, longest, ordered, settings):
        self.ress, self.config, self.vocabulary, self.base = ress, str(config), vocabulary, settings
        self.length, self.longest, self.ordered = length, longest, ordered
        self.plain = self.count([])
        self.target = self.plain["operations_a_token"]

    def count(self, settings):
        """What `ress plan` says of the model at the mean length of an example."""
        command = [self.ress, "plan", self.config, "--count-only", "--json", "--vocabulary", str(self.vocabulary)]
        length = [f"data.sequence_length={self.length}"]
        if "model.architecture=transformer" in settings:
            length.append(f"model.segment={self.length}")
        for setting in [*self.base, *settings, *length]:
            command += ["--set", setting]
        answer = subprocess.run(command, capture_output=True, text=True)
        if answer.returncode != 0:
            raise SystemExit(f"{' '.join(command)}\n{answer.stderr or answer.stdout}")
        return json.loads(answer.stdout)

    def settings(self, name):
        """The settings of a variant, matched; None where the experiment's model has not got what it changes."""
        if name == OURS:
            return []
        if name in DENSE_MODELS:
            positions = "none" if name == BLIND or not self.ordered else "rotary"
            own = [*DENSE, f"model.positions={positions}", f"model.segment={self.longest}", *(BARE if name == PLAIN else [])]
            measure = "parameters" if name == WIDER else "operations_a_token"
            return [*own, self.matched(own, "model.expert_width", measure)]
        if name == MIXTURE:
            own = [
                "model.separate_blocks=true", "model.pool_experts=false", "model.memory_slots=0", "model.keys=null", "model.graph_degree=null",
                "model.structure_bias=false", f"model.experts={self.share_of_experts()}", f"model.segment={self.longest}", "model.cache=0"]
        elif name in CACHED:
            own = [*CACHED[name], f"model.cache={self.longest}"]
        else:
            own = [*(ABLATIONS | RELATED)[name]]
            if name == "separate blocks":
                own.append(f"model.experts={self.share_of_experts()}")
        return [*own, self.matched(own, "model.shared_width", "operations_a_token")]

    def share_of_experts(self):
        """Experts of each block, so that all blocks together have no more than the shared one, and a token has some to choose from."""
        model = {key: int(self.value(key)) for key in ("experts", "active_experts", "steps")}
        return max(model["active_experts"] + 1, round(model["experts"] / model["steps"]))

    def value(self, key):
        """A key of the configuration's model section, which states all that are asked for here."""
        for line in open(self.config, encoding="utf-8"):
            if line.strip().startswith(f"{key}:"):
                return line.split(":")[1].split("#")[0].strip()
        raise SystemExit(f"{self.config} does not state model.{key}")

    def matched(self, own, knob, measure):
        """The setting of `knob` that brings `measure` nearest to ReSSFormer's."""
        target = self.plain[measure]

        def count(width):
            return self.count([*own, f"{knob}={width}"])[measure]

        # Both measures grow evenly with a width, so that two of them tell where the third is.
        low, high = count(64), count(128)
        width = max(1, round(64 + 64 * (target - low) / (high - low)))
        return f"{knob}={width}"
