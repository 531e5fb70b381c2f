"""What the gate monitor costs: steps that it records against the plain steps between them, in one training run."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from interpret.gate_monitor import GateMonitor
from model.batch import CrystalBatch, collate
from model.config import ModelConfig
from model.crystal import build_graph
from model.dataset import CrystalDataset
from model.demo import DEMO_DATA
from model.encoder import load_encoder
from model.network import CrystalTextNetwork

STRUCTURES, PAIRS, WARM = 16, 12, 2


class Training(lightning.LightningModule):
    """The published default network with every gate there is, on one batch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        config = ModelConfig(
            token_features=width, use_middle_fusion=True, use_fine_grained_attention=True, cross_modal_gate="quality"
        )
        self.network = CrystalTextNetwork(config)

    def training_step(self, batch: tuple[CrystalBatch, Tensor], _: int) -> Tensor:
        """Mean absolute error."""
        crystals, targets = batch
        return (self.network(crystals) - targets).abs().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


class Start(lightning.Callback):
    """First of the callbacks: the clock starts before the monitor hangs its hooks."""

    def __init__(self) -> None:
        self.time = 0.0

    def on_train_batch_start(self, *_: Any) -> None:
        """Note the time."""
        self.time = _clock()


class End(lightning.Callback):
    """Last of the callbacks: the clock stops after the monitor has recorded."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self.seconds: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        """Note the step's duration."""
        self.seconds.append(_clock() - self.start.time)


def _clock() -> float:
    """Wall time on a GPU; on a CPU the time of this process, which neighbours on the machine do not change."""
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def measure(folder: Path) -> tuple[list[float], list[float], int]:
    """Seconds of recorded and of plain steps, alternating, and the number of gates."""
    dataset = CrystalDataset.from_directory(DEMO_DATA, limit=STRUCTURES)
    encoder = load_encoder(None)
    graphs = [build_graph(sample.structure) for sample in dataset]
    batch = collate(graphs, encoder.encode([sample.text for sample in dataset]))
    if torch.cuda.is_available():
        batch = batch.to(device="cuda")
    targets = torch.tensor([sample.target for sample in dataset], device=batch.atom_features.device)
    start = Start()
    end = End(start)
    monitor = GateMonitor(every_n_steps=2, folder=folder)
    trainer = lightning.Trainer(
        accelerator="auto",
        devices=1,
        max_steps=2 * PAIRS,
        callbacks=[start, monitor, end],
        logger=TensorBoardLogger(str(folder)),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        log_every_n_steps=10**9,
    )
    batches = torch.utils.data.DataLoader([(batch, targets)] * (2 * PAIRS), batch_size=None)
    trainer.fit(Training(encoder.width), batches)
    return end.seconds[2 * WARM :: 2], end.seconds[2 * WARM + 1 :: 2], len(monitor.history.names)


def main(_: list[str]) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as name:
        recorded, plain, gates = measure(Path(name))
    ratio = statistics.median(a / b for a, b in zip(recorded, plain, strict=True))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(f"default network, {STRUCTURES} crystals a step, {gates} gates, {device}, {len(plain)} pairs of steps")
    print(f"{'step':24} {'seconds':>8} {'ratio':>7}")
    print(f"{'plain':24} {statistics.median(plain):8.4f} {1:7.3f}")
    print(f"{'recorded':24} {statistics.median(recorded):8.4f} {ratio:7.3f}")
    for every in (10, 50):
        print(f"{f'recorded every {every} steps':24} {'':8} {1 + (ratio - 1) / every:7.3f}")


if __name__ == "__main__":
    main([])
