"""The modality figure and lines, with and without the parts a data set may lack."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from interpret.modality.analysis import COLUMNS, ModalityAnalysis
from interpret.modality.leakage import leakage_rows, property_word_rows
from interpret.modality.shapley import text_share, two_player
from interpret.modality.summary import summarize
from reports.modality_figures import draw_modality
from reports.modality_text import modality_lines, probe_lines

COUNT = 12
NAMES = [f"S{i}" for i in range(COUNT)]


def analysis(*, labelled: bool = True, detailed: bool = True) -> ModalityAnalysis:
    generator = np.random.default_rng(0)
    frames = []
    for baseline in ("references", "empty", "untrained"):
        shares = two_player(*generator.normal(size=(4, COUNT)))
        frame = pd.DataFrame(shares._asdict()).rename(columns={"graph": "graph_shapley", "text": "text_shapley"})
        error = np.abs(generator.normal(size=COUNT)) if labelled else np.nan
        share = text_share(shares.graph, shares.text)
        frames.append(frame.assign(id=NAMES, baseline=baseline, absolute_error=error, text_share=share))
    parts, edits = [], []
    if detailed:
        for part in ("graph", "composition", "bond lengths"):
            values = generator.normal(size=(COUNT, 5))
            frame = pd.DataFrame(values, columns=["joint", "with_graph", "without_graph", "left_out", "alone"])
            parts.append(frame.assign(id=NAMES, part=part))
        for name, control in (("space group", False), ("reworded", True)):
            change = generator.normal(size=COUNT)
            frame = pd.DataFrame({"id": NAMES, "edit": name, "control": control, "change": change})
            edits.append(frame.assign(words_changed=1, reaches_encoder=True))
    targets = generator.uniform(size=COUNT) if labelled else np.full(COUNT, np.nan)
    texts = ["a bond of 2.35 Å"] * COUNT
    tables = {
        "modality": pd.concat(frames, ignore_index=True),
        "modality_pairs": pd.DataFrame(columns=COLUMNS["modality_pairs"]),
        "text_parts": pd.concat(parts) if parts else pd.DataFrame(columns=COLUMNS["text_parts"]),
        "text_edits": pd.concat(edits) if edits else pd.DataFrame(columns=COLUMNS["text_edits"]),
        "leakage": pd.DataFrame(leakage_rows(NAMES, texts, targets)),
        "leakage_words": pd.DataFrame(property_word_rows(texts, targets), columns=COLUMNS["leakage_words"]),
    }
    counts = {"structures": COUNT, "detailed": COUNT * detailed, "passes": 99, "texts_encoded": 7}
    cost = {"shares": 1.5, "texts encoded": 12.25}
    return ModalityAnalysis(**tables, facts=summarize(tables) | {"counts": counts}, cost=cost)


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("detailed", [True, False])
def test_figure_and_lines(labelled: bool, detailed: bool, tmp_path: Path) -> None:
    from matplotlib.image import imread

    result = analysis(labelled=labelled, detailed=detailed)
    first, second = draw_modality(result, tmp_path, ("png", "svg"))
    assert imread(first)[..., :3].std() > 0.01
    again = draw_modality(result, tmp_path / "again", ("svg",))
    assert second.read_bytes() == again[0].read_bytes(), "the same numbers give the same bytes"
    said = "\n".join(modality_lines(result))
    drawn = second.read_text(encoding="utf-8")
    assert ("the data has no targets" in drawn) == (not labelled)
    assert ("texts that print their target" in said) == labelled
    assert ("composition" in said) == detailed
    assert ("reworded (control)" in said) == detailed
    *_, total, first_part, second_part = said.splitlines()
    assert total.startswith("modality: 13.8 s for 12 structures, ")
    assert total.endswith("99 pairs of crystal and text, 7 texts encoded")
    assert first_part.split() == ["12.25", "s", "texts", "encoded"], "what takes longest comes first"
    assert second_part.split() == ["1.50", "s", "shares"]
    read_back = modality_lines(replace(result, cost={}))
    assert read_back == [*said.splitlines()[:-3], total.replace("13.8 s for ", "")]
    share = result.facts["shares"]["references"]["text_share"]["value"]
    assert f"references  {100 * share:.3g} %" in said


def probed(change: float, control: float | None) -> Any:
    rows = [{"text": "replacement", "control": False, "change": change}]
    if control is not None:
        rows.append({"text": "reworded", "control": True, "change": control})
    words = pd.DataFrame(
        {
            "word": ["cubic", "cell", "[SEP]"],
            "word_after": ["hexagonal", "cell", "[SEP]"],
            "category": ["crystallography", "crystallography", "special"],
            "attention_before": np.nan,
            "attention_after": np.nan,
            "uniform": 1 / 3,
            "left_out": [0.1, -0.2, np.nan],
        }
    )
    return SimpleNamespace(
        id="x",
        formula="NaCl",
        target=float("nan"),
        edited=SimpleNamespace(replaced=(("cubic", ""), ("cubic", ""))),
        before=1.0,
        after=1.0 + change,
        largest_control=float("nan") if control is None else abs(control),
        changes=pd.DataFrame(rows),
        words=words,
    )


@pytest.mark.parametrize(
    ("change", "control", "said"),
    [
        (-0.5, 0.1, "texts that say the same move it by 0.1000 at most"),
        (0.05, -0.1, "this change is no more than wording makes"),
        (0.5, None, "nothing to hold the change against"),
    ],
)
def test_a_probe_says_whether_its_change_is_more_than_wording(change: float, control: float | None, said: str) -> None:
    lines = probe_lines(probed(change, control))
    assert lines[0] == "x NaCl: cubic => (nothing), 2 places"
    assert lines[1] == f"prediction 1.0000 before, {1 + change:.4f} after: {change:+.4f}"
    assert said in lines[2]
    words = [line.split()[0] for line in lines if line.startswith(("cubic", "cell", "[SEP]"))]
    assert words == ["cubic", "cell"], "the replaced word first, special tokens left out"
