"""What differs between two runs, structure by structure, with its uncertainty."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from interpret.compare.catalogue import (
    BETWEEN_ATOMS,
    GLOBAL,
    Metric,
    Phenomenon,
    attention_taps,
    figures_of,
    metrics_of,
)
from interpret.compare.pairing import Resolution, Run, Values
from interpret.metrics.statistics import Method, benjamini_hochberg, compare_paired

COLUMNS = (
    "metric",
    "mean_a",
    "mean_b",
    "difference",
    "percent_change",
    "ci_low",
    "ci_high",
    "p_value",
    "p_adjusted",
    "effect_size",
    "structures",
)
# The acceleration of a BCa interval costs n^2; beyond this the plain percentiles are as good.
_MOST_FOR_BCA = 1000
# Attention whose entropy is closer to its maximum than this is all but uniform: a change in percent of its largest
# weight or its Gini coefficient is a change of next to nothing.
_ALL_BUT_UNIFORM = 0.99
# Atoms of different classes whose rows differ by less than this share of attention attend alike (interpret.robust).
COLLAPSED = "atoms collapsed"


@dataclass(frozen=True)
class Inference:
    """How differences are tested.

    Attributes:
        level: coverage of intervals.
        significance: adjusted p-value below which a metric has moved.
        resamples: of bootstrap and permutation.
        seed: of both.
    """

    level: float = 0.95
    significance: float = 0.05
    resamples: int = 9999
    seed: int = 0


def interval_method(count: int) -> Method:
    """BCa where it can be afforded."""
    return "BCa" if count <= _MOST_FOR_BCA else "percentile"


def paired_interval(
    statistic: Callable[..., Any], first: Values, second: Values, inference: Inference
) -> tuple[float, float]:
    """Bootstrap interval over structures of a statistic of both, paired; percentiles where BCa is degenerate.

    Args:
        statistic: of two arrays [..., n] along ``axis``.
        first, second: [n], n > 1, in the same order.
    """
    for method in dict.fromkeys((interval_method(len(first)), "percentile")):
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", stats.DegenerateDataWarning)
            interval = stats.bootstrap(
                (first, second),
                statistic,
                paired=True,
                vectorized=True,
                n_resamples=inference.resamples,
                batch=max(1, 5_000_000 // len(first)),
                confidence_level=inference.level,
                method=method,
                random_state=np.random.default_rng(inference.seed),
            ).confidence_interval
        if np.isfinite(interval.low) and np.isfinite(interval.high):
            break
    return float(interval.low), float(interval.high)


def paired_row(first: Values, second: Values, resolution: Resolution, inference: Inference) -> dict[str, object]:
    """The columns of one metric from its values in both runs, [n] in the same order."""
    second = resolution.snap(first, second)
    method = interval_method(len(first))
    found = compare_paired(
        first, second, level=inference.level, method=method, resamples=inference.resamples, seed=inference.seed
    )
    difference = found.difference
    gap = ""
    if difference.count == 0:
        gap = "undefined for every structure in at least one of the two"
    elif difference.count == 1:
        gap = "one structure has no interval"
    percent = found.percent_change
    if not gap and abs(found.mean_a) <= resolution.absolute:
        percent = 0.0 if found.identical else np.nan
        gap = "" if found.identical else "the mean of a is 0, so there is no percent change"
    return {
        "mean_a": found.mean_a,
        "mean_b": found.mean_b,
        "difference": difference.mean,
        "percent_change": percent,
        "ci_low": difference.low,
        "ci_high": difference.high,
        "p_value": found.p_value,
        "p_adjusted": np.nan,
        "effect_size": found.effect_size,
        "structures": difference.count,
        "undefined": difference.undefined,
        "identical": found.identical,
        "gap": gap,
    }


def gap_row(reason: str, structures: int) -> dict[str, object]:
    """The columns of a metric that cannot be compared, with the reason."""
    numbers = dict.fromkeys(COLUMNS[1:-1], np.nan)
    return {**numbers, "structures": 0, "undefined": structures, "identical": False, "gap": reason}


def compare_figures(first: Run, second: Run, inference: Inference | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every metric of two runs that have passed :func:`interpret.compare.pairing.check_pair`.

    Returns:
        The statistics and the raw pairs, as :func:`compare_frames` gives them.
    """
    frames, labels = (figures_of(first), figures_of(second)), (first.label, second.label)
    return compare_frames(frames, labels, metrics_of(first, second), first.resolution, inference)


def compare_frames(
    frames: tuple[pd.DataFrame, pd.DataFrame],
    labels: tuple[str, str],
    metrics: Sequence[Metric],
    resolution: Resolution,
    inference: Inference | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare figures of the same structures.

    Args:
        frames: of :func:`interpret.compare.catalogue.figures_of`, with the same index.
        labels: of the two models.
        metrics: to compare; one that a frame lacks is a gap.

    Returns:
        The statistics, one row a metric: the columns :data:`COLUMNS`, then ``phenomenon``, ``undefined`` (structures
        without a value in both), ``identical`` and ``gap`` (why a figure is missing). The raw pairs, one row a metric
        and structure: ``metric``, ``id``, ``a``, ``b``, ``difference`` (0 below the resolution).
    """
    inference = inference or Inference()
    ids = frames[0].index
    rows, pairs = [], []
    for metric in metrics:
        head = {"metric": metric.name}
        tail = {"phenomenon": metric.phenomenon}
        lacking = [label for label, frame in zip(labels, frames, strict=True) if metric.name not in frame]
        if lacking:
            rows.append(head | gap_row(f"{' and '.join(lacking)} has no tap {metric.tap}", len(ids)) | tail)
            continue
        a, b = (frame[metric.name].to_numpy(dtype=np.float64) for frame in frames)
        rows.append(head | paired_row(a, b, resolution, inference) | tail)
        change = resolution.snap(a, b) - a
        pairs.append(pd.DataFrame({"metric": metric.name, "id": ids, "a": a, "b": b, "difference": change}))
    columns = [*COLUMNS, "phenomenon", "undefined", "identical", "gap"]
    table = pd.DataFrame(rows, columns=columns)
    table["p_adjusted"] = benjamini_hochberg(table["p_value"].to_numpy(dtype=np.float64))
    empty = pd.DataFrame(columns=["metric", "id", "a", "b", "difference"])
    return table, pd.concat(pairs, ignore_index=True) if pairs else empty


@dataclass(frozen=True)
class Movement:
    """Which of the two phenomena moved.

    Attributes:
        moved: names of the metrics whose adjusted p-value is significant, by phenomenon.
        tested: number of metrics by phenomenon.
        alike: for each attention tap, (label, structures in which atoms attend alike, structures in which they could
            differ).
        sentence: for people.
    """

    moved: dict[Phenomenon, tuple[str, ...]]
    tested: dict[Phenomenon, int]
    alike: dict[str, tuple[tuple[str, int, int], ...]]
    sentence: str


def describe_movement(table: pd.DataFrame, first: Run, second: Run, inference: Inference) -> Movement:
    """Say which of global statistics and atom-to-atom differences moved from ``first`` to ``second``."""
    moved: dict[Phenomenon, tuple[str, ...]] = {}
    tested: dict[Phenomenon, int] = {}
    phenomena: tuple[Phenomenon, ...] = (GLOBAL, BETWEEN_ATOMS)
    for phenomenon in phenomena:
        own = table[(table["phenomenon"] == phenomenon) & table["p_adjusted"].notna()]
        significant = own[own["p_adjusted"] < inference.significance]
        largest = significant.reindex(
            significant["effect_size"].abs().sort_values(ascending=False, kind="stable").index
        )
        moved[phenomenon], tested[phenomenon] = tuple(largest["metric"]), len(own)
    alike = {
        tap: tuple((run.label, *_alike(run, tap)) for run in (first, second))
        for tap in attention_taps(first.structures.columns)
        if f"{tap}.mode" in second.structures
    }
    return Movement(moved, tested, alike, _sentence(table, moved, tested, alike))


def _alike(run: Run, tap: str) -> tuple[int, int]:
    modes = run.structures[f"{tap}.mode"]
    return int((modes == COLLAPSED).sum()), int(modes.isin(["atoms differ", COLLAPSED]).sum())


def _sentence(
    table: pd.DataFrame,
    moved: dict[Phenomenon, tuple[str, ...]],
    tested: dict[Phenomenon, int],
    alike: dict[str, tuple[tuple[str, int, int], ...]],
) -> str:
    compared = table[table["structures"] > 0]
    if not len(compared):
        return "Nothing could be compared: the two models have no tap in common."
    if bool(compared["identical"].all()):
        return "Identical: no figure differs in any structure."
    parts = []
    for phenomenon, names in moved.items():
        if not tested[phenomenon]:
            parts.append(f"{phenomenon} could not be compared")
        elif not names:
            parts.append(f"{phenomenon} did not move (none of {tested[phenomenon]} metrics)")
        else:
            shown = ", ".join(_change(table, name) for name in names[:3])
            parts.append(f"{phenomenon} moved in {len(names)} of {tested[phenomenon]} metrics ({shown})")
    sentence = "; ".join(parts)
    sentence = sentence[0].upper() + sentence[1:] + "."
    for tap, counts in alike.items():
        if all(2 * same > possible > 0 for _, same, possible in counts):
            shares = " and ".join(f"{same} of {possible} structures in {label}" for label, same, possible in counts)
            sentence += f" In both models all atoms attend alike at {tap} ({shares})."
        sentence += _uniformity(table, tap)
    return sentence


def _uniformity(table: pd.DataFrame, tap: str) -> str:
    own = table[table["metric"] == f"{tap}.normalized_entropy"]
    if not len(own) or not min(own["mean_a"].iloc[0], own["mean_b"].iloc[0]) > _ALL_BUT_UNIFORM:
        return ""
    shares = " and ".join(f"{100 * own[name].iloc[0]:.2f} %" for name in ("mean_a", "mean_b"))
    return f" In both models {tap} is all but uniform (entropy {shares} of its maximum): there is little to compare."


def _change(table: pd.DataFrame, name: str) -> str:
    row = table.loc[table["metric"] == name].iloc[0]
    if np.isfinite(row["percent_change"]):
        return f"{name} {row['percent_change']:+.1f} %"
    return f"{name} {row['difference']:+.3g}"
