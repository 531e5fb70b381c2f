"""The figure of the modality analysis, drawn from its tables alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reports.style import BLUE, GREEN, GREY, INK, ORANGE, figure_style, save_figure

if TYPE_CHECKING:
    from interpret.modality.analysis import ModalityAnalysis

COLOURS = {"references": BLUE, "empty": ORANGE, "untrained": GREY}
LABELS = {
    "references": "against other structures",
    "empty": "against empty text, mean crystal",
    "untrained": "control: untrained network",
}


def draw_modality(analysis: ModalityAnalysis, folder: Path, formats: tuple[str, ...] = ("png",)) -> list[Path]:
    """Draw shares, share against error, parts and edits; returns the files written."""
    with figure_style() as pyplot:
        figure, axes = pyplot.subplots(2, 2, figsize=(10.5, 7.4))
        draw_shares(axes[0, 0], analysis)
        draw_errors(axes[0, 1], analysis)
        draw_parts(axes[1, 0], analysis)
        draw_edits(axes[1, 1], analysis)
        figure.tight_layout()
        return save_figure(figure, folder, "modality", formats)


def draw_shares(axes: Any, analysis: ModalityAnalysis) -> None:
    """Distribution over structures of the text's share, by baseline."""
    bins = np.linspace(0, 1, 21)
    for baseline, colour in COLOURS.items():
        rows = analysis.modality[analysis.modality["baseline"] == baseline]
        share = analysis.facts["shares"][baseline]["text_share"]["value"]
        label = f"{LABELS[baseline]}: {100 * share:.0f} %" if np.isfinite(share) else LABELS[baseline]
        values = rows["text_share"].dropna()
        axes.hist(values, bins=bins, histtype="step", color=colour, lw=1.4, label=label)
    axes.set_xlabel("share of the text in a prediction, |text| / (|graph| + |text|)")
    axes.set_ylabel("structures")
    axes.legend(fontsize=7, frameon=False)
    axes.set_title("graph or text: Shapley values of the two", color=INK)


def draw_errors(axes: Any, analysis: ModalityAnalysis) -> None:
    """Share of the text against the absolute error."""
    rows = analysis.modality[analysis.modality["baseline"] == "references"].dropna(subset=["absolute_error"])
    axes.set_title("share of the text and error", color=INK)
    if not len(rows):
        return _say(axes, "the data has no targets")
    axes.plot(rows["text_share"], rows["absolute_error"], ".", color=BLUE, alpha=0.6)
    figure = analysis.facts["shares"]["references"]["error_correlation"]
    if np.isfinite(figure["value"]):
        axes.set_title(
            f"share and error: rank correlation {figure['value']:.2f} ({figure['low']:.2f} to {figure['high']:.2f})",
            color=INK,
        )
    axes.set_xlabel("share of the text, against other structures")
    axes.set_ylabel("absolute error, unit of the target")
    return None


def draw_parts(axes: Any, analysis: ModalityAnalysis) -> None:
    """What each part of the text does with its crystal there, and without."""
    axes.set_title("parts of the text", color=INK)
    parts = {name: f for name, f in analysis.facts["parts"].items() if "mean_with_graph" in f}
    if not parts:
        return _say(axes, "no text was taken apart")
    places = np.arange(len(parts))
    for offset, key, colour, label in (
        (-0.19, "mean_without_graph", ORANGE, "with the mean crystal"),
        (0.19, "mean_with_graph", BLUE, "with its own crystal"),
    ):
        _bars(axes, places + offset, [f[key] for f in parts.values()], colour, label)
    counts = [f["mean_with_graph"]["structures"] for f in parts.values()]
    axes.set_yticks(places, [f"{name} ({n})" for name, n in zip(parts, counts, strict=True)], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("mean |Shapley value|, unit of the target")
    axes.legend(fontsize=7, frameon=False)
    return None


def draw_edits(axes: Any, analysis: ModalityAnalysis) -> None:
    """What changing one fact does, beside the same facts in other words."""
    axes.set_title("one fact of the text changed", color=INK)
    edits = analysis.facts["edits"]
    if not edits:
        return _say(axes, "no text was edited")
    order = sorted(edits, key=lambda name: (edits[name]["control"], -edits[name]["mean_change"]["value"]))
    for control, colour, label in ((False, BLUE, "one fact changed"), (True, GREEN, "control: the same said")):
        chosen = [(i, edits[name]["mean_change"]) for i, name in enumerate(order) if edits[name]["control"] == control]
        if chosen:
            _bars(axes, np.array([i for i, _ in chosen]), [f for _, f in chosen], colour, label)
    axes.set_yticks(range(len(order)), order, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("mean |change of the prediction|, unit of the target")
    axes.legend(fontsize=7, frameon=False)
    return None


def _bars(axes: Any, places: Any, figures: list[dict[str, float]], colour: str, label: str) -> None:
    values = np.array([f["value"] for f in figures])
    spread = np.array([[f["value"] - f["low"], f["high"] - f["value"]] for f in figures]).T
    axes.barh(places, values, height=0.36, color=colour, alpha=0.75, label=label)
    axes.errorbar(values, places, xerr=np.nan_to_num(spread), fmt="none", ecolor=INK, elinewidth=0.8)


def _say(axes: Any, text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, fontsize=9, color=GREY)
    axes.set_axis_off()
