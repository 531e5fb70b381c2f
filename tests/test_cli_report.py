"""``interpret report`` as a user meets it: real files, exit statuses, one real process."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


def interpret(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command; standard error is no terminal, so no progress bar may appear."""
    command = [sys.executable, str(ROOT / "cli.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command in this process, which has the heavy packages already: status, output, errors."""
    import cli

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["interpret", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        printed = capsys.readouterr()
        return int(left.value.code or 0), printed.out, printed.err

    return run


@pytest.fixture(scope="module")
def checkpoint(make_network: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "saved"
    make_network(token_features=384).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def reported(checkpoint: Path, textbook_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    output = tmp_path_factory.mktemp("output") / "report"
    options = ("--id", "silicon", "--id", "salt", "--style", "paper")
    return interpret("report", checkpoint, "--data", textbook_data, "--output", output, *options), output


def test_report_writes_pages_numbers_figures_and_an_index(reported: Any) -> None:
    done, output = reported
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == f"2 pages; open {output / 'index.html'}"
    assert done.stdout.startswith("verdict: ")
    assert {path.name for path in output.iterdir()} == {
        "index.html", "report.json", "mapping.csv", "data", "structures", "figures", "diagnosis",
    }  # fmt: skip
    assert sorted(path.name for path in (output / "structures").iterdir()) == ["salt.html", "silicon.html"]
    assert (output / "diagnosis" / "diagnosis.json").is_file()
    assert {path.suffix for path in (output / "figures").iterdir()} == {".png", ".svg", ".pdf", ".csv", ".json"}
    manifest = json.loads((output / "report.json").read_text(encoding="utf-8"))
    assert manifest["diagnosis"]["verdict"] in done.stdout
    with (output / "mapping.csv").open(encoding="utf-8") as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["silicon", "salt"]


def test_a_second_call_adds_what_is_missing_and_leaves_what_is_there(
    reported: Any, checkpoint: Path, textbook_data: Path, here: Run
) -> None:
    _, output = reported
    before = {path: path.stat().st_mtime_ns for path in (output / "data").glob("*.json")}
    given = ("--data", textbook_data, "--output", output, "--diagnosis", output / "diagnosis")
    status, printed, errors = here("report", checkpoint, *given, "--limit", 2)
    assert status == 0, errors
    assert printed.splitlines()[-1].startswith("3 pages")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (output / "structures" / "copper.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "DATA", "--id", "silicone"], "close to it: silicon"),
        (["--data", "DATA", "--diagnosis", "nowhere"], "expected a diagnosis in nowhere"),
        ([], "expected either --data DIR or --structure FILE"),
    ],
)
def test_mistakes_are_one_message_and_status_2(
    arguments: list[str], words: str, checkpoint: Path, textbook_data: Path, tmp_path: Path, here: Run
) -> None:
    given = [str(textbook_data) if argument == "DATA" else argument for argument in arguments]
    status, _, errors = here("report", checkpoint, "--output", tmp_path / "out", *given)
    assert status == 2
    assert words in errors
    assert len(errors.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_one_structure_with_a_hostile_text(checkpoint: Path, textbook_data: Path, tmp_path: Path, here: Run) -> None:
    file = textbook_data / "cif" / "rutile.vasp"
    given = ("--structure", file, "--text", "</script><script>alert(1)</script>", "--no-rules")
    status, printed, errors = here("report", checkpoint, *given, "--output", tmp_path / "out")
    assert status == 0, errors
    assert printed.strip() == f"1 page; open {tmp_path / 'out' / 'index.html'}"
    page = (tmp_path / "out" / "structures" / "rutile.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
