"""Watch the gates of a network while it is trained: a Lightning callback over the hook registry."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn

from interpret.checks.gate_measures import warm_up
from interpret.gate_history import GateHistory, GateWarning
from interpret.gate_sums import BINS, GateSums, pack, unpack
from interpret.hooks import Captured, HookRegistry
from interpret.taps import taps_of
from model.errors import TapError
from model.network import CrystalTextNetwork

logger = logging.getLogger(__name__)
RECORDS_PER_EPOCH = 20
CROSS_MODAL = tuple(f"cross_modal.{name}" for name in ("quality", "fusion", "gate", "effective"))


def watched_gates(network: CrystalTextNetwork) -> list[str]:
    """Taps of the gates that a network has and runs: those of middle fusion, then the cross-modal ones."""
    missing = {f"fusion.{layer}.gate" for layer in network.config.missing_fusion_layers}
    middle = [name for name in taps_of(network) if name.startswith("fusion.") and name.endswith(".gate")]
    return [name for name in middle if name not in missing] + [name for name in taps_of(network) if name in CROSS_MODAL]


class GateMonitor(lightning.Callback):  # type: ignore[misc]  # lightning is not analysed
    """Records quality, fusion, effective or single gate and every layer's alpha, and warns where one goes wrong.

    Every few steps the gates of that step's forward pass are reduced in their hooks to sums; the sums of all processes
    are merged, so that a row describes the global batch. The history is part of the training checkpoint: a resumed run
    has the rows it would have had without the interruption. Nothing in the network is changed, no random number is
    drawn, so that training with and without the monitor gives the same weights.

    Written by rank 0 after each epoch and at the end: ``gate_history.csv`` and ``.parquet``, ``gate_statistics.json``;
    scalars and histograms go to each TensorBoard logger of the trainer.

    Example::

        lightning.Trainer(callbacks=[GateMonitor(every_n_steps=10)])

    Args:
        every_n_steps: optimizer steps between records; None records about 20 times an epoch.
        folder: for the files; None takes the trainer's ``default_root_dir``.
        announce: log each warning when it comes up; it is in gate_statistics.json either way.
    """

    def __init__(self, *, every_n_steps: int | None = None, folder: Path | None = None, announce: bool = True) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise TapError(f"expected every_n_steps >= 1, got {every_n_steps}")
        self.history = GateHistory()
        self._every = every_n_steps
        self._folder = folder
        self._announce = announce
        self._network: CrystalTextNetwork | None = None
        self._registry: HookRegistry | None = None
        self._captured: Captured | None = None
        self._recorded_step = -1

    def on_train_start(self, trainer: Any, pl_module: nn.Module) -> None:
        """Find the network and its gates."""
        self._network = _network_of(pl_module)
        names = watched_gates(self._network)
        self._registry = HookRegistry(self._network).capture(*names, reduce=pack) if names else None
        if self._every is None:
            batches = trainer.num_training_batches / trainer.accumulate_grad_batches
            self._every = max(1, round(batches / RECORDS_PER_EPOCH)) if batches < float("inf") else RECORDS_PER_EPOCH

    def on_train_batch_start(self, trainer: Any, pl_module: nn.Module, batch: Any, batch_idx: int) -> None:
        """Hang the hooks for the steps that are recorded; of accumulated batches, the first."""
        self._unhook()
        step = trainer.global_step
        assert self._every is not None
        if self._registry is not None and step % self._every == 0 and step != self._recorded_step:
            self._captured = self._registry.__enter__()
            self._recorded_step = step

    def on_train_batch_end(self, trainer: Any, pl_module: nn.Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Take the hooks away and record what they saw."""
        if self._captured is None:
            return
        statistics = self._captured.statistics
        self._unhook()
        vectors = [(name, statistics[name]["sums"]) for name in statistics]
        if not vectors:
            return
        merged = _merged(trainer, torch.cat([vector for _, vector in vectors]), len(vectors))
        names = [name for name, _ in vectors]
        self._record(trainer, dict(zip(names, merged, strict=True)))

    def _record(self, trainer: Any, gates: Mapping[str, GateSums]) -> None:
        assert self._network is not None
        step, epoch = self._recorded_step, trainer.current_epoch
        said = len(self.history.warnings)
        warming = self._network.config.cross_modal_gate == "warm-up" and warm_up(self._network) < 1
        for name, sums in gates.items():
            # Until its warm-up has ended a gate is held down on purpose.
            judged = not (warming and name == "cross_modal.effective")
            row = self.history.add(step, epoch, name, sums, judged=judged)
            if trainer.is_global_zero:
                _to_tensorboard(trainer, step, name, row)
        if self._announce and trainer.is_global_zero:
            for warning in self.history.warnings[said:]:
                _say(warning)

    def on_train_epoch_end(self, trainer: Any, pl_module: nn.Module) -> None:
        """Write the files."""
        self._write(trainer)

    def on_train_end(self, trainer: Any, pl_module: nn.Module) -> None:
        """Write the files and let go of the network."""
        self._unhook()
        self._write(trainer)
        self._network = self._registry = None

    def on_exception(self, trainer: Any, pl_module: nn.Module, exception: BaseException) -> None:
        """Leave no hook behind."""
        self._unhook()

    def _unhook(self) -> None:
        if self._captured is not None and self._registry is not None:
            self._registry.__exit__(None, None, None)
        self._captured = None

    def _write(self, trainer: Any) -> None:
        if trainer.is_global_zero and self.history.rows:
            self.history.save(self._folder or Path(trainer.default_root_dir))

    def state_dict(self) -> dict[str, Any]:
        """What a training checkpoint keeps of the monitor."""
        return {"history": self.history.state_dict(), "recorded_step": self._recorded_step, "every": self._every}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the checkpoint was written."""
        self.history.load_state_dict(state_dict["history"])
        self._recorded_step = state_dict["recorded_step"]
        self._every = self._every or state_dict["every"]


def _network_of(module: nn.Module) -> CrystalTextNetwork:
    network = next((part for part in module.modules() if isinstance(part, CrystalTextNetwork)), None)
    if network is None:
        raise TapError(f"{type(module).__name__} trains no CrystalTextNetwork: the gate monitor has nothing to watch")
    return network


def _merged(trainer: Any, vector: Tensor, gates: int) -> list[GateSums]:
    """The sums of each gate over all processes; the same on every process."""
    gathered = trainer.strategy.all_gather(vector) if trainer.world_size > 1 else vector
    total: list[GateSums] = []
    for rest in gathered.reshape(trainer.world_size, -1).cpu():
        own = []
        for _ in range(gates):
            sums, rest = unpack(rest)
            own.append(sums)
        total = [a.merge(b) for a, b in zip(total, own, strict=True)] if total else own
    return total


def _to_tensorboard(trainer: Any, step: int, name: str, row: Mapping[str, float]) -> None:
    for each in trainer.loggers:
        if not isinstance(each, TensorBoardLogger):
            continue
        for column in ("mean", "std", "min", "max", "low_share", "high_share", "spread", "spread_within"):
            # Undefined is no point, never a point at 0.
            if row[column] == row[column]:
                each.experiment.add_scalar(f"gates/{name}/{column}", row[column], step)
        counts = [row[f"bin_{index:02d}"] for index in range(BINS)]
        number = sum(counts)
        if row["mean"] != row["mean"]:
            continue
        each.experiment.add_histogram_raw(
            f"gates/{name}",
            min=row["min"],
            max=row["max"],
            num=number,
            sum=row["mean"] * number,
            sum_squares=number * row["mean"] ** 2 + ((number - 1) * row["std"] ** 2 if number > 1 else 0.0),
            bucket_limits=[(index + 1) / BINS for index in range(BINS)],
            bucket_counts=counts,
            global_step=step,
        )


def _say(warning: GateWarning) -> None:
    logger.warning("%s", warning.text)
