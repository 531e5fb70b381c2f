"""Figures of an attribution run, drawn from its tables alone: curves, agreement of explainers, randomised weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interpret.checks.estimates import FEWEST_STRUCTURES
from reports.style import DIVERGING, GREY, INK, figure_style, save_figure

if TYPE_CHECKING:
    from interpret.attribution.tables import AttributionTables

# Colour, dashes and marker of each explainer: colours are Tol's muted scheme (2021), safe for colour-blind readers.
# Explainers that know nothing of the network are grey and dashed.
LINES: dict[str, tuple[str, str, str]] = {
    "integrated-gradients": ("#332288", "-", "o"),
    "input-x-gradient": ("#88CCEE", "-", "s"),
    "deeplift": ("#44AA99", "-", "v"),
    "ablation": ("#000000", "-", "D"),
    "attention": ("#CC6677", "-", "^"),
    "attention-rollout": ("#882255", "-", "P"),
    "norm-based": ("#999933", "-", "X"),
    "gradient-x-attention": ("#117733", "-", "p"),
    "value-zeroing": ("#DDAA33", "-", "h"),
    "random": ("#BBBBBB", "-", ""),
    "uniform": ("#666666", "--", ""),
    "uniform-attention": ("#666666", ":", "^"),
    "position": ("#666666", ":", "o"),
    "frequency": ("#666666", ":", "s"),
}
OTHER = ("#AA4499", "-.", "*")
CURVES = {
    "deletion": ("taken out", "the more is lost, the better"),
    "insertion": ("kept alone", "the less is missing, the better"),
}
AREAS = {"deletion": "deletion_area", "insertion": "insertion_area"}
SMALL = 7.5
# Inches: a cell of the heat map, and the room its names take.
CELL, LABELS = 0.45, 1.45


def draw_attribution(tables: AttributionTables, folder: Path, formats: tuple[str, ...] = ("png",)) -> list[Path]:
    """Draw ``faithfulness``, ``explainer_agreement`` and ``randomisation``; returns the files written.

    What has nothing to show is not drawn.
    """
    curves, agreement, stages = tables.curves(), tables.explainer_agreement(), tables.randomisation_summary()
    drawn: list[Path] = []
    with figure_style() as pyplot:
        if curves["mean"].notna().any():
            drawn += save_figure(draw_faithfulness(curves, tables.summary(), pyplot), folder, "faithfulness", formats)
        if agreement["tau"].notna().any():
            drawn += save_figure(draw_agreement(agreement, pyplot), folder, "explainer_agreement", formats)
        if stages["spearman"].notna().any():
            drawn += save_figure(draw_randomisation(stages, pyplot), folder, "randomisation", formats)
    return drawn


def draw_faithfulness(curves: pd.DataFrame, summary: pd.DataFrame, pyplot: Any) -> Any:
    """Deletion and insertion curves (columns) of each kind of players (rows), areas in the legends.

    Args:
        curves: of :meth:`interpret.attribution.tables.AttributionTables.curves`.
        summary: of its ``summary``, for the areas with their intervals.
    """
    rows = list(_defined(curves, "mean"))
    figure, grid = pyplot.subplots(len(rows), 2, figsize=(14, 3.9 * len(rows)), squeeze=False)
    for line, (side, kind, part) in zip(grid, rows, strict=True):
        for axes, curve in zip(line, CURVES, strict=True):
            own = part[part["curve"] == curve].dropna(subset=["mean"])
            areas = summary[(summary["side"] == side) & (summary["kind"] == kind) & (summary["figure"] == AREAS[curve])]
            _curve_panel(axes, own, areas.set_index("method"), curve, kind)
    figure.tight_layout(w_pad=2.0, h_pad=2.0)
    return figure


def _curve_panel(axes: Any, rows: pd.DataFrame, areas: pd.DataFrame, curve: str, kind: str) -> None:
    """One curve of one kind of players; shares stand at their square roots, so that small ones can be told apart."""
    methods = sorted(rows["method"].unique(), key=lambda name: areas.loc[name, "mean"], reverse=curve == "deletion")
    for method in methods:
        own = rows[rows["method"] == method].sort_values("percent")
        colour, dashes, marker = LINES.get(method, OTHER)
        place = np.sqrt(own["percent"])
        label = _area_label(areas.loc[method], curve)
        known = dashes == "-" and method != "random"
        axes.plot(
            place, own["mean"], dashes, color=colour, marker=marker, ms=3.5, lw=1.5 if known else 1.1, label=label
        )
        if method == "random":
            axes.fill_between(place, own["low"], own["high"], color=colour, alpha=0.35, lw=0, zorder=0)
    percents = sorted(rows["percent"].unique())
    axes.set_xticks(np.sqrt(percents), [f"{percent:g}" for percent in percents])
    axes.set_xlim(0, 10)
    # The band of the random explainer is mostly the spread of structures: the lines decide what is shown of it.
    axes.set_ylim(0, 1.12 * float(rows["mean"].max()) or 1.0)
    axes.tick_params(labelsize=8)
    done, reading = CURVES[curve]
    axes.set_xlabel(f"% of the {kind} {done},\nmost important first (at least one)")
    axes.set_ylabel("mean |change of the prediction|,\nunit of the target")
    axes.set_title(f"{kind}: {curve} curve, {_count(rows)}", color=INK)
    axes.grid(axis="y", lw=0.3)
    axes.legend(
        title=f"area [95 % interval]: {reading}\n+ better, - worse than a uniform order (paired)\n"
        "grey band: 95 % interval of the random explainer",
        alignment="left",
        title_fontsize=SMALL,
        prop={"family": "monospace", "size": SMALL},
        loc="upper left",
        bbox_to_anchor=(1.01, 1.02),
        frameon=False,
        handlelength=2.6,
        borderaxespad=0,
    )


def _area_label(area: pd.Series, curve: str) -> str:
    """Name, area, interval, and whether the paired difference to a uniform order leaves 0 out."""
    low, high = area["beyond_uniform_low"], area["beyond_uniform_high"]
    better = {"deletion": low > 0, "insertion": high < 0}[curve]
    worse = {"deletion": high < 0, "insertion": low > 0}[curve]
    enough = area["structures"] >= FEWEST_STRUCTURES
    sign = "+" if better and enough else "-" if worse and enough else " "
    between = f" [{area['low']:#.3g}, {area['high']:#.3g}]" if np.isfinite(area["low"]) else ""
    return f"{sign} {area.name:<20} {area['mean']:#.3g}{between}"


def draw_agreement(agreement: pd.DataFrame, pyplot: Any) -> Any:
    """Mean tau of each pair of explainers, a panel for each kind of players; undefined pairs are hatched.

    Args:
        agreement: of :meth:`interpret.attribution.tables.AttributionTables.explainer_agreement`.
    """
    panels = list(_defined(agreement, "tau"))
    sizes = [CELL * (len(_names(part)) - 1) for _, _, part in panels]
    width, height = sum(sizes) + LABELS * len(sizes) + 1.2, max(sizes) + LABELS
    figure = pyplot.figure(figsize=(width, height))

    def place(left: float, wide: float, high: float) -> Any:
        """Axes at the top, by inches."""
        return figure.add_axes((left / width, 1 - high / height, wide / width, high / height))

    scale = place(width - 0.8, 0.15, min(2.2, max(sizes)))
    left = 0.0
    for size, (_, kind, part) in zip(sizes, panels, strict=True):
        _agreement_panel(place(left + LABELS, size, size), part, kind, scale)
        left += LABELS + size
    scale.tick_params(labelsize=7.5)
    note = (
        "In brackets: the 95 % interval holds 0, or there is none. Hatched: undefined, an order by chance has no tau."
    )
    figure.text(0, 0, note, fontsize=7.5, color=INK, va="top")
    return figure


def _agreement_panel(axes: Any, rows: pd.DataFrame, kind: str, scale: Any) -> None:
    import seaborn
    from matplotlib.patches import Rectangle

    names = _names(rows)
    values = np.full((len(names) - 1, len(names) - 1), np.nan)
    written = np.full(values.shape, "", dtype=object)
    for row in rows.to_dict("records"):
        place = names.index(row["other"]) - 1, names.index(row["method"])
        values[place] = row["tau"]
        written[place] = _written(row["tau"], told=row["low"] > 0 or row["high"] < 0)
        if not np.isfinite(row["tau"]):
            axes.add_patch(Rectangle(place[::-1], 1, 1, fill=False, hatch="////", ec="#BBBBBB", lw=0))
    seaborn.heatmap(
        values,
        ax=axes,
        cmap=DIVERGING,
        vmin=-1,
        vmax=1,
        annot=written,
        fmt="",
        annot_kws={"size": SMALL},
        linewidths=0.5,
        xticklabels=names[:-1],
        yticklabels=names[1:],
        cbar_ax=scale,
        cbar_kws={"label": "mean Kendall tau of the sizes"},
    )
    axes.tick_params(labelsize=7.5, length=0)
    axes.tick_params(axis="x", rotation=60)
    axes.set_xticklabels(axes.get_xticklabels(), ha="right", rotation_mode="anchor")
    axes.tick_params(axis="y", rotation=0)
    axes.set(xlabel="", ylabel="")
    axes.set_title(f"{kind}: {_count(rows)}", color=INK)


def draw_randomisation(stages: pd.DataFrame, pyplot: Any) -> Any:
    """Correlation with the trained network's explanation as weights are drawn anew, a panel a side.

    Args:
        stages: of :meth:`interpret.attribution.tables.AttributionTables.randomisation_summary`.
    """
    rows = stages.dropna(subset=["spearman"])
    sides = list(dict.fromkeys(rows["side"]))
    figure, grid = pyplot.subplots(1, len(sides), figsize=(4.4 * len(sides) + 2.0, 3.6), squeeze=False, sharey=True)
    for axes, side in zip(grid[0], sides, strict=True):
        _randomisation_panel(axes, rows[rows["side"] == side], side)
    grid[0, 0].set_ylabel("Spearman correlation with the\nexplanation of the trained network")
    shown = {label: line for axes in grid[0] for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    shown["the same of two\nuntrained networks"] = pyplot.Line2D([], [], color=GREY, ls="--", lw=1.1)
    figure.tight_layout(w_pad=2.0)
    grid[0, -1].legend(
        shown.values(), shown, fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0
    )
    return figure


def _randomisation_panel(axes: Any, rows: pd.DataFrame, side: str) -> None:
    names = rows.drop_duplicates("depth").sort_values("depth").set_index("depth")["stage"]
    for method in dict.fromkeys(rows["method"]):
        own = rows[rows["method"] == method].sort_values("depth")
        colour, _, marker = LINES.get(method, OTHER)
        axes.fill_between(own["depth"], own["low"], own["high"], color=colour, alpha=0.18, lw=0)
        axes.plot(own["depth"], own["spearman"], color=colour, marker=marker, ms=4, label=method)
        control = own["untrained_pair"].dropna()
        if len(control):
            axes.axhline(control.iloc[-1], color=colour, ls="--", lw=1.1)
    axes.axhline(0, color=GREY, lw=0.5, zorder=0)
    axes.tick_params(labelsize=8)
    axes.set_xticks(names.index, list(names), rotation=40, ha="right", rotation_mode="anchor")
    axes.set_xlabel("weights drawn anew, from the output down to")
    axes.set_title(f"{side}: {_count(rows)}", color=INK)


def _defined(table: pd.DataFrame, figure: str) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Side, kind and rows of each kind of players for which the figure is defined anywhere."""
    for side, kind in dict.fromkeys(zip(table["side"], table["kind"], strict=True)):
        rows = table[(table["side"] == side) & (table["kind"] == kind)]
        if rows[figure].notna().any():
            yield side, kind, rows


def _written(value: float, *, told: bool) -> str:
    """Two decimals without the sign of a rounded zero; in brackets where the value is not told from 0."""
    number = f"{round(value, 2) + 0.0:.2f}"
    return number if told else f"({number})"


def _names(rows: pd.DataFrame) -> list[str]:
    """Methods of pairs, in the order of the table."""
    return list(dict.fromkeys([*rows["method"], *rows["other"]]))


def _count(rows: pd.DataFrame) -> str:
    """How many structures the rows rest on, as a range where rows differ."""
    counts = rows.loc[rows["structures"] > 0, "structures"]
    low, high = int(counts.min()), int(counts.max())
    return f"{high} structures" if low == high else f"{low} to {high} structures"
