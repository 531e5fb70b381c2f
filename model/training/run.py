"""One training run, from a data set to RUN/best and RUN/last."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only

from model.dataset import CrystalDataset, Skipped
from model.encoder import TextEncoder
from model.network import CrystalTextNetwork
from model.training.batches import CrystalDataModule
from model.training.checkpoints import (
    STATE_FILE,
    AtomicCheckpointIO,
    NativeCheckpoints,
    read_history,
    recover_native,
    state_callbacks,
)
from model.training.config import TrainConfig
from model.training.distributed import SynchronizedNorms
from model.training.errors import TrainingError
from model.training.evaluation import finish
from model.training.examples import PreparedData, prepare
from model.training.memory import keep_freed_memory
from model.training.module import CrystalTextModule
from model.training.plan import Plan, plan_run
from model.training.record import (
    TrainingRecord,
    read_record,
    to_csv,
    write_text,
)

MARKER = "run.json"


@dataclass(frozen=True, eq=False)
class TrainingOutcome:
    """A trained network and what it is worth.

    Attributes:
        network: with the weights of the best validation, in evaluation mode.
        record: what training.json of RUN/best says: splits, metrics, baselines.
        best, last: the native checkpoints.
        history: a row for each validation, with the columns of history.csv.
        skipped: samples that could not be used, and why.
        rank: of this process; only 0 has written files and should print.
    """

    network: CrystalTextNetwork
    record: TrainingRecord
    best: Path
    last: Path
    history: tuple[dict[str, float], ...]
    skipped: tuple[Skipped, ...]
    rank: int


def train(
    config: TrainConfig,
    dataset: CrystalDataset,
    encoder: TextEncoder,
    output: str | Path,
    *,
    callbacks: Sequence[L.Callback] = (),
    resume: bool = False,
    progress: bool = False,
    prepared: PreparedData | None = None,
) -> TrainingOutcome:
    """Train a network of the family; RUN holds the best and the last weights, logs and the course of the errors.

    Args:
        config: of model, data and training. Where ``model.token_features`` is not given it is the encoder's width.
        dataset: with targets.
        encoder: of the texts, frozen.
        output: the folder RUN.
        callbacks: further Lightning callbacks, such as a monitor of gates.
        resume: go on where a run in RUN stopped; start one where there is none, return one that is finished.
        progress: show Lightning's progress bar on standard error.
        prepared: the data set made ready before, to share it between runs.

    Raises:
        TrainingError: configuration, data or RUN cannot be used, or training diverged.
    """
    output = Path(output)
    prepared = prepare(dataset, encoder) if prepared is None else prepared
    plan = plan_run(config, dataset, encoder, prepared)
    finished = _claim(output, plan, resume)
    if not finished:
        device = _fit(plan, output, callbacks, resume, progress)
        finish(output, plan.splits, config.training.batch_size, device)
    record = read_record(output / "best")
    return TrainingOutcome(
        network=CrystalTextNetwork.from_pretrained(output / "best"),
        record=record,
        best=output / "best",
        last=output / "last",
        history=tuple(read_history(output / "history.csv")),
        skipped=plan.skipped,
        rank=rank_zero_only.rank,
    )


def _claim(output: Path, plan: Plan, resume: bool) -> bool:
    """Make RUN this run's; whether it is finished already.

    Raises:
        TrainingError: RUN holds another run, or this one and it is not to be resumed.
    """
    if rank_zero_only.rank:
        # Lightning starts the other processes once the first has claimed the folder.
        return False
    fields = {
        **plan.config.result_fields(),
        "data set": plan.record.data.fingerprint,
        "text encoder": plan.record.encoder.fingerprint,
    }
    marker = output / MARKER
    started = any((output / name).exists() for name in ("best", "last", "checkpoints"))
    if started and not marker.is_file():
        raise TrainingError(f"{output} holds checkpoints of something else: choose another --output")
    # A run that stopped before its first checkpoint left nothing to go on from, nor to lose.
    if started:
        if not resume:
            raise TrainingError(
                f"{output} already holds a training run: --resume goes on with it, --output FOLDER starts another"
            )
        known = json.loads(marker.read_text(encoding="utf-8"))
        other = [name for name in {**known, **fields} if known.get(name) != json.loads(json.dumps(fields.get(name)))]
        if other:
            listed = ", ".join(f"{name} was {known.get(name)!r}, is {fields.get(name)!r}" for name in other[:5])
            raise TrainingError(f"{output} holds a run of another configuration or data set: {listed}")
    for name in ("best", "last"):
        recover_native(output / name)
    write_text(marker, json.dumps(fields, indent=1, sort_keys=True) + "\n")
    write_text(output / "splits.json", json.dumps(plan.record.splits.model_dump(mode="json"), indent=1) + "\n")
    write_text(output / "config.yaml", yaml.safe_dump(plan.record.config.model_dump(mode="json"), sort_keys=False))
    rows = [(each.id, each.row, each.stage, each.reason) for each in plan.skipped]
    write_text(output / "skipped.csv", to_csv(("id", "row", "stage", "reason"), rows))
    return (output / "last").is_dir() and read_record(output / "last").finished


def _fit(plan: Plan, output: Path, callbacks: Sequence[L.Callback], resume: bool, progress: bool) -> torch.device:
    """Train; the device it happened on."""
    training = plan.config.training
    keep_freed_memory()
    with _quiet(), _restored_settings():
        torch.manual_seed(training.seed)
        network = CrystalTextNetwork(plan.model)
        if plan.element_table is not None:
            network.element_table.copy_(plan.element_table)
        network.train()
        parameters = sum(value.numel() for value in network.parameters() if value.requires_grad)
        record = plan.record.model_copy(update={"parameters": parameters})
        module = CrystalTextModule(network, record.config, plan.scale)
        monitor = "val_loss" if plan.model.classification else "val_mae"
        state = output / "checkpoints" / STATE_FILE
        trainer = _trainer(
            plan.config, output, [*callbacks, NativeCheckpoints(output, record, monitor)], monitor, progress
        )
        data = CrystalDataModule(plan.splits["train"], plan.splits["val"], training)
        resumed = resume and state.is_file()
        try:
            trainer.fit(module, data, ckpt_path=str(state) if resumed else None)
        except SystemExit as stop:
            if trainer.interrupted:
                raise KeyboardInterrupt from stop
            raise
        except (ValueError, RuntimeError) as error:
            # What torch says of an optimizer or a network that the saved state does not fit.
            if not resumed or "state" not in str(error):
                raise
            reason = str(error).splitlines()[0]
            raise TrainingError(
                f"the state in {state} does not fit this run ({reason}): it was written by another version; "
                "train anew in another folder"
            ) from error
        device: torch.device = trainer.strategy.root_device
        return device


def _trainer(config: TrainConfig, output: Path, callbacks: list[L.Callback], monitor: str, progress: bool) -> L.Trainer:
    training = config.training
    several = training.devices * training.num_nodes > 1
    loggers: list[Any] = []
    if "tensorboard" in training.loggers:
        loggers.append(TensorBoardLogger(output / "logs", name="tensorboard", version=""))
    if "csv" in training.loggers:
        loggers.append(CSVLogger(output / "logs", name="csv", flush_logs_every_n_steps=1000))
    if loggers:
        callbacks.append(LearningRateMonitor("step"))
    if training.early_stopping is not None:
        callbacks.append(EarlyStopping(monitor, patience=training.early_stopping, mode="min"))
    callbacks += state_callbacks(output / "checkpoints", training.validate_every, training.save_every_steps)
    return L.Trainer(
        accelerator=training.accelerator,
        devices=training.devices,
        num_nodes=training.num_nodes,
        # The branch from tokens to atoms never reaches the prediction: its parameters have no gradient.
        strategy=DDPStrategy(find_unused_parameters=True) if several else "auto",
        use_distributed_sampler=False,
        plugins=[AtomicCheckpointIO(), *([SynchronizedNorms()] if several else [])],
        max_epochs=training.epochs,
        check_val_every_n_epoch=training.validate_every,
        num_sanity_val_steps=0,
        gradient_clip_val=training.gradient_clipping,
        log_every_n_steps=training.log_every_steps,
        deterministic="warn" if training.deterministic else False,
        default_root_dir=output,
        logger=loggers or False,
        callbacks=callbacks,
        enable_progress_bar=progress,
        enable_model_summary=False,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's advertisements, and warnings about what is done on purpose, do not reach the user."""
    names = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in (
            ".*does not have many workers.*",
            ".*The number of training batches.*",
            ".*Checkpoint directory.*exists and is not empty.*",
            ".*resuming from a checkpoint that ended before the epoch ended.*",
            ".*logs directory.*exists and is not empty.*",
            ".*LeafSpec.*",
            ".*does not have a deterministic implementation.*",
        ):
            warnings.filterwarnings("ignore", message)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


@contextmanager
def _restored_settings() -> Iterator[None]:
    """Leave the random state and torch's switches as they were found."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    switches: Any = torch.utils.deterministic
    fill = switches.fill_uninitialized_memory
    # A guard for debugging, at the price of writing all memory twice.
    switches.fill_uninitialized_memory = False
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        switches.fill_uninitialized_memory = fill
