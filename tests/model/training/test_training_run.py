"""Whole runs: reproducible, resumable at any step, and clear about what cannot be trained on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from safetensors.torch import load_file

from model.dataset import CrystalDataset
from model.encoder import TextEncoder
from model.errors import InterpretError
from model.training import (
    PreparedData,
    TrainConfig,
    TrainingError,
    prepare,
    read_record,
    samples_of_split,
    train,
)
from model.training.checkpoints import read_history

Crystals = dict[str, tuple[str, str, float]]

HOOKS = ("on_train_batch_start", "on_before_optimizer_step", "on_train_batch_end", "on_validation_batch_end")


class Killed(Exception):
    """Stands for the end of the process."""


class Kill(L.Callback):
    """Ends training at a hook, once so many steps are done; nothing is written on the way out."""

    def __init__(self, step: int, hook: str = "on_train_batch_end") -> None:
        self.step = step
        setattr(self, hook, self._end)

    def _end(self, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step >= self.step:
            raise Killed


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(a: Path, b: Path) -> bool:
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def history(folder: Path) -> list[dict[str, float]]:
    rows = read_history(folder / "history.csv")
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def runner(halides: CrystalDataset, encoder: TextEncoder, prepared: PreparedData) -> Callable[..., Any]:
    """Train on the halides."""

    def run(config: TrainConfig, output: Path, **options: Any) -> Any:
        return train(config, halides, encoder, output, prepared=prepared, **options)

    return run


WARM_UP = {"model__cross_modal_gate": "warm-up", "model__cross_modal_gate_warmup_steps": 9}


@pytest.fixture(scope="module")
def reference(runner: Callable[..., Any], tiny: Callable[..., TrainConfig], tmp_path_factory: Any) -> Path:
    """A run of four epochs of four steps that nobody kills."""
    output: Path = tmp_path_factory.mktemp("reference") / "run"
    runner(tiny(**WARM_UP), output)
    return output


def test_same_seed_same_weights_whatever_else_draws_random_numbers(
    reference: Path, runner: Callable[..., Any], tiny: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    class Draw(L.Callback):
        def on_train_batch_start(self, *arguments: Any) -> None:
            torch.rand(7)

        def on_validation_batch_end(self, *arguments: Any) -> None:
            torch.rand(3)

    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    runner(tiny(**WARM_UP), tmp_path / "again", callbacks=[Draw()])
    assert torch.equal(torch.random.get_rng_state(), before), "the caller's random state is left alone"
    assert not torch.are_deterministic_algorithms_enabled()
    assert same(tmp_path / "again" / "last", reference / "last")
    assert history(tmp_path / "again") == history(reference)
    runner(tiny(**WARM_UP, training__seed=1), tmp_path / "other")
    assert not same(tmp_path / "other" / "last", reference / "last")
    assert read_record(tmp_path / "other" / "best").splits == read_record(reference / "best").splits


@pytest.mark.parametrize("save_every", [None, 3])
@pytest.mark.parametrize(
    "step",
    [1, 6, pytest.param(4, marks=pytest.mark.slow), *(pytest.param(n, marks=pytest.mark.slow) for n in (9, 15, 16))],
)
def test_killed_after_a_step_and_resumed(
    step: int,
    save_every: int | None,
    reference: Path,
    runner: Callable[..., Any],
    tiny: Callable[..., TrainConfig],
    tmp_path: Path,
) -> None:
    config = tiny(**WARM_UP, training__save_every_steps=save_every)
    with pytest.raises(Killed):
        runner(config, tmp_path / "run", callbacks=[Kill(step)])
    steps: list[int] = []

    class Count(L.Callback):
        def on_train_batch_start(self, trainer: Any, *arguments: Any) -> None:
            steps.append(trainer.global_step)

    runner(config, tmp_path / "run", callbacks=[Count()], resume=True)
    # The kill comes before anything is written at its own step.
    written = {0, 4, 8, 12} | ({3, 6, 9, 15} if save_every else set())
    assert steps[0] == max(each for each in written if each < step)
    assert steps[-1] == 15
    for name in ("best", "last"):
        assert same(tmp_path / "run" / name, reference / name), name
    assert history(tmp_path / "run") == history(reference)
    assert read_record(tmp_path / "run" / "best").metrics == read_record(reference / "best").metrics


@pytest.mark.slow
@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("step", [2, 8, 11])
def test_killed_anywhere_and_resumed_twice(
    hook: str,
    step: int,
    reference: Path,
    runner: Callable[..., Any],
    tiny: Callable[..., TrainConfig],
    tmp_path: Path,
) -> None:
    config = tiny(**WARM_UP, training__save_every_steps=2)
    for at in (step, step + 3):
        with pytest.raises(Killed):
            runner(config, tmp_path / "run", callbacks=[Kill(at, hook)], resume=at != step)
    runner(config, tmp_path / "run", resume=True)
    assert same(tmp_path / "run" / "best", reference / "best")
    assert same(tmp_path / "run" / "last", reference / "last")
    assert history(tmp_path / "run") == history(reference)


def test_the_state_of_another_version_is_refused_in_words(
    runner: Callable[..., Any], tiny: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        runner(tiny(**WARM_UP), tmp_path / "run", callbacks=[Kill(10)])
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    state = torch.load(path, weights_only=True)
    state["optimizer_states"][0]["param_groups"][0]["params"].append(10_000)
    torch.save(state, path)
    with pytest.raises(TrainingError, match=r"does not fit this run .*another folder"):
        runner(tiny(**WARM_UP), tmp_path / "run", resume=True)


def test_killed_between_the_two_renames_of_a_checkpoint(
    reference: Path, runner: Callable[..., Any], tiny: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    config = tiny(**WARM_UP)
    with pytest.raises(Killed):
        runner(config, tmp_path / "run", callbacks=[Kill(10)])
    (tmp_path / "run" / "best").rename(tmp_path / "run" / ".best-old")
    runner(config, tmp_path / "run", resume=True)
    assert same(tmp_path / "run" / "best", reference / "best")
    assert not (tmp_path / "run" / ".best-old").exists()


def test_early_stopping_stops_and_a_resumed_run_does_not_go_on(
    runner: Callable[..., Any], tiny: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    config = tiny(training__epochs=30, training__learning_rate=0.05, training__early_stopping=1)
    outcome = runner(config, tmp_path / "run")
    errors = [row["val_mae"] for row in outcome.history]
    assert len(errors) < 30
    assert errors[-1] >= min(errors[:-1])
    record = read_record(tmp_path / "run" / "last")
    from model.training.record import write_record

    # As if killed after the last step and before the final metrics.
    write_record(tmp_path / "run" / "last", record.model_copy(update={"finished": False}))
    again = runner(config, tmp_path / "run", resume=True)
    assert [row["val_mae"] for row in again.history] == errors
    assert read_record(tmp_path / "run" / "last").finished


def test_finished_run_is_returned_and_another_is_refused(
    reference: Path, runner: Callable[..., Any], tiny: Callable[..., TrainConfig]
) -> None:
    before = (reference / "last" / "model.safetensors").stat().st_mtime_ns
    outcome = runner(tiny(**WARM_UP), reference, resume=True)
    assert (reference / "last" / "model.safetensors").stat().st_mtime_ns == before
    assert len(outcome.history) == 4
    with pytest.raises(TrainingError, match=r"already holds a training run: --resume"):
        runner(tiny(**WARM_UP), reference)
    with pytest.raises(TrainingError, match=r"training.learning_rate was 0.005, is 0.1"):
        runner(tiny(**WARM_UP, training__learning_rate=0.1), reference, resume=True)


def test_record_says_what_was_done(reference: Path, halides: CrystalDataset, encoder: TextEncoder) -> None:
    document = json.loads((reference / "best" / "training.json").read_text(encoding="utf-8"))
    for split in ("train", "val", "test"):
        assert set(document["metrics"][split]) >= {"mae", "rmse"}
    assert document["baselines"]["mean"]["test"]["mae"] > 0
    record = read_record(reference / "best")
    assert record.data.fingerprint == halides.fingerprint
    assert record.encoder.fingerprint == encoder.fingerprint
    assert record.target.column == "band_gap"
    train_targets = torch.tensor([s.target for s in halides if s.id in set(record.splits.train)], dtype=torch.float64)
    assert record.target.mean == pytest.approx(float(train_targets.mean()))
    assert record.target.scale == pytest.approx(float(train_targets.std(correction=0)))
    assert record.config.model.target_scale == record.target.scale
    assert {"torch", "lightning", "python"} <= set(record.versions)
    best = min(history(reference), key=lambda row: row["val_mae"])
    assert (record.epoch, record.metrics.val.mae) == (best["epoch"], pytest.approx(best["val_mae"]))
    assert record.finished


def test_split_of_a_checkpoint(reference: Path, halides: CrystalDataset, tmp_path: Path) -> None:
    ids = read_record(reference / "best").splits.test
    part = samples_of_split(halides, reference / "best", "test")
    assert {sample.id for sample in part} == set(ids)
    assert len(samples_of_split(halides, reference / "best", "train", limit=5)) == 5
    assert part.fingerprint != halides.fingerprint
    with pytest.raises(TrainingError, match="expected one of the splits train, val, test, got 'all'"):
        samples_of_split(halides, reference / "best", "all")
    with pytest.raises(TrainingError, match=r"has no training.json"):
        samples_of_split(halides, tmp_path, "test")
    other = replace(halides, samples=tuple(replace(sample, id=f"x{sample.id}") for sample in halides))
    with pytest.raises(TrainingError, match="none of the 3 ids of the split 'test'"):
        samples_of_split(other, reference / "best", "test")
    (tmp_path / "training.json").write_text('{"format_version": 9}', encoding="utf-8")
    with pytest.raises(TrainingError, match="format version 9"):
        read_record(tmp_path)
    (tmp_path / "training.json").write_text('{"splits": 1', encoding="utf-8")
    with pytest.raises(TrainingError, match="damaged"):
        read_record(tmp_path)


# What people have in their data sets.


def outcome_of(folder: Path, encoder: TextEncoder, config: TrainConfig, output: Path) -> Any:
    return train(config, CrystalDataset.from_directory(folder, require_target=True), encoder, output)


def test_bad_samples_are_left_out_and_named(
    crystals: Crystals,
    write_crystals: Callable[..., Path],
    tiny: Callable[..., TrainConfig],
    encoder: TextEncoder,
    tmp_path: Path,
) -> None:
    good = crystals
    structure = good["LiF-rs"][0]
    changes: dict[str, tuple[str, str, Any]] = {
        "nan-target": (structure, "text", "nan"),
        "no-target": (structure, "text", ""),
        "no-file": ("", "text", 1.0),
        "corrupt": ("Not a\nstructure at all\n", "text", 2.0),
        "overlap": (structure.replace("0.5 0.5 0.5", "0.0 0.0 0.0"), "text", 2.0),
        "no-text": (good["LiF-rs"][0].replace("2.3", "2.35"), "", 3.0),
    }
    folder = write_crystals(tmp_path / "data", changes)
    table = folder / "description.csv"
    table.write_text(table.read_text(encoding="utf-8") + 'NaCl-rs,"twice",1.0\n', encoding="utf-8")
    outcome = outcome_of(folder, encoder, tiny(training__epochs=1), tmp_path / "run")
    reasons = {each.id: each.reason for each in outcome.skipped}
    assert set(reasons) >= {"nan-target", "no-target", "no-file", "corrupt", "overlap", "NaCl-rs"}
    assert "not a finite number" in reasons["nan-target"]
    assert "the id is taken by row" in reasons["NaCl-rs"]
    used = set(outcome.record.splits.of())
    assert used == {*good, "no-text"}
    assert outcome.record.data.empty_texts == 1
    listed = (tmp_path / "run" / "skipped.csv").read_text(encoding="utf-8")
    assert all(name in listed for name in reasons)


@pytest.mark.parametrize(
    ("targets", "limit", "words"),
    [
        ("3.2", 32, r"every target of the training split is 3.2 \(26 samples\): there is nothing to learn"),
        (None, 1, "at least 4 usable samples to train, validate and test on, got 1"),
        ("nan", 32, "No clear target: no column is numeric"),
    ],
)
def test_data_that_cannot_be_trained_on(
    targets: str | None,
    limit: int,
    words: str,
    crystals: Crystals,
    write_crystals: Callable[..., Path],
    tiny: Callable[..., TrainConfig],
    encoder: TextEncoder,
    tmp_path: Path,
) -> None:
    changes = {name: (s, t, targets) for name, (s, t, _) in crystals.items()} if targets else None
    folder = write_crystals(tmp_path / "data", changes, limit)
    with pytest.raises(InterpretError, match=words):
        outcome_of(folder, encoder, tiny(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_copies_stay_on_one_side(
    crystals: Crystals,
    write_crystals: Callable[..., Path],
    tiny: Callable[..., TrainConfig],
    encoder: TextEncoder,
    tmp_path: Path,
) -> None:
    copies = {f"{name}-copy": content for name, content in crystals.items()}
    folder = write_crystals(tmp_path / "data", copies)
    outcome = outcome_of(folder, encoder, tiny(training__epochs=1), tmp_path / "run")
    of = outcome.record.splits.of()
    assert all(of[name] == of[f"{name}-copy"] for name in crystals)
    assert outcome.record.duplicates.identical == 64


def test_encoder_of_another_width_is_refused(
    tiny: Callable[..., TrainConfig],
    halides: CrystalDataset,
    prepared: PreparedData,
    encoder: TextEncoder,
    tmp_path: Path,
) -> None:
    with pytest.raises(TrainingError, match=r"expected an encoder of width 99 .* has width 12"):
        train(tiny(model__token_features=99), halides, encoder, tmp_path / "run", prepared=prepared)


def test_labels_that_are_no_classes_are_refused(
    tiny: Callable[..., TrainConfig],
    halides: CrystalDataset,
    prepared: PreparedData,
    encoder: TextEncoder,
    tmp_path: Path,
) -> None:
    document = tiny().model_dump(mode="json", exclude_unset=True)
    document["model"]["classification"], document["training"]["loss"] = True, "bce"
    with pytest.raises(TrainingError, match="expected targets 0 and 1 for a classifier"):
        train(TrainConfig.model_validate(document), halides, encoder, tmp_path / "run", prepared=prepared)


def test_divergence_is_said_in_words(
    runner: Callable[..., Any], tiny: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    class Break(L.Callback):
        def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
            with torch.no_grad():
                pl_module.network.fc.weight.fill_(float("nan"))

    with pytest.raises(TrainingError, match=r"no longer numbers after step 4: use a smaller training.learning_rate"):
        runner(tiny(), tmp_path / "run", callbacks=[Break()])


def test_element_without_a_vector_is_left_out(
    tiny: Callable[..., TrainConfig],
    halides: CrystalDataset,
    encoder: TextEncoder,
    prepared: PreparedData,
    tmp_path: Path,
) -> None:
    table = tmp_path / "vectors.json"
    vectors = {symbol: [1.0, float(place)] for place, symbol in enumerate(("Li", "Na", "K", "F", "Cl", "Br", "I"))}
    table.write_text(json.dumps(vectors), encoding="utf-8")
    document = tiny(training__epochs=1).model_dump(mode="json", exclude_unset=True)
    document["model"]["element_embedding"] = "fixed"
    document["data"] = {"element_embeddings": str(table)}
    outcome = train(TrainConfig.model_validate(document), halides, encoder, tmp_path / "run", prepared=prepared)
    assert len(outcome.skipped) == 8
    assert all("has no vector for Rb" in each.reason for each in outcome.skipped)


def test_prepared_data_is_what_train_prepares(
    halides: CrystalDataset, encoder: TextEncoder, prepared: PreparedData
) -> None:
    again = prepare(halides, encoder)
    assert [each.id for each in again.examples] == [each.id for each in prepared.examples]
    assert all(
        torch.equal(a.graph.bond_vectors, b.graph.bond_vectors)
        for a, b in zip(again.examples, prepared.examples, strict=True)
    )


def test_targets_that_are_no_numbers_leave_nothing(
    tiny: Callable[..., TrainConfig], halides: CrystalDataset, encoder: TextEncoder
) -> None:
    unlabelled = replace(halides, samples=tuple(replace(sample, target=float("nan")) for sample in halides))
    with pytest.raises(TrainingError, match=r"none of the 32 samples can be trained on: LiF-rs, there is no number"):
        prepare(unlabelled, encoder)


def test_run_that_left_no_checkpoint_can_be_started_anew(
    runner: Callable[..., Any], tiny: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        runner(tiny(), tmp_path / "run", callbacks=[Kill(0, "on_train_batch_start")])
    assert not (tmp_path / "run" / "last").exists()
    runner(tiny(training__epochs=1), tmp_path / "run")
    assert read_record(tmp_path / "run" / "last").finished


def test_folder_of_something_else_is_refused(
    runner: Callable[..., Any], tiny: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    (tmp_path / "run" / "best").mkdir(parents=True)
    with pytest.raises(TrainingError, match="holds checkpoints of something else"):
        runner(tiny(), tmp_path / "run", resume=True)


def test_worker_processes_change_nothing(
    reference: Path, runner: Callable[..., Any], tiny: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    runner(tiny(**WARM_UP, training__workers=1), tmp_path / "run")
    assert same(tmp_path / "run" / "last", reference / "last")
