"""``interpret probe`` and ``interpret diagnose --modality`` as a user meets them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest

import cli

TEXT = "TiO2 is Rutile structured and crystallizes in the tetragonal P4_2/mnm space group. Ti(1) is bonded to O(1)."


class Done(NamedTuple):
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def interpret(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run the command in this process, as its entry point would."""

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["interpret", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        code = left.value.code
        out, err = capsys.readouterr()
        return Done(int(code or 0), out, err)

    return run


@pytest.fixture(scope="module")
def checkpoint(make_network: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "saved"
    make_network(token_features=384).save_pretrained(folder)
    return folder


@pytest.fixture
def probe(interpret: Callable[..., Done], checkpoint: Path, textbook_data: Path) -> Callable[..., Done]:
    file = textbook_data / "cif" / "rutile.vasp"
    return lambda *more: interpret("probe", checkpoint, "--structure", file, "--text", TEXT, *more)


def test_probe_prints_change_controls_and_words(probe: Any, tmp_path: Path) -> None:
    given = ("--replace", "tetragonal=>cubic", "--replace", "P4_2/mnm=>Fm-3m", "--output", tmp_path)
    done = probe("--target", "3.0", *given)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == "rutile TiO2 (target 3): tetragonal => cubic; P4_2/mnm => Fm-3m, 2 places"
    assert lines[2].startswith("texts that say the same move it by")
    assert any(line.startswith("reworded (control)") for line in lines)
    assert any(line.startswith("another structure's text") for line in lines)
    assert any(line.split()[:2] == ["tetragonal", "cubic"] for line in lines)
    content = json.loads((tmp_path / "probe.json").read_text(encoding="utf-8"))
    table = pd.read_csv(tmp_path / "probe_changes.csv").set_index("text")
    change = content["prediction_after"] - content["prediction_before"]
    assert table.loc["replacement", "change"] == pytest.approx(change)
    assert f"{change:+.4f}" in lines[1]


def test_probe_json(probe: Any) -> None:
    done = probe("--replace", "Rutile=>Spinel", "--format", "json")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["edited_text"] == TEXT.replace("Rutile", "Spinel")
    assert content["replaced"] == [["Rutile", "Spinel"]]
    assert content["target"] is None


@pytest.mark.parametrize(
    ("replacement", "words"),
    [
        ("cubic=>hexagonal", "no word 'cubic' in the text (whole words, case counts); it has: TiO2, is, Rutile"),
        ("Rutile", "expected a replacement such as 'cubic=>hexagonal', got 'Rutile'"),
    ],
)
def test_mistakes_are_one_message(probe: Any, replacement: str, words: str) -> None:
    done = probe("--replace", replacement)
    assert done.returncode == 2
    assert done.stderr.startswith("interpret: ")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_diagnose_with_modality(
    interpret: Callable[..., Done], checkpoint: Path, textbook_data: Path, tmp_path: Path
) -> None:
    done = interpret("diagnose", checkpoint, "--data", textbook_data, "--limit", 2, "--modality", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("share of the text in predictions")
    assert any(line.startswith("modality: ") and "2 structures" in line for line in lines)
    assert "verdict: " in lines[-1]
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    for table in ("modality", "modality_pairs", "text_parts", "text_edits", "leakage", "leakage_words"):
        assert {f"{table}.csv", f"{table}.parquet"} <= names
        assert len(pd.read_csv(tmp_path / f"{table}.csv").columns) > 3
    assert (tmp_path / "figures" / "modality.png").stat().st_size > 20_000
    content = json.loads((tmp_path / "diagnosis.json").read_text(encoding="utf-8"))
    asked = {rule["code"]: rule["status"] for rule in content["rules"]}
    assert asked["MO701"] != "not applicable"
    assert list(asked).count("MO701") == 1
    own = {finding["code"] for finding in content["findings"] if finding["code"].startswith("MO")}
    assert own == {code for code, status in asked.items() if code.startswith("MO") and status == "found"}
    facts = json.loads((tmp_path / "modality.json").read_text(encoding="utf-8"))
    assert facts["counts"]["structures"] == 2
    assert set(facts["shares"]) == {"references", "empty", "untrained"}
    assert len(facts["references"]) == 9, "shipped crystals stand in where a data set has too few"
