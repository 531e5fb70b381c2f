"""What the rules on modalities measure, one value a structure, [n] by id."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from interpret.checks.estimates import Detailed, Values
from interpret.modality.share import REFERENCES
from interpret.modality.summary import at_baseline, main_effects, values

if TYPE_CHECKING:
    from interpret.checks.evidence import Evidence

NOT_RUN = "the modality analysis was not run (interpret diagnose --modality)"
# A word tells the target where a structure with it has the larger (or the smaller) one with this probability.
TELLING = 0.8
TELLING_P_VALUE = 0.01
# Contributions below this share of all of them are rounding.
ROUNDING = 1e-9


def table(evidence: Evidence, name: str) -> pd.DataFrame:
    """A table of the modality analysis; empty where it was not run."""
    return evidence.extra.get(name, pd.DataFrame())


def missing(evidence: Evidence, *names: str) -> str | None:
    """Why a rule that reads these tables cannot run; None where they are there."""
    if not len(table(evidence, "modality")):
        return NOT_RUN
    empty = [name for name in names if not len(table(evidence, name))]
    return f"there is nothing in {', '.join(empty)}" if empty else None


def shares(evidence: Evidence, baseline: str, what: str) -> Detailed:
    """Text share of each structure under a baseline, with the figures it comes from."""
    rows = at_baseline(table(evidence, "modality"), baseline)
    details = {
        name: values(rows, name)
        for name in ("text_shapley", "graph_shapley", "text_given_graph", "text_alone", "absolute_error", "whole")
    }
    return Detailed(values(rows, "text_share"), units(rows), what, {"": dict(details)})


def units(rows: pd.DataFrame) -> tuple[str, ...]:
    """Ids of the rows."""
    return tuple(rows["id"].astype(str))


def interactions(rows: pd.DataFrame, names: tuple[str, ...], what: str) -> Detailed:
    """Absolute interaction of each row, with what graph and text do one by one."""
    own = np.abs(values(rows, "interaction"))
    return Detailed(own, names, what, {"": {"total": own + main_effects(rows)}})


def carries_target(evidence: Evidence) -> Detailed:
    """1 where a text has its own target as a number, or a word that tells it; by id."""
    rows = table(evidence, "leakage").sort_values("id", kind="stable", ignore_index=True)
    words = telling_words(evidence)
    match = values(rows, "match")
    written = [set(str(found).split("; ")) for found in rows["property_words"]]
    told = np.array([bool(found & words.keys()) for found in written])
    carried = np.where(np.isfinite(match), np.maximum(np.nan_to_num(match), told), np.nan)
    details: dict[str, float | Values] = {"chance": values(rows, "chance"), "match": match}
    return Detailed(carried, units(rows), "texts that carry their target", {"": details})


def telling_words(evidence: Evidence) -> dict[str, float]:
    """Property words that tell the target, with the probability that they order two structures rightly."""
    words = table(evidence, "leakage_words")
    if not len(words):
        return {}
    separation = values(words, "separation")
    tells = (np.maximum(separation, 1 - separation) >= TELLING) & (values(words, "p_value") <= TELLING_P_VALUE)
    return {str(word): float(s) for word, s, told in zip(words["word"], separation, tells, strict=True) if told}


def edit_changes(evidence: Evidence, *, control: bool) -> tuple[Values, tuple[str, ...]]:
    """Mean absolute change of each structure's prediction by the edits of its text, and the ids; by id.

    Args:
        control: of the texts that say the same, in place of those of which a fact was changed.
    """
    rows = table(evidence, "text_edits")
    names = sorted(rows["id"].astype(str).unique())
    chosen = rows[rows["control"].astype(bool) == control]
    means = chosen.assign(change=chosen["change"].abs()).groupby(chosen["id"].astype(str))["change"].mean()
    return np.asarray(means.reindex(names), dtype=np.float64), tuple(names)


def silent_text(evidence: Evidence) -> str | None:
    """Why there is nothing to ask of a text that moves predictions by rounding alone; None where it does more."""
    rows = at_baseline(table(evidence, "modality"), REFERENCES)
    text, graph = (np.abs(values(rows, name)) for name in ("text_shapley", "graph_shapley"))
    return "predictions do not depend on the text" if np.nansum(text) <= ROUNDING * np.nansum(text + graph) else None
