"""The designs that the laboratory compares: ReSSFormer with one thing changed, by keys of a configuration.

In a setting, {length} is the longest sequence of the task and {narrow} a width at which eight pooled experts have few parameters.
Each design has the FLOPs a token of the default, as `ress plan --count-only` counts them: where a change alters them, the width of a network that
every token passes (`fit`) makes up for it. Parameters are what follows from that; the table states them.
"""

from dataclasses import dataclass

from variants import MENTIONS  # of Benchmarks/paper, which lab.py puts on the path

DENSE_LAYERS = (
    "model.architecture=transformer", "model.segment={length}", "model.shared_expert=false", "model.experts=1", "model.active_experts=1")
NO_GRAPH = ("model.graph_degree=null", "model.structure_bias=false")
DENSE_ATTENTION = (*NO_GRAPH, "model.keys=null")
POOL = ("model.separate_blocks=true", "model.pool_experts=true")
NARROW = (*POOL, "model.experts=8", "model.active_experts=4", "model.expert_width={narrow}")
MIDDLE = ("model.blocks=3", "model.block_order=middle")
NO_CACHE = ("model.cache=0",)


@dataclass(frozen=True)
class Design:
    name: str
    part: str  # R2MU, memory, ASAM, SOES, or what the design is compared for
    settings: tuple = ()
    fit: str = "model.shared_width"  # the key whose value makes the FLOPs equal
    seeds: int = 1  # the designs that decide something have two or three
    against: str = "default"  # the design it is compared with
    tasks: tuple = ("kjv",)
    positions: bool = False  # whether the loss by position beyond the trained length is measured


BOTH = ("kjv", "recall")
PARTS = ("kjv-long", "recall", "chase")
LONG = ("chase-long", "recall-long")
ALL = ("kjv", "kjv-long", "recall", "chase", *LONG)
TEXTS = ("bible", "shakespeare", "wikitext")  # trained for longest, five seeds, measured on texts that no choice was made on
EVERY = (*LONG, "kjv-long", "recall", "chase", "far", "needles")
SEEN = ("recall", "far")
# The tasks whose datasets have relations. Their configurations read them.
RELATED = ("reach", "reach-long", "cora", "lookups")
NO_RELATIONS = ("model.relation_kinds=0",)

DESIGNS = (
    Design("default", "", seeds=5, tasks=(*ALL, *TEXTS, "far", "needles", *RELATED), positions=True),
    Design(
        "dense Transformer, the same help", "baseline", DENSE_LAYERS, "model.expert_width", 5, tasks=(*ALL, *TEXTS, "far", "needles", *RELATED),
        positions=True),
    # The default of these tasks reads relations.
    Design("no relations", "SOES", NO_RELATIONS, seeds=3, tasks=RELATED),
    Design("relations choose, the graph weighs nothing", "SOES", ("model.structure_bias=false",), seeds=3, tasks=RELATED),
    Design("no relations, the graph weighs nothing", "SOES", (*NO_RELATIONS, "model.structure_bias=false"), seeds=2, tasks=RELATED),
    Design("no graph, no relations", "SOES", (*NO_GRAPH, *NO_RELATIONS), seeds=2, tasks=RELATED),
    *(Design(f"bias of relations starts at {start}", "SOES", (f"model.relation_start={start}",), seeds=2, tasks=("reach", "cora", "lookups"))
      for start in (0, 2, 4, 8)),
    # The default of these tasks reads no relations.
    Design("one name is related, cache of all tokens", "SOES", (*MENTIONS, "model.cache={length}"), seeds=5, tasks=("recall", "needles")),
    Design("one name is related", "SOES", tuple(MENTIONS), seeds=3, tasks=("recall",)),
    Design("one name is related, cache of 64 tokens", "SOES", (*MENTIONS, "model.cache=64"), seeds=3, tasks=("needles",)),
    Design("K = 1", "R2MU", ("model.steps=1",), seeds=3, tasks=ALL),
    Design("no memory", "memory", ("model.memory_slots=0",), seeds=3, tasks=ALL, positions=True),
    Design("no graph: all visible tokens, no weights", "SOES", NO_GRAPH, seeds=3, tasks=ALL),
    Design("all keys kept", "ASAM", ("model.keys=null",), tasks=ALL, seeds=3),
    Design("dense attention: all neighbours and keys, no weights", "ASAM", (*NO_GRAPH, "model.keys=null"), tasks=ALL, seeds=3),
    Design("one dense network for the experts", "ASAM", ("model.feed_forward=dense",), tasks=ALL, seeds=3),
    Design("sparsemax", "ASAM", ("model.activation=sparsemax",), tasks=BOTH, seeds=2),
    Design("entmax15", "ASAM", ("model.activation=entmax15",), tasks=BOTH, seeds=2),
    Design("graph chooses, weighs nothing", "SOES", ("model.structure_bias=false",), tasks=ALL, seeds=3),
    # Shared against separate blocks of equal parameters: the shared block has more experts to choose from.
    Design("shared block, 16 experts, 2 reached", "R2MU", ("model.experts=16", "model.active_experts=2", "model.shared_each_step=true"), tasks=ALL, seeds=3),
    Design("separate blocks, 4 experts each, 2 reached", "R2MU", (
        "model.separate_blocks=true", "model.experts=4", "model.active_experts=2"), against="shared block, 16 experts, 2 reached", tasks=ALL, seeds=3),
    Design("separate blocks, 4 experts each, 2 reached, graph weighs nothing", "R2MU", (
        "model.separate_blocks=true", "model.experts=4", "model.active_experts=2", "model.structure_bias=false"),
        against="shared block, 16 experts, 2 reached", tasks=("kjv", "kjv-long"), seeds=3),
    Design("separate blocks, 2 experts each, 1 reached", "R2MU", (
        "model.separate_blocks=true", "model.experts=2", "model.active_experts=1"), tasks=("kjv", "kjv-long"), seeds=2),
    Design("separate blocks, 4 experts each, 2 reached, no memory", "R2MU", (
        "model.separate_blocks=true", "model.experts=4", "model.active_experts=2", "model.memory_slots=0"),
        against="separate blocks, 4 experts each, 2 reached", tasks=("kjv", "kjv-long"), seeds=2),
    # Blocks that share a pool of experts and the writing of the memory. The narrow ones have about the parameters of the dense Transformer.
    Design("pooled, 8 narrow experts, 4 reached", "R2MU", NARROW, tasks=(*TEXTS, *EVERY), seeds=5, positions=True),
    # One part after the other taken away from the pooled blocks, and what these lack beside the dense Transformer.
    Design("dense Transformer, no positions", "baseline", (*DENSE_LAYERS, "model.positions=none"), "model.expert_width", 2,
           "dense Transformer, the same help", ("bible",)),
    *(
        Design(f"pooled, narrow, {name}", part, (*NARROW, *settings), seeds=2, against="pooled, 8 narrow experts, 4 reached", tasks=("bible", *tasks))
        for name, part, settings, tasks in (
            ("no memory", "memory", ("model.memory_slots=0",), PARTS),
            ("no graph", "SOES", NO_GRAPH, PARTS),
            ("graph weighs nothing", "SOES", ("model.structure_bias=false",), PARTS),
            ("all keys kept", "ASAM", ("model.keys=null",), PARTS),
            ("dense attention", "ASAM", DENSE_ATTENTION, ()),
            ("dense attention, cache of all tokens", "ASAM", (*DENSE_ATTENTION, "model.cache=2048"), ()),
            ("dense attention, whole sequences, no memory", "memory", (
                *DENSE_ATTENTION, "model.segment={length}", "model.cache=0", "model.memory_slots=0"), ()),
            ("16 keys, 24 neighbours", "ASAM", ("model.keys=16", "model.graph_degree=24"), ()))),
    # One step more than the dense Transformer has layers, of fewer blocks than steps.
    *(
        Design(f"four steps, {name}", "R2MU", ("model.steps=4", "model.separate_blocks=true", *settings), seeds=5, tasks=(*TEXTS, "chase-long"))
        for name, settings in (
            ("middle two share a block, dense networks", (*MIDDLE, "model.feed_forward=dense")),
            ("two blocks in turn, dense networks", ("model.blocks=2", "model.feed_forward=dense")),
            ("middle two share a block, narrow pool", (*MIDDLE, *NARROW)),
            ("two blocks in turn, narrow pool", ("model.blocks=2", *NARROW)),
            ("two blocks in turn, 4 experts each", ("model.blocks=2", "model.experts=4", "model.active_experts=2")))),
    Design("pooled, 3 experts, 2 reached", "R2MU", (*POOL, "model.experts=3", "model.active_experts=2"), tasks=("kjv-long",), seeds=3),
    Design("pooled, 8 experts, 2 reached", "R2MU", (*POOL, "model.active_experts=2"), tasks=EVERY, seeds=3),
    Design("pooled, 12 experts, 2 reached", "R2MU", (
        *POOL, "model.experts=12", "model.active_experts=2"), against="separate blocks, 4 experts each, 2 reached", tasks=("kjv-long",), seeds=2),
    Design("separate blocks, one dense network for the experts", "R2MU", (
        "model.separate_blocks=true", "model.feed_forward=dense"), tasks=("kjv-long",), seeds=2),
    # A shared block that gives more of its parameters to the experts of each step's own.
    Design("shared block, 4 experts, 2 reached", "R2MU", ("model.experts=4", "model.active_experts=2"), tasks=("kjv-long",), seeds=2),
    Design("shared block, 2 experts, 1 reached", "R2MU", ("model.experts=2", "model.active_experts=1"), tasks=("kjv-long",), seeds=2),
    # A cache that holds every token that training or a measurement shows, as that of `needles` does, and one of half a segment.
    Design("cache of 64 tokens", "memory", ("model.cache=64",), tasks=("needles",), seeds=3),
    Design("pooled, narrow, cache of 64 tokens", "memory", (*NARROW, "model.cache=64"), tasks=("needles",), seeds=2),
    Design("cache of all tokens", "memory", ("model.cache={length}",), tasks=SEEN, seeds=5),
    Design("pooled, narrow, cache of all tokens", "memory", (*NARROW, "model.cache={length}"), tasks=SEEN, seeds=3),
    # Other rates: the default's is the best of these for ReSSFormer, and not for the dense Transformer.
    Design("rate 0.0055", "", ("optimizer.learning_rate=0.0055",), tasks=("kjv-long",), seeds=1),
    Design("rate 0.012", "", ("optimizer.learning_rate=0.012",), tasks=("kjv-long",), seeds=1),
    Design("dense Transformer, the same help, rate 0.0055", "baseline", (
        *DENSE_LAYERS, "optimizer.learning_rate=0.0055"), "model.expert_width", 3, tasks=("kjv-long",)),
    Design("dense Transformer, the same help, rate 0.012", "baseline", (
        *DENSE_LAYERS, "optimizer.learning_rate=0.012"), "model.expert_width", 1, tasks=("kjv-long",)),
    Design("pooled, 8 experts, 2 reached, rate 0.0055", "R2MU", (
        *POOL, "model.active_experts=2", "optimizer.learning_rate=0.0055"), tasks=("kjv-long",), seeds=1),
    Design("one shared expert for all steps, 12 experts", "R2MU", ("model.shared_each_step=false", "model.experts=12"), tasks=BOTH),
    Design("K = 2", "R2MU", ("model.steps=2",)),
    Design("K = 4", "R2MU", ("model.steps=4",)),
    # The graph, weighing edges in other ways.
    Design("graph weighs all visible tokens", "SOES", ("model.graph_degree=null",)),
    Design("window alone, no chosen neighbours", "SOES", ("model.graph_degree=0",)),
    Design("graph alone, window 1", "SOES", ("model.window=1", "model.graph_degree=15")),
    Design("structure rank 24", "SOES", ("model.structure_rank=24",)),
    Design("no penalty on change of the graph", "SOES", ("model.smooth_weight=0",)),
    Design("graph of 24 neighbours", "SOES", ("model.graph_degree=24",)),
    # The memory, where it has more to do, or more room.
    Design("32 slots", "memory", ("model.memory_slots=32",)),
    Design("no cache", "memory", NO_CACHE, positions=True, seeds=2),
    Design("no cache, no memory", "memory", (*NO_CACHE, "model.memory_slots=0"), against="no cache", positions=True, seeds=2),
    Design("segments of 32, cache 32", "memory", ("model.segment=32", "model.cache=32")),
    Design("gradients of the memory cut at every segment", "memory", ("training.bptt_segments=1",)),
    # Keys and experts in other numbers.
    Design("4 keys", "ASAM", ("model.keys=4",)),
    Design("1 expert reached, three times as wide", "ASAM", ("model.active_experts=1", "model.expert_width=264", "model.experts=3")),
    Design("6 of 16 experts reached, half as wide", "ASAM", ("model.active_experts=6", "model.expert_width=44", "model.experts=16")),
    Design("no expert that every token reaches", "ASAM", ("model.shared_expert=false",), "model.expert_width"),
    Design("dense mixture: separate blocks, dense attention, no memory", "baseline", (
        *NO_GRAPH, "model.keys=null", "model.memory_slots=0", "model.separate_blocks=true", "model.experts=4", "model.segment={length}", "model.cache=0")),
    Design("fixed scale of the scores", "ASAM", ("model.score_scale=fixed",)),
    Design("sparsemax, fixed scale", "ASAM", ("model.activation=sparsemax", "model.score_scale=fixed")),
)
