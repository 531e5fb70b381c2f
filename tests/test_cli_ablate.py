"""``interpret ablate`` as a user meets it: a real process, a real data set, exit statuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
SMALL = """
model:
  alignn_layers: 1
  gcn_layers: 1
  embedding_features: 6
  hidden_features: 16
  middle_fusion_layers: [0]
  middle_fusion_hidden_dim: 8
  fine_grained_hidden_dim: 16
  fine_grained_num_heads: 2
  cross_modal_hidden_dim: 8
  cross_modal_num_heads: 2
data: {train: 0.4, val: 0.2, test: 0.4, encoder: "random:12"}
training: {epochs: 1, batch_size: 2, loggers: []}
"""


def interpret(*arguments: object, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command; standard error is no terminal, so no progress bar may appear."""
    command = [sys.executable, str(ROOT / "cli.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, timeout=300)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return path


@pytest.mark.slow
def test_one_command_trains_compares_and_draws(textbook_data: Path, config: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("nowhere:\n  model.middle_fusion_layers: [9]\n", encoding="utf-8")
    output = tmp_path / "out"
    given = ("ablate", textbook_data, "--output", output, "--config", config, "--variant-file", own)
    done = interpret(*given, "--variants", "full,no-middle-fusion,nowhere", "--seeds", "0", "--format", "json")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    content = json.loads(done.stdout)
    assert [row["variant"] for row in content["variants"]] == ["full", "no-middle-fusion", "nowhere"]
    assert [row["runs"] for row in content["variants"]] == [1, 1, 0]
    assert "would never run" in content["failed"][0]["reason"]
    assert json.loads((output / "ablation.json").read_text(encoding="utf-8")) == content
    written = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    tables = {f"{name}.{kind}" for name in ("runs", "ablation", "failed", "predictions") for kind in ("csv", "parquet")}
    run = "runs/full/seed-0"
    assert tables | {"figures/ablation.png", "figures/ablation_metrics.png"} <= written
    assert {f"{run}/best/model.safetensors", f"{run}/gates.png", f"{run}/diagnosis/diagnosis.json"} <= written
    # Another seed joins what is there; the finished runs are kept.
    stamp = (output / run / "best" / "model.safetensors").stat().st_mtime_ns
    done = interpret(*given, "--variants", "full,no-middle-fusion", "--seeds", "0,1", "--no-diagnosis")
    assert done.returncode == 0, done.stderr
    assert (output / run / "best" / "model.safetensors").stat().st_mtime_ns == stamp
    assert len(pd.read_csv(output / "runs.csv")) == 4
    assert done.stdout.splitlines()[0].startswith("variant ")
    assert f"tables and figures in {output}" in done.stdout


def test_variants_are_listed() -> None:
    done = interpret("ablate", "--list-variants")
    assert done.returncode == 0, done.stderr
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert {"full", "no-middle-fusion", "simplified-gate", "late-tucker", "pair-norm"} <= set(names)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--variants", "ful"), "no variant is named 'ful' (did you mean full?); there are: base, full,"),
        (("--seeds", "0,x"), "expected whole numbers from 0, comma-separated, for --seeds"),
        pytest.param(("--seeds", "1,1"), "expected each seed once", marks=pytest.mark.slow),
        (("--variant-file", "nowhere.yaml"), "nowhere.yaml cannot be read"),
        pytest.param(("--set", "data.test=0"), "data.test: 0", marks=pytest.mark.slow),
    ],
)
def test_mistakes_are_one_message_and_status_2(
    arguments: tuple[str, ...], words: str, textbook_data: Path, config: Path, tmp_path: Path
) -> None:
    done = interpret("ablate", textbook_data, "--output", "out", "--config", config, *arguments, folder=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
