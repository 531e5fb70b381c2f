"""Gradient methods through captum: integrated gradients with bounded convergence delta, and input times gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from interpret.attribution.baselines import baseline_for, mask_piece
from interpret.attribution.encoder_path import PIECES_PER_PASS
from interpret.attribution.explanation import COMPLETENESS, AttributionError, Floats
from interpret.attribution.games import atom_baseline
from interpret.attribution.players import Players
from interpret.attribution.subject import Subject, in_passes

Rows = Callable[[Tensor], Tensor]

# Points of a part of the path; its two halves have as many each.
POINTS = 4
FIRST_PARTS = 2
MOST_STEPS = 512
# What halving the parts changed in the values, sizes added, as a share of the sizes of the values. What is left after
# the halving is far less: twice the points have a hundredth of the error where the path is smooth.
AGREEMENT = 0.05
# Of the target: less is rounding even in float64.
NOTHING = 1e-12
# A part this short that is still off holds a jump: no number of points would do.
SHORTEST = 2.0**-16
# Where halving a part leaves more than this of a delta that is small beside the target itself, what is left is
# rounding: more points cost much and change nothing.
STALLED = 0.75
ROUNDING = 1e-4


@dataclass(frozen=True)
class Path:
    """A differentiable way from an input to the target.

    Attributes:
        function: [K, U, C] to [K], rows independent of each other.
        inputs, baseline: [U, C], the structure's own input and what stands for an absent one.
        rows: of a pass that keeps what gradients need.
        baseline_name: as results carry it.
        to_units: values of the U rows [U] to those of words or atoms, and what belongs to none.
    """

    function: Rows
    inputs: Tensor
    baseline: Tensor
    rows: int
    baseline_name: str
    to_units: Callable[[Floats], tuple[Floats, float]]


@dataclass(frozen=True)
class Integrated:
    """Integrated gradients of the rows of an input.

    Attributes:
        values: float64 [U].
        output, baseline_output: the target at both ends of the path.
        steps: gradients computed, over all parts that were tried.
    """

    values: Floats
    output: float
    baseline_output: float
    steps: int


def path_of(subject: Subject, players: Players, baseline: str | None = None) -> Path:
    """The way from words (through the text encoder) or atoms to the target.

    Raises:
        AttributionError: there is none for these players, or the baseline does not fit.
    """
    if players.kind == "bonds":
        raise AttributionError(
            "bonds have no baseline to go from, a bond of length 0 is none: use the method ablation for players 'bonds'"
        )
    name = baseline_for(baseline, players.side, "gradient", players.kind).name
    return _text_path(subject, players, name) if players.side == "text" else _atom_path(subject, name)


def _text_path(subject: Subject, players: Players, name: str) -> Path:
    path, structure = subject.path, subject.structure
    inputs = path.inputs(structure.encoding)
    table = path.table()
    absent = table[mask_piece(path.encoder)] if name == "mask-token" else table.mean(dim=0)
    special = torch.from_numpy(structure.encoding.special).to(inputs.device)
    # Special tokens stay: they are not of the text, and no text is without them.
    baseline = torch.where(special[:, None], inputs, absent)

    def to_units(values: Floats) -> tuple[Floats, float]:
        units = np.array([values[list(word.pieces)].sum() for word in structure.words], dtype=np.float64)
        owned = [i for member in players.members for unit in member for i in structure.words[unit].pieces]
        rest = np.delete(values, owned)
        return units, float(rest.sum())

    rows = max(1, min(subject.rows_per_pass, PIECES_PER_PASS // len(inputs)))
    return Path(lambda rows: subject.with_tokens(path.run(rows)), inputs, baseline, rows, name, to_units)


def _atom_path(subject: Subject, name: str) -> Path:
    features = subject.batch.atom_features
    absent = atom_baseline(subject, name).expand_as(features)
    return Path(subject.with_features, features, absent, subject.rows_per_pass, name, lambda values: (values, 0.0))


def integrate(path: Path, *, steps: int | None = None, inputs: Tensor | None = None) -> Integrated:
    """Integrated gradients (Sundararajan, Taly and Yan, ICML 2017), with points where the path needs them.

    Integrated gradients of a path are the sum of those of its parts, and each part must sum to the change of the target
    along it. Parts are halved, the one in most doubt first, until the sum is off by less than 1 % of the whole change;
    the sizes of the parts' deltas, added, are less than 1 % of how far the target moves on its way, so that parts that
    make up for each other do not pass for a sum that fits; and halving has changed the values by less than 5 %, for
    values can be wrong where their sum is right.

    Args:
        path: whose input is explained.
        steps: fixed number of Gauss-Legendre points over the whole path; None takes 8 in two parts and halves parts, up
            to 512 points or until what is left is rounding.
        inputs: [U, C] in place of the path's own.
    """
    whole = _Halving(path, path.inputs if inputs is None else inputs)
    if steps is not None:
        whole.take(0.0, 1.0, steps)
        return whole.result()
    for number in range(FIRST_PARTS):
        whole.take(number / FIRST_PARTS, (number + 1) / FIRST_PARTS, POINTS)
    while not whole.fits and whole.steps + 2 * POINTS <= MOST_STEPS:
        if not whole.halve():
            break
    return whole.result()


@dataclass(frozen=True)
class _Part:
    """Integrated gradients along a part of a path.

    Attributes:
        values: of the rows, [U].
        delta: their sum minus the change of the target along the part.
        gap: sizes of what halving changed in the values, added; half of it for each half. Not known before.
        settled: nothing is gained by halving it.
    """

    values: Floats
    delta: float
    gap: float = math.inf
    settled: bool = False


def _doubt(part: _Part, delta_allowed: float, gap_allowed: float) -> float:
    by_delta = abs(part.delta) / delta_allowed if delta_allowed else 0.0
    return max(by_delta, part.gap / gap_allowed if gap_allowed else 0.0)


class _Halving:
    """A path in parts, by where they begin and end, as shares of the way from the baseline to the input."""

    def __init__(self, path: Path, inputs: Tensor) -> None:
        from captum.attr import IntegratedGradients

        self.path = path
        self.inputs = inputs
        self.method = IntegratedGradients(path.function)
        self.parts: dict[tuple[float, float], _Part] = {}
        self.steps = 0
        self._known: dict[float, float] = {}
        self._ask([0.0, 1.0])

    @property
    def change(self) -> float:
        """Target at the input minus target at the baseline."""
        return self._known[1.0] - self._known[0.0]

    @property
    def fits(self) -> bool:
        """Whether the sum is within 1 % of the change, the parts of what they move, and the values do not change."""
        together = abs(math.fsum(part.delta for part in self.parts.values()))
        added = math.fsum(abs(part.delta) for part in self.parts.values())
        gap = math.fsum(part.gap for part in self.parts.values())
        delta_allowed, gap_allowed = self._allowed()
        return together <= COMPLETENESS * abs(self.change) and added <= delta_allowed and gap <= gap_allowed

    def _allowed(self) -> tuple[float, float]:
        """Deltas and gaps of all parts, added, that are no reason to go on."""
        moved = math.fsum(abs(self._known[end] - self._known[start]) for start, end in self.parts)
        size = float(np.abs(self.result().values).sum())
        return COMPLETENESS * moved, AGREEMENT * size

    def result(self) -> Integrated:
        """The sum over the parts."""
        values = np.sum([self.parts[place].values for place in sorted(self.parts)], axis=0)
        return Integrated(values, self._known[1.0], self._known[0.0], self.steps)

    def take(self, start: float, end: float, points: int) -> _Part:
        """Integrate one part."""
        near, far = self._at(start), self._at(end)
        self._ask([start, end])
        gradients = self.method.attribute(
            far[None], baselines=near[None], n_steps=points, internal_batch_size=self.path.rows
        )
        values = gradients[0].detach().double().sum(dim=-1).cpu().numpy()
        part = _Part(values, math.fsum(values) - (self._known[end] - self._known[start]))
        self.parts[start, end] = part
        self.steps += points
        return part

    def halve(self) -> bool:
        """Halve the part in most doubt; False where every part is settled."""
        open_parts = [place for place, part in self.parts.items() if not part.settled]
        if not open_parts:
            return False
        allowed = self._allowed()
        start, end = max(open_parts, key=lambda place: (_doubt(self.parts[place], *allowed), place))
        before, middle = self.parts.pop((start, end)), (start + end) / 2
        self._ask([middle])
        places = [(start, middle), (middle, end)]
        halves = [self.take(*place, POINTS) for place in places]
        gap = float(np.abs(before.values - halves[0].values - halves[1].values).sum())
        left = sum(abs(half.delta) for half in halves)
        largest = max(map(abs, self._known.values()))
        stalled = left > STALLED * abs(before.delta) and max(left, gap) <= ROUNDING * largest
        rounding = stalled or max(left, gap) <= NOTHING * largest
        settled = rounding or end - start <= SHORTEST
        for place, half in zip(places, halves, strict=True):
            self.parts[place] = replace(half, gap=gap / 2, settled=settled)
        return True

    def _at(self, share: float) -> Tensor:
        """The path's point at a share of the way; its ends exactly."""
        if share in (0.0, 1.0):
            return self.inputs if share else self.path.baseline
        return self.path.baseline + share * (self.inputs - self.path.baseline)

    def _ask(self, shares: Sequence[float]) -> None:
        """Evaluate the target at points of the path that are not known yet."""
        new = [share for share in shares if share not in self._known]
        if new:
            points = torch.stack([self._at(share) for share in new])
            self._known |= dict(zip(new, in_passes(self.path.function, points, self.path.rows).tolist(), strict=True))


def input_times_gradient(path: Path) -> Floats:
    """``sum_c x_c df/dx_c`` of each row (Shrikumar et al., arXiv 1605.01713), [U]; exact for a linear function."""
    from captum.attr import InputXGradient

    own = path.inputs[None].detach().clone().requires_grad_(True)
    values = InputXGradient(path.function).attribute(own)
    summed: Floats = values[0].detach().double().sum(dim=-1).cpu().numpy()
    return summed
