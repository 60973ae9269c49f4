"""Reads metrics.jsonl, the curve of a run (docs/formats.md, "metrics.jsonl")."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass
class Metrics:
    """A run's curve, in the order of steps. Values that are absent or not finite are NaN."""

    # A key of metrics.jsonl to a value for each step: `step` and `tokens` are whole numbers, `loads` is (steps, experts), and `skipped`
    # has the reason why a step was not applied, or "".
    steps: dict[str, np.ndarray]
    # The same for evaluations: `step`, `validation_loss`, `sequences`, and the measures of the task.
    evaluations: dict[str, np.ndarray]

    def frame(self, what: str = "steps"):
        """`steps` or `evaluations` as a pandas DataFrame, indexed by step. Needs pandas. `loads` has a column for each expert."""
        import pandas

        columns: dict = {}
        for name, values in getattr(self, what).items():
            if values.ndim == 2:
                columns |= {f"{name}_{index}": values[:, index] for index in range(values.shape[1])}
            else:
                columns[name] = values
        return pandas.DataFrame(columns).set_index("step") if columns else pandas.DataFrame()


def read_metrics(place: str | Path) -> Metrics:
    """Reads the metrics of a run's folder, or of a metrics.jsonl. A last line that the run is still writing is left out."""
    path = Path(place)
    path = path / "metrics.jsonl" if path.is_dir() else path
    steps, evaluations = [], []
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            try:
                record = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}:{number}: {error}") from error
            (evaluations if "validation_loss" in record else steps).append(record)
    return Metrics(_columns(steps), _columns(evaluations))


def _columns(records: list[dict]) -> dict[str, np.ndarray]:
    names = list(dict.fromkeys(name for record in records for name in record))
    return {name: _column([record.get(name) for record in records]) for name in names}


def _column(values: list) -> np.ndarray:
    lists = [value for value in values if isinstance(value, list)]
    if lists:
        width = max(len(value) for value in lists)
        return np.array([value + [0] * (width - len(value)) if value else [0] * width for value in values])
    if any(isinstance(value, str) for value in values):
        return np.array([value or "" for value in values], dtype=object)
    if all(isinstance(value, int) for value in values):
        return np.array(values, dtype=np.int64)
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
