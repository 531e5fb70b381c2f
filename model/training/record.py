"""training.json: what a native checkpoint says about its training."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import tempfile
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from model.training.config import TrainConfig
from model.training.errors import TrainingError
from model.training.splits import Duplicates, Splits

RECORD_FILE = "training.json"
RECORD_VERSION = 1
_PACKAGES = ("crystal-interpret", "torch", "lightning", "numpy", "transformers", "spglib")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Metrics(_Part):
    """Errors over one split in the target's unit; of probabilities for a classifier.

    Attributes:
        mae: mean absolute error.
        rmse: root mean square error.
        accuracy: share of right classes at a probability of 0.5; None for regression.
    """

    mae: float
    rmse: float
    accuracy: float | None = None


class SplitMetrics(_Part):
    """Metrics of each split; None where it was not evaluated or has no sample."""

    train: Metrics | None = None
    val: Metrics | None = None
    test: Metrics | None = None


class Target(_Part):
    """What is predicted.

    Attributes:
        column: name of the column.
        mean, scale: of the training split; the network learns (target - mean) / scale where ``standardized``.
        standardized: whether it does.
    """

    column: str
    mean: float
    scale: float
    standardized: bool


class Baselines(_Part):
    """What is to be beaten: the mean of the training targets, and ridge regression on the composition alone."""

    mean: SplitMetrics
    composition_ridge: SplitMetrics


class EncoderRecord(_Part):
    """The text encoder."""

    name: str
    fingerprint: str
    width: int


class DataRecord(_Part):
    """The data set: SHA-256 of its content, samples in use, samples left out, samples without text."""

    fingerprint: str
    samples: int
    skipped: int
    empty_texts: int


class TrainingRecord(_Part):
    """All of it.

    Attributes:
        config: of the run; ``config.model`` as the network was built.
        splits: ids of each split.
        metrics: of these weights.
        epoch, step: after which they were taken.
        finished: whether training had ended when this was written; metrics of train and test come then.
        parameters: number of trainable weights.
        seconds_per_epoch: mean over the epochs, validation included.
    """

    format_version: int = RECORD_VERSION
    config: TrainConfig
    splits: Splits
    duplicates: Duplicates
    target: Target
    metrics: SplitMetrics = SplitMetrics()
    baselines: Baselines
    epoch: int = 0
    step: int = 0
    finished: bool = False
    parameters: int
    seconds_per_epoch: float | None = None
    encoder: EncoderRecord
    data: DataRecord
    versions: dict[str, str]


def read_record(checkpoint: str | Path) -> TrainingRecord:
    """The record of a native checkpoint, a directory that training wrote.

    Raises:
        TrainingError: there is none, it is damaged or of a later version.
    """
    path = Path(checkpoint).expanduser() / RECORD_FILE
    if not path.is_file():
        raise TrainingError(
            f"{checkpoint} has no {RECORD_FILE}, so nothing says which structures it was trained on: only directories "
            "that interpret train wrote (RUN/best, RUN/last) have one"
        )
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(document, dict) and document.get("format_version", RECORD_VERSION) != RECORD_VERSION:
            raise TrainingError(
                f"{path} is of format version {str(document['format_version'])[:20]}, expected {RECORD_VERSION}: "
                "install a later crystal-interpret"
            )
        return TrainingRecord.model_validate(document)
    except (OSError, ValueError, ValidationError) as error:
        raise TrainingError(f"{path} is damaged: {str(error).splitlines()[0]}") from error


def write_record(checkpoint: Path, record: TrainingRecord) -> None:
    """Write training.json, complete or not at all."""
    write_text(checkpoint / RECORD_FILE, json.dumps(plain(record), indent=1, ensure_ascii=False) + "\n")


def plain(record: BaseModel) -> Any:
    """The content as JSON has it: NaN and infinity as null."""
    return json.loads(record.model_dump_json())


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide what is computed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def to_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as CSV."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return stream.getvalue()


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file beside its place and move it there: a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        # mkstemp makes private files; results are as readable as any other file of the user.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
