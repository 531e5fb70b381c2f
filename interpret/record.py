"""What a run keeps of one structure: named arrays without padding, with labels on every axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from interpret.hooks import Capture
from interpret.taps import Tap

if TYPE_CHECKING:
    from interpret.symmetry import GraphClasses, Orbits
    from interpret.words import Word
    from model.crystal import CrystalGraph
    from model.encoder import TextEncoding


@dataclass(frozen=True)
class StructureRecord:
    """One structure's share of a run.

    Attributes:
        id: of the data set.
        graph: the network's input graph.
        encoding: the network's input text.
        words: the text's words, with the pieces each is made of.
        orbits: atoms that symmetry makes equivalent.
        classes: atoms that the network's input graph makes equivalent, whatever the weights.
        target: label, NaN where there is none. prediction: in the same unit.
        data: one variable a captured tap, dims named after its axes; coordinates ``atom`` (``Ba1``) and
            ``token`` (the piece).
        counterfactuals: columns of the extra passes, by name.
    """

    id: str
    graph: CrystalGraph
    encoding: TextEncoding
    words: tuple[Word, ...]
    orbits: Orbits
    classes: GraphClasses
    target: float
    prediction: float
    data: xr.Dataset
    counterfactuals: Mapping[str, float] = field(default_factory=dict)

    @property
    def error(self) -> float:
        """Prediction minus target; NaN where there is no target."""
        return self.prediction - self.target

    def __contains__(self, tap: object) -> bool:
        return tap in self.data

    def values(self, tap: str) -> np.ndarray:
        """The array of a tap, float64."""
        return np.asarray(self.data[tap].values, dtype=np.float64)


def dimensions(tap: Tap) -> tuple[str, ...]:
    """Names of the dims of a tap in a record: sizes differ between spaces and between attentions, so names do."""
    owner = tap.name.rsplit(".", 1)[0]
    names = {
        "channel": "channel" if tap.space in ("node", "gate") and tap.axes[0] == "atom" else f"{tap.space}_channel",
        "head": "head" if owner == "attention" else f"{owner}_head",
        "query": "query",
        "key": "key",
    }
    if tap.space == "node":
        names["channel"] = "channel"
    elif tap.space == "gate" and tap.axes[0] == "structure":
        names["channel"] = "gate_channel"
    return tuple(names.get(axis, axis) for axis in tap.axes if axis != "structure")


def to_datasets(captures: list[Capture]) -> list[xr.Dataset]:
    """One dataset a structure of what was captured in a forward pass."""
    columns = [
        (
            capture.tap.name,
            dimensions(capture.tap),
            [value.cpu().numpy() for value in capture.per_structure()],
        )
        for capture in captures
    ]
    structures = len(columns[0][2]) if columns else 0
    return [xr.Dataset({name: (dims, values[row]) for name, dims, values in columns}) for row in range(structures)]
