"""The experiments: what is asked, of which variants, how long they train. configs/paper/NAME.yaml has the models."""

from dataclasses import dataclass

from variants import ABLATIONS, BLIND, MIXTURE, OURS, PLAIN, TWIN, WIDER


@dataclass(frozen=True)
class Experiment:
    name: str
    figure: str  # length, noise, structure or language
    title: str
    claim: str
    quick_steps: int
    chance: float | None = None  # percent; None: the measure is bits a byte
    axis: str | None = None  # None: bars
    controls: tuple = (TWIN, WIDER, BLIND, PLAIN, MIXTURE)
    ablations: tuple = ()
    recurrences: tuple = ()  # other K at evaluation, of the models with one block
    quick: bool = True  # whether `make paper-quick` has it

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
        return (OURS, TWIN, PLAIN, *self.ablations[:1]) if quick else (OURS, *self.controls, *self.ablations)


ALL = tuple(ABLATIONS)
EXPERIMENTS = {experiment.name: experiment for experiment in (
    Experiment(
        "recall", "length", "Keyed recall: values of keys among words that mean nothing (MQAR)",
        "accuracy holds at lengths beyond the trained ones", 500, 100 / 8, "words (trained with the first two lengths)", ablations=("no memory", "no graph", "all keys", "one step")),
    Experiment(
        "far", "length", "A pair in the first segment, asked for n segments later", "what crosses segments is kept", 200, 100 / 8,
        "segments of 16 words between", ablations=("no memory", "one step", "separate blocks")),
    Experiment(
        "needles", "noise", "Noise: codes of people among paragraphs", "accuracy holds as paragraphs are added", 400, 10,
        "paragraphs (trained with few)", ablations=ALL),
    Experiment(
        "hops", "noise", "Noise: codes of friends of people, two hops, among paragraphs", "accuracy holds as paragraphs are added", 250, 10,
        "paragraphs (trained with 0 to 2)", ablations=("one step", "no graph"), quick=False),
    Experiment(
        "stories", "noise", "Noise: where a thing is that people carry, among paragraphs", "accuracy holds as paragraphs are added", 250,
        100 / 8, "paragraphs (trained with 0 to 2)", ablations=("one step", "no memory"), quick=False),
    Experiment(
        "supporting", "noise", "HotpotQA: the paragraph that a question takes", "what matters is found among distractors", 150, 12.5,
        controls=(TWIN, PLAIN), quick=False),
    Experiment(
        "listops", "structure", "Nested lists of operations (ListOps)", "steps of recurrence compute nested structure", 400, 10,
        "(trained with 1 to 5)", ablations=("one step", "separate blocks", "no graph"), recurrences=(2, 6, 8)),
    Experiment(
        "reach", "structure", "Which nodes a path joins", "steps of recurrence follow paths", 250, 50, "(trained with 8 to 16 nodes)",
        ablations=("one step", "no graph", "separate blocks"), recurrences=(2, 6, 8), quick=False),
    Experiment(
        "cora", "structure", "The topic of a paper in a citation graph (Cora)", "structure is found without positions", 100, 100 / 7,
        controls=(TWIN, PLAIN), ablations=("no graph", "one step", "sparsemax")),
    Experiment(
        "lookups", "structure", "Statements that one cell of a table decides (TabFact's tables)", "structure is found without positions", 250,
        50, controls=(TWIN, PLAIN), ablations=("no graph", "one step"), quick=False),
    Experiment(
        "shakespeare", "language", "Language modelling: Shakespeare", "bits a byte are fewer", 80, axis="", ablations=ALL),
    Experiment(
        "wikitext", "language", "Language modelling: WikiText-2", "bits a byte are fewer", 80, axis="", controls=(TWIN, PLAIN), quick=False),
    Experiment(
        "bible", "language", "Language modelling: the King James Bible", "bits a byte are fewer", 80, axis="", controls=(TWIN, PLAIN),
        quick=False),
)}
