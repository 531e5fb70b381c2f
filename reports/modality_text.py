"""The modality analysis and the probe of one structure as lines for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from interpret.modality.analysis import ModalityAnalysis
    from interpret.modality.probe import Probe

WORDS_SHOWN = 15


def modality_lines(analysis: ModalityAnalysis) -> list[str]:
    """Shares with their baselines, parts of the text, edits beside their controls, leakage, cost."""
    facts = analysis.facts
    lines = ["share of the text in predictions (Shapley values of graph and text; interval over structures):"]
    for baseline, shares in facts["shares"].items():
        figures = f"{_percent(shares['text_share'])}, interaction {_percent(shares['interaction_share'])}"
        lines.append(f"  {baseline:11} {figures}; without = {shares['without']}")
    if facts["parts"]:
        lines.append("parts of the text (mean |change| with the crystal / without it; what the graph leaves of it):")
        for part, figures in facts["parts"].items():
            if "mean_with_graph" not in figures:
                continue
            given, alone = figures["mean_with_graph"], figures["mean_without_graph"]
            lines.append(
                f"  {part:15} {given['value']:.3g} / {alone['value']:.3g}; {_percent(figures['kept_with_graph'])} "
                f"({given['structures']} structures)"
            )
    if facts["edits"]:
        lines.append("one fact of the text changed (mean |change| of the prediction; over the rewording control):")
        for name, figures in facts["edits"].items():
            over = f"; x{_range(figures['over_control'])}" if "over_control" in figures else ""
            kind = " (control)" if figures["control"] else ""
            lines.append(f"  {name + kind:27} {_range(figures['mean_change'])}{over}")
    leakage = facts["leakage"]
    if leakage["labelled"]:
        match, chance = leakage["match"]["value"], leakage["chance"]["value"]
        lines.append(f"texts that print their target: {100 * match:.3g} %, by chance {100 * chance:.3g} %")
    return lines + cost_lines(facts["counts"], analysis.cost)


def cost_lines(counts: Mapping[str, int], seconds: Mapping[str, float]) -> list[str]:
    """What was computed, and where the time of this run went; nothing of the time where the analysis was read back."""
    took = f"{sum(seconds.values()):.1f} s for " if seconds else ""
    total = (
        f"modality: {took}{counts['structures']} structures, {counts['detailed']} of them in detail: "
        f"{counts['passes']} pairs of crystal and text, {counts['texts_encoded']} texts encoded"
    )
    parts = sorted(seconds.items(), key=lambda item: -item[1])
    return [total, *(f"    {value:7.2f} s {name}" for name, value in parts)]


def probe_lines(result: Probe) -> list[str]:
    """Prediction before and after, the controls, and the words that count most."""
    replaced = "; ".join(f"{old} => {new or '(nothing)'}" for old, new in dict.fromkeys(result.edited.replaced))
    target = "" if np.isnan(result.target) else f" (target {result.target:.4g})"
    lines = [
        f"{result.id} {result.formula}{target}: {replaced}, {len(result.edited.replaced)} places",
        f"prediction {result.before:.4f} before, {result.after:.4f} after: {result.after - result.before:+.4f}",
        _beside_controls(abs(result.after - result.before), result.largest_control),
        "",
    ]
    columns = [c for c in result.changes.columns if c.startswith(("attention_moved", "gate_moved"))]
    named = [c.replace("_moved", "").replace(".", " ") for c in columns]
    lines.append(f"{'text':30} {'change':>9} " + " ".join(f"{name:>10}" for name in named))
    for row in result.changes.to_dict("records"):
        name = f"{row['text']} (control)" if row["control"] else str(row["text"])
        moved = " ".join(f"{row[c]:10.4f}" for c in columns)
        lines.append(f"{name:30} {row['change']:+9.4f} {moved}")
    lines += ["", *_word_lines(result)]
    return lines


def _beside_controls(change: float, control: float) -> str:
    """Whether the change is more than that of texts that say the same."""
    if np.isnan(control):
        return "no text that says the same could be made of this one: nothing to hold the change against"
    if change > control:
        return (
            f"texts that say the same move it by {control:.4f} at most: the change is of the facts, not of the wording"
        )
    return f"texts that say the same move it by up to {control:.4f}: this change is no more than wording makes"


def _word_lines(result: Probe) -> list[str]:
    """Replaced words, then those whose removal moves the prediction most."""
    table = result.words[result.words["category"] != "special"]
    changed = table["word"] != table["word_after"]
    order = table["left_out"].abs().sort_values(ascending=False, kind="stable").index
    rest = [i for i in order if not changed[i]][: max(0, WORDS_SHOWN - int(changed.sum()))]
    shown = table.loc[[*table.index[changed], *rest]]
    lines = [f"{'word':24} {'after':18} {'left out':>9} {'attention':>9} {'after':>9} {'uniform':>9}"]
    for row in shown.to_dict("records"):
        after = row["word_after"] if row["word_after"] != row["word"] else ""
        lines.append(
            f"{_cut(row['word'], 24):24} {_cut(after, 18):18} {_cell(row['left_out'], '+9.4f')} "
            f"{_cell(row['attention_before'], '9.5f')} {_cell(row['attention_after'], '9.5f')} {row['uniform']:9.5f}"
        )
    if len(shown) < len(table):
        lines.append(f"{len(shown)} of {len(table)} words and marks; all are in probe_words.csv with --output")
    lines.append("left out: change of the prediction without the word; attention: mean over atoms and heads")
    return lines


def _cell(value: float, form: str) -> str:
    return f"{value:{form}}" if np.isfinite(value) else " " * 8 + "-"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def _percent(figure: Mapping[str, float]) -> str:
    return f"{100 * figure['value']:.3g} % ({100 * figure['low']:.3g} to {100 * figure['high']:.3g})"


def _range(figure: Mapping[str, float]) -> str:
    return f"{figure['value']:.3g} ({figure['low']:.3g} to {figure['high']:.3g})"
