"""Which crystals make up each step: a function of seed, epoch and step alone, whoever computes it and when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import lightning as L
import numpy as np
from torch.utils.data import DataLoader, Sampler

from model.training.config import TrainingConfig
from model.training.errors import TrainingError
from model.training.examples import Example, TrainingBatch, join


class GlobalBatches(Sampler[list[int]]):
    """The share of one process in batches that do not depend on the number of processes.

    Batches of an epoch differ in size by one crystal at most, so that none is left with a single crystal, which
    batch norm could not train on.

    Args:
        count: number of examples.
        size: largest batch, over all processes.
        seed: of the order; None for the order as it is.
        rank, world: of this process.

    Raises:
        TrainingError: a batch would leave a process without a crystal.
    """

    def __init__(self, count: int, size: int, *, seed: int | None = None, rank: int = 0, world: int = 1) -> None:
        self.count, self.seed, self.rank, self.world = count, seed, rank, world
        self.batches = -(-count // size)
        if count // self.batches < world:
            raise TrainingError(
                f"expected at least one crystal for each of {world} processes in every batch, got batches of "
                f"{count // self.batches}: use a larger training.batch_size, more data or fewer devices"
            )
        self.epoch = 0
        self.first = 0

    @property
    def sampler(self) -> GlobalBatches:
        """Itself: Lightning looks here for ``set_epoch``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def start_at(self, step: int) -> None:
        """Go on after so many steps of training: the next epoch that is asked for begins in its middle."""
        self.epoch, self.first = divmod(step, self.batches)

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        order = np.arange(self.count)
        if self.seed is not None:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(self.count)
        first, self.first = self.first, 0
        for batch in np.array_split(order, self.batches)[first:]:
            yield batch[self.rank :: self.world].tolist()


class CrystalDataModule(L.LightningDataModule):  # type: ignore[misc]
    """Loaders of the training and validation examples; remembers at which step training stands."""

    def __init__(self, train: Sequence[Example], val: Sequence[Example], config: TrainingConfig) -> None:
        super().__init__()
        self.train, self.val, self.config = train, val, config
        self._step = 0

    def train_dataloader(self) -> Any:
        """Shuffled by the seed; after a restart, from the step on at which the checkpoint was written."""
        batches = self._batches(len(self.train), self.config.seed)
        batches.start_at(self._step)
        return self._loader(self.train, batches)

    def val_dataloader(self) -> Any:
        """In their order."""
        return self._loader(self.val, self._batches(len(self.val), None))

    def state_dict(self) -> dict[str, Any]:
        """The number of steps that are done."""
        assert self.trainer is not None
        return {"step": self.trainer.global_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Start the next loader there."""
        self._step = int(state_dict["step"])

    def _batches(self, count: int, seed: int | None) -> GlobalBatches:
        assert self.trainer is not None
        world = self.trainer.world_size
        return GlobalBatches(count, self.config.batch_size, seed=seed, rank=self.trainer.global_rank, world=world)

    def _loader(self, examples: Sequence[Example], batches: GlobalBatches) -> DataLoader[TrainingBatch]:
        workers = self.config.workers
        return DataLoader(
            examples,  # type: ignore[arg-type]
            batch_sampler=batches,
            collate_fn=join,
            num_workers=workers,
            persistent_workers=False,
            pin_memory=False,
        )
