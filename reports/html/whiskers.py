"""Means with their intervals as marks on one scale, in units of a picture's width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

WIDTH = 200.0
_MARGIN = 6.0
_ENDS = ("beyond_low", "beyond_high", "beyond")


def with_marks(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Rows of explainers by players, with the places of their difference to chance, its interval and zero.

    A scale is shared by the explainers of the same players. Where a figure is undefined its place is None.
    """
    groups = []
    for players, own in groupby(rows, key=lambda row: str(row["players"])):
        group = [dict(row) for row in own]
        known = [row[name] for row in group for name in _ENDS if row[name] is not None and row[name] == row[name]]
        low, high = min([0.0, *known]), max([0.0, *known])
        scale = (WIDTH - 2 * _MARGIN) / (high - low) if high > low else 0.0
        for row in group:
            places = {name: _place(row[name], low, scale) for name in _ENDS}
            row["marks"] = places | {"zero": _place(0.0, low, scale)}
            row["by_chance"] = _holds_zero(row)
        groups.append((players, group))
    return groups


def _place(value: float | None, low: float, scale: float) -> float | None:
    return None if value is None or value != value else round(_MARGIN + (value - low) * scale, 1)


def _holds_zero(row: Mapping[str, Any]) -> bool:
    low, high = row["beyond_low"], row["beyond_high"]
    return low is None or high is None or not (low > 0 or high < 0)
