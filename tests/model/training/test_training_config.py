"""The configuration file: what is read, what is refused and in which words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from model.training import TrainConfig, TrainingError, load_config


def test_file_and_overrides(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "model:\n  use_middle_fusion: true\n  middle_fusion_layers: '1,2'\ntraining:\n  epochs: 7\n", encoding="utf-8"
    )
    config = load_config(path, ["model.hidden_features=64", "training.learning_rate=1e-2", "data.splits=a.json"])
    assert config.model.middle_fusion_layers == (1, 2)
    assert (config.model.hidden_features, config.training.epochs, config.training.learning_rate) == (64, 7, 0.01)
    assert config.data.splits == "a.json"
    assert config.training.batch_size == TrainConfig().training.batch_size


def test_no_file_is_the_defaults() -> None:
    assert load_config() == TrainConfig()


def test_empty_file_is_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("model:\n", encoding="utf-8")
    with pytest.raises(TrainingError, match="model"):
        load_config(tmp_path / "empty.yaml")
    (tmp_path / "empty.yaml").write_text("# nothing\n", encoding="utf-8")
    assert load_config(tmp_path / "empty.yaml") == TrainConfig()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.cross_modal_gate=foo", "'none', 'quality', 'simplified', 'improved-quality', 'balanced' or 'warm-up'"),
        ("model.middle_fusion_type=foo", "'broadcast', 'positional', 'element' or 'token-attention'"),
        ("model.late_fusion_type=foo", "'concat', 'average', 'gated', 'bilinear', 'adaptive' or 'tucker'"),
        ("model.hiden_features=3", "model.hiden_features is unknown; did you mean hidden_features"),
        ("training.xyzzy=3", "there are: seed, epochs, batch_size"),
        ("optimizer.lr=3", "optimizer is unknown; there are: model, data, training"),
        ("epochs=3", "expected SECTION.NAME"),
        ("training.epochs", "expected --set SECTION.NAME=VALUE"),
        ("training.epochs=0", "training.epochs: Input should be greater than or equal to 1, got 0"),
        ("training.batch_size=1", "training.batch_size"),
        ("training.epochs=[", "is not YAML"),
        ("training.loss=bce", "training.loss: bce with model.classification: true and only there"),
        ("data.train=0.95", "train + val + test of at most 1"),
        ("model.element_embedding=fixed", "data.element_embeddings: FILE"),
        ("training.validate_every=7", "multiple of validate_every"),
        ("model.output_features=2", "one target"),
    ],
)
def test_refused(override: str, words: str) -> None:
    with pytest.raises(TrainingError, match=re.escape(words)):
        load_config(None, [override])


def test_fusion_after_a_layer_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TrainingError, match="a fusion after layer 4 would never run"):
        load_config(None, ["model.use_middle_fusion=true", "model.middle_fusion_layers=4"])


@pytest.mark.parametrize("content", ["- a\n- b\n", "model: 3\n", "a: [\n", "\tx"])
def test_files_that_are_no_configuration(content: str, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(TrainingError):
        load_config(tmp_path / "bad.yaml", ["model.hidden_features=64"])


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"nowhere\.yaml cannot be read"):
        load_config(tmp_path / "nowhere.yaml")


def test_changes_keep_the_rest_and_survive_a_round_trip() -> None:
    config = load_config(None, ["model.hidden_features=64"]).changed({"training.seed": 3})
    assert (config.model.hidden_features, config.training.seed) == (64, 3)
    assert TrainConfig.model_validate(config.model_dump(mode="json")) == config


def test_where_a_run_goes_is_not_what_it_yields() -> None:
    plain, other = TrainConfig(), load_config(None, ["training.devices=2", "training.workers=3"])
    assert plain.result_fields() == other.result_fields()
    assert plain.result_fields() != load_config(None, ["training.seed=1"]).result_fields()
