"""Figures of one structure for print: column width, vector formats, the drawn numbers beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interpret.pages.quantity import written
from interpret.tables import write_json, write_text
from reports.html.report import Report
from reports.style import BLUE, GREY, INK, ORANGE, figure_style, save_figure

# Inches: one column of a two-column journal.
COLUMN_WIDTH = 3.5
MOST_WORDS, MOST_ROWS = 22, 24
FORMATS = ("png", "svg", "pdf")
PAPER_STYLE: dict[str, Any] = {
    "font.size": 7,
    "axes.labelsize": 7,
    "axes.titlesize": 7,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "legend.fontsize": 6,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.0,
    "savefig.dpi": 600,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
}


def draw_paper(report: Report, identifier: str, folder: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Draw the heat map, the gates and the text flow of one structure; returns the files written.

    Each figure has the table it is drawn from beside it, as CSV and as JSON.

    Raises:
        RecordError: the report has no such structure.
    """
    page = report.page(identifier)
    name = report.store.rows[identifier]["name"]
    figures = {
        "heatmap": (heatmap_table(page), draw_heatmap),
        "gates": (gate_table(page), draw_gates),
        "text_flow": (flow_table(page), draw_flow),
    }
    files = []
    for kind, (table, draw) in figures.items():
        if not len(table):
            continue
        base = folder / f"{name}.{kind}"
        write_text(base.with_name(base.name + ".csv"), table.to_csv(index=False, lineterminator="\n"))
        write_json(base.with_name(base.name + ".json"), table.to_dict("records"))
        with figure_style() as pyplot:
            pyplot.rcParams.update(PAPER_STYLE)
            figure = draw(table, pyplot)
            files += save_figure(figure, folder, base.name, formats)
    return files


def heatmap_table(page: Mapping[str, Any]) -> pd.DataFrame:
    """The first map of a page, mean over heads: one row an (atom row, word) pair, with its control.

    The words are those furthest from uniform attention; the others are left out, and the table says how many.
    """
    maps = [quantity for quantity in page["quantities"] if {"atom", "word"} <= set(quantity["axes"])]
    if not maps:
        return pd.DataFrame()
    quantity, words, rows = maps[0], page["words"]["text"], page["rows"]
    values = _numbers(quantity["values"], (-1, len(rows), len(words)))[0]
    control = np.broadcast_to(_numbers(quantity["controls"][0]["values"], (len(words),)), values.shape)
    order = np.abs(values - control).max(axis=0).argsort()[::-1][:MOST_WORDS]
    labels, decimals = page["atoms"]["label"], quantity["decimals"]
    return pd.DataFrame(
        [
            {
                "quantity": quantity["label"],
                "row": row,
                "atoms": _group(labels, rows[row]),
                "word_index": column,
                "word": words[column],
                "value": float(written(int(values[row, column]), decimals)),
                "control": float(written(int(control[row, column]), decimals)),
                "words_left_out": len(words) - len(order),
                "rows_left_out": max(0, len(rows) - MOST_ROWS),
            }
            for row in range(min(len(rows), MOST_ROWS))
            for column in sorted(order.tolist())
        ]
    )


def draw_heatmap(table: pd.DataFrame, pyplot: Any) -> Any:
    """Attention over uniform attention, on a scale that is symmetric about 1."""
    import seaborn
    from matplotlib.ticker import FuncFormatter

    grid = np.log2(table["value"].clip(lower=1e-9).to_numpy() / table["control"].to_numpy())
    rows, columns = table["row"].nunique(), table["word_index"].nunique()
    grid = grid.reshape(rows, columns)
    span = max(float(np.log2(1.1)), float(grid.max()))
    first = table[table["row"] == 0]
    figure, axes = pyplot.subplots(figsize=(COLUMN_WIDTH, 1.15 + 0.14 * rows))
    seaborn.heatmap(
        grid,
        ax=axes,
        cmap="PuOr_r",
        vmin=-span,
        vmax=span,
        linewidths=0.3,
        xticklabels=[_plain(word) for word in first["word"]],
        yticklabels=[_plain(label) for label in table.drop_duplicates("row")["atoms"]],
        cbar_kws={"label": "times uniform", "fraction": 0.04, "pad": 0.02},
    )
    axes.collections[0].colorbar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{2**value:.2g}"))
    axes.tick_params(axis="x", rotation=90, length=0, pad=1)
    axes.tick_params(axis="y", rotation=0, length=0, pad=1)
    left = int(table["words_left_out"].iloc[0])
    axes.set_xlabel(f"words ({left} nearer to uniform left out)" if left else "words")
    return figure


def gate_table(page: Mapping[str, Any]) -> pd.DataFrame:
    """Alpha of every atom for every fusion layer, with the spread that independent channels would leave."""
    spread = {gate["layer"]: gate for gate in page["gates"]}
    atoms = page["atoms"]
    found = []
    for quantity in page["quantities"]:
        if quantity["axes"] != ["atom"] or not quantity["name"].endswith(".alpha_mean"):
            continue
        layer = int(quantity["name"].split(".")[1])
        for atom, value in enumerate(quantity["values"]):
            found.append(
                {
                    "fusion": layer,
                    "atom": atoms["label"][atom],
                    "element": atoms["element"][atom],
                    "orbit": atoms["orbit"][atom],
                    "alpha": float(written(value, quantity["decimals"]) or "nan"),
                    "mean": spread[layer]["alpha_mean"],
                    "independent_sd": spread[layer]["spread_null"],
                }
            )
    return pd.DataFrame(found)


def draw_gates(table: pd.DataFrame, pyplot: Any) -> Any:
    """Alpha by element; grey: mean and 2 sd if channels were independent."""
    import seaborn

    layers = sorted(table["fusion"].unique())
    figure, grid = pyplot.subplots(1, len(layers), figsize=(COLUMN_WIDTH, 1.7), squeeze=False, sharey=True)
    for axes, layer in zip(grid[0], layers, strict=True):
        part = table[table["fusion"] == layer]
        mean, sd = float(part["mean"].iloc[0]), float(part["independent_sd"].iloc[0] or 0.0)
        axes.axhspan(mean - 2 * sd, mean + 2 * sd, color=GREY, alpha=0.3, lw=0)
        seaborn.stripplot(data=part, x="element", y="alpha", ax=axes, color=BLUE, size=2.5, jitter=0.15)
        axes.set_xlabel(f"fusion {layer}")
    grid[0, 0].set_ylabel("gate alpha")
    figure.tight_layout()
    return figure


def flow_table(page: Mapping[str, Any]) -> pd.DataFrame:
    """Cosine with the own text and with others, one row a stage and fusion."""
    flow = page["flow"]
    return pd.DataFrame(
        [
            {
                "fusion": text["fusion"],
                "stage": stage,
                "own": text["own"][index],
                "control": text["control"][index],
                "control_sd": text["control_sd"][index],
                "null_sd": text["null_sd"],
            }
            for text in flow["texts"]
            for index, stage in enumerate(flow["stages"])
        ]
    )


def draw_flow(table: pd.DataFrame, pyplot: Any) -> Any:
    """Own text over other texts, stage by stage; grey: random directions, 2 sd."""
    fusions = list(dict.fromkeys(table["fusion"]))
    figure, grid = pyplot.subplots(1, len(fusions), figsize=(COLUMN_WIDTH, 2.0), squeeze=False, sharey=True)
    for axes, fusion in zip(grid[0], fusions, strict=True):
        part = table[table["fusion"] == fusion].astype({"own": float, "control": float, "control_sd": float})
        place = np.arange(len(part))
        null = float(part["null_sd"].iloc[0])
        axes.axhspan(-2 * null, 2 * null, color=GREY, alpha=0.25, lw=0)
        axes.plot(place, part["own"], "o-", ms=2, color=BLUE, label="own text")
        axes.errorbar(place, part["control"], part["control_sd"], fmt="s--", ms=2, color=ORANGE, label="other texts")
        axes.set_xticks(place, list(part["stage"]), rotation=60, ha="right")
        axes.set_title(fusion, color=INK)
    grid[0, 0].set_ylabel("cosine of atoms with text")
    grid[0, 0].legend(frameon=False)
    figure.tight_layout()
    return figure


def _numbers(values: Sequence[int | None], shape: tuple[int, ...]) -> Any:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64).reshape(shape)


def _group(labels: Sequence[str], atoms: Sequence[int]) -> str:
    names = ", ".join(labels[atom] for atom in atoms[:2])
    return f"{names} … ({len(atoms)})" if len(atoms) > 2 else names


def _plain(text: str) -> str:
    """A label that matplotlib draws as it is written: a dollar sign would start a formula."""
    return str(text)[:24].replace("$", r"\$")
