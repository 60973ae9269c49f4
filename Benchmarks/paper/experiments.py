"""The experiments: what is asked, of which variants, how long they train. configs/paper/NAME.yaml has the models."""

from dataclasses import dataclass

from variants import BLIND, DENSE_MODELS, MIXTURE, NAMED, OURS, PLAIN, RELATED, TWIN, WHOLE, WIDER


@dataclass(frozen=True)
class Experiment:
    name: str
    figure: str  # length, noise, structure or language
    title: str
    claim: str
    quick_steps: int | None = None  # None: `make paper-quick` leaves the experiment out
    chance: float | None = None  # percent; None: the measure is bits a byte
    axis: str | None = None  # None: bars
    controls: tuple = (TWIN, WIDER, BLIND, PLAIN, MIXTURE)
    ablations: tuple = ()
    recurrences: tuple = ()  # other K at evaluation, of the models with one block
    quick: tuple = ()  # what `make paper-quick` compares with, beside the dense twin
    quick_seeds: int | None = None  # at most so many
    swept: tuple = (OURS, TWIN)  # whose rates are swept; the others take the best factor of the one that they resemble

    @property
    def config(self):
        return f"configs/paper/{self.name}.yaml"

    @property
    def lower(self):
        return self.chance is None

    @property
    def unit(self):
        return "bits a byte, lower is better" if self.lower else "accuracy, %"

    def variants(self, quick):
        return (OURS, TWIN, *self.quick) if quick else (OURS, *self.controls, *self.ablations)

    def swept_for(self, variant):
        """The variant whose best rate `variant` is trained at: its own, or that of the dense twin or of ReSSFormer."""
        if variant in self.swept:
            return variant
        return TWIN if variant in DENSE_MODELS else OURS


GRAPHS = tuple(RELATED)
EXPERIMENTS = {experiment.name: experiment for experiment in (
    Experiment(
        "recall", "length", "Keyed recall: values of keys among words that mean nothing (MQAR)",
        "accuracy holds at lengths beyond the trained ones", 500, 100 / 8, "words (trained with 32 to 128)",
        ablations=("no memory", "no graph", "all keys", "one step", WHOLE, NAMED), quick=("no memory", WHOLE, NAMED)),
    Experiment(
        "far", "length", "A pair in the first segment, asked for n segments later", "what crosses segments is kept", 300, 100 / 8,
        "segments of 16 words between (trained with few)", ablations=("no memory", "one step", "separate blocks"),
        quick=("no memory", "one step")),
    Experiment(
        "needles", "noise", "Noise: codes of people among paragraphs", "accuracy holds as paragraphs are added", 400, 10,
        "paragraphs (trained with few)", controls=(TWIN, BLIND, PLAIN), ablations=("no memory", "one step", "one network", NAMED),
        quick=("no memory", "no graph", NAMED), quick_seeds=2),
    Experiment(
        "hops", "noise", "Noise: codes of friends of people, two hops, among paragraphs", "accuracy holds as paragraphs are added",
        None, 10, "paragraphs (trained with 0 to 2)", controls=(TWIN, BLIND), ablations=("one step", NAMED)),
    Experiment(
        "stories", "noise", "Noise: where a thing is that people carry, among paragraphs", "accuracy holds as paragraphs are added",
        None, 100 / 8, "paragraphs (trained with 0 to 2)", controls=(TWIN, BLIND), ablations=("one step", "no memory")),
    Experiment(
        "supporting", "noise", "HotpotQA: the paragraph that a question takes", "what matters is found among distractors", None, 12.5,
        controls=(TWIN, PLAIN)),
    Experiment(
        "chase", "structure", "Where steps of a table lead", "steps of recurrence follow steps of a table", 600, 100 / 8,
        "(trained with 1 to 3 hops)", ablations=("one step", "separate blocks", "no graph"), recurrences=(2, 4, 6),
        quick=("one step", "no graph")),
    Experiment(
        "listops", "structure", "Nested lists of operations (ListOps)", "steps of recurrence compute nested structure", None, 10,
        "(trained with 1 to 5)", ablations=("one step", "separate blocks", "no graph"), recurrences=(2, 6, 8)),
    Experiment(
        "reach", "structure", "Which nodes a path joins", "steps of recurrence follow paths", None, 50, "(trained with 8 to 16 nodes)",
        controls=(TWIN, BLIND, MIXTURE), ablations=(*GRAPHS, "one step", "no graph", "separate blocks"), recurrences=(2, 6, 8)),
    Experiment(
        "cora", "structure", "The topic of a paper in a citation graph (Cora)", "structure is found without positions", 100, 100 / 7,
        controls=(TWIN, PLAIN), ablations=(*GRAPHS, "no graph", "one step", "sparsemax"), quick=("no relations", "no graph")),
    Experiment(
        "lookups", "structure", "Statements that one cell of a table decides (TabFact's tables)", "structure is found without positions",
        None, 50, controls=(TWIN, PLAIN), ablations=(*GRAPHS, "no graph", "one step")),
    Experiment(
        "shakespeare", "language", "Language modelling: Shakespeare", "bits a byte are fewer", None, axis="",
        controls=(TWIN, PLAIN, MIXTURE), ablations=("one step", "separate blocks", "no memory", "one network", "no graph"),
        swept=(OURS, TWIN, PLAIN)),
    Experiment(
        "wikitext", "language", "Language modelling: WikiText-2", "bits a byte are fewer", None, axis="", controls=(TWIN, PLAIN),
        swept=(OURS, TWIN, PLAIN)),
    Experiment(
        "bible", "language", "Language modelling: the King James Bible", "bits a byte are fewer", 200, axis="", controls=(TWIN, PLAIN),
        quick=(PLAIN,), swept=(OURS, TWIN, PLAIN)),
)}
