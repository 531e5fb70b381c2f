"""Train a matrix of variants and seeds, diagnose each on the test split, and keep what each run gave."""

from __future__ import annotations

import dataclasses
import json
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interpret.ablate_variants import Variant
from interpret.ablation_results import Ablation
from interpret.diagnose import DiagnoseOptions, diagnose
from interpret.gate_history import history_beside, statistics_beside
from interpret.gate_monitor import GateMonitor
from interpret.provenance import versions
from interpret.results import Diagnosis
from interpret.tables import plain, write_json
from model.dataset import CrystalDataset
from model.errors import DataError, InterpretError, RecordError
from model.training import TrainConfig, TrainingOutcome, prepare, train

if TYPE_CHECKING:
    from model.encoder import TextEncoder
    from model.training import PreparedData

RESULT, MARKER, ERROR = "result.json", "ablation_run.json", "error.txt"
# Figures of a diagnosis that people compare between variants: columns of its structures table.
_METRICS = (
    "alpha_mean",
    "alpha_sd",
    "spread_ratio",
    "gate_low_share",
    "gate_high_share",
    "relative_change",
    "cross_modal.quality",
    "cross_modal.fusion",
    "cross_modal.gate",
    "cross_modal.effective",
    "attention.atom_to_token.normalized_entropy",
    "attention.atom_to_token.effective_tokens",
    "attention.atom_to_token.max_weight",
    "attention.atom_to_token.gini",
    "attention.atom_to_token.saturation",
    "attention.atom_to_token.atom_diversity",
    "attention.atom_to_token.head_diversity",
)


@dataclass(frozen=True)
class AblateOptions:
    """How the runs are analysed.

    Attributes:
        diagnosis: options of diagnose on the test split; None leaves gate and attention figures out.
        spare_texts: other descriptions, for the shuffled-text control of a small test split.
    """

    diagnosis: DiagnoseOptions | None = field(default_factory=DiagnoseOptions)
    spare_texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Run:
    """One cell of the matrix."""

    variant: Variant
    seed: int
    folder: Path

    @property
    def cell(self) -> dict[str, Any]:
        return {"variant": self.variant.name, "seed": self.seed}


def ablate(
    config: TrainConfig,
    variants: Sequence[Variant],
    seeds: Sequence[int],
    dataset: CrystalDataset,
    encoder: TextEncoder,
    output: Path,
    *,
    options: AblateOptions | None = None,
    progress: Callable[[int], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Ablation:
    """Train every variant with every seed on one split, and compare their test errors.

    Seeds are the outer loop, so that what is done after an interruption can be compared. Finished runs are read back,
    an interrupted one goes on where it stopped, failed ones are tried again. A run that fails is listed in failed.csv
    with its reason and the others go on.

    Args:
        config: of which each variant is a change; its ``training.seed`` gives way to ``seeds``.
        variants: of :func:`interpret.ablate_variants.choose_variants`; the others are compared with the first.
        seeds: of weights, batches and dropout; the split is the same for all.
        dataset: with targets.
        encoder: of the texts.
        output: for ``runs/VARIANT/seed-N/`` and the tables.
        options: of the analysis.
        progress: called with 1 after each run.
        say: called with a line for people after each run.

    Raises:
        DataError: no variant or seed, a seed given twice, no test split, several devices, or every run failed.
        RecordError: ``output`` holds an ablation of another configuration or data set.
    """
    options = options or AblateOptions()
    _check(config, variants, seeds)
    _claim(output, config, dataset, encoder)
    prepared = prepare(dataset, encoder)
    about = {"notes": _same(variants, config), "provenance": _provenance(config, dataset, encoder, seeds)}
    runs = [_Run(v, seed, output / "runs" / v.name / f"seed-{seed}") for seed in seeds for v in variants]
    rows: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for run in runs:
        row = _attempt(run, config, dataset, encoder, prepared, options, failed)
        if row is not None:
            rows.append(row)
        # After every run, so that an interrupted ablation leaves the tables of what is done.
        result = Ablation.of(variants, rows, failed, _predictions(runs, rows), **about)
        result.save(output)
        if progress is not None:
            progress(1)
        if say is not None:
            say(_line(run, row, failed))
    if not rows:
        raise DataError(f"all {len(failed)} runs failed; the first: {failed[0]['reason']} ({output / 'failed.csv'})")
    return result


def _check(config: TrainConfig, variants: Sequence[Variant], seeds: Sequence[int]) -> None:
    if not variants or not seeds:
        raise DataError(f"expected at least one variant and one seed, got {len(variants)} and {len(seeds)}")
    twice = sorted({seed for seed in seeds if list(seeds).count(seed) > 1})
    if twice:
        raise DataError(f"expected each seed once, got {', '.join(map(str, twice))} more than once")
    if not config.data.splits and not config.data.test:
        raise DataError("expected a test split to compare variants on, got data.test: 0")
    if config.training.devices * config.training.num_nodes > 1:
        raise DataError(
            "expected training.devices: 1 and training.num_nodes: 1, since an ablation runs many small trainings: to "
            "use several devices, start one ablation for each with other seeds"
        )


def _attempt(
    run: _Run,
    config: TrainConfig,
    dataset: CrystalDataset,
    encoder: TextEncoder,
    prepared: PreparedData,
    options: AblateOptions,
    failed: list[dict[str, Any]],
) -> dict[str, Any] | None:
    """The row of a run, or None with a row of ``failed``."""
    stage = "configuration"
    try:
        changed = run.variant.apply(config).changed({"training.seed": run.seed})
        stage = "training"
        (run.folder / ERROR).unlink(missing_ok=True)
        monitor = GateMonitor(announce=False)
        outcome = train(changed, dataset, encoder, run.folder, callbacks=[monitor], resume=True, prepared=prepared)
        known = _read_result(run.folder, diagnosed=options.diagnosis is not None)
        if known is not None:
            return known
        stage = "diagnosis"
        row = _row(run, outcome, _diagnosis(run, outcome, dataset, encoder, options))
        write_json(run.folder / RESULT, row)
        return row
    except InterpretError as error:
        reason = str(error)
    except Exception as error:  # whatever one run dies of, the others go on; the trace is kept in its folder
        run.folder.mkdir(parents=True, exist_ok=True)
        (run.folder / ERROR).write_text(traceback.format_exc(), encoding="utf-8")
        message = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {message[0] if message else 'no message'} (see {ERROR} in its folder)"
    failed.append({**run.cell, "stage": stage, "reason": reason})
    return None


def _diagnosis(
    run: _Run, outcome: TrainingOutcome, dataset: CrystalDataset, encoder: TextEncoder, options: AblateOptions
) -> Diagnosis | None:
    if options.diagnosis is None:
        return None
    ids = set(outcome.record.splits.test)
    test = dataclasses.replace(dataset, samples=tuple(s for s in dataset if s.id in ids), skipped=[])
    result = diagnose(
        outcome.network,
        test,
        encoder,
        options=options.diagnosis,
        work=run.folder / ".diagnosing",
        spare_texts=options.spare_texts,
        gate_history=history_beside(outcome.best),
    )
    result.save(run.folder / "diagnosis")
    return result


def _row(run: _Run, outcome: TrainingOutcome, diagnosis: Diagnosis | None) -> dict[str, Any]:
    """What is kept of a finished run; errors are in the target's unit, undefined is NaN."""
    record = outcome.record
    if record.metrics.test is None:
        raise DataError(f"expected a test split to compare variants on, got none from {record.splits.source}")
    row: dict[str, Any] = {
        **run.cell,
        "parameters": record.parameters,
        "seconds_per_epoch": np.nan if record.seconds_per_epoch is None else record.seconds_per_epoch,
        "best_epoch": record.epoch,
    }
    for split in ("train", "val", "test"):
        metrics = getattr(record.metrics, split)
        row |= {f"{split}_{name}": np.nan if metrics is None else getattr(metrics, name) for name in ("mae", "rmse")}
    for name in ("mean", "composition_ridge"):
        test = getattr(record.baselines, name).test
        row[f"{name}_test_mae"] = np.nan if test is None else test.mae
    gates = statistics_beside(outcome.best)
    row["gates_unstable"] = None if gates is None else gates["unstable"]
    row["gate_warnings"] = 0 if gates is None else len(gates["warnings"])
    row["verdict"] = None if diagnosis is None else diagnosis.verdict
    row["findings"] = None if diagnosis is None else ",".join(sorted({f.code for f in diagnosis.findings}))
    row["metrics"] = {} if diagnosis is None else _metrics(diagnosis)
    return row


def _metrics(diagnosis: Diagnosis) -> dict[str, float]:
    columns = diagnosis.statistics["columns"]
    own = {name: name.split(".", 2)[2] if name.startswith("fusion.") else name for name in columns}
    return {name: columns[name]["mean"] for name, last in own.items() if last in _METRICS}


def _read_result(folder: Path, diagnosed: bool) -> dict[str, Any] | None:
    """The row of a run that was finished before; None where there is none, or without the figures asked for."""
    try:
        row = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(row, dict) or (diagnosed and row.get("verdict") is None):
        return None
    return row


def _claim(output: Path, config: TrainConfig, dataset: CrystalDataset, encoder: TextEncoder) -> None:
    """Make the folder this ablation's; variants and seeds may be added to it later.

    Raises:
        RecordError: it holds another one.
    """
    fields = {name: value for name, value in config.result_fields().items() if name != "training.seed"}
    fields |= {"data set": dataset.fingerprint, "text encoder": encoder.fingerprint}
    marker = output / MARKER
    if not marker.is_file():
        write_json(marker, fields)
        return
    try:
        known = json.loads(marker.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(f"{marker} cannot be read ({error}): choose another --output") from error
    given = plain(fields)
    other = [name for name in {**known, **given} if known.get(name) != given.get(name)]
    if other:
        listed = ", ".join(f"{name} was {known.get(name)!r}, is {given.get(name)!r}" for name in other[:5])
        raise RecordError(f"{output} holds an ablation of another configuration or data set: {listed}")


def _predictions(runs: Sequence[_Run], rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Predictions on the test split of every finished run."""
    done = {(row["variant"], row["seed"]) for row in rows}
    frames = []
    for run in runs:
        if (run.variant.name, run.seed) in done:
            frame = pd.read_csv(run.folder / "predictions.csv", dtype={"id": str})
            frame = frame[frame["split"] == "test"].drop(columns="split")
            frames.append(frame.assign(**run.cell)[["variant", "seed", "id", "target", "prediction"]])
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _same(variants: Sequence[Variant], config: TrainConfig) -> list[str]:
    """Variants that are one network under two names."""
    seen: dict[str, str] = {}
    notes = []
    for variant in variants:
        try:
            key = json.dumps(variant.apply(config).result_fields(), sort_keys=True, default=str)
        except InterpretError:
            continue
        if key in seen:
            notes.append(f"{variant.name} is {seen[key]} under another name: their configurations are equal")
        seen.setdefault(key, variant.name)
    return notes


def _provenance(config: TrainConfig, dataset: CrystalDataset, encoder: TextEncoder, seeds: Sequence[int]) -> Any:
    return {
        "config": config.model_dump(mode="json"),
        "seeds": list(seeds),
        "data": {"fingerprint": dataset.fingerprint, "samples": len(dataset)},
        "encoder": {"name": encoder.name, "fingerprint": encoder.fingerprint, "width": encoder.width},
        "versions": versions(),
    }


def _line(run: _Run, row: dict[str, Any] | None, failed: Sequence[dict[str, Any]]) -> str:
    if row is None:
        return f"{run.variant.name}, seed {run.seed}: failed in {failed[-1]['stage']}: {failed[-1]['reason']}"
    return f"{run.variant.name}, seed {run.seed}: test MAE {row['test_mae']:.4g}"
