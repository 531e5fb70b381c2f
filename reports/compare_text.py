"""A comparison as lines of text for a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interpret.compare.comparison import Comparison
from interpret.compare.groups import GroupComparison


def comparison_lines(comparison: Comparison, output: Path) -> list[str]:
    """The sentence, the hypothesis with its evidence, errors, gaps, notes, and where the files are."""
    lines = [f"{comparison.labels[0]} (a) against {comparison.labels[1]} (b), {comparison.structures} structures"]
    for phenomenon, own in comparison.statistics.groupby("phenomenon", sort=False):
        lines.append(f"{phenomenon}:")
        lines += [f"    {statistic_line(row)}" for _, row in own.iterrows() if row["structures"] > 0]
    lines += _gap_lines(comparison)
    lines += [f"{error_line(row)}" for _, row in comparison.errors.iterrows()]
    result = comparison.hypothesis
    lines.append(f'hypothesis "{result.name}": {result.verdict} ({result.reason})')
    lines += [f"    {criterion.evidence}" for criterion in result.criteria]
    lines += [f"note: {note}" for note in comparison.notes]
    skipped = f", {len(comparison.skipped)} skipped (see comparison.json)" if comparison.skipped else ""
    lines.append(f"{comparison.structures} structures{skipped}; results in {output}")
    lines.append("identical" if comparison.identical else comparison.movement.sentence)
    return lines


def statistic_line(row: pd.Series[Any]) -> str:
    """``entropy 3.2 to 2.9, difference -0.3 (95 % CI -0.4 to -0.2, p adjusted 0.01, 50 structures)``."""
    start = f"{row['metric']} {row['mean_a']:.4g} to {row['mean_b']:.4g}"
    if row["identical"]:
        return f"{start}, identical ({row['structures']} structures)"
    percent = f"{row['percent_change']:+.1f} %, " if np.isfinite(row["percent_change"]) else ""
    if not np.isfinite(row["p_value"]):
        return f"{start}, difference {row['difference']:.3g} ({row['gap']})"
    interval = f"95 % CI {row['ci_low']:.3g} to {row['ci_high']:.3g}"
    tail = f"{interval}, p adjusted {row['p_adjusted']:.2g}, {row['structures']} structures"
    return f"{start}, {percent}difference {row['difference']:.3g} ({tail})"


def error_line(row: pd.Series[Any]) -> str:
    """``mean absolute error 0.31 to 0.55, difference 0.24 (95 % CI ..., p ...; predicting the mean: 0.10)``."""
    name = str(row["measure"]).replace("_", " ")
    if row["gap"]:
        return f"{name}: {row['gap']}"
    interval = f"95 % CI {row['ci_low']:.3g} to {row['ci_high']:.3g}, p {row['p_value']:.2g}"
    yardstick = f"predicting the mean: {row['mean_predictor']:.3g}, {row['labelled']} labelled"
    return f"{name} {row['a']:.3g} to {row['b']:.3g}, difference {row['difference']:.3g} ({interval}; {yardstick})"


def _gap_lines(comparison: Comparison) -> list[str]:
    """One line a reason, with the metrics it concerns."""
    by_reason: dict[str, list[str]] = {}
    for metric, reason in comparison.gaps.items():
        by_reason.setdefault(reason, []).append(metric)
    return [f"gap: {', '.join(metrics)}: {reason}" for reason, metrics in by_reason.items()]


def group_lines(comparison: GroupComparison, output: Path) -> list[str]:
    """A comparison of groups, a line a metric."""
    lines = []
    for _, row in comparison.statistics.iterrows():
        if not row["structures"]:
            lines.append(f"gap: {row['metric']}: {row['gap']}")
            continue
        interval = f"95 % CI {row['ci_low']:.3g} to {row['ci_high']:.3g}"
        sds = f"{row['in_seed_sds']:+.2f} sd between seeds"
        if row["gap"]:
            lines.append(
                f"{row['metric']} {row['mean_a']:.4g} to {row['mean_b']:.4g}, difference {row['difference']:.3g} "
                f"({row['gap']})"
            )
            continue
        lines.append(
            f"{row['metric']} {row['mean_a']:.4g} to {row['mean_b']:.4g}, difference {row['difference']:.3g} "
            f"({sds}, {interval}, p adjusted {row['p_adjusted']:.2g})"
        )
    lines += [f"note: {note}" for note in comparison.notes]
    counts = " and ".join(
        f"{len(members)} of {label}" for label, members in zip(comparison.labels, comparison.members, strict=True)
    )
    lines.append(f"{comparison.structures} structures, {counts}; results in {output}")
    lines.append(comparison.sentence)
    return lines
