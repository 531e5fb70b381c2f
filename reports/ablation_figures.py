"""Figures and lines of an ablation, from its saved tables alone."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interpret.ablation_results import Ablation
from reports.style import BLUE, GREEN, GREY, INK, ORANGE, draw_figures

METRIC = "metric."
HEADER = (
    "variant",
    "n",
    "test MAE",
    "95 % (seeds)",
    "difference",
    "95 % (seeds)",
    "95 % (structures)",
    "conclusion",
)


def draw_ablation(result: Ablation, folder: Path, formats: tuple[str, ...] = ("png",)) -> list[Path]:
    """Draw test errors and, where runs were diagnosed, gate and attention figures; returns the files written."""
    figures = {"ablation": partial(draw_errors, result), "ablation_metrics": partial(draw_metrics, result)}
    return draw_figures(figures, folder, formats)


def draw_errors(result: Ablation, pyplot: Any) -> Any:
    """Test MAE of each variant over seeds, and its difference from the first; None where no run finished."""
    table, runs = result.ablation, result.runs
    if not len(runs):
        return None
    place = np.arange(len(table))[::-1]
    figure, (left, right) = pyplot.subplots(
        1, 2, figsize=(11, 1.6 + 0.42 * len(table)), sharey=True, gridspec_kw={"width_ratios": [3, 2]}
    )
    for y, row in zip(place, table.to_dict("records"), strict=True):
        own = runs.loc[runs["variant"] == row["variant"], "test_mae"]
        left.plot(own, np.full(len(own), y + 0.16), "o", ms=3.5, mfc="none", color=GREY)
        _interval(left, row["test_mae"], row["test_mae_low"], row["test_mae_high"], y, BLUE, "o")
        if y < len(table) - 1:
            _interval(right, row["difference"], row["difference_low"], row["difference_high"], y + 0.12, BLUE, "o")
            _interval(right, row["difference"], row["structures_low"], row["structures_high"], y - 0.12, ORANGE, "s")
    for column, style, label in (
        ("mean_test_mae", ":", "predicting the mean"),
        ("composition_ridge_test_mae", "--", "ridge on composition"),
    ):
        value = float(table[column].mean())
        if math.isfinite(value):
            left.axvline(value, color=GREY, ls=style, lw=1.2, label=label)
    left.plot([], [], "o", ms=3.5, mfc="none", color=GREY, label="one seed")
    left.plot([], [], "o-", ms=5, color=BLUE, label="mean over seeds, 95 % t interval")
    right.plot([], [], "o-", ms=4, color=BLUE, label="paired by seed, 95 % t interval")
    right.plot([], [], "s-", ms=4, color=ORANGE, label="paired by test structure, 95 % bootstrap")
    right.axvline(0, color=INK, lw=0.8)
    left.set_yticks(place, [_label(row) for row in table.to_dict("records")], fontsize=8)
    left.set_ylim(-0.6, len(table) - 0.4)
    left.set_xlim(left=0)
    left.set_xlabel("test MAE (unit of the target)")
    right.set_xlabel(f"difference from {table['variant'].iloc[0]}")
    for axes in (left, right):
        axes.legend(fontsize=7, frameon=False, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=1)
        axes.grid(axis="y", color=GREY, alpha=0.2)
    figure.tight_layout()
    return figure


def _interval(axes: Any, mean: float, low: float, high: float, y: float, colour: str, marker: str) -> None:
    if math.isfinite(mean):
        axes.plot([mean], [y], marker, ms=5 if marker == "o" else 4, color=colour)
    if math.isfinite(low) and math.isfinite(high):
        axes.plot([low, high], [y, y], "-", lw=1.5, color=colour)


def _label(row: dict[Any, Any]) -> str:
    if not row["runs"]:
        return f"{row['variant']}\nno run finished"
    failed = f", {row['failed']} failed" if row["failed"] else ""
    seconds = f"{row['seconds_per_epoch']:.2g} s an epoch"
    return f"{row['variant']}\nn = {row['runs']}{failed}, {_count(row['parameters'])}, {seconds}"


def _count(parameters: float) -> str:
    return f"{parameters / 1e6:.2f} M" if parameters >= 1e5 else f"{parameters / 1e3:.0f} k"


def draw_metrics(result: Ablation, pyplot: Any) -> Any:
    """Gate and attention figures of each variant, one point a seed; None where no run was diagnosed."""
    columns = [str(name) for name in result.runs.columns if str(name).startswith(METRIC)]
    if not columns:
        return None
    variants = [name for name in result.ablation["variant"] if name in set(result.runs["variant"])]
    place = {name: position for position, name in enumerate(reversed(variants))}
    wide = min(3, len(columns))
    high = math.ceil(len(columns) / wide)
    figure, grid = pyplot.subplots(
        high, wide, figsize=(3.4 * wide + 1.2, high * (0.9 + 0.24 * len(variants))), sharey=True, squeeze=False
    )
    for axes, column in zip(grid.flat, columns, strict=False):
        own = result.runs[["variant", column]].dropna()
        at = own["variant"].map(place)
        axes.plot(own[column], at, "o", ms=3.5, mfc="none", color=GREY)
        means = own.groupby("variant")[column].mean()
        axes.plot(means, [place[str(name)] for name in means.index], "|", ms=11, mew=2, color=GREEN)
        axes.set_title(column.removeprefix(METRIC).replace("attention.atom_to_token.", "attention "), fontsize=8)
        axes.set_yticks(list(place.values()), list(place), fontsize=7)
        axes.set_ylim(-0.6, len(variants) - 0.4)
        axes.set_xlim(*_span(own[column].to_numpy(dtype=np.float64)))
        axes.tick_params(axis="x", labelsize=7)
        axes.locator_params(axis="x", nbins=5)
        axes.grid(axis="y", color=GREY, alpha=0.2)
    for axes in list(grid.flat)[len(columns) :]:
        axes.set_visible(False)
    figure.tight_layout()
    return figure


def _span(values: np.ndarray) -> tuple[float, float]:
    """Limits around the values, never narrower than a fifth of the largest: a small difference looks small."""
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    least = 0.2 * max(abs(low), abs(high)) or 1.0
    middle, half = (low + high) / 2, max(1.15 * (high - low), least) / 2
    return middle - half, middle + half


def ablation_lines(result: Ablation, folder: Path) -> list[str]:
    """The table as a terminal shows it, notes and failures, and where the files are."""
    header = (
        "variant",
        "n",
        "test MAE",
        "95 % (seeds)",
        "difference",
        "95 % (seeds)",
        "95 % (structures)",
        "conclusion",
    )
    rows = [header, *(_cells(row) for row in result.ablation.to_dict("records"))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    baseline = float(result.ablation["mean_test_mae"].mean())
    if math.isfinite(baseline):
        lines.append(f"predicting the mean: {baseline:.4g}")
    lines += [f"note: {note}" for note in result.notes]
    if len(result.failed):
        lines.append(f"{len(result.failed)} of {len(result.failed) + len(result.runs)} runs failed:")
        lines += [
            f"  {row['variant']}, seed {row['seed']}: {row['reason']}" for row in result.failed.to_dict("records")
        ]
    lines.append(f"tables and figures in {folder}")
    return lines


def _cells(row: dict[Any, Any]) -> tuple[str, ...]:
    return (
        str(row["variant"]),
        str(row["runs"]),
        _number(row["test_mae"]),
        _range(row["test_mae_low"], row["test_mae_high"]),
        _number(row["difference"], "+.3g"),
        _range(row["difference_low"], row["difference_high"]),
        _range(row["structures_low"], row["structures_high"]),
        str(row["conclusion"]),
    )


def _number(value: float, form: str = ".4g") -> str:
    return format(value, form) if pd.notna(value) else "-"


def _range(low: float, high: float) -> str:
    return f"{low:.3g} to {high:.3g}" if pd.notna(low) and pd.notna(high) else "-"
