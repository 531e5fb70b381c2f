"""The course of the gates over training, drawn from gate_history and gate_statistics.json alone."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interpret.gate_history import HISTORY, STATISTICS
from interpret.tables import read_table
from reports.style import BLUE, GREEN, GREY, INK, ORANGE, draw_figures

HEADROOM = 1.6


def draw_gates(run: Path, *, name: str = "gates", formats: tuple[str, ...] = ("png",)) -> list[Path]:
    """Draw the history that lies in the folder of a training run; the files written, none where there is none.

    Args:
        run: where the gate monitor wrote.
        name: of the files, without extension.
    """
    if not (run / f"{HISTORY}.parquet").is_file():
        return []
    history = read_table(run, HISTORY)
    statistics = json.loads((run / STATISTICS).read_text(encoding="utf-8"))
    return draw_figures({name: partial(draw_gate_history, history, statistics)}, run, formats)


def draw_gate_history(history: pd.DataFrame, statistics: dict[str, Any], pyplot: Any) -> Any:
    """For each gate its distribution over the steps with mean and limit, and its spread and saturation.

    Args:
        history: of the gate monitor.
        statistics: its gate_statistics.json.
    """
    gates = list(history["gate"].unique())
    figure, grid = pyplot.subplots(len(gates), 2, figsize=(10, 0.4 + 2.3 * len(gates)), squeeze=False, sharex=True)
    for (left, right), gate in zip(grid, gates, strict=True):
        own = history[history["gate"] == gate]
        image = _distribution(left, own)
        figure.colorbar(image, ax=left, label="share of values", fraction=0.04, pad=0.01)
        _limits(left, gate, statistics)
        _spread(right, own)
        left.set_title(f"{gate}: values and mean", color=INK)
        right.set_title(f"{gate}: spread and saturation", color=INK)
        left.set_ylabel("gate")
    for axes in grid[-1]:
        axes.set_xlabel("optimizer step")
    figure.tight_layout()
    return figure


def _distribution(axes: Any, own: pd.DataFrame) -> Any:
    columns = sorted(column for column in own.columns if column.startswith("bin_"))
    counts = own[columns].to_numpy(dtype=np.float64)
    shares = counts / counts.sum(axis=1, keepdims=True)
    steps = own["step"].to_numpy(dtype=np.float64)
    gap = float(np.median(np.diff(steps))) if len(steps) > 1 else 1.0
    edges = np.concatenate([steps - gap / 2, [steps[-1] + gap / 2]])
    image = axes.pcolormesh(edges, np.linspace(0, 1, len(columns) + 1), shares.T, cmap="Greys", vmin=0, rasterized=True)
    axes.plot(steps, own["mean"], color=BLUE, lw=1, alpha=0.35)
    means = own.groupby("epoch", sort=True)[["step", "mean"]].mean()
    axes.plot(means["step"], means["mean"], color=BLUE, lw=1.6, label="mean of each epoch")
    axes.set_ylim(0, 1)
    return image


def _limits(axes: Any, gate: str, statistics: dict[str, Any]) -> None:
    last = gate.rsplit(".", 1)[-1]
    for limit in statistics["limits"]:
        if last in limit["gates"]:
            side = "above" if limit["above"] else "below"
            label = f"warns {side} {limit['value']}"
            axes.axhline(limit["value"], color=ORANGE, lw=1, ls="--", label=label)
    crossed = [warning for warning in statistics["warnings"] if warning["gate"] == gate]
    if crossed:
        points = [(warning["step"], warning["value"]) for warning in crossed]
        axes.plot(*zip(*points, strict=True), "v", color=ORANGE, ms=5, label="warning", clip_on=False)
    axes.legend(fontsize=6, frameon=True, framealpha=0.8, loc="best")


def _spread(axes: Any, own: pd.DataFrame) -> None:
    per_atom = own["spread_null"].notna().any()
    lines = [("spread", BLUE, "-", "between atoms" if per_atom else "between structures")]
    if per_atom:
        lines.append(("spread_within", GREEN, "-", "between atoms of a structure"))
        lines.append(("spread_null", GREY, "--", "if channels were independent"))
    for column, colour, style, label in lines:
        axes.plot(own["step"], own[column], style, color=colour, lw=1.2, label=label)
    axes.set_ylabel("standard deviation")
    # Room for the legend above the curves.
    top = float(np.nanmax([own[column].max() for column, *_ in lines]))
    axes.set_ylim(0, HEADROOM * top if top > 0 else 1)
    share = axes.twinx()
    for column, style, label in (("low_share", ":", "below 0.1"), ("high_share", "-.", "above 0.9")):
        share.plot(own["step"], own[column], style, color=ORANGE, lw=1.2, label=label)
    share.set_ylim(0, HEADROOM)
    share.set_yticks([0, 0.5, 1])
    share.set_ylabel("share of values", color=ORANGE)
    handles = [*axes.get_legend_handles_labels()[0], *share.get_legend_handles_labels()[0]]
    share.legend(
        handles, [handle.get_label() for handle in handles], fontsize=6, frameon=False, loc="upper center", ncols=2
    )
