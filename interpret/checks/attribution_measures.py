"""What the rules on attribution measure, one value a structure, [n] by id."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from interpret.checks.estimates import Values
from interpret.metrics.faithfulness import rank_agreement

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
    rows = rows[rows["side"] == side]
    found: pd.DataFrame = rows.groupby(["id", "method"], sort=True)[figure].mean().unstack("method")
    return found.sort_index()


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
    rows = rows[(rows["side"] == side) & rows["method"].isin(methods)]
    found: dict[str, dict[str, float]] = {}
    for identifier, own in rows.groupby("id", sort=True):
        values = {
            str(method): part.sort_values("player")["value"].to_numpy(dtype=np.float64)
            for method, part in own.groupby("method", sort=True)
        }
        present = [method for method in methods if method in values]
        found[str(identifier)] = {
            f"{a} / {b}": rank_agreement(values[a], values[b]).tau for a, b in combinations(present, 2)
        }
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
