"""Pages driven in a real browser from file:// with the network off: what is pointed at, and the numbers shown."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from interpret.pages.quantity import written
from interpret.pages.store import PageStore
from model.dataset import CrystalDataset
from model.encoder import load_encoder
from model.errors import RecordError
from model.structure import Structure
from reports.html.pair import write_pair_pages
from reports.html.report import Report
from reports.html.run import write_report

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
TAP = "attention.atom_to_token"
FIRST_PAINT, SEARCH, MOST_BYTES = 200, 100, 2_000_000


def cannot(reason: str) -> None:
    """Skip on a user's machine, fail where a browser is required."""
    if os.environ.get("INTERPRET_REQUIRE_BROWSER") == "1":
        pytest.fail(f"a browser is required here (INTERPRET_REQUIRE_BROWSER=1): {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium without network."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        cannot("playwright is not installed")
    path = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    if path is None:
        cannot("no Chromium is on the path")
    with sync_playwright() as playwright:
        driven = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield driven
        driven.close()


class Tab:
    """A tab that notes every request and every message on its console."""

    def __init__(self, browser: Any, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1300, "height": 900}, "offline": True} | options)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.problems: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.problems.append(dialog.message), dialog.dismiss()))

    def open(self, path: Path) -> Any:
        self.page.goto(path.resolve().as_uri())
        self.page.wait_for_selector("[data-ready]", state="attached", timeout=20_000)
        return self.page

    def close(self) -> None:
        """Nothing but the files themselves was asked for, and nobody complained."""
        self.context.close()
        assert self.problems == []
        assert all(url.startswith("file://") and url.endswith(".html") for url in self.requests), self.requests


@pytest.fixture
def tab(browser: Any) -> Iterator[Tab]:
    opened = Tab(browser)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def report(make_network: Callable[..., Any], textbook_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of textbook crystals with a network that attends sharply enough to look at."""
    network = make_network()
    network.fine_grained_attention.a2t_query.weight.data *= 12
    dataset = CrystalDataset.from_directory(textbook_data)
    return write_report(network, dataset, load_encoder("random:12"), tmp_path_factory.mktemp("browser") / "report")


def number(report: Report, identifier: str, head: int, row: int, word: int) -> str:
    """What the saved JSON has of an attention weight; row -1 is the mean over atoms."""
    page = report.page(identifier)
    quantity = next(one for one in page["quantities"] if one["name"] == TAP)
    words, rows = len(page["words"]["text"]), len(page["rows"])
    if row < 0:
        return written(quantity["over_atoms"][head * words + word], quantity["decimals"])
    return written(quantity["values"][(head * rows + row) * words + word], quantity["decimals"])


def wait_until(page: Any, expression: str) -> None:
    """Until an expression is true; playwright's own waiting would need what the page's policy forbids."""
    for _ in range(200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(10)
    pytest.fail(f"never came true: {expression}")


def hover_cell(page: Any, row: int, column: int) -> None:
    """Move the pointer to the middle of a cell of the heat map."""
    canvas = page.locator("#map canvas")
    canvas.scroll_into_view_if_needed()
    rows, columns = (page.locator(f"#map .{labels} .label").count() for labels in ("rows", "columns"))
    box = canvas.bounding_box()
    page.mouse.move(2, 2)
    x = box["x"] + box["width"] * (column + 0.5) / columns
    page.mouse.move(x, box["y"] + box["height"] * (row + 0.5) / rows)


def test_cells_show_the_saved_numbers_of_every_head(tab: Tab, report: Report) -> None:
    page = tab.open(report.html_path("perovskite"))
    saved = report.page("perovskite")
    words, rows = len(saved["words"]["text"]), len(saved["rows"])
    assert page.locator("#map .columns .label").count() == words
    assert page.locator("#map .rows .label").count() == rows + 1
    generator = random.Random(0)
    pairs = (report.store.data / "perovskite.pairs.csv").read_text(encoding="utf-8")
    table = list(csv.DictReader(pairs.splitlines()))
    for head in range(5):
        page.select_option("#head", str(head))
        for _ in range(3):
            row, word = generator.randrange(rows), generator.randrange(words)
            hover_cell(page, row + 1, word)
            shown = page.locator("#readout .value").inner_text()
            assert shown == number(report, "perovskite", head, row, word)
            column = f"{TAP}.all" if head == 0 else f"{TAP}.head_{head - 1}"
            assert shown == table[row * words + word][column]
            assert table[row * words + word][f"{column}.uniform"] in page.locator("#readout").inner_text()
        hover_cell(page, 0, 0)
        assert page.locator("#readout .value").inner_text() == number(report, "perovskite", head, -1, 0)


def test_the_table_of_a_picture_has_its_numbers(tab: Tab, report: Report) -> None:
    page = tab.open(report.html_path("silicon"))
    page.select_option("#head", "2")
    for name in ("map-table", "text-table", "crystal-table", "gates-table", "flow-table"):
        page.click(f"#{name} summary")
        page.locator(f"#{name} tbody tr").first.wait_for()
        assert page.locator(f"#{name} tbody tr").count() > 1
    saved = report.page("silicon")
    cells = page.locator("#map-table tbody tr").nth(1).locator("td").all_inner_texts()
    words = len(saved["words"]["text"])
    assert cells == [number(report, "silicon", 2, 0, word) for word in range(words)]
    prediction = page.locator("#prediction").inner_text()
    assert float(prediction) == saved["outcome"]["prediction"]
    with (report.store.data / "silicon.atoms.csv").open(encoding="utf-8") as file:
        alpha = [row["fusion.1.alpha_mean"] for row in csv.DictReader(file)]
    assert page.locator("#gates .number").first.inner_text() == alpha[0]
    gates = page.locator("#gates-table tbody tr").all()
    assert [line.locator("td").nth(1).inner_text() for line in gates] == alpha


def test_words_light_atoms_and_atoms_light_words(tab: Tab, report: Report) -> None:
    page = tab.open(report.html_path("rutile"))
    page.check("#all-words")
    word = page.locator(".word").nth(3)
    word.scroll_into_view_if_needed()
    wait_until(page, "document.getElementById('crystal').dataset.turn")
    page.evaluate("window.before = document.getElementById('crystal').toDataURL()")
    place = page.locator("#map canvas").bounding_box()
    word.hover()
    assert page.locator("#map canvas").bounding_box() == place, "the page moved under the pointer"
    assert word.inner_text() in page.locator("#readout").inner_text()
    assert page.locator("#map .columns .label.on").count() == 1
    wait_until(page, "document.getElementById('crystal').toDataURL() !== window.before")
    shades = "[...document.querySelectorAll('.word')].map((word) => word.style.backgroundColor).join()"
    whole = page.evaluate(shades)
    page.locator("#map .rows .label").nth(2).hover()
    assert page.evaluate(shades) != whole
    assert "O1" in page.locator("#shaded").inner_text()
    assert page.locator(".bar.on").count() == 1
    page.locator("#map .rows .label").nth(2).click()
    page.mouse.move(5, 5)
    assert page.locator("#map .rows .label.on").count() == 1
    page.keyboard.press("Escape")
    assert page.locator("#map .rows .label.on").count() == 0


def test_the_crystal_turns_by_hand_and_by_key_and_atoms_can_be_pointed_at(tab: Tab, report: Report) -> None:
    page = tab.open(report.html_path("salt"))
    canvas = page.locator("#crystal")
    canvas.scroll_into_view_if_needed()
    wait_until(page, "document.getElementById('crystal').dataset.turn")
    first = canvas.get_attribute("data-turn")
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 160, box["y"] + 90, steps=4)
    page.mouse.up()
    wait_until(page, f"document.getElementById('crystal').dataset.turn !== '{first}'")
    second = canvas.get_attribute("data-turn")
    canvas.focus()
    page.keyboard.press("ArrowLeft")
    wait_until(page, f"document.getElementById('crystal').dataset.turn !== '{second}'")
    turn = [float(part) for part in canvas.get_attribute("data-turn").split()]
    for i in range(3):
        for j in range(3):
            product = sum(turn[3 * i + k] * turn[3 * j + k] for k in range(3))
            assert product == pytest.approx(float(i == j), abs=0.01)
    page.keyboard.press("n")
    assert "Na1" in page.locator("#readout").inner_text()
    page.keyboard.press("n")
    assert "Cl1" in page.locator("#readout").inner_text()


def test_quantities_controls_and_keyboard(tab: Tab, report: Report) -> None:
    page = tab.open(report.html_path("perovskite"))
    assert not page.locator("#unreached").is_visible()
    assert page.input_value("#against") == "over:uniform"
    values = page.locator("#quantity option").all_inner_texts()
    assert [text for text in values if "does not reach the prediction" in text] == [values[-1]]
    for place in range(len(values)):
        page.select_option("#quantity", str(place))
        for against in page.locator("#against option").evaluate_all("(all) => all.map((one) => one.value)"):
            page.select_option("#against", against)
            hover_cell(page, 1, 1)
            assert page.locator("#readout .value").count() == 1
            assert page.locator("#legend .ticks span").count() == 3
    assert page.locator("#unreached").is_visible()
    page.select_option("#quantity", "0")
    page.mouse.move(2, 2)
    page.locator("#map canvas").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    assert page.locator("#readout .value").inner_text() == number(report, "perovskite", 0, 0, 1)


def test_colours_follow_the_theme_and_run_evenly_in_lightness(tab: Tab, report: Report) -> None:
    page = tab.open(report.html_path("copper"))
    for _ in range(2):
        for kind in ("sequential", "diverging"):
            ramp = page.evaluate(f"CI.rampOf('{kind}')")
            steps = [lightness(rgb) for rgb in ramp]
            parts = [steps] if kind == "sequential" else [steps[:128], steps[128:]]
            for part in parts:
                even = [part[0] + (part[-1] - part[0]) * i / (len(part) - 1) for i in range(len(part))]
                assert max(abs(a - b) for a, b in zip(part, even, strict=True)) < 0.012
                assert abs(part[-1] - part[0]) > 0.4
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.click("#theme")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != background


def lightness(rgb: list[int]) -> float:
    """L of OKLab (Ottosson 2020), written down apart from the page's own."""
    linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
    rows = [
        (0.4122214708, 0.5363325363, 0.0514459929, 0.2104542553),
        (0.2119034982, 0.6806995451, 0.1073969566, 0.7936177850),
        (0.0883024619, 0.2817188376, 0.6299787005, -0.0040720468),
    ]
    return sum(w * (a * linear[0] + b * linear[1] + c * linear[2]) ** (1 / 3) for a, b, c, w in rows)


def test_narrow_and_dark_pages_fit(browser: Any, report: Report) -> None:
    tab = Tab(browser, viewport={"width": 390, "height": 800}, color_scheme="dark")
    for path in (report.html_path("rutile"), report.store.folder / "index.html"):
        page = tab.open(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 18, 22)"
    tab.close()


def enlarged(page: dict[str, Any], atoms: int, words: int, rows: int) -> dict[str, Any]:
    """A page of so many atoms, words and rows, its numbers drawn at random."""
    draw = random.Random(0)
    texts = [f"word{i}" for i in range(words)]
    elements = [draw.choice(["Sr", "Ti", "O"]) for _ in range(atoms)]
    shape = {"atom": rows, "word": words}
    big = json.loads(json.dumps(page))
    big["words"] = {
        "text": texts,
        "start": [7 * i for i in range(words)],
        "end": [7 * i + 6 for i in range(words)],
        "pieces": [1] * words,
        "category": ["other"] * words,
        "stop_word": [False] * words,
        "punctuation": [False] * words,
        "uniform": [1 / words] * words,
    }
    big["segments"] = [part for i in range(words) for part in ([i, texts[i]], [None, " "])]
    big["atoms"] = {
        "label": [f"{element}{i}" for i, element in enumerate(elements)],
        "element": elements,
        "orbit": list(range(atoms)),
        "graph_class": list(range(atoms)),
    }
    big["rows"] = [[atom] for atom in range(rows)]
    big["crystal"] |= {
        "cell": [[30, 0, 0], [0, 30, 0], [0, 0, 30]],
        "positions": [[round(draw.random(), 5) for _ in range(3)] for _ in range(atoms)],
        "radii": {"Sr": 2.0, "Ti": 1.4, "O": 0.6},
        "bonds": [value for i in range(3 * atoms) for value in (i % atoms, (7 * i + 1) % atoms, 0, 0, 0)],
    }
    for source in [one for quantity in big["quantities"] for one in (quantity, *quantity["controls"])]:
        size = 1
        for axis in source["axes"]:
            size *= {"head": 9}.get(axis) or (atoms if source["axes"] == ["atom"] else shape[axis])
        source["values"] = [draw.randrange(100, 99999) for _ in range(size)]
    for quantity in big["quantities"]:
        if quantity["heads"]:
            quantity["heads"] = [quantity["heads"][0], *(f"head {i}" for i in range(8))]
        if quantity["over_atoms"] is not None:
            quantity["over_atoms"] = [draw.randrange(100, 99999) for _ in range(9 * words)]
    return big


@pytest.mark.parametrize(("atoms", "words"), [(1, 1), (2, 510), (200, 510), (1000, 300)])
def test_pages_of_any_size_are_small_and_paint_at_once(
    atoms: int, words: int, tab: Tab, report: Report, tmp_path: Path
) -> None:
    from interpret.pages.page import MOST_CELLS

    rows = min(atoms, max(8, MOST_CELLS // (27 * words)))
    store = PageStore(tmp_path)
    store.add(enlarged(report.page("rutile"), atoms, words, rows) | {"id": "big"}, "digest")
    path = Report(store, report.manifest).draw("big")
    assert path.stat().st_size < MOST_BYTES
    paints = []
    for _ in range(3):
        page = tab.open(path)
        wait_until(page, "performance.getEntriesByName('first-paint').length")
        paints.append(page.evaluate("performance.getEntriesByName('first-paint')[0].startTime"))
    # The least of several: what else runs on the machine is not the page's.
    assert min(paints) < FIRST_PAINT, paints
    heights = page.locator("#map .rows .label").evaluate_all("(all) => all.map((one) => one.clientHeight)")
    assert min(heights) >= 14
    hover_cell(page, 0, 0)
    assert page.locator("#readout .value").count() == 1


@pytest.mark.slow
def test_a_thousand_atoms_and_a_text_that_is_cut_go_all_the_way(
    tab: Tab, make_network: Callable[..., Any], tmp_path: Path
) -> None:
    draw = np.random.default_rng(0)
    sites = np.stack(np.meshgrid(*3 * [np.arange(10)]), axis=-1).reshape(-1, 3)
    places = (sites + 0.5 + draw.uniform(-0.12, 0.12, (1000, 3))) / 10
    crystal = Structure(26.0 * np.eye(3), places, tuple(draw.choice(["Sr", "Ti", "O"], 1000)))
    dataset = CrystalDataset.from_structure(crystal, "Titanium is bonded to six oxygen atoms. " * 200, id="large")
    written_report = write_report(make_network(), dataset, load_encoder("random:12"), tmp_path)
    path = written_report.html_path("large")
    assert path.stat().st_size < MOST_BYTES
    page = tab.open(path)
    assert "of 1000 atoms" in page.locator("main").inner_text()
    assert "The encoder read 512 of" in page.locator("main").inner_text()
    assert page.evaluate("performance.getEntriesByName('first-paint')[0].startTime") < 2 * FIRST_PAINT
    hover_cell(page, 3, 5)
    label = page.locator("#map .rows .label").nth(3).inner_text()
    table = (written_report.store.data / "large.pairs.csv").read_text(encoding="utf-8")
    shown = page.locator("#readout .value").inner_text()
    assert any(row["atoms"] == label and row[f"{TAP}.all"] == shown for row in csv.DictReader(table.splitlines()))


def test_an_index_of_ten_thousand_answers_at_once(tab: Tab, report: Report, tmp_path: Path) -> None:
    draw = random.Random(0)
    store = PageStore(tmp_path)
    for number in range(10_000):
        elements = draw.sample(["Ba", "Ti", "O", "Sr", "Cu", "Na", "Cl"], 2)
        store.rows[f"JVASP-{number}"] = {
            "id": f"JVASP-{number}",
            "name": f"JVASP-{number}",
            "digest": "",
            "formula": "".join(elements),
            "elements": sorted(elements),
            "atoms": draw.randrange(1, 99),
            "words": 50,
            "space_group": draw.choice(["Fm-3m", "P1", "R-3c"]),
            "prediction": round(draw.random(), 5),
            "target": None,
            "error": round(draw.uniform(-1, 1), 5),
            "reading": draw.choice(["atoms differ", "one atom"]),
            "top_words": ["octahedra", "cubic", f"word{number}"],
            "text": "is structured and crystallizes in the space group. " * 2,
        }
    path = tmp_path / "index.html"
    path.write_text(Report(store, report.manifest).index_html(list(store.rows)), encoding="utf-8")
    page = tab.open(path)
    assert page.locator("#list .list-row").count() < 80
    assert page.locator("#count").inner_text() == "10000 of 10000"
    timed = """([id, value]) => {
      const field = document.getElementById(id), start = performance.now();
      field.value = value;
      field.dispatchEvent(new Event("input", { bubbles: true }));
      document.getElementById("list").getBoundingClientRect();
      return performance.now() - start;
    }"""
    rows = list(store.rows.values())
    for field, value, expected in (
        ("search", "word9999", 1),
        ("search", "ba r-3c", sum("Ba" in row["formula"] and row["space_group"] == "R-3c" for row in rows)),
        ("search", "", 10_000),
        ("elements", "ti o", sum({"Ti", "O"} <= set(row["elements"]) for row in rows)),
        ("least", "0.5", sum({"Ti", "O"} <= set(row["elements"]) and abs(row["error"]) >= 0.5 for row in rows)),
    ):
        took = min(page.evaluate(timed, [field, value]) for _ in range(3))
        assert took < SEARCH, (field, value, took)
        assert page.locator("#count").inner_text() == f"{expected} of 10000"
    page.evaluate(timed, ["elements", ""])
    page.evaluate(timed, ["least", ""])
    page.click("button[data-column=error]")
    errors = page.locator("#list .list-row[data-id] > :nth-child(7)").all_inner_texts()
    assert errors == sorted(errors, key=lambda text: -abs(float(text)))
    page.locator("#list").evaluate("(list) => { list.scrollTop = list.scrollHeight; }")
    wait_until(page, "document.querySelector('#list .list-row[aria-rowindex=\"10001\"]')")


def test_the_index_leads_to_pages_and_back(tab: Tab, report: Report) -> None:
    page = tab.open(report.store.folder / "index.html")
    page.fill("#search", "rutile")
    assert page.locator("#list .list-row[data-id]").count() == 1
    page.select_option("#reading", "one atom")
    assert page.locator("#count").inner_text() == "0 of 5"
    page.select_option("#reading", "")
    page.click("#list .list-row[data-id] a")
    page.wait_for_selector("html[data-ready]", state="attached")
    assert page.locator("h1").inner_text().replace("\n", "") == "TiO2"
    page.click("text=All structures")
    page.wait_for_selector("#list .list-row[data-id]")


def test_a_pair_of_maps_has_one_scale_and_its_difference(tab: Tab, tmp_path: Path) -> None:
    words, weights = ["[CLS]", "</script>", "oxide"], {"a": [0.2, 0.5, 0.3], "b": [0.25, 0.125, 0.625]}
    rows = [
        {"model": model, "id": "a/b", "formula": "BaO", "tap": "attention.atom_to_token", "atom": atom, "orbit": orbit}
        | {"word_index": place, "word": word, "weight": weights[model][(place + orbit) % 3], "uniform": 0.25}
        for model in "ab"
        for orbit, atom in enumerate(("Ba1", "O1"))
        for place, word in enumerate(words)
    ]
    path = write_pair_pages(pd.DataFrame(rows), ("one", "<b>two</b>"), tmp_path, "../index.html")["a/b"]
    assert path.parent == tmp_path
    page = tab.open(path)
    assert "<b>two</b>" in page.locator("header").inner_text()
    page.locator("#map-a canvas").focus()
    for key in ("ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    numbers = [page.locator(f"#value-{name}").inner_text() for name in ("a", "b", "difference")]
    assert numbers == ["0.500000", "0.125000", "-0.375000"]
    assert page.locator(".label.on").count() == 6
    ticks = page.locator("#legend .ticks span").all_inner_texts()
    assert ticks == ["×0.40", "×1.00", "×2.50"]
    page.uncheck("#ratio")
    assert page.locator("#legend .ticks span").all_inner_texts() == ["0", "0.313", "0.625"]
    assert page.locator("#legend-difference .ticks span").all_inner_texts() == ["-0.375", "0", "0.375"]
    page.click("#table summary")
    page.locator("#table tbody tr").first.wait_for()
    assert page.locator("#table tbody tr").count() == 6


def test_maps_of_other_words_are_no_pair(tmp_path: Path) -> None:
    row = {
        "id": "x",
        "formula": "O",
        "tap": "t",
        "atom": "O1",
        "orbit": 0,
        "word_index": 0,
        "weight": 1.0,
        "uniform": 1.0,
    }
    table = pd.DataFrame([row | {"model": "a", "word": "one"}, row | {"model": "b", "word": "two"}])
    with pytest.raises(RecordError, match="the same atoms and words for 'x'"):
        write_pair_pages(table, ("a", "b"), tmp_path)
    assert write_pair_pages(pd.DataFrame(), ("a", "b"), tmp_path) == {}
