"""Figures of a comparison, drawn from its saved numbers alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interpret.compare.catalogue import GLOBAL
from interpret.compare.comparison import Comparison
from interpret.compare.groups import GroupComparison
from reports.style import BLUE, CATEGORY_COLOURS, DIVERGING, GREY, INK, ORANGE, draw_figures

MOST_WORDS = 36
MOST_ATOMS = 24
MOST_PANELS = 20
COLUMNS = 4


def draw_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Draw every figure the comparison has numbers for; returns the files written."""
    figures: dict[str, Callable[[Any], Any]] = {
        "attention_statistics_comparison": lambda pyplot: draw_statistics(comparison, pyplot),
        "representations": lambda pyplot: draw_representations(comparison, pyplot),
    }
    for number, own in enumerate(_heatmap_structures(comparison), start=1):
        figures[f"heatmap_pair_{number}"] = partial(draw_heatmap_pair, comparison, own)
    return draw_figures(figures, folder)


def draw_groups(comparison: GroupComparison, folder: Path) -> list[Path]:
    """Draw the figure of a comparison of groups; returns the files written."""
    return draw_figures({"group_statistics": lambda pyplot: draw_seeds(comparison, pyplot)}, folder)


def draw_statistics(comparison: Comparison, pyplot: Any) -> Any:
    """A panel a metric: every structure in both models, on the line where they are equal; None without pairs."""
    table = comparison.statistics[comparison.statistics["structures"] > 0].head(MOST_PANELS)
    if not len(table):
        return None
    rows = -(-len(table) // COLUMNS)
    figure, grid = pyplot.subplots(rows, COLUMNS, figsize=(3.0 * COLUMNS, 2.9 * rows), squeeze=False)
    pairs = dict(list(comparison.pairs.groupby("metric", sort=False)))
    for axes, (_, row) in zip(grid.flat, table.iterrows(), strict=False):
        _draw_pairs(axes, pairs[row["metric"]], row, comparison.labels)
    for axes in grid.flat[len(table) :]:
        axes.axis("off")
    left_out = int((comparison.statistics["structures"] > 0).sum()) - len(table)
    more = f"; {left_out} further metrics in attention_statistics.csv" if left_out else ""
    figure.suptitle(
        f"{comparison.labels[0]} (across) and {comparison.labels[1]} (up), a point a structure; on the line they are "
        f"equal{more}",
        color=INK,
        fontsize=10,
    )
    figure.tight_layout(rect=(0, 0, 1, 0.985))
    return figure


def _draw_pairs(axes: Any, own: pd.DataFrame, row: pd.Series[Any], labels: tuple[str, str]) -> None:
    known = own.dropna(subset=["a", "b"])
    low = float(min(known["a"].min(), known["b"].min()))
    high = float(max(known["a"].max(), known["b"].max()))
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    axes.plot([low - margin, high + margin], [low - margin, high + margin], color=GREY, lw=0.8)
    colour = BLUE if row["phenomenon"] == GLOBAL else ORANGE
    axes.plot(known["a"], known["b"], ".", ms=4, alpha=0.6, color=colour)
    axes.set_xlim(low - margin, high + margin)
    axes.set_ylim(low - margin, high + margin)
    axes.set_aspect("equal")
    axes.locator_params(nbins=4)
    axes.tick_params(labelsize=6)
    tap, _, figure = str(row["metric"]).rpartition(".")
    axes.set_title(f"{figure}\n{tap}\n{_change(row)}", fontsize=7, color=INK)
    axes.set_xlabel(labels[0], fontsize=6)
    axes.set_ylabel(labels[1], fontsize=6)


def _change(row: pd.Series[Any]) -> str:
    if row["identical"]:
        return f"identical ({row['structures']})"
    percent = f"{row['percent_change']:+.1f} %, " if np.isfinite(row["percent_change"]) else ""
    return f"{percent}p adj. {row['p_adjusted']:.2g} ({row['structures']})"


def _heatmap_structures(comparison: Comparison) -> list[str]:
    table = comparison.heatmaps
    return list(dict.fromkeys(table["id"])) if len(table) else []


def draw_heatmap_pair(comparison: Comparison, structure: str, pyplot: Any) -> Any:
    """Attention over uniform of one structure in both models, atoms by words, one colour scale."""
    table = comparison.heatmaps[comparison.heatmaps["id"] == structure]
    words = table.drop_duplicates("word_index").set_index("word_index")
    order = table.drop_duplicates("atom").sort_values(["orbit", "graph_class"], kind="stable")["atom"]
    atoms = list(order[:MOST_ATOMS])
    grids = {
        model: own.pivot(index="atom", columns="word_index", values="weight").loc[atoms]
        for model, own in table.groupby("model")
    }
    shown = (grids["a"].mean(axis=0) + grids["b"].mean(axis=0)).nlargest(MOST_WORDS).index.sort_values()
    uniform = words.loc[shown, "uniform"].to_numpy()
    ratios = {m: np.log2(np.maximum(grid[shown].to_numpy() / uniform, 1e-6)) for m, grid in grids.items()}
    span = max(0.02, float(np.quantile(np.abs(np.concatenate(list(ratios.values()))), 0.99)))
    height = 0.2 * len(atoms) + 0.8
    figure, grid = pyplot.subplots(2, 1, figsize=(max(6, 0.27 * len(shown)), 2 * height + 1.2), sharex=True)
    for axes, model, label in zip(grid, ("a", "b"), comparison.labels, strict=True):
        image = axes.imshow(ratios[model], aspect="auto", cmap=DIVERGING, vmin=-span, vmax=span)
        axes.set_yticks(range(len(atoms)), atoms, fontsize=6)
        axes.set_ylabel(label)
    grid[1].set_xticks(range(len(shown)), [words.loc[i, "word"] for i in shown], rotation=90, fontsize=7)
    for text, index in zip(grid[1].get_xticklabels(), shown, strict=True):
        text.set_color(CATEGORY_COLOURS.get(str(words.loc[index, "category"]), INK))
    bar = figure.colorbar(
        image, ax=list(grid), label="attention over uniform (mean over heads)", fraction=0.03, pad=0.01
    )
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"x{2**value:.2f}")
    first = table.iloc[0]
    cut = f"; {len(shown)} of {len(words)} words" if len(shown) < len(words) else ""
    cut += f"; {len(atoms)} of {len(order)} atoms" if len(atoms) < len(order) else ""
    grid[0].set_title(f"{first['formula']}, {structure}: {first['tap']} ({first['chosen']}{cut})", color=INK)
    return figure


def draw_representations(comparison: Comparison, pyplot: Any) -> Any:
    """CKA of every two stages, that with an untrained copy, and Procrustes distance; None without them."""
    table = comparison.representations
    if not len(table):
        return None
    figure, grid = pyplot.subplots(2, 3, figsize=(15.5, 10))
    for row, level in zip(grid, ("atom", "structure"), strict=True):
        own = table[table["level"] == level]
        first = own.iloc[0]
        size = f"n = {first['samples']} {level}s, d = {first['channels_a']} and {first['channels_b']}"
        batches = f"{first['batches']} minibatch{'es' if first['batches'] > 1 else ''}"
        _draw_matrix(row[0], own, "cka", "viridis", (0, 1), f"{level}s: debiased CKA\n{size}, {batches}", comparison)
        title = f"{level}s, the control: debiased CKA with an\nuntrained copy of {comparison.labels[1]}"
        _draw_matrix(row[1], own, "cka_untrained", "viridis", (0, 1), title, comparison)
        title = f"{level}s: Procrustes distance (0 equal, 2 farthest)\n{size}"
        _draw_matrix(row[2], own, "procrustes", "viridis_r", (0, None), title, comparison)
    figure.tight_layout()
    return figure


def _draw_matrix(
    axes: Any,
    own: pd.DataFrame,
    value: str,
    colours: str,
    span: tuple[float, float | None],
    title: str,
    comparison: Any,
) -> None:
    rows, columns = (list(dict.fromkeys(own[name])) for name in ("stage_a", "stage_b"))
    grid = own.pivot(index="stage_a", columns="stage_b", values=value).loc[rows, columns].to_numpy(dtype=np.float64)
    image = axes.imshow(grid, cmap=colours, vmin=span[0], vmax=span[1])
    low, high = image.get_clim()
    for (i, j), number in np.ndenumerate(grid):
        dark = (number - low) / ((high - low) or 1) < 0.6
        light = dark if colours == "viridis" else not dark
        written = f"{number:.2f}" if np.isfinite(number) else "-"
        axes.text(j, i, written, ha="center", va="center", fontsize=6, color="white" if light else INK)
    axes.set_yticks(range(len(rows)), [name.removesuffix(".nodes") for name in rows], fontsize=7)
    axes.set_xticks(
        range(len(columns)), [n.removesuffix(".nodes") for n in columns], fontsize=7, rotation=45, ha="right"
    )
    axes.set_ylabel(comparison.labels[0])
    axes.set_xlabel(comparison.labels[1])
    axes.set_title(title, color=INK, fontsize=8)


def draw_seeds(comparison: GroupComparison, pyplot: Any) -> Any:
    """A panel a metric: the mean of every model of both groups; None without metrics."""
    table = comparison.statistics[comparison.statistics["structures"] > 0].head(MOST_PANELS)
    if not len(table):
        return None
    rows = -(-len(table) // COLUMNS)
    figure, grid = pyplot.subplots(rows, COLUMNS, figsize=(2.6 * COLUMNS, 2.2 * rows), squeeze=False)
    for axes, (_, row) in zip(grid.flat, table.iterrows(), strict=False):
        own = comparison.seeds[comparison.seeds["metric"] == row["metric"]]
        for place, (group, colour) in enumerate(zip(comparison.labels, (BLUE, ORANGE), strict=True)):
            means = own.loc[own["group"] == group, "mean"]
            axes.plot(np.full(len(means), place), means, "o", ms=4, alpha=0.7, color=colour)
            axes.plot([place - 0.2, place + 0.2], [means.mean()] * 2, color=colour, lw=1.5)
        axes.set_xlim(-0.6, 1.6)
        axes.set_xticks((0, 1), comparison.labels, fontsize=7)
        axes.tick_params(axis="y", labelsize=6)
        tap, _, figure_name = str(row["metric"]).rpartition(".")
        sds = f"{row['in_seed_sds']:+.1f} sd between seeds" if np.isfinite(row["in_seed_sds"]) else row["gap"]
        axes.set_title(f"{figure_name}\n{tap}\n{sds}", fontsize=7, color=INK)
    for axes in grid.flat[len(table) :]:
        axes.axis("off")
    figure.tight_layout()
    return figure
