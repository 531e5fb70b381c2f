"""The part of a data set that a checkpoint was trained, validated or tested on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from model.dataset import CrystalDataset
from model.training.errors import TrainingError
from model.training.record import read_record


def samples_of_split(
    dataset: CrystalDataset, checkpoint: str | Path, split: str, *, limit: int | None = None
) -> CrystalDataset:
    """The samples of one split, by the ids in the checkpoint's training.json.

    Args:
        dataset: the one that was trained on, or one that holds its ids.
        checkpoint: a native checkpoint.
        split: train, val or test.
        limit: no more than so many.

    Raises:
        TrainingError: the checkpoint has no record of its splits, the split is empty or none of its ids is here.
    """
    ids = read_record(checkpoint).splits.ids(split)
    if not ids:
        raise TrainingError(f"the split {split!r} of {checkpoint} is empty: it was trained without one")
    wanted = set(ids)
    samples = tuple(sample for sample in dataset if sample.id in wanted)
    if not samples:
        raise TrainingError(
            f"the data set has none of the {len(ids)} ids of the split {split!r} of {checkpoint} "
            f"({', '.join(ids[:3])}, ...): is it the one the checkpoint was trained on?"
        )
    skipped = [each for each in dataset.skipped if each.id in wanted]
    missing = len(ids) - len(samples) - len(skipped)
    notes = [*dataset.notes, f"split {split}: {len(samples)} of the {len(ids)} samples it had in training"]
    if missing:
        notes.append(f"{missing} samples of the split {split} are not in this data set")
    kept = samples[:limit]
    return replace(dataset, samples=kept, skipped=skipped, rows=len(kept) + len(skipped), notes=tuple(notes))
