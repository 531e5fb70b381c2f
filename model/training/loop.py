"""A plain training loop for small data sets: what the demo needs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from model.batch import CrystalBatch, collate
from model.config import ModelConfig
from model.crystal import build_graph
from model.dataset import CrystalDataset
from model.errors import DataError
from model.network import CrystalTextNetwork

if TYPE_CHECKING:
    from model.crystal import CrystalGraph
    from model.encoder import TextEncoder, TextEncoding

FEWEST_SAMPLES = 10


@dataclass(frozen=True)
class TrainingOutcome:
    """A trained network and what it is worth.

    Attributes:
        network: with the weights of the epoch of least validation error, in evaluation mode.
        training, validation, test: number of crystals in each split.
        test_error: mean absolute error on the test split, in the unit of the target.
        baseline_error: the same for predicting the mean of the training targets.
        history: mean absolute error on the validation split after each epoch.
    """

    network: CrystalTextNetwork
    training: int
    validation: int
    test: int
    test_error: float
    baseline_error: float
    history: tuple[float, ...]


@dataclass(frozen=True)
class _Example:
    graph: CrystalGraph
    encoding: TextEncoding
    target: float


def train(
    config: ModelConfig,
    dataset: CrystalDataset,
    encoder: TextEncoder,
    *,
    epochs: int,
    seed: int = 0,
    batch_size: int = 16,
    learning_rate: float = 2e-3,
    progress: Callable[[int], None] | None = None,
) -> TrainingOutcome:
    """Train on 80 % of the data set, choose the epoch on 10 %, report on 10 %; AdamW, one cycle, L1 loss.

    Args:
        config: its target mean and scale are set from the training split.
        dataset: with targets.
        encoder: frozen.
        epochs: passes over the training split.
        seed: of split, weights and batches.
        progress: called with 1 after each epoch.

    Raises:
        DataError: fewer than 10 samples with a target.
    """
    examples = [
        _Example(build_graph(sample.structure), encoder.encode([sample.text])[0], sample.target) for sample in dataset
    ]
    if len(examples) < FEWEST_SAMPLES:
        raise DataError(f"expected at least {FEWEST_SAMPLES} samples with a target, got {len(examples)}")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(examples), generator=generator).tolist()
    held = max(1, len(order) // 10)
    test, validation, training = order[:held], order[held : 2 * held], order[2 * held :]
    targets = torch.tensor([examples[i].target for i in training])
    scale = float(targets.std()) or 1.0
    config = config.model_copy(update={"target_mean": float(targets.mean()), "target_scale": scale})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = CrystalTextNetwork(config)
        history, best = _fit(
            network, examples, (training, validation), epochs, batch_size, learning_rate, generator, progress
        )
    network.load_state_dict(best)
    network.eval()
    return TrainingOutcome(
        network=network,
        training=len(training),
        validation=len(validation),
        test=len(test),
        test_error=_error(network, [examples[i] for i in test]),
        baseline_error=float(sum(abs(examples[i].target - config.target_mean) for i in test) / len(test)),
        history=tuple(history),
    )


def _fit(
    network: CrystalTextNetwork,
    examples: Sequence[_Example],
    splits: tuple[list[int], list[int]],
    epochs: int,
    batch_size: int,
    learning_rate: float,
    generator: torch.Generator,
    progress: Callable[[int], None] | None,
) -> tuple[list[float], dict[str, Tensor]]:
    training, validation = splits
    steps = epochs * -(-len(training) // batch_size)
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    history: list[float] = []
    best: dict[str, Tensor] = {}
    for _ in range(epochs):
        network.train()
        order = torch.randperm(len(training), generator=generator).tolist()
        for start in range(0, len(order), batch_size):
            batch, targets = _join([examples[training[i]] for i in order[start : start + batch_size]])
            loss = (network(batch) - targets).abs().mean() / network.config.target_scale
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        error = _error(network, [examples[i] for i in validation])
        if not history or error < min(history):
            best = copy.deepcopy(network.state_dict())
        history.append(error)
        if progress is not None:
            progress(1)
    return history, best


def _join(examples: Sequence[_Example]) -> tuple[CrystalBatch, Tensor]:
    batch = collate([example.graph for example in examples], [example.encoding for example in examples])
    return batch, torch.tensor([example.target for example in examples])


def _error(network: CrystalTextNetwork, examples: Sequence[_Example], batch_size: int = 32) -> float:
    network.eval()
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(examples), batch_size):
            batch, targets = _join(examples[start : start + batch_size])
            total += float((network(batch) - targets).abs().sum())
    return total / len(examples)
