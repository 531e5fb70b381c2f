"""How rules name what they are about: units with a value, counted, the first of many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from interpret.checks.base import Measured

# Names that a line gives before it counts the rest.
SHOWN = 4


def above(effect: Measured, control: Measured) -> tuple[str, ...]:
    """Units where the effect exceeds its control, largest first."""
    order = np.argsort(-effect.values, kind="stable")
    return tuple(effect.units[i] for i in order if effect.values[i] > control.values[i])


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def count(number: int, thing: str) -> str:
    """A number of things, in singular or plural."""
    return f"{number} {thing}" + ("" if number == 1 else "s")
