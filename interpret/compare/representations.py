"""How alike two models represent the same atoms and structures, stage by stage, streamed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interpret.metrics.similarity import MinibatchCKA, check_sample_ids

Level = Literal["atom", "structure"]
ESTIMATOR = "debiased minibatch linear CKA (Nguyen 2021)"
# Structures a minibatch. They are cut from the data sorted by id, so that the figure does not depend on how the
# networks were run. All atoms of a minibatch are held in memory at every stage; of a structure only their mean is.
ATOM_BATCH = 64
STRUCTURE_BATCH = 1024


@dataclass(frozen=True)
class ProcrustesSums:
    """Orthogonal Procrustes distance from sums over minibatches: ``2 - 2 ||X^T Y||_* / (||X||_F ||Y||_F)``, centred.

    Sums are of features shifted by the means of the first minibatch, which keeps the cancellation small.

    Attributes:
        samples: n. shift_x, shift_y: [d1], [d2].
        sum_x, sum_y: [d1], [d2]. squares_x, squares_y: 0-d. cross: [d1, d2].
        equal: whether the two were equal in every minibatch.
    """

    samples: int = 0
    shift_x: Tensor | None = None
    shift_y: Tensor | None = None
    sum_x: Tensor | None = None
    sum_y: Tensor | None = None
    squares_x: float = 0.0
    squares_y: float = 0.0
    cross: Tensor | None = None
    equal: bool = True

    def update(self, x: Tensor, y: Tensor) -> ProcrustesSums:
        """The sums with one minibatch more, x [n, d1] and y [n, d2] float64."""
        shift_x = x.mean(0) if self.shift_x is None else self.shift_x
        shift_y = y.mean(0) if self.shift_y is None else self.shift_y
        a, b = x - shift_x, y - shift_y
        sum_x = torch.zeros_like(shift_x) if self.sum_x is None else self.sum_x
        sum_y = torch.zeros_like(shift_y) if self.sum_y is None else self.sum_y
        cross = x.new_zeros(x.shape[1], y.shape[1]) if self.cross is None else self.cross
        return ProcrustesSums(
            self.samples + len(x),
            shift_x,
            shift_y,
            sum_x + a.sum(0),
            sum_y + b.sum(0),
            self.squares_x + float(a.square().sum()),
            self.squares_y + float(b.square().sum()),
            cross + a.T @ b,
            self.equal and x.shape == y.shape and torch.equal(x, y),
        )

    def compute(self) -> float:
        """The distance, 0 to 2; NaN for fewer than two samples or features that do not vary."""
        if self.samples < 2 or self.sum_x is None or self.sum_y is None or self.cross is None:
            return float("nan")
        norm_x = self.squares_x - float(self.sum_x.square().sum()) / self.samples
        norm_y = self.squares_y - float(self.sum_y.square().sum()) / self.samples
        # What is left of a constant after the subtraction is rounding.
        if norm_x <= 1e-14 * self.squares_x or norm_y <= 1e-14 * self.squares_y:
            return float("nan")
        if self.equal:
            return 0.0
        centred = self.cross - torch.outer(self.sum_x, self.sum_y) / self.samples
        nuclear = float(torch.linalg.svdvals(centred).sum())
        return max(0.0, 2 - 2 * nuclear / math.sqrt(norm_x * norm_y))


class Stages(NamedTuple):
    """Features of a minibatch of structures.

    Attributes:
        ids: of the structures.
        atoms: [N, d] float64 by stage, all atoms of all structures in order.
        means: [n, d] float64 by stage, mean over the atoms of each structure.
    """

    ids: tuple[str, ...]
    atoms: Mapping[str, Tensor]
    means: Mapping[str, Tensor]

    @classmethod
    def of(cls, ids: Sequence[str], features: Sequence[Mapping[str, np.ndarray]]) -> Stages:
        """Of each structure its features by stage, [N, d]."""
        stages = [name for name in features[0] if all(name in own for own in features)] if features else []
        return cls(
            tuple(ids),
            {name: torch.from_numpy(np.concatenate([own[name] for own in features])) for name in stages},
            {name: torch.from_numpy(np.stack([own[name].mean(axis=0) for own in features])) for name in stages},
        )


@dataclass
class Similarity:
    """CKA and Procrustes distance of two stages at one level, while minibatches come in."""

    cka: MinibatchCKA = field(default_factory=MinibatchCKA)
    procrustes: ProcrustesSums = field(default_factory=ProcrustesSums)
    channels: tuple[int, int] = (0, 0)

    def update(self, x: Tensor, y: Tensor, resolution: tuple[float, float]) -> None:
        """One minibatch more; features that agree to within rounding count as equal."""
        if x.shape == y.shape and torch.allclose(x, y, rtol=resolution[0], atol=resolution[1]):
            y = x
        self.cka = self.cka.update(x, y)
        self.procrustes = self.procrustes.update(x, y)
        self.channels = (x.shape[1], y.shape[1])


class Representations:
    """Every stage of a against every stage of b, at atom level and at structure level.

    Args:
        relative, absolute: resolution of the features.
    """

    def __init__(self, relative: float = 1e-10, absolute: float = 1e-11) -> None:
        self._resolution = (relative, absolute)
        self._state: dict[tuple[Level, str, str], Similarity] = {}
        self._waiting: list[tuple[Stages, Stages]] = []
        self.structures = 0

    def update(self, first: Stages, second: Stages) -> None:
        """One minibatch of structures more.

        Raises:
            DataError: the two are not of the same structures in the same order.
        """
        check_sample_ids(first.ids, second.ids)
        self.structures += len(first.ids)
        self._add("atom", first.atoms, second.atoms)
        self._waiting.append((Stages(first.ids, {}, first.means), Stages(second.ids, {}, second.means)))
        if sum(len(left.ids) for left, _ in self._waiting) >= STRUCTURE_BATCH:
            self._add_structures()

    def _add_structures(self) -> None:
        if not self._waiting:
            return
        first, second = (
            {name: torch.cat([pair[side].means[name] for pair in self._waiting]) for name in self._common(side)}
            for side in (0, 1)
        )
        self._add("structure", first, second)
        self._waiting = []

    def _common(self, side: int) -> list[str]:
        names = list(self._waiting[0][side].means)
        return [name for name in names if all(name in pair[side].means for pair in self._waiting)]

    def _add(self, level: Level, first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
        for left, x in first.items():
            for right, y in second.items():
                self._state.setdefault((level, left, right), Similarity()).update(x, y, self._resolution)

    def table(self) -> pd.DataFrame:
        """One row a level and pair of stages.

        Columns: ``level``, ``stage_a``, ``stage_b``, ``cka`` (may be negative, as estimated), ``procrustes`` (0 to 2),
        ``samples`` n, ``channels_a`` and ``channels_b`` d, ``batches``, ``left_out`` (samples of minibatches of three
        or fewer), ``estimator``, ``gap``.
        """
        self._add_structures()
        rows = []
        for (level, left, right), state in self._state.items():
            value = state.cka.compute()
            rows.append(
                {
                    "level": level,
                    "stage_a": left,
                    "stage_b": right,
                    "cka": float(value.value),
                    "procrustes": state.procrustes.compute(),
                    "samples": state.cka.samples,
                    "channels_a": state.channels[0],
                    "channels_b": state.channels[1],
                    "batches": state.cka.batches,
                    "left_out": state.cka.skipped,
                    "estimator": ESTIMATOR,
                    "gap": value.reason or "",
                }
            )
        return pd.DataFrame(rows, columns=list(_COLUMNS))


_COLUMNS = (
    "level",
    "stage_a",
    "stage_b",
    "cka",
    "procrustes",
    "samples",
    "channels_a",
    "channels_b",
    "batches",
    "left_out",
    "estimator",
    "gap",
)
