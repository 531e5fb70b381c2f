"""``interpret report --attribution``: what is explained, kept, judged and shown."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from interpret.attribution import AttributionError, AttributionOptions, AttributionTables, attribute_dataset
from interpret.diagnose import DiagnoseOptions
from interpret.pages.attribution_quantities import SavedAttributions
from model.dataset import CrystalDataset
from model.encoder import load_encoder
from reports.html.attributions import attributions_for, attributions_of
from reports.html.report import Report
from reports.html.whiskers import WIDTH, with_marks

METHODS = ("ablation", "attention")
QUICK = AttributionOptions(methods=METHODS, randomised=0, random_seeds=2)


@pytest.fixture(scope="module")
def setting(make_network: Callable[..., Any], textbook_data: Path) -> tuple[Any, CrystalDataset, Any]:
    return make_network(), CrystalDataset.from_directory(textbook_data), load_encoder("random:12")


def explain(setting: tuple[Any, CrystalDataset, Any], *folders: Path, count: int = 2, **options: Any) -> Any:
    network, dataset, encoder = setting
    chosen = DiagnoseOptions(**options)
    samples = dataset.samples[:count]
    return attributions_for(network, dataset, encoder, folders, samples=samples, options=chosen, attribution=QUICK)


def test_only_the_structures_with_a_page_are_explained_and_the_result_is_kept(
    setting: tuple[Any, CrystalDataset, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = explain(setting, tmp_path / "out")
    assert set(tables.faithfulness["id"]) == {sample.id for sample in setting[1].samples[:2]}
    assert not (tmp_path / "out" / ".progress-attribution").exists()
    monkeypatch.setattr(sys.modules["reports.html.attributions"], "attribute_dataset", None)
    again = explain(setting, tmp_path / "out")
    pd.testing.assert_frame_equal(again.attribution, tables.attribution)


def test_those_of_the_whole_data_set_serve_as_well(
    setting: tuple[Any, CrystalDataset, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    explain(setting, tmp_path / "diagnosis", count=len(setting[1]))
    monkeypatch.setattr(sys.modules["reports.html.attributions"], "attribute_dataset", None)
    explain(setting, tmp_path / "diagnosis", tmp_path / "own")
    assert not (tmp_path / "own").exists()


def test_those_of_another_seed_are_not_taken(setting: tuple[Any, CrystalDataset, Any], tmp_path: Path) -> None:
    explain(setting, tmp_path / "diagnosis", count=1)
    explain(setting, tmp_path / "diagnosis", tmp_path / "own", count=1, seed=1)
    content = json.loads((tmp_path / "own" / "attribution.json").read_text(encoding="utf-8"))
    assert content["provenance"]["options"]["seed"] == 1
    first = attributions_of(tmp_path / "nowhere", tmp_path / "diagnosis", tmp_path / "own")
    assert first is not None
    assert first.tables.provenance["options"]["seed"] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kinds": ("words", "sentences")}, "at most one kind of players of the text"),
        ({"kinds": ()}, "got none"),
        ({"kinds": ("electrons",)}, "got 'electrons'"),
        ({"methods": ("saliency",)}, "got 'saliency'"),
    ],
)
def test_options_that_do_not_exist_are_told_before_anything_runs(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(AttributionError, match=message):
        AttributionOptions(**changes)


@pytest.mark.parametrize("kinds", [("sentences", "orbits"), ("bonds",)])
def test_other_players(setting: tuple[Any, CrystalDataset, Any], kinds: tuple[str, ...]) -> None:
    network, dataset, encoder = setting
    options = AttributionOptions(kinds=kinds, methods=("ablation",), limit=2, randomised=0, random_seeds=2)
    tables = attribute_dataset(network, dataset, encoder, options=options)
    assert set(tables.attribution["kind"]) == set(kinds)
    explainers = SavedAttributions(tables).explainers
    assert {row["players"] for row in explainers} <= set(kinds)


def row(method: str, beyond: float, low: float, high: float, players: str = "words") -> dict[str, Any]:
    return {"players": players, "method": method, "beyond": beyond, "beyond_low": low, "beyond_high": high}


def test_marks_share_a_scale_that_holds_zero() -> None:
    groups = with_marks([row("a", 2.0, 1.0, 3.0), row("b", -1.0, -1.0, 0.5), row("c", 5.0, 4.0, 9.0, "atoms")])
    assert [(players, [one["method"] for one in rows]) for players, rows in groups] == [
        ("words", ["a", "b"]),
        ("atoms", ["c"]),
    ]
    first, second = groups[0][1]
    # From -1 to 3 over the width less a margin of 6 on either side.
    unit = (WIDTH - 12) / 4
    assert first["marks"] == {
        "zero": pytest.approx(6 + unit, abs=0.05),
        "beyond_low": pytest.approx(6 + 2 * unit, abs=0.05),
        "beyond": pytest.approx(6 + 3 * unit, abs=0.05),
        "beyond_high": pytest.approx(6 + 4 * unit, abs=0.05),
    }
    assert (first["by_chance"], second["by_chance"]) == (False, True)
    assert groups[1][1][0]["marks"]["zero"] == 6.0


def test_marks_of_what_is_undefined_or_all_zero() -> None:
    rows = with_marks([row("a", math.nan, math.nan, math.nan), row("b", 0.0, 0.0, 0.0)])[0][1]
    assert rows[0]["marks"] == {"beyond": None, "beyond_low": None, "beyond_high": None, "zero": 6.0}
    assert rows[0]["by_chance"]
    assert rows[1]["marks"]["beyond"] == 6.0


def test_the_command_explains_judges_and_shows(
    make_network: Callable[..., Any],
    textbook_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import cli

    make_network().save_pretrained(tmp_path / "checkpoint")
    command = ["interpret", "report", tmp_path / "checkpoint", "--data", textbook_data, "--output", tmp_path / "out"]
    command += ["--encoder", "random:12", "--id", "copper", "--id", "silicon", "--attribution"]
    monkeypatch.setattr(sys, "argv", list(map(str, command)))
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 0, capsys.readouterr().err
    report = Report.from_results(tmp_path / "out")
    explainers = report.manifest["explainers"]
    assert {"ablation", "integrated-gradients", "uniform", "random"} <= {one["method"] for one in explainers}
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "Can the explanations be believed?" in page
    assert "too few for these intervals to be trusted" in page
    names = [quantity["name"] for quantity in report.page("copper")["quantities"]]
    assert {"attribution.words.ablation", "attribution.atoms.ablation"} <= set(names)
    saved = tmp_path / "out" / "diagnosis"
    judged = {rule["code"]: rule["status"] for rule in json.loads((saved / "diagnosis.json").read_text())["rules"]}
    assert judged["AT621"] in ("clear", "found", "cannot tell")
    assert AttributionTables.load(saved).provenance["options"]["limit"] == 50
    assert (tmp_path / "out" / "figures" / "faithfulness.png").is_file()
