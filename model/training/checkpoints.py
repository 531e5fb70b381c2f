"""What a run leaves on disk while it goes: native checkpoints, the trainer's state, and the course of the errors."""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from model.network import CrystalTextNetwork
from model.training.record import Metrics, SplitMetrics, TrainingRecord, to_csv, write_record, write_text

STATE_FILE = "last.ckpt"
HISTORY = ("epoch", "step", "train_loss", "val_loss", "val_mae", "val_rmse", "learning_rate", "seconds")


class AtomicCheckpointIO(TorchCheckpointIO):  # type: ignore[misc]
    """The trainer's state, written beside its place and moved there, and read without executing anything."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write it."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        os.close(handle)
        try:
            torch.save(checkpoint, name)
            Path(name).replace(target)
        finally:
            Path(name).unlink(missing_ok=True)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read it; tensors and plain values only, whatever is asked for."""
        content: dict[str, Any] = torch.load(path, map_location=map_location or "cpu", weights_only=True)
        return content


class StepCheckpoint(ModelCheckpoint):  # type: ignore[misc]
    """The trainer's state every few steps, but at the last of an epoch, where validation is still to come."""

    def on_train_batch_end(self, trainer: Any, *arguments: Any, **options: Any) -> None:
        """Save, where it is time."""
        if not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            super().on_train_batch_end(trainer, *arguments, **options)


def save_native(network: CrystalTextNetwork, record: TrainingRecord, target: Path) -> None:
    """Write a native checkpoint as a whole: its place holds the old one until the new one is complete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
        made = Path(scratch) / "checkpoint"
        network.save_pretrained(made)
        write_record(made, record)
        kept = target.with_name(f".{target.name}-old")
        shutil.rmtree(kept, ignore_errors=True)
        if target.exists():
            target.rename(kept)
        made.rename(target)
        shutil.rmtree(kept, ignore_errors=True)


def recover_native(target: Path) -> None:
    """Put back a checkpoint whose replacement was killed between the two renames."""
    kept = target.with_name(f".{target.name}-old")
    if kept.exists() and not target.exists():
        kept.rename(target)


class NativeCheckpoints(L.Callback):  # type: ignore[misc]
    """Writes RUN/last after each validation, RUN/best after each that is the best so far, and history.csv.

    Args:
        output: RUN.
        record: of the run, without metrics.
        monitor: the value to be least.
    """

    def __init__(self, output: Path, record: TrainingRecord, monitor: str) -> None:
        self.output, self.record, self.monitor = output, record, monitor
        self.history: list[dict[str, float]] = []
        self._loss, self._batches, self._seconds, self._begin = 0.0, 0, 0.0, 0.0

    def state_dict(self) -> dict[str, Any]:
        """The history, and the sums of an epoch that is under way."""
        seconds = self._seconds + (time.perf_counter() - self._begin if self._begin else 0.0)
        return {"history": self.history, "loss": self._loss, "batches": self._batches, "seconds": seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.history = list(state_dict["history"])
        self._loss, self._batches = float(state_dict["loss"]), int(state_dict["batches"])
        self._seconds = float(state_dict["seconds"])

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop at once where early stopping had stopped the run that goes on."""
        self._begin = time.perf_counter()
        for callback in trainer.early_stopping_callbacks:
            if callback.wait_count >= callback.patience:
                trainer.should_stop = True

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Sum up the loss."""
        self._loss += float(outputs["loss"])
        self._batches += 1

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write what the epoch has come to."""
        now = time.perf_counter()
        seconds, self._seconds = self._seconds + now - self._begin, 0.0
        self._begin = now
        sums = torch.tensor([self._loss, float(self._batches)], device=pl_module.device)
        # The loss of a process is scaled so that the mean over processes is that of the global batch.
        loss, batches = trainer.strategy.reduce(sums, reduce_op="sum").tolist()
        self._loss, self._batches = 0.0, 0
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if (trainer.current_epoch + 1) % trainer.check_val_every_n_epoch:
            return
        row = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "train_loss": loss / max(batches, 1.0),
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "seconds": seconds,
            **{name: values[name] for name in ("val_loss", "val_mae", "val_rmse")},
        }
        before = min((each[self.monitor] for each in self.history), default=float("inf"))
        self.history.append(row)
        if trainer.is_global_zero:
            rows = [[each[name] for name in HISTORY] for each in self.history]
            write_text(self.output / "history.csv", to_csv(HISTORY, rows))
            record = self.record.model_copy(
                update={
                    "metrics": SplitMetrics(val=Metrics(mae=row["val_mae"], rmse=row["val_rmse"])),
                    "epoch": int(row["epoch"]),
                    "step": int(row["step"]),
                }
            )
            network: Any = pl_module.network
            save_native(network, record, self.output / "last")
            if row[self.monitor] < before:
                save_native(network, record, self.output / "best")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let no process read the checkpoints before they are written."""
        trainer.strategy.barrier("native checkpoints")


def state_callbacks(folder: Path, every_epochs: int, every_steps: int | None) -> list[ModelCheckpoint]:
    """The callbacks that keep the trainer's state, from which a run resumes."""
    common: dict[str, Any] = {"dirpath": folder, "filename": Path(STATE_FILE).stem, "enable_version_counter": False}
    callbacks = [ModelCheckpoint(**common, every_n_epochs=every_epochs, save_on_train_epoch_end=True)]
    if every_steps is not None:
        callbacks.append(StepCheckpoint(**common, every_n_train_steps=every_steps, save_on_train_epoch_end=False))
    return callbacks


def read_history(path: Path) -> list[dict[str, float]]:
    """The rows of history.csv; none where there is no file."""
    if not path.is_file():
        return []
    converters: dict[str, Callable[[str], float]] = {"epoch": int, "step": int}
    with path.open(encoding="utf-8", newline="") as stream:
        return [
            {name: converters.get(name, float)(value) for name, value in row.items()} for row in csv.DictReader(stream)
        ]
