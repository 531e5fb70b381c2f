"""Heads of two models matched by what they look at: head 3 here is not head 3 there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import linear_sum_assignment

from interpret.compare.catalogue import ATTENTION, HEAD
from interpret.compare.differences import COLUMNS, Inference, gap_row, interval_method, paired_row
from interpret.compare.pairing import Run
from interpret.metrics.statistics import benjamini_hochberg, mean_with_interval

Similarities = npt.NDArray[np.float64]
# Heads that are equally alike keep their numbers; far below any similarity that means something.
_TIE = 1e-9


@dataclass(frozen=True)
class HeadMatch:
    """A head of each model.

    Attributes:
        head_a, head_b: numbers.
        similarity: mean over structures of the correlation of their maps.
        runner_up: that of the head of b which is next most like ``head_a``: the control of the match.
        margin_low, margin_high: interval over structures of the difference of the two.
        certain: the interval lies above 0, and each half of the structures gives the same match on its own: the best of
            many is above the next by choice alone. A certain match of a similarity near 0 is still no likeness.
        structures: in which both maps vary.
    """

    head_a: int
    head_b: int
    similarity: float
    runner_up: float
    margin_low: float
    margin_high: float
    certain: bool
    structures: int


def head_similarity(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> Similarities:
    """Pearson correlation of the maps of every two heads of one structure, over atoms and tokens.

    A map's mean is 1 / T whatever the head does, so the correlation is that of the deviations from uniform attention.

    Args:
        first: [H, N, T] of one model. second: [G, N, T] of the other.

    Returns:
        [H, G] float64, NaN where a map does not vary.
    """
    left, right = (_standardised(maps) for maps in (first, second))
    # Equal maps have a similarity of 1 and not of 1 - 2e-16.
    return np.asarray(np.round(left @ right.T, 12))


def _standardised(maps: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    flat = maps.reshape(len(maps), -1)
    centred = flat - flat.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    # Rounding of a uniform map is no pattern.
    constant = norm <= 1e-9 * np.linalg.norm(flat, axis=1, keepdims=True)
    return np.where(constant, np.nan, centred / np.where(norm > 0, norm, 1.0))


def match_heads(similarities: Similarities, inference: Inference | None = None) -> list[HeadMatch]:
    """One head of b for each head of a, so that the sum of similarities is largest (Kuhn 1955, through scipy).

    Args:
        similarities: [n, H, G] of n structures, NaN where undefined.

    Returns:
        min(H, G) matches, by ``head_a``.
    """
    inference = inference or Inference()
    mean, chosen = _assign(similarities)
    halves = [_assign(similarities[start::2])[1] for start in (0, 1)] if len(similarities) > 1 else [chosen]
    return [
        _match(similarities, mean, a, b, inference, stable=all(half.get(a) == b for half in halves))
        for a, b in chosen.items()
    ]


def _assign(similarities: Similarities) -> tuple[Similarities, dict[int, int]]:
    """Mean similarities [H, G], NaN where undefined in all structures, and the best head of b by head of a."""
    count = (~np.isnan(similarities)).sum(axis=0)
    mean = np.where(count > 0, np.nansum(similarities, axis=0) / np.maximum(count, 1), np.nan)
    scores = np.nan_to_num(mean, nan=0.0) + _TIE * np.eye(*mean.shape)
    rows, columns = linear_sum_assignment(scores, maximize=True)
    return mean, dict(zip(rows.tolist(), columns.tolist(), strict=True))


def _match(
    similarities: Similarities, mean: Similarities, a: int, b: int, inference: Inference, *, stable: bool
) -> HeadMatch:
    others = np.delete(mean[a], b)
    low = high = runner_up = np.nan
    if len(others) and not np.isnan(others).all():
        rival = int(np.nanargmax(np.where(np.arange(mean.shape[1]) == b, np.nan, mean[a])))
        runner_up = float(mean[a, rival])
        own = similarities[:, a, b] - similarities[:, a, rival]
        interval = mean_with_interval(
            own,
            level=inference.level,
            method=interval_method(len(own)),
            resamples=inference.resamples,
            seed=inference.seed,
        )
        low, high = interval.low, interval.high
    structures = int((~np.isnan(similarities[:, a, b])).sum())
    certain = stable and (bool(low > 0) if not np.isnan(runner_up) else structures > 0)
    return HeadMatch(a, b, float(mean[a, b]), runner_up, low, high, certain, structures)


def compare_heads(
    first: Run, second: Run, matches: Mapping[str, Sequence[HeadMatch]], inference: Inference | None = None
) -> pd.DataFrame:
    """Every figure of every matched pair of heads; heads without a partner are gaps.

    Args:
        matches: by tap.

    Returns:
        One row a tap, pair and metric: ``tap``, ``head_a``, ``head_b``, ``similarity``, ``certain``, the columns of the
        statistics, adjusted over the whole table. ``head_a`` or ``head_b`` is missing where the head has no partner.
    """
    inference = inference or Inference()
    rows: list[dict[str, object]] = []
    for tap, pairs in matches.items():
        left, right = (_per_head(run, tap) for run in (first, second))
        for match in pairs:
            key: dict[str, object] = {"tap": tap, "head_a": match.head_a, "head_b": match.head_b}
            key |= {"similarity": match.similarity, "certain": match.certain}
            for figure in HEAD:
                a, b = left[figure][match.head_a], right[figure][match.head_b]
                row = paired_row(
                    a.to_numpy(dtype=np.float64), b.to_numpy(dtype=np.float64), first.resolution, inference
                )
                rows.append(key | {"metric": figure, "phenomenon": ATTENTION[figure]} | row)
        for side, frame, taken in (("a", left, {m.head_a for m in pairs}), ("b", right, {m.head_b for m in pairs})):
            for head in sorted(set(frame[HEAD[0]].columns) - taken):
                other = second.label if side == "a" else first.label
                alone: dict[str, object] = {"tap": tap, "head_a": None, "head_b": None, "certain": False}
                alone |= {f"head_{side}": int(head)}
                for figure in HEAD:
                    reason = f"{other} has fewer heads, so this one has no partner"
                    rows.append(
                        alone | {"metric": figure, "phenomenon": ATTENTION[figure]} | gap_row(reason, len(frame))
                    )
    columns = [
        "tap",
        "head_a",
        "head_b",
        "similarity",
        "certain",
        *COLUMNS,
        "phenomenon",
        "undefined",
        "identical",
        "gap",
    ]
    table = pd.DataFrame(rows, columns=columns).astype({"head_a": "Int64", "head_b": "Int64"})
    table["p_adjusted"] = benjamini_hochberg(table["p_value"].to_numpy(dtype=np.float64))
    return table


def _per_head(run: Run, tap: str) -> pd.DataFrame:
    """Figures of one tap: one row a structure, columns (figure, head)."""
    own = run.heads[run.heads["tap"] == tap]
    return own.pivot(index="id", columns="head", values=list(HEAD)).astype("float64")


def match_table(matches: Mapping[str, Sequence[HeadMatch]]) -> pd.DataFrame:
    """All matches, one row each."""
    columns = ["tap", *HeadMatch.__dataclass_fields__]
    return pd.DataFrame([{"tap": tap} | vars(m) for tap, pairs in matches.items() for m in pairs], columns=columns)
