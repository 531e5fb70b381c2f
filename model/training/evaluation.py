"""Errors of the finished checkpoints on every split, and the predictions they are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only
from numpy.typing import NDArray

from model.network import CrystalTextNetwork
from model.training.baselines import metrics_of
from model.training.checkpoints import read_history
from model.training.examples import Example, join
from model.training.record import SplitMetrics, read_record, to_csv, write_record, write_text
from model.training.splits import SPLITS, SplitName


def predict(
    network: CrystalTextNetwork, examples: Sequence[Example], batch_size: int, device: torch.device | str = "cpu"
) -> NDArray[np.float64]:
    """Predictions [n] of a network in evaluation mode."""
    network.eval().to(device)
    found = []
    with torch.no_grad():
        for start in range(0, len(examples), batch_size):
            batch = join(examples[start : start + batch_size])
            found.append(network(batch.crystals.to(device)).double().cpu().numpy())
    return np.concatenate(found) if found else np.zeros(0)


def finish(output: Path, splits: Mapping[SplitName, Sequence[Example]], batch_size: int, device: torch.device) -> None:
    """Complete training.json of RUN/best and RUN/last with the metrics of all splits; write predictions.csv of best.

    Only the first process does.
    """
    if rank_zero_only.rank:
        return
    history = read_history(output / "history.csv")
    seconds = float(np.mean([row["seconds"] for row in history])) if history else None
    for name in ("best", "last"):
        record = read_record(output / name)
        network = CrystalTextNetwork.from_pretrained(output / name)
        classification = network.config.classification
        found, rows = {}, []
        for split in SPLITS:
            prediction = predict(network, splits[split], batch_size, device)
            target = np.array([example.target for example in splits[split]])
            found[split] = metrics_of(prediction, target, classification=classification)
            rows += [
                (example.id, split, repr(example.target), repr(float(value)))
                for example, value in zip(splits[split], prediction, strict=True)
            ]
        if name == "best":
            write_text(output / "predictions.csv", to_csv(("id", "split", "target", "prediction"), rows))
        update = {"metrics": SplitMetrics(**found), "seconds_per_epoch": seconds, "finished": True}
        write_record(output / name, record.model_copy(update=update))
