"""Putting two captures side by side, or saying clearly why they cannot be."""

from __future__ import annotations

import torch
from torch import Tensor

from interpret.hooks import Capture
from interpret.taps import TapTable
from model.errors import TapError


def align(first: Capture, second: Capture, taps: TapTable | None = None) -> tuple[Tensor, Tensor]:
    """Values of two captures on common axes, float64: [rows, channel] each.

    A capture with one row a structure is repeated for each atom where the other has one row an atom.

    Args:
        first, second: captures of the same forward pass, axes (atom or structure, channel).
        taps: the network's table, so that the message can name the tap that would fit.

    Raises:
        TapError: the channels are in different spaces or differ in number, or the rows cannot be matched; the
            message names both taps, both shapes and the taps that fit.
    """
    for capture in (first, second):
        if capture.axes not in (("atom", "channel"), ("structure", "channel")):
            raise TapError(
                f"tap {capture.tap.name!r} has axes {capture.axes}: expected (atom, channel) or (structure, channel)"
            )
    if first.tap.space != second.tap.space or first.values.shape[-1] != second.values.shape[-1]:
        raise TapError(_mismatch(first, second, taps))
    x, y = first.values.to(torch.float64), second.values.to(torch.float64)
    if first.axes[0] != second.axes[0]:
        if first.axes[0] == "atom":
            y = y[first.owner]
        else:
            x = x[second.owner]
    if x.shape != y.shape:
        raise TapError(
            f"taps {first.tap.name!r} {list(first.values.shape)} and {second.tap.name!r} "
            f"{list(second.values.shape)} have different rows: they must come from the same forward pass"
        )
    return x, y


def _mismatch(first: Capture, second: Capture, taps: TapTable | None) -> str:
    def describe(capture: Capture) -> str:
        shape = ", ".join(f"{a} {n}" for a, n in zip(capture.axes, capture.values.shape, strict=True))
        return f"{capture.tap.name!r} [{shape}] in {capture.tap.space} space"

    text = f"cannot compare tap {describe(first)} with tap {describe(second)}: their channels do not mean the same. "
    fitting = []
    if taps is not None:
        fitting = [tap.name for tap in taps.in_space(first.tap.space, second.tap.modality)]
    if fitting:
        return (
            text
            + f"Use {' or '.join(repr(name) for name in fitting)}, {second.tap.modality} in "
            + (f"{first.tap.space} space, in place of {second.tap.name!r}")
        )
    return text + f"This network has no tap that carries {second.tap.modality} features in {first.tap.space} space"


def cosine_similarity(first: Capture, second: Capture, taps: TapTable | None = None) -> Tensor:
    """Cosine of each row of the first with its row of the second, [rows] float64; NaN where a row is all zeros.

    Raises:
        TapError: as :func:`align`.
    """
    x, y = align(first, second, taps)
    norms = x.norm(dim=-1) * y.norm(dim=-1)
    return torch.where(norms > 0, (x * y).sum(dim=-1) / norms, torch.nan)
