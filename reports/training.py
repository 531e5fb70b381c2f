"""What a training run has come to: lines for people and the learning curve."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reports.style import BLUE, GREY, ORANGE, figure_style, save_figure

if TYPE_CHECKING:
    from model.training import TrainingOutcome, TrainingRecord
    from model.training.record import SplitMetrics


def training_lines(outcome: TrainingOutcome) -> Iterator[str]:
    """Data, errors beside the baselines, and where the checkpoint lies."""
    record = outcome.record
    splits = record.splits
    yield (
        f"{len(splits.train)} crystals trained on, {len(splits.val)} for validation, {len(splits.test)} for the test "
        f"({splits.source}); {record.parameters:,} parameters"
    )
    if outcome.skipped:
        first = outcome.skipped[0]
        yield f"{len(outcome.skipped)} samples left out (skipped.csv), the first {first.id}: {first.reason}"
    if record.data.empty_texts:
        yield f"{record.data.empty_texts} samples have no text"
    duplicates = record.duplicates
    if duplicates.equivalent:
        pair = duplicates.examples[0]
        yield (
            f"{duplicates.equivalent} crystals of val and test are in the training split as well, in another "
            f"cell or under another id ({pair[0]} is {pair[1]}): data.keep_together: equivalent keeps them together"
        )
    yield f"best validation after epoch {record.epoch + 1} of {record.config.training.epochs}"
    yield from error_table(record)
    yield f"{outcome.best}: interpret diagnose {outcome.best} --data DATA --split test --output RESULTS"


def comparison_lines(outcomes: Mapping[str, TrainingOutcome]) -> Iterator[str]:
    """Errors of several networks of one split beside the baselines."""
    record = next(iter(outcomes.values())).record
    splits = record.splits
    yield f"trained on {len(splits.train)} crystals, {len(splits.val)} for validation, {len(splits.test)} for the test"
    yield from error_table(record, {name: outcome.record.metrics for name, outcome in outcomes.items()})


def error_table(record: TrainingRecord, networks: Mapping[str, SplitMetrics] | None = None) -> Iterator[str]:
    """Mean absolute errors of the record's network, or of several by name, and of the baselines, a line each."""
    yield f"mean absolute error {record.target.column}".ljust(36) + "".join(f"{name:>10}" for name in _splits())
    rows = {
        **({"network": record.metrics} if networks is None else networks),
        "mean of the training split": record.baselines.mean,
        "ridge on the composition": record.baselines.composition_ridge,
    }
    for name, metrics in rows.items():
        found = (getattr(metrics, split) for split in _splits())
        yield f"  {name}".ljust(36) + "".join(
            f"{'-' if each is None else format(each.mae, '.4g'):>10}" for each in found
        )


def draw_learning_curve(history: Sequence[Mapping[str, float]], record: TrainingRecord, target: Path) -> None:
    """Validation error after each epoch, with both baselines on the same split, as a PNG.

    Args:
        history: rows of history.csv.
        record: of the best checkpoint.
        target: the file.
    """
    with figure_style() as pyplot:
        figure, axes = pyplot.subplots(figsize=(6.0, 3.6))
        epochs = [row["epoch"] + 1 for row in history]
        errors = [row["val_mae"] for row in history]
        axes.plot(epochs, errors, color=BLUE, marker="o" if len(epochs) < 30 else None, markersize=3, label="network")
        best = record.epoch + 1
        axes.axvline(best, color=GREY, linewidth=0.8, linestyle=":", label=f"best, epoch {best}")
        for name, metrics, style in (
            ("mean of the training split", record.baselines.mean.val, "--"),
            ("ridge on the composition", record.baselines.composition_ridge.val, "-."),
        ):
            if metrics is not None:
                axes.axhline(metrics.mae, color=ORANGE, linestyle=style, linewidth=1.2, label=name)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("epoch")
        axes.set_ylabel(f"validation MAE, {record.target.column}" if record.target.column else "validation MAE")
        axes.legend(fontsize=8)
        save_figure(figure, target.parent, target.stem)


def _splits() -> tuple[str, ...]:
    return ("train", "val", "test")
