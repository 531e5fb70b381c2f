"""Figures of a diagnosis, drawn from its saved numbers alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from interpret.results import Diagnosis
from reports.style import BLUE, CATEGORY_COLOURS, DIVERGING, GREY, INK, ORANGE, draw_figures

MOST_WORDS = 40
MOST_ATOMS = 40


def draw_all(diagnosis: Diagnosis, folder: Path, formats: tuple[str, ...] = ("png",)) -> list[Path]:
    """Draw every figure the diagnosis has numbers for; returns the files written."""
    figures: dict[str, Callable[[Diagnosis, Any], Any]] = {
        "heatmap": draw_heatmap,
        "alpha_by_element": draw_alpha_by_element,
        "text_flow": draw_text_flow,
        "diversity_by_stage": draw_diversity,
    }
    return draw_figures({name: partial(draw, diagnosis) for name, draw in figures.items()}, folder, formats)


def draw_heatmap(diagnosis: Diagnosis, pyplot: Any) -> Any:
    """Attention of each atom to each word over uniform attention, mean over heads; None where there is no attention."""
    table = diagnosis.heatmap
    if not len(table):
        return None
    grid = table.pivot(index="atom", columns="word_index", values="weight")
    order = table.drop_duplicates("atom").sort_values(["orbit", "graph_class"], kind="stable")["atom"]
    words = table.drop_duplicates("word_index").set_index("word_index")
    shown = grid.mean(axis=0).nlargest(MOST_WORDS).index.sort_values()
    atoms = list(order[:MOST_ATOMS])
    values = grid.loc[atoms, shown]
    figure, axes = pyplot.subplots(figsize=(max(5, 0.28 * len(shown)), max(2.2, 0.24 * len(atoms) + 1.6)))
    # A word's weight is a sum over its pieces, so a long word is bright whatever the model does: the ratio to uniform
    # attention is what the colour shows, on a scale that is symmetric about 1.
    ratio = np.log2(np.maximum(values.to_numpy() / words.loc[shown, "uniform"].to_numpy(), 1e-6))
    span = max(0.1, float(np.quantile(np.abs(ratio), 0.98)))
    image = axes.imshow(ratio, aspect="auto", cmap=DIVERGING, vmin=-span, vmax=span)
    axes.set_yticks(range(len(atoms)), atoms, fontsize=7)
    axes.set_xticks(range(len(shown)), [words.loc[i, "word"] for i in shown], rotation=90, fontsize=7)
    for label, index in zip(axes.get_xticklabels(), shown, strict=True):
        label.set_color(CATEGORY_COLOURS.get(str(words.loc[index, "category"]), INK))
    bar = figure.colorbar(image, ax=axes, label="attention over uniform (mean over heads)", fraction=0.03, pad=0.01)
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"x{2**value:.2f}")
    cut = []
    if len(shown) < grid.shape[1]:
        cut.append(f"{len(shown)} of {grid.shape[1]} words, {values.sum(axis=1).mean():.0%} of the attention")
    if len(atoms) < len(order):
        cut.append(f"{len(atoms)} of {len(order)} atoms")
    note = f" ({'; '.join(cut)})" if cut else ""
    axes.set_title(f"{table['formula'].iloc[0]}, {table['id'].iloc[0]}: {table['tap'].iloc[0]}{note}", color=INK)
    axes.set_ylabel("atoms, grouped by orbit")
    return figure


def draw_alpha_by_element(diagnosis: Diagnosis, pyplot: Any) -> Any:
    """Alpha of every atom by element, with the band that independent channels would leave."""
    layers = [c for c in diagnosis.atoms.columns if c.startswith("fusion.") and c.endswith(".alpha_mean")]
    if not layers:
        return None
    rows = len(layers)
    figure, grid = pyplot.subplots(rows, 1, figsize=(7.5, 2.9 * rows), squeeze=False)
    for axes, column in zip(grid[:, 0], layers, strict=True):
        fusion = column.removesuffix(".alpha_mean")
        means = diagnosis.atoms.groupby("element")[column].agg(["mean", "count"]).sort_values("mean")
        position = {element: number for number, element in enumerate(means.index)}
        places = diagnosis.atoms["element"].map(position)
        null = float(diagnosis.statistics[fusion]["independence_null"] or np.nan)
        overall = float(diagnosis.atoms[column].mean())
        axes.axhspan(overall - 2 * null, overall + 2 * null, color=GREY, alpha=0.3, lw=0)
        axes.plot(places, diagnosis.atoms[column], ".", ms=3, color=BLUE, alpha=0.5)
        axes.plot(range(len(means)), means["mean"], "_", ms=9, color=ORANGE)
        axes.set_xticks(range(len(means)), [f"{e}" for e in means.index], fontsize=6, rotation=90)
        axes.set_ylabel("alpha (mean over channels)")
        axes.set_title(f"{fusion}: gate by element; grey: mean +- 2 sd if channels were independent", color=INK)
    figure.tight_layout()
    return figure


def draw_text_flow(diagnosis: Diagnosis, pyplot: Any) -> Any:
    """Cosine of every stage with the text in node space, beside the texts of other structures."""
    layers = diagnosis.layers
    columns = [c for c in layers.columns if c.endswith(".text_cosine")]
    if not columns:
        return None
    figure, grid = pyplot.subplots(1, len(columns), figsize=(4.8 * len(columns), 3.4), squeeze=False, sharey=True)
    for axes, column in zip(grid[0], columns, strict=True):
        by_stage = layers.groupby("stage_index", sort=True)
        names = by_stage["stage"].first()
        place = np.arange(len(names))
        # Dashed over solid: where the two coincide, which is the point of the figure, both are seen.
        for name, colour, line, label in (
            (column, BLUE, "o-", "own text"),
            (f"{column}_control", ORANGE, "s--", "texts of other structures"),
        ):
            mean, spread = by_stage[name].mean(), by_stage[name].std()
            axes.plot(place, mean, line, ms=3, color=colour, label=label)
            axes.fill_between(place, mean - spread, mean + spread, color=colour, alpha=0.15, lw=0)
        null = float(layers[f"{column}_null_sd"].iloc[0])
        axes.axhspan(-2 * null, 2 * null, color=GREY, alpha=0.25, lw=0, label="random directions, 2 sd")
        axes.set_xticks(place, [n.removesuffix(".nodes") for n in names], rotation=60, ha="right", fontsize=7)
        axes.set_title(f"text of {column.removesuffix('.text_cosine')} (mean, sd over structures)", color=INK)
        axes.axhline(0, color=INK, lw=0.5)
    grid[0, 0].set_ylabel("cosine of atoms with text")
    grid[0, 0].legend(fontsize=7, frameon=False)
    figure.tight_layout()
    return figure


def draw_diversity(diagnosis: Diagnosis, pyplot: Any) -> Any:
    """How different atoms of different classes are after every stage."""
    layers = diagnosis.layers
    if not len(layers) or not layers["between_class_distance"].notna().any():
        return None
    figure, axes = pyplot.subplots(figsize=(5.6, 3.4))
    by_stage = layers.groupby("stage_index", sort=True)
    names = by_stage["stage"].first()
    place = np.arange(len(names))
    quantiles = by_stage["between_class_distance"].quantile(np.array([0.25, 0.5, 0.75])).unstack()
    axes.plot(place, quantiles[0.5], "o-", ms=3, color=BLUE, label="1 - cosine, atoms of different classes")
    axes.fill_between(place, quantiles[0.25], quantiles[0.75], color=BLUE, alpha=0.15, lw=0)
    axes.set_yscale("log" if (quantiles[0.5] > 0).all() else "linear")
    axes.set_ylabel("mean distance (median, quartiles)")
    axes.set_xticks(place, [n.removesuffix(".nodes") for n in names], rotation=60, ha="right", fontsize=7)
    counted = int(layers.loc[layers["between_class_distance"].notna(), "id"].nunique())
    axes.set_title(f"diversity of atoms by stage ({counted} structures with two classes or more)", color=INK)
    axes.legend(fontsize=7, frameon=False)
    figure.tight_layout()
    return figure
