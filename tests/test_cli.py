"""The command line as a user meets it: real processes, real files, exit statuses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


def interpret(*arguments: object, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command; standard error is no terminal, so no progress bar may appear."""
    command = [sys.executable, str(ROOT / "cli.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, timeout=300)


@pytest.fixture(scope="module")
def checkpoint(make_network: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "saved"
    make_network(token_features=384).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def diagnosed(checkpoint: Path, textbook_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    output = tmp_path_factory.mktemp("output") / "results"
    return interpret("diagnose", checkpoint, "--data", textbook_data, "--output", output), output


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, cli; print([m for m in ('torch', 'pandas', 'transformers', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
    assert interpret("--help").returncode == 0


def test_diagnose_writes_every_file_and_prints_a_verdict(diagnosed: Any) -> None:
    done, output = diagnosed
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "verdict: " in done.stdout.splitlines()[-1]
    assert "5 structures" in done.stdout
    names = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    tables = ("structures", "atoms", "heads", "layers", "skipped", "heatmap")
    expected = {f"{table}.{kind}" for table in tables for kind in ("csv", "parquet")} | {"diagnosis.json"}
    figures = {"heatmap", "alpha_by_element", "text_flow", "diversity_by_stage"}
    assert names == expected | {f"figures/{name}.png" for name in figures}


def test_figures_are_pictures(diagnosed: Any) -> None:
    from matplotlib.image import imread

    for path in (diagnosed[1] / "figures").iterdir():
        picture = imread(path)
        assert min(picture.shape[:2]) > 200
        assert picture[..., :3].std() > 0.01, f"{path.name} is one colour"


def test_single_structure(checkpoint: Path, textbook_data: Path, tmp_path: Path) -> None:
    file = textbook_data / "cif" / "rutile.vasp"
    given = ("--structure", file, "--text", "TiO2 is rutile.")
    done = interpret("diagnose", checkpoint, *given, "--output", tmp_path, "--format", "json")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["structures"] == 1
    assert json.loads((tmp_path / "diagnosis.json").read_text(encoding="utf-8")) == content


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--output", "out"], "expected either --data DIR or --structure FILE"),
        (["--structure", "POSCAR", "--output", "out"], "expected --text TEXT"),
        (["--data", "nowhere", "--output", "out"], "nowhere"),
        (["--data", "DATA", "--output", "out", "--encoder", "random:768"], "768"),
        (["--data", "DATA", "--output", "out", "--device", "cuda:7"], "device 'cuda:7' cannot be used here"),
        (["--data", "DATA", "--output", "out", "--select", "XX9"], "no rule starts with 'XX9'"),
        (["--data", "DATA", "--output", "out", "--target-column", "gap"], "gap"),
    ],
)
def test_mistakes_are_one_message_and_status_2(
    arguments: list[str], words: str, checkpoint: Path, textbook_data: Path, tmp_path: Path
) -> None:
    given = [str(textbook_data) if argument == "DATA" else argument for argument in arguments]
    done = interpret("diagnose", checkpoint, *given, folder=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out" / "diagnosis.json").exists()


def test_missing_checkpoint_and_hostile_file(tmp_path: Path, textbook_data: Path) -> None:
    import pickle

    class Hostile:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
            import os

            return os.system, (f"touch {tmp_path / 'PWNED'}",)

    hostile = tmp_path / "hostile.pt"
    hostile.write_bytes(pickle.dumps({"model": Hostile()}))
    for path in (tmp_path / "missing.pt", hostile):
        done = interpret("inspect", path)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert path.name in done.stderr
    assert not (tmp_path / "PWNED").exists()


def test_inspect_lists_taps_and_sizes(checkpoint: Path) -> None:
    content = json.loads(interpret("inspect", checkpoint, "--format", "json").stdout)
    names = [tap["name"] for tap in content["taps"]]
    assert {"fusion.1.gate", "attention.atom_to_token", "text.projection", "head.hidden"} <= set(names)
    assert content["config"]["token_features"] == 384
    assert content["parameters"] == sum(content["modules"].values())
    assert "fusion.1.gate" in interpret("inspect", checkpoint).stdout


def test_rules_are_listed_and_explained(tmp_path: Path) -> None:
    listed = json.loads(interpret("rules", "--format", "json").stdout)
    assert len(listed) > 0
    code = listed[0]["code"]
    page = interpret("rules", code).stdout
    assert page.startswith(f"# {code} ")
    assert "Control:" in page
    assert interpret("rules", "ZZ999").returncode == 2


def test_settings_file_is_read_and_checked(checkpoint: Path, textbook_data: Path, tmp_path: Path) -> None:
    (tmp_path / "interpret.toml").write_text('select = ["CK102"]\nfail-on = "info"\n', encoding="utf-8")
    arguments = ("diagnose", checkpoint, "--data", textbook_data, "--output", "out", "--limit", "1", "--format", "json")
    done = interpret(*arguments, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [rule["code"] for rule in json.loads(done.stdout)["rules"]] == ["CK102"]
    (tmp_path / "interpret.toml").write_text("selct = []\n", encoding="utf-8")
    done = interpret(*arguments, folder=tmp_path)
    assert done.returncode == 2
    assert "selct" in done.stderr
    assert "known keys: select, ignore" in done.stderr


def test_findings_set_the_exit_status_and_speak_to_machines(
    make_network: Callable[..., Any], textbook_data: Path, tmp_path: Path
) -> None:
    network = make_network(token_features=384)
    with torch.no_grad():
        network.fc1.weight[0, 0] = float("nan")
    network.save_pretrained(tmp_path / "broken")
    arguments = ("diagnose", tmp_path / "broken", "--data", textbook_data, "--limit", "2", "--select", "CK102")
    done = interpret(*arguments, "--output", tmp_path / "a", "--fail-on", "error", "--format", "sarif")
    assert done.returncode == 1, done.stderr
    log = json.loads(done.stdout)
    assert log["version"] == "2.1.0"
    result = log["runs"][0]["results"][0]
    assert (result["ruleId"], result["level"]) == ("CK102", "error")
    assert [rule["id"] for rule in log["runs"][0]["tool"]["driver"]["rules"]] == ["CK102"]
    done = interpret(*arguments, "--output", tmp_path / "b", "--format", "github")
    assert done.returncode == 0
    assert done.stdout.startswith("::error title=CK102 ")
    done = interpret(*arguments, "--output", tmp_path / "c")
    assert "verdict: poor" in done.stdout


def test_an_interruption_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import cli
    import interpret.checks.registry

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(interpret.checks.registry, "all_rules", interrupted)
    monkeypatch.setattr(sys, "argv", ["interpret", "rules"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 130
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("interpret: stopped")
    assert printed.err.count("\n") == 1
