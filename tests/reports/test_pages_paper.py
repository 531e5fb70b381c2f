"""Figures for print: column width, every format, and the numbers of the page beside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from model.dataset import CrystalDataset
from model.encoder import load_encoder
from reports.html.report import Report
from reports.html.run import choose, write_report
from reports.paper_figures import COLUMN_WIDTH, FORMATS, draw_paper, heatmap_table


@pytest.fixture(scope="module")
def report(make_network: Callable[..., Any], textbook_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    dataset = CrystalDataset.from_directory(textbook_data)
    folder = tmp_path_factory.mktemp("paper") / "report"
    return write_report(
        make_network(), dataset, load_encoder("random:12"), folder, samples=choose(dataset, ["rutile", "copper"])
    )


def test_figures_and_their_numbers_are_written_in_every_format(report: Report, tmp_path: Path) -> None:
    from matplotlib.image import imread

    files = draw_paper(report, "rutile", tmp_path)
    kinds = ("heatmap", "gates", "text_flow")
    assert sorted(path.name for path in files) == sorted(f"rutile.{k}.{f}" for k in kinds for f in FORMATS)
    for kind in kinds:
        picture = imread(tmp_path / f"rutile.{kind}.png")
        assert picture.shape[1] <= 1.25 * COLUMN_WIDTH * 600
        assert picture[..., :3].std() > 0.01
        assert (tmp_path / f"rutile.{kind}.pdf").read_bytes().startswith(b"%PDF")
        assert "<svg" in (tmp_path / f"rutile.{kind}.svg").read_text(encoding="utf-8")
        table = pd.read_csv(tmp_path / f"rutile.{kind}.csv")
        assert json.loads((tmp_path / f"rutile.{kind}.json").read_text(encoding="utf-8")) == json.loads(
            table.to_json(orient="records", double_precision=15)
        )


def test_the_numbers_are_those_of_the_page(report: Report) -> None:
    table = heatmap_table(report.page("rutile"))
    pairs = pd.read_csv(report.store.data / "rutile.pairs.csv")
    tap = "attention.atom_to_token.all"
    expected = pairs.pivot(index="atoms", columns="word_index", values=tap)
    uniform = pairs.drop_duplicates("word_index").set_index("word_index")[f"{tap}.uniform"]
    for row in table.to_dict("records"):
        label = row["atoms"].split(",")[0]
        line = next(name for name in expected.index if name.split()[0] == label)
        assert row["value"] == expected.loc[line, row["word_index"]]
        assert row["control"] == uniform[row["word_index"]]
    left = set(expected.columns) - set(table["word_index"])
    apart = (expected - uniform).abs().max()
    assert len(left) == table["words_left_out"].iloc[0]
    assert apart[list(left)].max() <= apart[list(set(table["word_index"]))].min() + 1e-12


def test_the_same_numbers_give_the_same_bytes(report: Report, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        draw_paper(report, "copper", tmp_path / folder, ("svg", "png", "pdf"))
    names = [path.name for path in sorted((tmp_path / "one").iterdir())]
    assert len(names) == 15
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_words_with_signs_of_a_formula_language_are_drawn_as_written(report: Report, tmp_path: Path) -> None:
    from reports.paper_figures import draw_heatmap
    from reports.style import figure_style

    table = heatmap_table(report.page("copper"))
    table["word"] = ["$\\frac{1}$" if i % 2 else "x_{^$" for i in range(len(table))]
    with figure_style() as pyplot:
        figure = draw_heatmap(table, pyplot)
        figure.savefig(tmp_path / "x.png")
    assert np.isfinite((tmp_path / "x.png").stat().st_size)
