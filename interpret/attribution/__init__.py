"""Attribution: what a prediction rests on, by players and methods, and whether an explanation is true."""

from __future__ import annotations

from interpret.attribution.baselines import BASELINES, Baseline
from interpret.attribution.dataset import AttributionOptions, attribute_dataset
from interpret.attribution.explanation import AttributionError, Explanation
from interpret.attribution.methods import METHODS, REFERENCES
from interpret.attribution.players import KINDS, Players
from interpret.attribution.single import attribute
from interpret.attribution.subject import Target
from interpret.attribution.tables import AttributionTables

__all__ = [
    "BASELINES",
    "KINDS",
    "METHODS",
    "REFERENCES",
    "AttributionError",
    "AttributionOptions",
    "AttributionTables",
    "Baseline",
    "Explanation",
    "Players",
    "Target",
    "attribute",
    "attribute_dataset",
]
