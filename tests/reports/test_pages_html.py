"""Pages as files: nothing from outside, nothing executed but our script, whatever the ids and texts hold."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from interpret.checks.base import Finding
from interpret.pages.stream import PageOptions
from interpret.results import Diagnosis
from model.dataset import CrystalDataset
from model.encoder import load_encoder
from model.errors import DataError, RecordError
from reports.html.attributions import attributions_of
from reports.html.element_colours import element_colour
from reports.html.render import embedded, formula, short, static
from reports.html.report import Report
from reports.html.run import choose, diagnosis_of, write_report

HOSTILE = {
    "<script>alert(1)</script>": "</script><script>alert(2)</script> & <img src=x onerror=alert(3)> 'quoted' \"twice\"",
    "../../escape": "\u202eright to left\u2028line\u2029paragraph",
    "a/b\\c": "{{ 7 * 7 }} {% raw %} ${1+1} <!-- comment",
    "x" * 300: "😀 emoji \U0001f9ea",
    '"><svg onload=alert(4)>': "",
}


@pytest.fixture(scope="module")
def written(
    make_network: Callable[..., Any], textbook_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Report, Path]:
    """A report whose ids and texts are hostile, in a folder beside which nothing else may appear."""
    root = tmp_path_factory.mktemp("hostile")
    (root / "data" / "cif").mkdir(parents=True)
    with (root / "data" / "description.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["Id", "Description", "band_gap", "File_Name"])
        for number, (identifier, text) in enumerate(HOSTILE.items()):
            source = (textbook_data / "cif" / "rutile.vasp").read_text(encoding="utf-8")
            (root / "data" / "cif" / f"s{number}.vasp").write_text(source, encoding="utf-8")
            rows.writerow([identifier, text, "1.5", f"s{number}.vasp"])
        rows.writerow(["missing", "text", "1.0", "missing.vasp"])
    dataset = CrystalDataset.from_directory(root / "data")
    diagnosis = hostile_diagnosis(list(HOSTILE))
    report = write_report(
        make_network(), dataset, load_encoder("random:12"), root / "out" / "report", diagnosis=diagnosis
    )
    return report, root


def hostile_diagnosis(ids: list[str]) -> Diagnosis:
    finding = Finding(
        code="GA301",
        name="name",
        severity="warning",
        text="<b>bold</b> </script>",
        remedy="<i>remedy</i>",
        reference="none",
        effect=1.2,
        effect_what="<u>ratio</u>",
        control=float("nan"),
        control_what="control",
        interval=None,
        structures=5,
        units=(ids[0], "module"),
    )
    return Diagnosis(
        verdict="acceptable",
        reason="1 warning: <b>",
        findings=(finding,),
        outcomes=(),
        statistics={"accuracy": {"mean_absolute_error": 1.5}},
        provenance={"checkpoint": {"sha256": None}},
        facts={"notes": ["note <script>"], "taps_never_fired": []},
        structures=pd.DataFrame(
            {
                "id": ids,
                "counterfactual.text_empty.prediction": [0.5] * len(ids),
                "counterfactual.attention_uniform.prediction": [float("nan")] * len(ids),
            }
        ),
        atoms=pd.DataFrame(),
        heads=pd.DataFrame(),
        layers=pd.DataFrame(),
    )


class Parsed(HTMLParser):
    """Elements with their attributes, and the text inside each script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.text = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            attributes, text = self.scripts.pop()
            self.scripts.append((attributes, text + data))
        else:
            self.text += data


def pages(report: Report) -> list[Path]:
    return [*(report.html_path(identifier) for identifier in report.ids), report.store.folder / "index.html"]


def test_nothing_is_written_outside_the_folder_and_every_id_has_its_page(written: tuple[Report, Path]) -> None:
    report, root = written
    assert {path.name for path in root.iterdir()} == {"data", "out"}
    assert [path.name for path in (root / "out").iterdir()] == ["report"]
    assert report.ids == tuple(HOSTILE)
    for identifier in HOSTILE:
        path = report.html_path(identifier)
        assert path.parent == report.store.folder / "structures"
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,95}\.html", path.name)
    with (report.store.folder / "mapping.csv").open(encoding="utf-8", newline="") as file:
        mapping = {row["id"]: row["name"] for row in csv.DictReader(file)}
    assert mapping == {identifier: row["name"] for identifier, row in report.store.rows.items()}


def test_only_our_scripts_run_and_no_address_is_in_any_page(written: tuple[Report, Path]) -> None:
    ours = {name: static(name) for name in ("core.js", "crystal.js", "flow.js", "page.js", "index.js")}
    for path in pages(written[0]):
        text = path.read_text(encoding="utf-8")
        parsed = Parsed(text)
        code = [content for attributes, content in parsed.scripts if attributes.get("type") != "application/json"]
        assert set(code) <= set(ours.values())
        assert len(code) in (2, 4)
        assert len(parsed.scripts) == len(code) + 1
        policy = next(a["content"] for tag, a in parsed.elements if a.get("http-equiv") == "Content-Security-Policy")
        assert policy is not None
        assert policy.startswith("default-src 'none'; script-src 'sha256-")
        for content in code:
            digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in policy
        for tag, attributes in parsed.elements:
            assert tag not in ("img", "iframe", "link", "object", "base", "embed")
            assert not any(name.startswith("on") or name == "style" for name in attributes)
            assert not any(re.match(r"\s*(\w+:|//)", attributes.get(a) or "") for a in ("src", "href"))
        assert "<title>" in text
        assert "://" not in "".join(code)


def test_hostile_texts_are_there_as_text(written: tuple[Report, Path]) -> None:
    report = written[0]
    for identifier, text in HOSTILE.items():
        parsed = Parsed(report.html_path(identifier).read_text(encoding="utf-8"))
        data = json.loads(parsed.scripts[0][1])
        assert "".join(part for _, part in data["segments"]) == text
        assert identifier in parsed.text
    first = Parsed(report.html_path(next(iter(HOSTILE))).read_text(encoding="utf-8")).text
    for shown in ("<b>bold</b> </script>", "<i>remedy</i>", "<u>ratio</u>", "1 warning: <b>", "note <script>"):
        assert shown in first
    assert "control undefined" in " ".join(first.split())


def test_embedded_json_cannot_leave_its_element() -> None:
    text = embedded({"a": "</script><!-- & \u2028\u2029"})
    assert not re.search("[<>&\u2028\u2029]", text)
    assert json.loads(text) == {"a": "</script><!-- & \u2028\u2029"}


def test_findings_go_to_the_structures_they_name(written: tuple[Report, Path]) -> None:
    report = written[0]
    named, other = (report.html_path(identifier).read_text(encoding="utf-8") for identifier in list(HOSTILE)[:2])
    assert "That name this structure" in named
    assert "That name this structure" not in other
    assert "Of the checkpoint as a whole" in other
    assert "Rule GA301" in other
    data = json.loads(Parsed((report.store.folder / "index.html").read_text(encoding="utf-8")).scripts[0][1])
    rows = [dict(zip(data["columns"], row, strict=True)) for row in data["rows"]]
    assert [(row["verdict"], row["codes"]) for row in rows[:2]] == [("acceptable", ["GA301"]), ("good", [])]


def test_counterfactual_predictions_stand_on_the_page(written: tuple[Report, Path]) -> None:
    report = written[0]
    page = report.page("../../escape")
    assert [(row["name"], row["prediction"]) for row in page["outcome"]["what_if"]] == [("text_empty", 0.5)]
    assert page["outcome"]["what_if"][0]["change"] == pytest.approx(0.5 - page["outcome"]["prediction"], abs=1e-5)
    assert "mean absolute of all: 1.5" in report.html("../../escape")


def test_attributions_of_a_diagnosis_are_on_the_page(
    make_network: Callable[..., Any], textbook_data: Path, tmp_path: Path
) -> None:
    from interpret.attribution.tables import AttributionTables

    players = (
        "Cu",
        "is",
        "Copper",
        "structured",
        "and",
        "crystallizes",
        "in",
        "the",
        "cubic",
        "Fm-3m",
        "space",
        "group",
    )
    rows = [
        {"id": "copper", "side": "text", "kind": "words", "method": "ablation", "player": place, "label": label}
        | {"value": 1.5 if label == "Copper" else 0.1}
        for place, label in enumerate((*players, "."))
    ]
    empty = pd.DataFrame()
    provenance = {"checkpoint": {"sha256": None}}
    AttributionTables(pd.DataFrame(rows), empty, empty, empty, {}, provenance).save(tmp_path / "diagnosis")
    assert attributions_of(tmp_path) is None
    dataset = CrystalDataset.from_directory(textbook_data)
    given = (make_network(), dataset, load_encoder("random:12"), tmp_path / "report")
    chosen = choose(dataset, ["copper"])
    digest = write_report(*given, samples=chosen).store.rows["copper"]["digest"]
    report = write_report(*given, samples=chosen, attributions=attributions_of(tmp_path / "diagnosis"))
    assert report.store.rows["copper"]["digest"] != digest
    page = report.page("copper")
    assert page["summary"][-1].startswith(
        "By attribution to words: ablation, the prediction rests most on “Copper” (+1.5)"
    )
    assert "attribution.words.ablation" in [quantity["name"] for quantity in page["quantities"]]
    assert "“Copper” (+1.5)" in report.html_path("copper").read_text(encoding="utf-8")


def test_what_was_skipped_is_said(written: tuple[Report, Path]) -> None:
    report = written[0]
    assert [item["id"] for item in report.manifest["skipped"]] == ["missing"]
    assert "1 could not be analysed" in (report.store.folder / "index.html").read_text(encoding="utf-8")


def test_a_report_is_redrawn_from_its_numbers_alone(written: tuple[Report, Path]) -> None:
    report = written[0]
    before = {path: path.read_bytes() for path in pages(report)}
    stamps = {path: path.stat().st_mtime_ns for path in pages(report)[:-1]}
    again = Report.from_results(report.store.folder)
    assert list(again.draw_all()) == pages(report)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps, "a page that is up to date was written"
    lost = report.html_path("../../escape")
    lost.unlink()
    for _ in Report.from_results(report.store.folder).draw_all():
        pass
    assert {path: path.read_bytes() for path in pages(report)} == before


def test_notebooks_see_a_table_with_everything_escaped(written: tuple[Report, Path]) -> None:
    parsed = Parsed(written[0]._repr_html_())
    assert {tag for tag, _ in parsed.elements} == {"p", "table", "thead", "tbody", "tr", "th", "td", "a"}
    assert sum(tag == "tr" for tag, _ in parsed.elements) == 1 + len(HOSTILE)
    assert "<script>alert(1)</script>" in parsed.text


def test_a_diagnosis_of_another_checkpoint_is_refused(
    make_network: Callable[..., Any], textbook_data: Path, tmp_path: Path
) -> None:
    network = make_network()
    network.save_pretrained(tmp_path / "saved")
    from model.checkpoint import load_checkpoint

    with pytest.raises(RecordError, match="expected a diagnosis of this checkpoint"):
        write_report(
            load_checkpoint(tmp_path / "saved"),
            CrystalDataset.from_directory(textbook_data),
            load_encoder("random:12"),
            tmp_path / "report",
            diagnosis=hostile_diagnosis(["a"]),
        )
    assert not (tmp_path / "report").exists()


def test_a_diagnosis_is_used_again_only_where_it_is_of_the_same_run(
    make_network: Callable[..., Any], textbook_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import reports.html.run as run_module
    from interpret.diagnose import DiagnoseOptions

    calls = []
    real = run_module.diagnose
    monkeypatch.setattr(run_module, "diagnose", lambda *a, **k: calls.append(1) or real(*a, **k, rules=[]))
    dataset = CrystalDataset.from_directory(textbook_data, limit=2)
    given = (make_network(), dataset, load_encoder("random:12"), tmp_path)
    first = diagnosis_of(*given, options=DiagnoseOptions(), samples=dataset.samples)
    again = diagnosis_of(*given, options=DiagnoseOptions(batch_size=1), samples=dataset.samples[:1])
    assert len(calls) == 1, "a diagnosis of the whole data set serves a part of it"
    pd.testing.assert_frame_equal(first.structures, again.structures)
    diagnosis_of(*given, options=DiagnoseOptions(seed=1), samples=dataset.samples[:1])
    assert len(calls) == 2
    diagnosis_of(*given, options=DiagnoseOptions(seed=1), samples=dataset.samples)
    assert len(calls) == 3, "a diagnosis of a part does not serve the whole"


def test_pages_of_two_networks_do_not_share_a_folder(
    make_network: Callable[..., Any], textbook_data: Path, tmp_path: Path
) -> None:
    dataset, encoder = CrystalDataset.from_directory(textbook_data), load_encoder("random:12")
    write_report(make_network(), dataset, encoder, tmp_path, samples=dataset.samples[:1])
    for network, options, what in (
        (make_network(seed=1), PageOptions(), "network"),
        (make_network(), PageOptions(seed=1), "options"),
    ):
        with pytest.raises(RecordError, match=f"a report of the same {what}: write this one to another folder"):
            write_report(network, dataset, encoder, tmp_path, samples=dataset.samples[1:2], options=options)
    again = write_report(
        make_network(), dataset, encoder, tmp_path, samples=dataset.samples[1:2], options=PageOptions(batch_size=1)
    )
    assert again.ids == ("copper", "silicon")


def test_pages_of_earlier_runs_get_the_new_findings(
    make_network: Callable[..., Any], textbook_data: Path, tmp_path: Path
) -> None:
    dataset, encoder = CrystalDataset.from_directory(textbook_data), load_encoder("random:12")
    write_report(make_network(), dataset, encoder, tmp_path, samples=dataset.samples[:1])
    diagnosis = hostile_diagnosis(["copper", "silicon"])
    report = write_report(make_network(), dataset, encoder, tmp_path, samples=dataset.samples[1:2], diagnosis=diagnosis)
    assert "That name this structure" in report.html_path("copper").read_text(encoding="utf-8")


def test_ids_are_chosen_by_name_and_a_wrong_one_says_what_comes_close(textbook_data: Path) -> None:
    dataset = CrystalDataset.from_directory(textbook_data)
    assert [one.id for one in choose(dataset, ["salt", "copper", "salt"])] == ["salt", "copper"]
    assert [one.id for one in choose(dataset, [], 2)] == ["copper", "silicon"]
    with pytest.raises(DataError, match="'siliconn' among 5 in the data; close to it: silicon"):
        choose(dataset, ["siliconn"])


def test_no_structure_is_an_error(make_network: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no structure could be analysed"):
        write_report(make_network(), CrystalDataset(()), load_encoder("random:12"), tmp_path)


def test_small_things() -> None:
    assert formula("Ba2TiO4<") == "Ba<sub>2</sub>TiO<sub>4</sub>&lt;"
    assert [short(value) for value in (None, float("nan"), 0.0, 123456.0)] == [
        "undefined",
        "undefined",
        "0",
        "1.235e+05",
    ]
    assert [element_colour(symbol) for symbol in ("H", "C", "O", "Lr", "Og")] == [
        "#ffffff", "#909090", "#ff0d0d", "#c70066", "#ff1493",
    ]  # fmt: skip
    assert (
        sum(len(static(name).encode()) for name in ("core.js", "crystal.js", "flow.js", "page.js", "index.js")) < 60_000
    )
    for name in ("core.js", "crystal.js", "flow.js", "page.js", "index.js", "page.css"):
        assert "</" not in static(name)
        assert "<!--" not in static(name)
