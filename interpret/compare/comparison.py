"""The result of a comparison: tables and verdicts; saved to a folder and read back without the models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interpret.compare.differences import Movement
from interpret.compare.hypothesis import CriterionResult, HypothesisResult
from interpret.tables import plain, read_result, read_table, write_json, write_table

SCHEMA_VERSION = 1
# Tables by the name of their file.
FRAMES = {
    "attention_statistics": "statistics",
    "pairs": "pairs",
    "heads": "heads",
    "head_matches": "matches",
    "predictions": "predictions",
    "errors": "errors",
    "attention_against_error": "attention_error",
    "rankings": "rankings",
    "representations": "representations",
    "gates_by_element": "gates",
    "heatmaps": "heatmaps",
}


@dataclass(frozen=True)
class Comparison:
    """What differs between two models on the same structures.

    Attributes:
        labels: of a and b.
        identical: no figure and no prediction differs in any structure, beyond the rounding of the computation.
        movement: which of global statistics and atom-to-atom differences moved, with the sentence.
        hypothesis: the verdict of F2.
        statistics: one row a metric; pairs: the raw pairs behind it.
        heads: the figures head by head; matches: which head is which.
        predictions: one row a structure, largest disagreement first. errors: MAE and RMSE.
        attention_error: rank correlation of attention and error.
        rankings: of words. representations: CKA and Procrustes distance by stage. gates: alpha by element.
        heatmaps: some attention maps of both at word level.
        structures: number of structures.
        skipped: id, stage and reason of what could not be analysed.
        notes: what a reader must know.
        provenance: of both runs and of the comparison.
    """

    labels: tuple[str, str]
    identical: bool
    movement: Movement
    hypothesis: HypothesisResult
    statistics: pd.DataFrame
    pairs: pd.DataFrame
    heads: pd.DataFrame
    matches: pd.DataFrame
    predictions: pd.DataFrame
    errors: pd.DataFrame
    attention_error: pd.DataFrame
    rankings: pd.DataFrame
    representations: pd.DataFrame
    gates: pd.DataFrame
    heatmaps: pd.DataFrame
    structures: int
    skipped: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]
    provenance: Mapping[str, Any]

    @property
    def gaps(self) -> dict[str, str]:
        """Metrics that could not be compared, each with its reason."""
        own = self.statistics[(self.statistics["gap"] != "") & (self.statistics["structures"] == 0)]
        return dict(zip(own["metric"], own["gap"], strict=True))

    def to_frame(self) -> pd.DataFrame:
        """The statistics, one row a metric, as in attention_statistics.csv."""
        return self.statistics.copy()

    def to_dict(self) -> dict[str, Any]:
        """comparison.json: everything but the tables."""
        result: dict[str, Any] = plain(
            {
                "schema_version": SCHEMA_VERSION,
                "labels": self.labels,
                "identical": self.identical,
                "sentence": self.movement.sentence,
                "movement": asdict(self.movement),
                "hypothesis": asdict(self.hypothesis),
                "errors": self.errors.to_dict("records"),
                "structures": self.structures,
                "skipped": self.skipped,
                "gaps": self.gaps,
                "notes": self.notes,
                "provenance": self.provenance,
            }
        )
        return result

    def save(self, folder: Path) -> None:
        """Write the tables as CSV and parquet and comparison.json, each atomically."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, attribute in FRAMES.items():
            write_table(getattr(self, attribute), folder, name)
        # Last: a folder with comparison.json is complete.
        write_json(folder / "comparison.json", self.to_dict())

    @classmethod
    def load(cls, folder: Path) -> Comparison:
        """Read what :meth:`save` wrote.

        Raises:
            RecordError: the folder does not hold a complete comparison, or one of another schema.
        """
        content = read_result(folder / "comparison.json", "a comparison", SCHEMA_VERSION, "compare")
        return cls(
            labels=tuple(content["labels"]),
            identical=content["identical"],
            movement=_movement(content["movement"]),
            hypothesis=_hypothesis(content["hypothesis"]),
            structures=content["structures"],
            skipped=tuple(content["skipped"]),
            notes=tuple(content["notes"]),
            provenance=content["provenance"],
            **{attribute: read_table(folder, name) for name, attribute in FRAMES.items()},
        )


def _movement(content: Mapping[str, Any]) -> Movement:
    return Movement(
        moved={name: tuple(metrics) for name, metrics in content["moved"].items()},
        tested=content["tested"],
        alike={tap: tuple(tuple(row) for row in rows) for tap, rows in content["alike"].items()},
        sentence=content["sentence"],
    )


def _hypothesis(content: Mapping[str, Any]) -> HypothesisResult:
    def criterion(item: Mapping[str, Any]) -> CriterionResult:
        numbers = {f.name for f in fields(CriterionResult) if f.type in ("float", float)}
        values: dict[str, Any] = {
            name: np.nan if name in numbers and value is None else value for name, value in item.items()
        }
        values["possible"] = tuple(values["possible"])
        return CriterionResult(**values)

    criteria = tuple(criterion(item) for item in content["criteria"])
    return HypothesisResult(**{**content, "criteria": criteria})
