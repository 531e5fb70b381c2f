"""``interpret compare`` as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest

import cli

ROOT = Path(__file__).resolve().parents[1]
ENCODER = ("--encoder", "random:12", "--resamples", "199")


class Done(NamedTuple):
    """What a command said and how it ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def interpret(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run the command in this process: most of the time of one of its own goes into imports."""

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["interpret", "compare", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return Done(int(ended.value.code or 0), said.out, said.err)

    return run


def interpret_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "cli.py"), "compare", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def checkpoints(make_network: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    networks = {
        "full": make_network(),
        "full-1": make_network(seed=1),
        "none": make_network(seed=2, use_middle_fusion=False),
        "wide": make_network(token_features=24),
    }
    for name, network in networks.items():
        network.save_pretrained(folder / name)
    return {name: folder / name for name in networks}


@pytest.mark.slow
def test_two_checkpoints(checkpoints: dict[str, Path], textbook_data: Path, tmp_path: Path) -> None:
    given = (checkpoints["full"], checkpoints["none"], "--labels", "full,no middle", "--data", textbook_data)
    done = interpret_process(*given, "--output", tmp_path, *ENCODER)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.splitlines()[0] == "full (a) against no middle (b), 5 structures"
    names = {path.name for path in tmp_path.iterdir()}
    expected = {"attention_statistics.csv", "pairs.parquet", "comparison.json", "index.html"}
    assert expected | {"attention_statistics_comparison.png", "representations.png", "heatmap_pair_1.png"} <= names
    table = pd.read_csv(tmp_path / "attention_statistics.csv")
    assert list(table.columns[:11]) == [
        "metric", "mean_a", "mean_b", "difference", "percent_change", "ci_low", "ci_high", "p_value", "p_adjusted",
        "effect_size", "structures",
    ]  # fmt: skip
    assert "gap: fusion.1.alpha_mean" in done.stdout


def test_a_checkpoint_against_itself_as_json(
    interpret: Callable[..., Done], checkpoints: dict[str, Path], textbook_data: Path, tmp_path: Path
) -> None:
    given = (checkpoints["full"], checkpoints["full"], "--data", textbook_data, "--limit", "4")
    done = interpret(*given, "--output", tmp_path, *ENCODER, "--format", "json", "--batch-size", "1")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["identical"]
    assert content["labels"] == ["full (1)", "full (2)"]
    assert content["structures"] == 4
    assert content == json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))


def test_groups_of_seeds(
    interpret: Callable[..., Done], checkpoints: dict[str, Path], textbook_data: Path, tmp_path: Path
) -> None:
    pattern = checkpoints["full"].parent / "full*"
    given = ("--group", f"full={pattern}", "--group", f"none={checkpoints['none']}", "--data", textbook_data)
    done = interpret(*given, "--output", tmp_path, *ENCODER)
    assert done.returncode == 0, done.stderr
    assert "5 structures, 2 of full and 1 of none" in done.stdout
    assert (tmp_path / "group_statistics.csv").is_file()
    assert (tmp_path / "index.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{full}"], "expected two or more checkpoints"),
        (["{full}", "{none}", "--group", "x={full}"], "expected two or more checkpoints"),
        (["--group", "x={full}"], "twice in their place"),
        (["{full}", "{none}", "--labels", "one"], "expected 2 labels"),
        (["{full}", "{wide}"], "token embeddings of different width"),
        (["{full}", "{none}", "--split", "test"], "has no training.json"),
        (["{full}", "{none}", "--hypothesis", "nowhere.toml"], "nowhere.toml cannot be read"),
        (["{full}", "{full}/nothing"], "nothing"),
    ],
)
def test_mistakes_are_one_message(
    arguments: list[str],
    words: str,
    interpret: Callable[..., Done],
    checkpoints: dict[str, Path],
    textbook_data: Path,
    tmp_path: Path,
) -> None:
    given = [argument.format(**checkpoints) for argument in arguments]
    done = interpret(*given, "--data", textbook_data, "--output", tmp_path / "out", *ENCODER)
    assert done.returncode == 2
    assert done.stderr.startswith("interpret: ")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
