"""Splits and encoders that checkpoints name themselves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from interpret.compare import compare, trained
from interpret.compare.trained import check_trained_encoders, restrict, split_of
from model.dataset import CrystalDataset
from model.errors import DataError, InterpretError
from model.training.record import RECORD_FILE


def write(folder: Path, name: str, test: Sequence[str], fingerprint: str = "f") -> Path:
    """A checkpoint folder with the part of training.json that is read here."""
    path = folder / name
    path.mkdir()
    (path / RECORD_FILE).write_text(json.dumps({"test": list(test), "fingerprint": fingerprint}), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def small_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records of the fields these functions use; the whole record is tested with the training that writes it."""

    def read(path: Path) -> Any:
        from model.training.record import read_record

        if not (path / RECORD_FILE).is_file():
            return read_record(path)
        content = json.loads((path / RECORD_FILE).read_text(encoding="utf-8"))
        splits = SimpleNamespace(ids=lambda split: {"test": tuple(content["test"])}[split])
        encoder = SimpleNamespace(name="trained encoder", width=12, fingerprint=content["fingerprint"])
        return SimpleNamespace(splits=splits, encoder=encoder)

    monkeypatch.setattr(trained, "read_record", read)


def test_checkpoints_must_agree_on_the_split(tmp_path: Path) -> None:
    one, two = write(tmp_path, "one", ["salt", "rutile"]), write(tmp_path, "two", ["rutile", "salt"])
    assert split_of([one, two], "test") == ("salt", "rutile")
    three = write(tmp_path, "three", ["salt", "copper"])
    with pytest.raises(DataError, match=r"same test split .* 2 are in one of them only \(e\.g\. rutile, copper\)"):
        split_of([one, three], "test")


def test_a_checkpoint_without_a_record_has_no_split(tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    with pytest.raises(InterpretError, match=r"bare has no training\.json"):
        split_of([write(tmp_path, "one", ["salt"]), tmp_path / "bare"], "test")


def test_the_data_must_hold_the_split(crystals: CrystalDataset) -> None:
    own = restrict(crystals, ["salt", "copper"])
    assert [sample.id for sample in own] == [s.id for s in crystals if s.id in ("salt", "copper")]
    assert any("2 of 5 samples are in the split" in note for note in own.notes)
    assert len(restrict(crystals, ["salt", "copper"], limit=1)) == 1
    with pytest.raises(DataError, match="1 are not there: diamond"):
        restrict(crystals, ["salt", "diamond"])


def test_the_encoder_must_be_the_one_of_the_training(tmp_path: Path, encoder: Any) -> None:
    right, wrong = write(tmp_path, "right", [], encoder.fingerprint), write(tmp_path, "wrong", [], "0" * 64)
    (tmp_path / "bare").mkdir()
    check_trained_encoders([right, tmp_path / "bare"], encoder)
    with pytest.raises(DataError, match=r"wrong was trained with, trained encoder .*fingerprint 000000000000"):
        check_trained_encoders([right, wrong], encoder)


def test_paths_are_checked_too(network: Any, tmp_path: Path, crystals: CrystalDataset, encoder: Any) -> None:
    wrong = write(tmp_path, "wrong", [], "0" * 64)
    network.save_pretrained(wrong)
    with pytest.raises(DataError, match="wrong was trained with"):
        compare(wrong, network, crystals, encoder)
