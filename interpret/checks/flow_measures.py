"""What the rules on text flow measure, one value a structure, [n] by id."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from interpret.checks.estimates import Detailed, Estimate, Values, at_stage, column, number, ratio_of
from interpret.counterfactual import MASKED_SHARES, SHUFFLES
from interpret.measure.changes import stages_from

if TYPE_CHECKING:
    from interpret.checks.evidence import Evidence

# The shuffle in whose pass the atoms were compared with their own text.
_FED = "counterfactual.text_shuffled_0"
# Cosines that differ by less than this differ by rounding.
SAME_TEXT = 1e-9


def difference_to_others(values: Values) -> Values:
    """Mean absolute difference of each value to the others, [n]; NaN where the value is, or is the only one.

    From sorted values and their running sum, so that the cost is n log n.
    """
    known = np.isfinite(values)
    count = int(known.sum())
    result = np.full(values.shape, np.nan)
    if count < 2:
        return result
    order = np.argsort(values[known], kind="stable")
    ordered = values[known][order]
    below = np.concatenate([[0.0], np.cumsum(ordered)[:-1]])
    rank = np.arange(count)
    total = ordered * rank - below + (ordered.sum() - below - ordered) - ordered * (count - 1 - rank)
    differences = np.empty(count)
    differences[order] = total / (count - 1)
    result[known] = differences
    return result


def prediction_change(evidence: Evidence, name: str) -> Values:
    """Absolute change of the prediction under a counterfactual."""
    return np.abs(column(evidence, f"counterfactual.{name}.prediction") - column(evidence, "prediction"))


def shuffled_change(evidence: Evidence) -> Values:
    """The same for other structures' texts, mean over the shuffles."""
    changes = np.stack([prediction_change(evidence, f"text_shuffled_{i}") for i in range(SHUFFLES)])
    known = np.isfinite(changes).sum(axis=0)
    return np.where(known > 0, np.nansum(changes, axis=0) / np.maximum(known, 1), np.nan)


def text_changes(evidence: Evidence) -> dict[str, float | Values]:
    """Absolute change of the prediction with an empty text, and with a growing share of the words masked."""
    names = ["text_empty", *(f"text_masked_{share}" for share in MASKED_SHARES)]
    return {name: prediction_change(evidence, name) for name in names}


def masked_curve(changes: Detailed, whole: Values) -> str:
    """``with 25/50/75 % of the words masked 10/16/20 % (8 structures)``; empty where nothing was masked.

    Every point rests on the same structures, and on their own differences to all others.
    """
    points = {share: ratio_of(changes.each(f"text_masked_{share}"), whole) for share in MASKED_SHARES}
    known = [share for share, point in points.items() if np.isfinite(point.value)]
    if not known:
        return ""
    shares, values = "/".join(map(str, known)), "/".join(number(points[share].value, "%") for share in known)
    return f"with {shares} % of the words masked {values} % ({points[known[0]].structures})"


def take_over(evidence: Evidence, layer: int, stage: str) -> Values:
    """Share of a text that shows in the atoms: what their cosine with it gains when it is fed in place of another.

    ``(cos(x(own), own) - cos(x(other), own)) / (1 - cos(other, own))``: 0 where atoms are the same whichever text is
    fed in, 1 where they are the text. 0 where the two texts are one in node space: nothing of them can then be told.
    """
    gain, room = cosine_gain(evidence, layer, stage)
    return np.where(
        room > SAME_TEXT, gain / np.maximum(room, SAME_TEXT), np.where(np.isfinite(gain + room), 0.0, np.nan)
    )


def cosine_gain(evidence: Evidence, layer: int, stage: str) -> tuple[Values, Values]:
    """Cosine with the own text when it is fed in minus when another is, and the most that it could be."""
    own = at_stage(evidence, stage, f"fusion.{layer}.text_cosine")
    other = column(evidence, f"{_FED}.fusion.{layer}.text_cosine.{stage}")
    return own - other, 1 - column(evidence, f"{_FED}.fusion.{layer}.text_similarity")


def later_stages(evidence: Evidence, layer: int) -> list[str]:
    """Taps of the atoms at the output of a fusion and after every later step."""
    return stages_from(evidence.network, layer)[1:]


def transformed_layers(evidence: Evidence) -> list[int]:
    """Fusions that were run with another structure's text, and have a transformed text to compare with."""
    pattern = re.compile(re.escape(_FED) + r"\.fusion\.(\d+)\.text_similarity")
    found = (pattern.fullmatch(str(name)) for name in evidence.structures.columns)
    return sorted(int(match[1]) for match in found if match)


def cosine_details(evidence: Evidence, layer: int) -> dict[str, float | Values]:
    """The cosines behind the share of a text: own, with other structures' texts, with another fed in; and the room."""
    stage = f"fusion.{layer}.nodes"
    return {
        "own": at_stage(evidence, stage, f"fusion.{layer}.text_cosine"),
        "others": at_stage(evidence, stage, f"fusion.{layer}.text_cosine_control"),
        "fed": column(evidence, f"{_FED}.fusion.{layer}.text_cosine.{stage}"),
        "room": np.maximum(cosine_gain(evidence, layer, stage)[1], SAME_TEXT),
    }


def mean_target_error(evidence: Evidence) -> Values:
    """Absolute error of predicting, for each structure, the mean target of all others."""
    target = column(evidence, "target")
    known = np.isfinite(target)
    count = int(known.sum())
    if count < 2:
        return np.full(target.shape, np.nan)
    others = (np.nansum(target) - target) / (count - 1)
    return np.abs(target - others)


def absolute_error(evidence: Evidence, name: str) -> Values:
    """Absolute error under a counterfactual."""
    return np.abs(column(evidence, f"counterfactual.{name}.prediction") - column(evidence, "target"))


def shuffled_error(evidence: Evidence) -> Values:
    """Absolute error with other structures' texts, mean over the shuffles."""
    errors = np.stack([absolute_error(evidence, f"text_shuffled_{i}") for i in range(SHUFFLES)])
    known = np.isfinite(errors).sum(axis=0)
    return np.where(known > 0, np.nansum(errors, axis=0) / np.maximum(known, 1), np.nan)


def lost_share(evidence: Evidence) -> Values:
    """Share of a text's pieces that the encoder never saw."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 - column(evidence, "tokens") / column(evidence, "tokens_total")


def change_in_words(change: Estimate, effect: Values, whole: Values) -> str:
    """``change 0.4 % of ..., 0.004 against 1.2``: relative, and in the unit of the target."""
    known = np.isfinite(effect) & np.isfinite(whole)
    means = [float(np.mean(v[known])) if known.any() else float("nan") for v in (effect, whole)]
    return (
        f"{change.text('change', '%')} of the difference between two structures, "
        f"{number(means[0])} against {number(means[1])} in the unit of the target"
    )
