"""Gradient methods through captum: integrated gradients with bounded convergence delta, and input times gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

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

FEWEST_STEPS = 16
MOST_STEPS = 512
# Where two doublings in a row leave more than this of a delta that is small beside the target itself, what is left is
# rounding: more steps cost much and change nothing. A large delta that stays is a jump that no point has met yet.
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
        steps: that were needed, or the most allowed.
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

    rows = max(1, min(subject.rows_per_gradient, PIECES_PER_PASS // len(inputs)))
    return Path(lambda rows: subject.with_tokens(path.run(rows)), inputs, baseline, rows, name, to_units)


def _atom_path(subject: Subject, name: str) -> Path:
    features = subject.batch.atom_features
    absent = atom_baseline(subject, name).expand_as(features)
    return Path(subject.with_features, features, absent, subject.rows_per_gradient, name, lambda values: (values, 0.0))


def integrate(path: Path, *, steps: int | None = None, inputs: Tensor | None = None) -> Integrated:
    """Integrated gradients (Sundararajan, Taly and Yan, ICML 2017), steps doubled until the sum fits.

    Args:
        path: whose input is explained.
        steps: fixed number of Gauss-Legendre points; None starts with 16 and doubles, up to 512, until the convergence
            delta is below 1 % of the change of the target or does not fall any more.
        inputs: [U, C] in place of the path's own.
    """
    from captum.attr import IntegratedGradients

    own = path.inputs if inputs is None else inputs
    method = IntegratedGradients(path.function)
    ends = in_passes(path.function, torch.stack([own, path.baseline]), path.rows).tolist()
    change = ends[0] - ends[1]
    count, gaps = steps or FEWEST_STEPS, [math.inf, math.inf]
    while True:
        gradients = method.attribute(
            own[None], baselines=path.baseline[None], n_steps=count, internal_batch_size=path.rows
        )
        values = gradients[0].detach().double().sum(dim=-1).cpu().numpy()
        gaps.append(abs(math.fsum(values) - change))
        stalled = gaps[-1] > STALLED * gaps[-2] and gaps[-2] > STALLED * gaps[-3]
        stalled = stalled and gaps[-1] <= ROUNDING * max(map(abs, ends))
        if steps is not None or gaps[-1] <= COMPLETENESS * abs(change) or stalled or count >= MOST_STEPS:
            return Integrated(values, ends[0], ends[1], count)
        count *= 2


def input_times_gradient(path: Path) -> Floats:
    """``sum_c x_c df/dx_c`` of each row (Shrikumar et al., arXiv 1605.01713), [U]; exact for a linear function."""
    from captum.attr import InputXGradient

    own = path.inputs[None].detach().clone().requires_grad_(True)
    values = InputXGradient(path.function).attribute(own)
    summed: Floats = values[0].detach().double().sum(dim=-1).cpu().numpy()
    return summed
