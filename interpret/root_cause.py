"""Why atoms attend alike: what each counterfactual restores of the difference between them, ranked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from interpret.checks.estimates import Estimate, Values, mean_of, number, ratio_of

TAP = "attention.atom_to_token"
# Atoms whose attention differs by less than this share of what atoms that attend independently would differ by
# attend alike: their rows then correlate by more than 0.99.
ALIKE = 0.1
# A change that restores the difference at least doubles it, and lifts it above ALIKE.
RESTORING = 2.0
# Change, what was done, and what it means that it restores the difference. The most specific first: standardised
# atoms also differ where fusion or saturation is the reason that those in the network do not.
_CAUSES = (
    ("attention_softened", "softening the scores", "the heads are saturated"),
    ("fusion_off", "taking the fusion out", "the fusion makes the atoms alike"),
    ("nodes_standardized", "standardising the atoms", "atoms are over-smoothed before attention"),
    ("attention_sharpened", "sharpening the scores", "the scores are too small to tell atoms apart"),
)


@dataclass(frozen=True)
class Cause:
    """One change and what it restores.

    Attributes:
        change: name of the counterfactual.
        action: what was done, in words. meaning: what it says that this restores the difference.
        share: difference between atoms under the change, over that of atoms that attend independently.
        factor: that share over the share without the change.
        restores: True or False, None where there are not enough structures to tell.
    """

    change: str
    action: str
    meaning: str
    share: Estimate
    factor: Estimate
    restores: bool | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        row: dict[str, Any] = {"change": self.change, "meaning": self.meaning, "restores": self.restores}
        for name in ("share", "factor"):
            estimate: Estimate = getattr(self, name)
            row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        return row | {"structures": self.share.count}


@dataclass(frozen=True)
class RootCause:
    """Why the atoms of a data set attend alike, or that they do not.

    Attributes:
        share: difference between atoms in the network as it is, over that of atoms that attend independently.
        rows: the changes, that with the largest share first.
        sentence: the conclusion.
    """

    share: Estimate
    rows: tuple[Cause, ...]
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        share = {"share": self.share.value, "share_low": self.share.low, "share_high": self.share.high}
        changes = [row.to_dict() for row in self.rows]
        return {"sentence": self.sentence, **share, "structures": self.share.count, "changes": changes}


def root_cause(structures: pd.DataFrame) -> RootCause:
    """Rank what restores the difference between atoms of different classes in their attention to tokens.

    The measure is the total variation distance between the rows of two atoms over that of rows just as sharp whose
    tokens are in random order: 0 where atoms attend alike, about 1 where they attend independently, whatever the
    sharpness. Structures of one class have none and are left out.

    Args:
        structures: table of a run of diagnose, with its counterfactuals.
    """
    table = structures.sort_values("id", kind="stable") if "id" in structures else structures
    own = difference_share(table, TAP)
    share = mean_of(own)
    rows = [_cause(table, own, *cause) for cause in _CAUSES if f"counterfactual.{cause[0]}.atom_difference" in table]
    ranked = sorted(rows, key=lambda row: -np.nan_to_num(row.share.value, nan=-1.0))
    return RootCause(share, tuple(ranked), _conclusion(share, rows))


def difference_share(table: pd.DataFrame, prefix: str) -> Values:
    """``PREFIX.atom_difference`` over ``PREFIX.atom_difference_independent``, [n]; NaN where there is none."""
    names = (f"{prefix}.atom_difference", f"{prefix}.atom_difference_independent")
    if any(name not in table for name in names):
        return np.full(len(table), np.nan)
    difference, independent = (table[name].to_numpy(dtype=np.float64) for name in names)
    with np.errstate(invalid="ignore"):
        share: Values = np.divide(difference, independent, out=np.full(len(table), np.nan), where=independent > 0)
    return share


def _cause(table: pd.DataFrame, own: Values, change: str, action: str, meaning: str) -> Cause:
    changed = difference_share(table, f"counterfactual.{change}")
    share, factor = mean_of(changed), ratio_of(changed, own)
    restores = share.above(ALIKE)
    # From exactly nothing there is no factor: whatever is restored then is restored.
    if restores and np.nansum(own) > 0:
        restores = factor.above(RESTORING)
    return Cause(change, action, meaning, share, factor, restores)


def _conclusion(share: Estimate, rows: list[Cause]) -> str:
    alike = share.below(ALIKE)
    shown = f"{number(share.value, '%')} % of the difference of atoms that attend independently"
    if not share.count:
        return "no structure has atoms of different classes whose attention could be compared"
    if alike is None:
        return f"not enough structures to tell whether atoms attend alike ({shown})"
    if not alike:
        return f"atoms attend differently ({shown}): there is no collapse to explain"
    cause = next((row for row in rows if row.restores), None)
    if cause is not None:
        factor = f"{number(cause.factor.value)} times the difference" if cause.factor.value > 0 else "the difference"
        return f"{cause.action} restores {factor}: {cause.meaning}"
    if any(row.restores is None for row in rows):
        return "not enough structures to tell what restores the difference"
    return "no change restores the difference: the queries themselves do not depend on the atoms"
