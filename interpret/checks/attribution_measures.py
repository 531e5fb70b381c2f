"""What the rules on attribution measure, one value a structure, [n] by id."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from interpret.attribution.agreement import pair_agreements
from interpret.attribution.over_structures import by_structure
from interpret.checks.estimates import Values

if TYPE_CHECKING:
    from interpret.checks.evidence import Evidence

NOT_RUN = "the attribution analysis was not run (interpret diagnose --attribution)"
ATTENTION = "attention"
UNIFORM_ATTENTION = "uniform-attention"
# Explainers that are held against each other: each claims to say which words the prediction rests on.
CLAIMANTS = ("integrated-gradients", "input-x-gradient", "ablation", "gradient-x-attention")


def table(evidence: Evidence, name: str) -> pd.DataFrame:
    """A table of the attribution analysis; empty where it was not run."""
    return evidence.extra.get(name, pd.DataFrame())


def missing(evidence: Evidence, name: str) -> str | None:
    """Why a rule that reads a table cannot run; None where it can."""
    if not len(table(evidence, "faithfulness")):
        return NOT_RUN
    return None if len(table(evidence, name)) else f"there is nothing in {name}"


def figure(evidence: Evidence, figure: str, side: str = "text") -> pd.DataFrame:
    """A figure of the faithfulness table by structure (rows, by id) and method; seeds of one method are averaged."""
    rows = table(evidence, "faithfulness")
    return by_structure(rows[rows["side"] == side], figure)


def gain(found: pd.DataFrame, method: str, control: str = "uniform") -> Values:
    """What a method finds beyond a control, [n]; NaN where either is missing."""
    if method not in found or control not in found:
        return np.full(len(found), np.nan)
    return np.asarray(found[method] - found[control], dtype=np.float64)


def names(found: pd.DataFrame) -> tuple[str, ...]:
    """Structures of the rows."""
    return tuple(str(name) for name in found.index)


def agreements(evidence: Evidence, side: str, methods: tuple[str, ...]) -> pd.DataFrame:
    """Kendall's tau of each pair of explainers (columns ``a / b``) in each structure (rows, by id)."""
    rows = table(evidence, "attribution")
    by_id = pair_agreements(rows[rows["side"] == side], methods)
    found = {identifier: {f"{a} / {b}": tau for (a, b), tau in own.items()} for identifier, own in by_id.items()}
    return pd.DataFrame.from_dict(found, orient="index")


def row_means(found: pd.DataFrame) -> Values:
    """Mean over the columns that are defined, [n]; NaN where none is."""
    return np.asarray(found.mean(axis=1, skipna=True), dtype=np.float64)


def last_stage(evidence: Evidence, method: str) -> pd.DataFrame:
    """Rows of the randomisation table with the whole network drawn anew, by id."""
    rows = table(evidence, "randomisation")
    rows = rows[(rows["method"] == method) & (rows["side"] == "text")]
    last: pd.DataFrame = rows[rows["depth"] == rows["depth"].max()] if len(rows) else rows
    return last.sort_values("id", kind="stable", ignore_index=True)
