"""What an explainer says of one structure: a value for each player, with everything needed to hold it to account."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from interpret.metrics.faithfulness import tie_levels
from interpret.tables import write_json
from model.errors import InterpretError, RecordError

Side = Literal["text", "graph"]
Floats = NDArray[np.float64]

SCHEMA_VERSION = 1
# Largest share of the change of the output that an additive explanation may leave unexplained.
COMPLETENESS = 0.01


class AttributionError(InterpretError):
    """An explanation was asked for that the network, the text encoder or the structure does not allow."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """Values of the players of one structure.

    Attributes:
        id: of the structure.
        method: public name, e.g. ``integrated-gradients``.
        side: whose input the players are.
        kind: ``words``, ``sentences``, ``atoms``, ``orbits`` or ``bonds``.
        players: P labels.
        categories: P, the category of a word, the element of an atom.
        values: float64 [P], in ``unit``; of weights the order is all that counts.
        target: what is explained, e.g. ``prediction``.
        unit: of the values: that of the target, or ``weight``.
        baseline: name of what stands for an absent player; empty for methods without one.
        output: the target at the structure's own input.
        baseline_output: the target with every player absent; NaN for methods without a baseline.
        additive: whether values and remainder should sum to ``output - baseline_output``.
        remainder: what falls to inputs that are no player (special tokens); 0 where there are none.
        steps: of the path integral; None for other methods.
        notes: what a reader must know.

    Raises:
        AttributionError: the parts do not fit each other.
    """

    id: str
    method: str
    side: Side
    kind: str
    players: tuple[str, ...]
    categories: tuple[str, ...]
    values: Floats
    target: str
    unit: str
    baseline: str
    output: float
    baseline_output: float = math.nan
    additive: bool = False
    remainder: float = 0.0
    steps: int | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        expected = (len(self.players),)
        if self.values.shape != expected or self.values.dtype != np.float64:
            raise AttributionError(
                f"expected one float64 value for each of {expected[0]} players, got {self.values.dtype} of shape "
                f"{self.values.shape}"
            )
        if len(self.categories) != len(self.players):
            raise AttributionError(f"expected {expected[0]} categories, got {len(self.categories)}")
        if self.side not in ("text", "graph"):
            raise AttributionError(f"expected the side to be 'text' or 'graph', got {self.side!r}")
        if not np.isfinite(self.values).all() or not math.isfinite(self.output):
            raise AttributionError(f"{self.method} of {self.id} has values that are not finite: {self.values[:5]}")
        if self.additive and not (math.isfinite(self.baseline_output) and math.isfinite(self.remainder)):
            raise AttributionError(f"an additive explanation ({self.method}) needs the target at its baseline")

    @property
    def change(self) -> float:
        """Target at the input minus target at the baseline."""
        return self.output - self.baseline_output

    @property
    def delta(self) -> float:
        """Convergence delta: sum of values and remainder, minus the change; NaN for methods that promise no sum."""
        return math.fsum(self.values) + self.remainder - self.change if self.additive else math.nan

    @property
    def relative_delta(self) -> float:
        """``|delta| / |change|``; NaN where the method promises no sum or nothing changes."""
        return abs(self.delta / self.change) if self.change else math.nan

    @property
    def complete(self) -> bool | None:
        """Whether the delta is within 1 % of the change; None for methods that promise no sum."""
        return abs(self.delta) <= COMPLETENESS * abs(self.change) if self.additive else None

    @property
    def tied(self) -> bool:
        """Whether two players have the same importance, so that their order is a matter of chance."""
        return len(np.unique(tie_levels(self.values))) < len(self.values)

    def order(self, seed: int = 0) -> NDArray[np.int64]:
        """Players from the most to the least important, by size; ties are drawn, never taken in order of position."""
        # By structure: one draw for all would have the same luck in each of them, where cells have as many atoms.
        digest = hashlib.sha256(f"ties:{seed}:{self.kind}:{self.id}".encode("utf-8", "surrogatepass")).digest()
        draw = np.random.default_rng(int.from_bytes(digest[:8], "big")).random(len(self.values))
        return np.lexsort((draw, -tie_levels(self.values))).astype(np.int64)

    def top(self, count: int = 5) -> tuple[tuple[str, float], ...]:
        """The most important players with their values."""
        return tuple((self.players[i], float(self.values[i])) for i in self.order()[:count])

    def rows(self) -> list[dict[str, Any]]:
        """One row a player, for the attribution table."""
        rank = np.empty(len(self.values), dtype=np.int64)
        rank[self.order()] = np.arange(1, len(self.values) + 1)
        return [
            {
                "id": self.id,
                "side": self.side,
                "kind": self.kind,
                "method": self.method,
                "player": number,
                "label": label,
                "category": category,
                "value": float(value),
                "rank": int(rank[number]),
                "target": self.target,
                "unit": self.unit,
                "baseline": self.baseline,
            }
            for number, (label, category, value) in enumerate(
                zip(self.players, self.categories, self.values, strict=True)
            )
        ]

    def save(self, path: Path) -> None:
        """Write JSON atomically."""
        write_json(path, {"schema_version": SCHEMA_VERSION, **asdict(self), "values": self.values.tolist()})

    @classmethod
    def load(cls, path: Path) -> Explanation:
        """Read what :meth:`save` wrote.

        Raises:
            RecordError: it is not there, or not an explanation of this version.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            version = content.pop("schema_version")
            if version != SCHEMA_VERSION:
                raise RecordError(f"expected schema version {SCHEMA_VERSION} in {path}, got {version!r}")
            content["values"] = np.array(content["values"], dtype=np.float64)
            for name in ("players", "categories", "notes"):
                content[name] = tuple(content[name])
            if content["baseline_output"] is None:
                content["baseline_output"] = math.nan
            return cls(**content)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RecordError(f"expected an explanation in {path}: {error}") from error
