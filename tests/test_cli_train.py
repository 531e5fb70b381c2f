"""``interpret train``, ``convert``, ``demo`` and ``diagnose --split``, as a user meets them."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[1]
CATIONS = {"Li": 2.0, "Na": 2.4, "K": 2.8, "Rb": 3.0}
ANIONS = {"F": 0.0, "Cl": 0.5, "Br": 0.65, "I": 0.9}
SMALL = (
    *("--set", "model.alignn_layers=1", "--set", "model.gcn_layers=1", "--set", "model.hidden_features=16"),
    *("--set", "model.embedding_features=8", "--set", "training.batch_size=4", "--encoder", "random:12"),
    *("--set", "training.learning_rate=0.005", "--set", "training.accelerator=cpu"),
)


def interpret(*arguments: object, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command; standard error is no terminal, so no progress bar may appear."""
    command = [sys.executable, str(ROOT / "cli.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, timeout=300)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """The same command in this process: exit status, standard output, standard error."""
    import cli

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["interpret", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        written = capsys.readouterr()
        code = stop.value.code
        return code if isinstance(code, int) else int(code is not None), written.out, written.err

    return run


@pytest.fixture(scope="module")
def halide_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen rock salts with a made-up gap."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "cif").mkdir()
    rows = ["id,description,gap"]
    for cation, first in CATIONS.items():
        for anion, second in ANIONS.items():
            half = first + second + 0.3
            (folder / "cif" / f"{cation}{anion}.vasp").write_text(
                f"{cation}{anion}\n1.0\n0 {half} {half}\n{half} 0 {half}\n{half} {half} 0\n{cation} {anion}\n1 1\n"
                "direct\n0 0 0\n0.5 0.5 0.5\n",
                encoding="utf-8",
            )
            rows.append(f"{cation}{anion},{cation}{anion} is Halite structured.,{12 - 2 * first - 4 * second:.2f}")
    (folder / "description.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def trained(halide_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    output = tmp_path_factory.mktemp("trained") / "run"
    config = output.with_name("run.yaml")
    config.write_text("training:\n  epochs: 9\nmodel:\n  use_middle_fusion: true\n  middle_fusion_layers: 0\n")
    return interpret(
        "train", halide_data, "--output", output, "--config", config, "--epochs", 2, *SMALL, "--quiet"
    ), output


def test_train_writes_checkpoints_and_says_what_they_are_worth(trained: Any) -> None:
    done, output = trained
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "12 crystals trained on, 2 for validation, 2 for the test" in done.stdout
    for line in ("network", "mean of the training split", "ridge on the composition"):
        assert line in done.stdout
    record = json.loads((output / "best" / "training.json").read_text(encoding="utf-8"))
    assert record["config"]["training"]["epochs"] == 2
    assert record["config"]["model"]["use_middle_fusion"] is True
    assert record["config"]["model"]["token_features"] == 12
    with (output / "predictions.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["split"] for row in rows].count("test") == 2
    errors = [abs(float(row["prediction"]) - float(row["target"])) for row in rows if row["split"] == "test"]
    assert record["metrics"]["test"]["mae"] == pytest.approx(sum(errors) / 2)
    gates = ("gate_history.csv", "gate_statistics.json")
    for name in ("history.csv", "config.yaml", "splits.json", "skipped.csv", "checkpoints/last.ckpt", *gates):
        assert (output / name).is_file(), name
    assert list((output / "logs" / "tensorboard").glob("events*"))
    assert list((output / "logs" / "csv").rglob("metrics.csv"))


def test_learning_curve_is_a_picture(trained: Any) -> None:
    from matplotlib.image import imread

    picture = imread(trained[1] / "figures" / "learning_curve.png")
    assert min(picture.shape[:2]) > 200
    assert picture[..., :3].std() > 0.01


def test_the_written_configuration_trains_the_same_network(
    call: Callable[..., Any], trained: Any, halide_data: Path, tmp_path: Path
) -> None:
    code, _, stderr = call(
        *("train", halide_data, "--output", tmp_path / "run", "--config", trained[1] / "config.yaml"),
        *("--encoder", "random:12"),
    )
    assert code == 0, stderr
    first, second = (load_file(folder / "last" / "model.safetensors") for folder in (trained[1], tmp_path / "run"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_diagnose_takes_one_split(call: Callable[..., Any], trained: Any, halide_data: Path, tmp_path: Path) -> None:
    code, stdout, stderr = call(
        *("diagnose", trained[1] / "best", "--data", halide_data, "--split", "test"),
        *("--output", tmp_path, "--encoder", "random:12", "--format", "json"),
    )
    assert code == 0, stderr
    assert json.loads(stdout)["structures"] == 2
    with (tmp_path / "structures.csv").open(encoding="utf-8") as stream:
        found = {row["id"] for row in csv.DictReader(stream)}
    splits = json.loads((trained[1] / "splits.json").read_text(encoding="utf-8"))
    assert found == set(splits["test"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "model.cross_modal_gate=foo"], "expected one of 'none', 'quality', 'simplified'"),
        (["--target", "volume"], "volume"),
        (["--set", "data.text_column=prose"], "prose"),
        (["--config", "nowhere.yaml"], "nowhere.yaml cannot be read"),
        (["--set", "data.splits=nowhere.json"], "nowhere.json cannot be read"),
        (["--set", "training.epochs=2", "--set", "training.devices=0"], "training.devices"),
    ],
)
def test_mistakes_are_one_message(
    arguments: list[str], words: str, call: Callable[..., Any], halide_data: Path, tmp_path: Path
) -> None:
    code, _, stderr = call("train", halide_data, "--output", tmp_path / "run", "--encoder", "random:12", *arguments)
    assert code == 2
    assert words in stderr
    assert "Traceback" not in stderr
    assert not (tmp_path / "run" / "best").exists()


def test_a_second_run_in_the_same_folder_is_refused(call: Callable[..., Any], trained: Any, halide_data: Path) -> None:
    code, _, stderr = call("train", halide_data, "--output", trained[1], *SMALL)
    assert code == 2
    assert "already holds a training run: --resume" in stderr


def test_convert_makes_a_native_checkpoint_of_any(
    call: Callable[..., Any], make_network: Callable[..., Any], tmp_path: Path
) -> None:
    network = make_network()
    flat = {"config": network.config.model_dump(mode="json"), "model": network.state_dict()}
    torch.save({"model_state_dict": flat["model"]}, tmp_path / "old.pt")
    (tmp_path / "config.json").write_text(json.dumps(flat["config"]), encoding="utf-8")
    code, _, stderr = call("convert", tmp_path / "old.pt", tmp_path / "new")
    assert code == 0, stderr
    from model.network import CrystalTextNetwork

    loaded = CrystalTextNetwork.from_pretrained(tmp_path / "new")
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in network.state_dict().items())
    code, _, stderr = call("convert", tmp_path / "old.pt", tmp_path / "new")
    assert code == 2
    assert "is there already" in stderr


def test_split_of_a_checkpoint_without_a_record(
    call: Callable[..., Any], make_network: Callable[..., Any], halide_data: Path, tmp_path: Path
) -> None:
    make_network().save_pretrained(tmp_path / "plain")
    code, _, stderr = call(
        *("diagnose", tmp_path / "plain", "--data", halide_data, "--split", "test"),
        *("--output", tmp_path / "out", "--encoder", "random:12"),
    )
    assert code == 2
    assert "has no training.json" in stderr


@pytest.mark.slow
def test_killed_by_the_system_and_resumed(trained: Any, halide_data: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle of training, then --resume until it is done: the weights of a run left in peace."""
    settings = ("--epochs", 40, *SMALL, "--set", "training.save_every_steps=1", "--quiet")
    calm = interpret("train", halide_data, "--output", tmp_path / "calm", *settings)
    assert calm.returncode == 0, calm.stderr
    command = ("train", halide_data, "--output", tmp_path / "killed", *settings, "--resume")
    kills = 0
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "cli.py"), *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        state = tmp_path / "killed" / "checkpoints" / "last.ckpt"
        before = state.stat().st_mtime_ns if state.exists() else 0
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if state.exists() and state.stat().st_mtime_ns != before:
                time.sleep(0.15)
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.01)
        process.communicate()
    assert kills
    done = interpret(*command)
    assert done.returncode == 0, done.stderr
    for name in ("best", "last"):
        first, second = (load_file(tmp_path / run / name / "model.safetensors") for run in ("calm", "killed"))
        assert all(torch.equal(first[key], second[key]) for key in first), name


@pytest.mark.slow
@pytest.mark.parametrize("gate", ["none", "warm-up"])
def test_two_processes_are_one_on_the_same_global_batch(gate: str, halide_data: Path, tmp_path: Path) -> None:
    """gloo on the CPU, synchronised batch norm, no dropout: the same errors after each epoch within 1e-4."""
    options = ("--epochs", 4, *SMALL, "--set", "training.dropout=0.0", "--set", f"model.cross_modal_gate={gate}")
    options += ("--set", "model.use_fine_grained_attention=true", "--set", "training.batch_size=5")
    # At a higher rate AdamW turns the rounding of gradients that are 0 by construction (biases before a batch norm)
    # into steps that can be seen.
    options += ("--set", "training.learning_rate=0.001")
    histories = []
    for devices in (1, 2):
        output = tmp_path / f"run-{devices}"
        done = interpret("train", halide_data, "--output", output, "--devices", devices, *options)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("best validation after") == 1
        with (output / "history.csv").open(encoding="utf-8") as stream:
            histories.append(list(csv.DictReader(stream)))
    for one, two in zip(*histories, strict=True):
        for name in ("train_loss", "val_mae", "val_rmse", "val_loss"):
            assert float(two[name]) == pytest.approx(float(one[name]), rel=1e-4), name


@pytest.mark.slow
def test_demo_trains_two_models_and_diagnoses_one(tmp_path: Path) -> None:
    done = interpret("demo", "--output", tmp_path / "demo", "--epochs", 1)
    assert done.returncode == 0, done.stderr
    assert "full" in done.stdout
    assert "no-middle-fusion" in done.stdout
    assert "verdict: " in done.stdout
    fusion = [
        json.loads((tmp_path / "demo" / name / "best" / "config.json").read_text(encoding="utf-8"))["use_middle_fusion"]
        for name in ("full", "no-middle-fusion")
    ]
    assert fusion == [True, False]
    assert (tmp_path / "demo" / "diagnosis.json").is_file()
    for page in ("report", "comparison"):
        address = tmp_path / "demo" / page / "index.html"
        assert address.is_file()
        assert str(address) in done.stdout
