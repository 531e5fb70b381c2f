"""What native checkpoints say of their own training: the split of the data, and the text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from model.dataset import CrystalDataset
from model.errors import DataError
from model.training.record import RECORD_FILE, read_record

if TYPE_CHECKING:
    from model.encoder import TextEncoder


def split_of(checkpoints: Sequence[Path], split: str) -> tuple[str, ...]:
    """Ids of a split, on which all checkpoints agree.

    A structure that one model was trained on and another was not would compare memory with skill.

    Raises:
        DataError: a checkpoint has no record of its training, or the splits differ.
    """
    if not checkpoints:
        raise DataError("expected at least one checkpoint to read the split from")
    first = read_record(checkpoints[0]).splits.ids(split)
    for other in checkpoints[1:]:
        ids = read_record(other).splits.ids(split)
        if set(ids) != set(first):
            only, instead = sorted(set(first) - set(ids)), sorted(set(ids) - set(first))
            raise DataError(
                f"expected the same {split} split in all checkpoints, {checkpoints[0]} has {len(first)} ids and "
                f"{other} {len(ids)}, and {len(only) + len(instead)} are in one of them only "
                f"(e.g. {', '.join((only + instead)[:3])}): train them on one split, or compare on "
                "data that none of them has seen"
            )
    return first


def restrict(dataset: CrystalDataset, ids: Sequence[str], limit: int | None = None) -> CrystalDataset:
    """The samples of a data set with the given ids, in the order of the data set; at most ``limit`` of them.

    Raises:
        DataError: an id is not in the data set.
    """
    wanted = set(ids)
    if not wanted:
        raise DataError("the split is empty: the checkpoints were trained without one")
    samples = tuple(sample for sample in dataset if sample.id in wanted)
    missing = sorted(wanted - {sample.id for sample in samples})
    if missing:
        known = {entry.id: entry.reason for entry in dataset.skipped}
        reasons = [f"{key} ({known[key]})" if key in known else key for key in missing[:3]]
        raise DataError(
            f"expected the data to hold all {len(wanted)} structures of the split, {len(missing)} are not there: "
            f"{', '.join(reasons)}{', ...' if len(missing) > 3 else ''}; give the data the checkpoints were trained on"
        )
    notes = [*dataset.notes, f"{len(samples)} of {len(dataset)} samples are in the split"]
    if limit is not None and limit < len(samples):
        notes.append(f"limit {limit}: {len(samples) - limit} further samples of the split are left out")
        samples = samples[:limit]
    skipped = [entry for entry in dataset.skipped if entry.id in wanted]
    return replace(dataset, samples=samples, skipped=skipped, rows=len(samples), notes=tuple(notes))


def check_trained_encoders(checkpoints: Sequence[Path], encoder: TextEncoder) -> None:
    """Refuse an encoder that one of the checkpoints was not trained with, where it says which one it was.

    Raises:
        DataError: the fingerprints differ; with the names.
    """
    for checkpoint in checkpoints:
        if not (checkpoint / RECORD_FILE).is_file():
            continue
        own = read_record(checkpoint).encoder
        if own.fingerprint != encoder.fingerprint:
            raise DataError(
                f"expected the text encoder that {checkpoint} was trained with, {own.name} (width {own.width}, "
                f"fingerprint {own.fingerprint[:12]}), got {encoder.name} (fingerprint {encoder.fingerprint[:12]}): "
                "another encoder or normalisation gives other tokens; pass the right --encoder and --mappings, and "
                "compare only checkpoints that share them"
            )
