"""Figures of attribution show what is in the tables, all of it, and nothing where there is nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from interpret.attribution import METHODS
from interpret.attribution.tables import AttributionTables
from reports.attribution_figures import LINES, draw_agreement, draw_attribution, draw_faithfulness, draw_randomisation
from reports.style import figure_style

PERCENTS = (1, 5, 10, 20, 50)
FIGURES = ("faithfulness", "explainer_agreement", "randomisation")
TEXT = tuple(METHODS)
GRAPH = ("integrated-gradients", "ablation", "random", "uniform", "position")
GAIN = {"ablation": 1.0, "attention": -0.4}


def faithfulness(side: str, kind: str, methods: tuple[str, ...], structures: int) -> list[dict[str, Any]]:
    """Curves that rise with the gain of each method over a uniform order, exactly the same in each structure."""
    generator = np.random.default_rng(0)
    rows = []
    for number in range(structures):
        change = 2 + float(generator.random())
        for method in (*methods, "random"):
            lost = 0.5 + 0.5 * GAIN.get(method, 0.0) + np.linspace(0, 1, 5) * change / 2
            missed = change - lost / 2
            figures = {f"comprehensiveness_{p}": v for p, v in zip(PERCENTS, lost, strict=True)}
            figures |= {f"sufficiency_{p}": v for p, v in zip(PERCENTS, missed, strict=True)}
            areas = {"deletion_area": lost.mean(), "insertion_area": missed.mean()}
            rest = dict.fromkeys(("tau_leave_one_out", "characterization", "infidelity"), np.nan)
            means = {"comprehensiveness": lost.mean(), "sufficiency": missed.mean()}
            names = {"id": f"s{number}", "side": side, "kind": kind, "method": method, "change": change}
            rows.append(names | figures | areas | rest | means)
    return rows


def attribution(side: str, kind: str, methods: tuple[str, ...], structures: int) -> list[dict[str, Any]]:
    generator = np.random.default_rng(1)
    return [
        {"id": f"s{n}", "side": side, "kind": kind, "method": method, "player": player, "value": value}
        for n in range(structures)
        for method in methods
        if method != "random"
        for player, value in enumerate(np.ones(7) if method == "uniform" else generator.random(7))
    ]


def randomisation(side: str, methods: tuple[str, ...], value: float = 0.4) -> list[dict[str, Any]]:
    return [
        {
            "id": f"s{n}",
            "side": side,
            "method": method,
            "stage": stage,
            "depth": depth,
            "spearman": value - 0.1 * depth + 0.01 * n,
            "untrained_pair": 0.2,
        }
        for n in range(3)
        for method in methods
        for depth, stage in enumerate(("head", "attention", "embedding"))
    ]


def tables(**given: list[dict[str, Any]]) -> AttributionTables:
    frames = {
        name: pd.DataFrame(given.get(name, []))
        for name in ("attribution", "faithfulness", "randomisation", "head_importance")
    }
    return AttributionTables(**frames, notes={}, provenance={})


@pytest.fixture(scope="module")
def full() -> AttributionTables:
    """Every method there is, by words and by atoms."""
    return tables(
        faithfulness=faithfulness("text", "words", TEXT, 6) + faithfulness("graph", "atoms", GRAPH, 3),
        attribution=attribution("text", "words", TEXT, 6) + attribution("graph", "atoms", GRAPH, 3),
        randomisation=randomisation("text", ("integrated-gradients", "attention")) + randomisation("graph", TEXT[:1]),
    )


def test_every_method_has_its_own_line() -> None:
    assert set(LINES) == set(METHODS)
    assert len(set(LINES.values())) == len(LINES)


def test_figures_drawn_again_from_saved_tables_are_the_same(full: AttributionTables, tmp_path: Path) -> None:
    drawn = draw_attribution(full, tmp_path, ("svg",))
    assert [path.name for path in drawn] == [f"{name}.svg" for name in FIGURES]
    full.save(tmp_path / "saved")
    again = draw_attribution(AttributionTables.load(tmp_path / "saved"), tmp_path / "again", ("svg",))
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in drawn]


def test_nothing_to_show_is_not_drawn(tmp_path: Path) -> None:
    from matplotlib.image import imread

    assert draw_attribution(tables(), tmp_path) == []
    undefined = faithfulness("graph", "atoms", GRAPH, 2)
    for row in undefined:
        row |= {name: np.nan for name in row if name.startswith(("comp", "suff", "del", "ins"))}
    nowhere = randomisation("text", ("attention",), value=np.nan)
    alike = attribution("graph", "atoms", ("uniform", "uniform-attention"), 2)
    assert draw_attribution(tables(faithfulness=undefined, randomisation=nowhere, attribution=alike), tmp_path) == []
    assert not list(tmp_path.iterdir())
    only = draw_attribution(tables(randomisation=randomisation("text", ("attention",))), tmp_path)
    assert [path.name for path in only] == ["randomisation.png"]
    assert imread(only[0])[..., :3].std() > 0.01


def test_a_side_that_is_undefined_has_no_panel(tmp_path: Path) -> None:
    rows = randomisation("text", ("attention",)) + randomisation("graph", ("attention",), value=np.nan)
    stages = tables(randomisation=rows).randomisation_summary()
    with figure_style() as pyplot:
        figure = draw_randomisation(stages, pyplot)
        assert [axes.get_title() for axes in figure.axes] == ["text: 3 structures"]


def test_curves_show_the_saved_numbers(full: AttributionTables) -> None:
    curves = full.curves()
    with figure_style() as pyplot:
        figure = draw_faithfulness(curves, full.summary(), pyplot)
        titles = [axes.get_title() for axes in figure.axes]
        assert titles == [
            "words: deletion curve, 6 structures",
            "words: insertion curve, 6 structures",
            "atoms: deletion curve, 3 structures",
            "atoms: insertion curve, 3 structures",
        ]
        first = figure.axes[0]
        assert [tick.get_text() for tick in first.get_xticklabels()] == ["0", "1", "5", "10", "20", "50", "100"]
        for line in first.get_lines():
            method = line.get_label()[2:].split()[0]
            own = curves[(curves["kind"] == "words") & (curves["curve"] == "deletion") & (curves["method"] == method)]
            np.testing.assert_allclose(line.get_xdata() ** 2, own["percent"], atol=1e-12)
            np.testing.assert_allclose(line.get_ydata(), own["mean"])
        labels = {line.get_label()[2:].split()[0]: line.get_label() for line in first.get_lines()}
        assert set(labels) == set(METHODS)
        # Told from a uniform order in each structure, one better and one worse; all others are that order.
        assert {name: label[0] for name, label in labels.items() if label[0] != " "} == {
            "ablation": "+",
            "attention": "-",
        }
        assert first.get_lines()[0].get_label().split()[1] == "ablation", "the largest area first"
        area = full.summary().query("side == 'text' and method == 'ablation' and figure == 'deletion_area'").iloc[0]
        assert f"{area['mean']:#.3g} [{area['low']:#.3g}, {area['high']:#.3g}]" in labels["ablation"]
        # Three structures are too few to tell anything from anything.
        assert all(line.get_label()[0] == " " for line in figure.axes[2].get_lines())


def test_agreement_shows_every_pair(full: AttributionTables) -> None:
    agreement = full.explainer_agreement()
    with figure_style() as pyplot:
        figure = draw_agreement(agreement, pyplot)
        (words,) = (axes for axes in figure.axes if axes.get_title() == "words: 6 structures")
        defined = agreement[(agreement["kind"] == "words") & agreement["tau"].notna()]
        written = [text.get_text() for text in words.texts]
        assert len(written) == len(defined)
        for row in defined.to_dict("records"):
            value = f"{row['tau']:.2f}".replace("-0.00", "0.00")
            told = row["low"] > 0 or row["high"] < 0
            assert (value if told else f"({value})") in written
        hatched = [patch for patch in words.patches if patch.get_hatch()]
        methods = len(TEXT) - 1
        assert len(hatched) == methods - 1, "the uniform explainer with each of the others"
        names = [tick.get_text() for tick in words.get_yticklabels()]
        assert names == [name for name in TEXT if name != "random"][1:]


def test_stages_go_from_the_output_down_with_their_control(full: AttributionTables) -> None:
    with figure_style() as pyplot:
        figure = draw_randomisation(full.randomisation_summary(), pyplot)
        text = figure.axes[0]
        assert text.get_title() == "text: 3 structures"
        assert [tick.get_text() for tick in text.get_xticklabels()] == ["head", "attention", "embedding"]
        lines = [line for line in text.get_lines() if len(line.get_xdata()) == 3]
        assert [line.get_label() for line in lines] == ["integrated-gradients", "attention"]
        np.testing.assert_allclose(lines[0].get_ydata(), [0.41, 0.31, 0.21])
        controls = [line for line in text.get_lines() if line.get_linestyle() == "--"]
        assert [line.get_ydata()[0] for line in controls] == pytest.approx([0.2, 0.2])
        assert [line.get_color() for line in controls] == [line.get_color() for line in lines]


@pytest.mark.parametrize("draw", ["faithfulness", "agreement", "randomisation"])
def test_no_text_lies_over_another(draw: str, full: AttributionTables) -> None:
    ask: dict[str, Callable[[Any], Any]] = {
        "faithfulness": lambda pyplot: draw_faithfulness(full.curves(), full.summary(), pyplot),
        "agreement": lambda pyplot: draw_agreement(full.explainer_agreement(), pyplot),
        "randomisation": lambda pyplot: draw_randomisation(full.randomisation_summary(), pyplot),
    }
    with figure_style() as pyplot:
        figure = ask[draw](pyplot)
        figure.canvas.draw()
        boxes = []
        for axes in figure.axes:
            legend = axes.get_legend()
            boxes += [legend.get_window_extent()] if legend else []
            boxes += [text.get_window_extent() for text in (axes.title, axes.xaxis.label, axes.yaxis.label)]
            boxes += [tick.get_window_extent() for tick in axes.get_yticklabels()]
            # Slanted names fill a part of their box only: the level ones count.
            boxes += [tick.get_window_extent() for tick in axes.get_xticklabels() if not tick.get_rotation()]
        boxes = [box for box in boxes if box.width > 0 and box.height > 0]
        # A pixel of what two neighbours share is the rounding of their boxes.
        boxes = [box.padded(-1) for box in boxes]
        overlapping = [(i, j) for i, a in enumerate(boxes) for j in range(i) if a.overlaps(boxes[j])]
        assert not overlapping
