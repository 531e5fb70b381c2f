"""The page of a comparison: opens offline, escapes what strangers wrote, links only to what is there."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest

from interpret.compare import Comparison, Inference, compare
from interpret.compare.groups import compare_groups
from interpret.compare.observe import observe
from model.dataset import CrystalDataset
from model.encoder import load_encoder
from reports.compare_page import save_comparisons, save_group_comparison
from reports.compare_text import comparison_lines, group_lines

HOSTILE = "<script>alert('x')</script>"


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def results(make_network: Any, textbook_data: Path) -> list[Comparison]:
    encoder = load_encoder("random:12", cache_directory=False)
    data = CrystalDataset.from_directory(textbook_data)
    samples = tuple(replace(s, text=f"{HOSTILE} {s.text}"[:300]) for s in data)
    networks = [make_network(), make_network(seed=1, use_middle_fusion=False)]
    labels = [f"full {HOSTILE}", "no middle"]
    hostile = CrystalDataset(samples=samples, rows=data.rows)
    few = Inference(resamples=199)
    return [
        compare(networks[0], network, hostile, encoder, labels=(labels[0], label), inference=few, untrained=False)
        for network, label in zip(networks[1:], labels[1:], strict=True)
    ]


@pytest.fixture(scope="module")
def page(results: list[Comparison], tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, Path]:
    folder = tmp_path_factory.mktemp("page")
    (folder / "structures").mkdir()
    (folder / "structures" / "salt.html").write_text("the page of salt", encoding="utf-8")
    assert save_comparisons(results[:1], folder) == [folder]
    return Page(folder / "index.html"), folder


def test_the_page_needs_nothing_but_itself(page: tuple[Page, Path]) -> None:
    found, _ = page
    for tag, attributes in found.tags:
        assert tag not in ("script", "iframe", "object", "link"), tag
        for name in ("src", "href"):
            value = attributes.get(name) or ""
            assert not re.match(r"(https?:)?//", value), value
    images = [a["src"] or "" for tag, a in found.tags if tag == "img"]
    assert len(images) >= 3
    for source in images:
        assert base64.b64decode(source.removeprefix("data:image/png;base64,"))[:4] == b"\x89PNG"


def test_what_strangers_wrote_is_text(page: tuple[Page, Path]) -> None:
    found, folder = page
    assert HOSTILE in found.text
    assert "<script" not in (folder / "index.html").read_text(encoding="utf-8")


def test_the_page_says_what_was_found(page: tuple[Page, Path], results: list[Comparison]) -> None:
    text = page[0].text
    assert results[0].movement.sentence in text
    assert "no middle has no tap fusion.1" in text
    assert results[0].hypothesis.verdict in text
    for note in results[0].notes:
        assert note in text


def test_links_lead_to_pages_that_exist(page: tuple[Page, Path]) -> None:
    links = [a["href"] for tag, a in page[0].tags if tag == "a" and not str(a["href"]).startswith("pairs/")]
    assert links == ["structures/salt.html"]


def test_each_pair_of_maps_has_a_page(page: tuple[Page, Path], results: list[Comparison]) -> None:
    content, folder = page
    addresses = [a["href"] for tag, a in content.tags if tag == "a" and str(a["href"]).startswith("pairs/")]
    assert len(addresses) == results[0].heatmaps["id"].nunique() > 0
    for address in addresses:
        pair = (folder / unquote(str(address))).read_text(encoding="utf-8")
        assert HOSTILE not in pair
        assert "../index.html" in pair


def test_every_figure_is_a_picture(page: tuple[Page, Path]) -> None:
    from matplotlib.image import imread

    pictures = sorted(path.name for path in page[1].glob("*.png"))
    assert pictures[0] == "attention_statistics_comparison.png"
    assert "representations.png" in pictures
    assert "heatmap_pair_1.png" in pictures
    for name in pictures:
        picture = imread(page[1] / name)
        assert min(picture.shape[:2]) > 150
        assert picture[..., :3].std() > 0.01, f"{name} is one colour"


def test_two_heat_maps_share_one_colour_scale(results: list[Comparison], monkeypatch: pytest.MonkeyPatch) -> None:
    from reports.compare_figures import draw_heatmap_pair
    from reports.style import figure_style

    structure = results[0].heatmaps["id"].iloc[0]
    with figure_style() as pyplot:
        figure = draw_heatmap_pair(results[0], structure, pyplot)
        limits = [axes.images[0].get_clim() for axes in figure.axes[:2]]
        assert limits[0] == limits[1]
        assert limits[0][0] == -limits[0][1]
        table = results[0].heatmaps.query("id == @structure and model == 'b'")
        drawn = np.asarray(figure.axes[1].images[0].get_array())
        atom = figure.axes[1].get_yticklabels()[0].get_text()
        own = table[table["atom"] == atom].set_index("word_index")
        expected = np.log2(own["weight"] / own["uniform"])
        assert np.sort(drawn[0]) == pytest.approx(np.sort(expected), abs=1e-9)


@pytest.mark.slow
def test_several_comparisons_have_a_folder_each(results: list[Comparison], tmp_path: Path) -> None:
    folders = save_comparisons([results[0], replace(results[0], labels=("full", "../other"))], tmp_path)
    assert [folder.name[:2] for folder in folders] == ["1-", "2-"]
    for folder in folders:
        assert folder.parent == tmp_path
        assert (folder / "comparison.json").is_file()
    links = [a["href"] or "" for tag, a in Page(tmp_path / "index.html").tags if tag == "a"]
    assert len(links) == 2


def test_lines_for_a_terminal(results: list[Comparison], tmp_path: Path) -> None:
    lines = comparison_lines(results[0], tmp_path)
    assert lines[-1] == results[0].movement.sentence
    assert any(line.startswith("gap: fusion.1.alpha_mean") for line in lines)
    assert any("structures)" in line and "95 % CI" in line for line in lines)
    assert any(line.startswith("mean absolute error") for line in lines)


def test_groups_have_a_page_too(make_network: Any, textbook_data: Path, tmp_path: Path) -> None:
    encoder = load_encoder("random:12", cache_directory=False)
    data = CrystalDataset.from_directory(textbook_data)
    networks = [make_network(seed=i) for i in range(4)]
    runs = observe(networks, ["a0", "a1", "b0", HOSTILE], data, encoder, pairs=False).runs
    result = compare_groups(runs[:2], runs[2:], ("a", "b"), Inference(resamples=199))
    save_group_comparison(result, tmp_path)
    found = Page(tmp_path / "index.html")
    assert result.sentence in found.text
    assert HOSTILE in found.text
    assert (tmp_path / "group_statistics.png").stat().st_size > 10_000
    table = pd.read_csv(tmp_path / "group_statistics.csv")
    assert "prediction.mean_absolute_error" in set(table["metric"])
    lines = group_lines(result, tmp_path)
    assert lines[-1] == result.sentence
    assert any("sd between seeds" in line for line in lines)
