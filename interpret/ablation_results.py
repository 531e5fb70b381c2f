"""The result of an ablation: one row a run, one row a variant, intervals over seeds and over test structures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from interpret.ablate_variants import Variant
from interpret.metrics.statistics import benjamini_hochberg, compare_paired
from interpret.tables import plain, read_result, read_table, write_json, write_table

SCHEMA_VERSION = 1
LEVEL = 0.95
TABLES = ("runs", "ablation", "failed", "predictions")
_METRIC = "metric."
_WORDS = ("variant", "seed", "verdict", "findings", "gates_unstable")
_NUMBERS = (
    "parameters",
    "seconds_per_epoch",
    "best_epoch",
    "train_mae",
    "train_rmse",
    "val_mae",
    "val_rmse",
    "test_mae",
    "test_rmse",
    "mean_test_mae",
    "composition_ridge_test_mae",
    "gate_warnings",
)
_MEANS = ("seconds_per_epoch", "test_rmse", "val_mae", "train_mae", "mean_test_mae", "composition_ridge_test_mae")


class SeedInterval(NamedTuple):
    """Mean over seeds and its Student t interval; NaN where fewer than two seeds leave it undefined."""

    mean: float
    low: float
    high: float
    sd: float
    n: int


def seed_interval(values: Iterable[float], level: float = LEVEL) -> SeedInterval:
    """Mean of a few runs with the t interval: a bootstrap of three values is no interval at all.

    Args:
        values: one a seed; NaN is left out.

    Example:
        >>> [round(value, 3) for value in seed_interval([0.30, 0.32, 0.34])]
        [0.32, 0.27, 0.37, 0.02, 3]
    """
    known = np.array([value for value in values if math.isfinite(value)], dtype=np.float64)
    n = len(known)
    if n == 0:
        return SeedInterval(math.nan, math.nan, math.nan, math.nan, 0)
    mean = float(known.mean())
    if n == 1:
        return SeedInterval(mean, math.nan, math.nan, math.nan, 1)
    sd = float(known.std(ddof=1))
    half = float(stats.t.ppf(0.5 + level / 2, n - 1)) * sd / math.sqrt(n)
    return SeedInterval(mean, mean - half, mean + half, sd, n)


@dataclass(frozen=True)
class Ablation:
    """What training each variant with each seed gave.

    Attributes:
        runs: a row for each finished run: errors, parameters, seconds an epoch, and ``metric.*``, means over the test
            split of gate and attention figures.
        ablation: a row for each variant, in the order given; the first is the reference of the differences.
        failed: variant, seed, stage and reason of runs that failed.
        predictions: target and prediction of each test structure in each run.
        notes: what a reader must know.
        provenance: configuration, seeds, data, encoder, versions.
    """

    runs: pd.DataFrame
    ablation: pd.DataFrame
    failed: pd.DataFrame
    predictions: pd.DataFrame
    notes: tuple[str, ...]
    provenance: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        variants: Sequence[Variant],
        rows: Sequence[Mapping[str, Any]],
        failed: Sequence[Mapping[str, Any]],
        predictions: pd.DataFrame,
        *,
        notes: Iterable[str] = (),
        provenance: Mapping[str, Any] | None = None,
    ) -> Ablation:
        """Tables from the rows of :func:`interpret.ablate.ablate`."""
        flat = [
            {k: v for k, v in row.items() if k != "metrics"}
            | {f"{_METRIC}{name}": value for name, value in row.get("metrics", {}).items()}
            for row in rows
        ]
        runs = _ordered(flat)
        lost = pd.DataFrame(list(failed), columns=["variant", "seed", "stage", "reason"])
        summary = _summary(variants, runs, lost, predictions)
        return cls(runs, summary, lost, predictions, tuple(notes), dict(provenance or {}))

    def to_dict(self) -> dict[str, Any]:
        """ablation.json: the summary, the failures, notes and provenance."""
        result: dict[str, Any] = plain(
            {
                "schema_version": SCHEMA_VERSION,
                "level": LEVEL,
                "variants": self.ablation.to_dict("records"),
                "failed": self.failed.to_dict("records"),
                "runs": len(self.runs),
                "notes": self.notes,
                "provenance": self.provenance,
            }
        )
        return result

    def save(self, folder: Path) -> None:
        """Write each table as CSV and parquet, and ablation.json last."""
        for name in TABLES:
            write_table(getattr(self, name), folder, name)
        write_json(folder / "ablation.json", self.to_dict())

    @classmethod
    def load(cls, folder: Path) -> Ablation:
        """Read what :meth:`save` wrote.

        Raises:
            RecordError: the folder holds no complete ablation, or one of another schema.
        """
        content = read_result(folder / "ablation.json", "an ablation", SCHEMA_VERSION, "ablate")
        tables = {name: read_table(folder, name) for name in TABLES}
        return cls(**tables, notes=tuple(content["notes"]), provenance=content["provenance"])


def _ordered(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Columns in one order and of one type, whether rows come from a run or from its result.json."""
    metrics = sorted({name for row in rows for name in row if name.startswith(_METRIC)})
    frame = pd.DataFrame(list(rows), columns=[*_WORDS, *_NUMBERS, *metrics])
    numbers = [*_NUMBERS, *metrics]
    return frame.astype(dict.fromkeys(numbers, "float64")).astype({"seed": "int64", "gates_unstable": "boolean"})


def _summary(
    variants: Sequence[Variant], runs: pd.DataFrame, failed: pd.DataFrame, predictions: pd.DataFrame
) -> pd.DataFrame:
    rows = [_variant_row(v, runs, failed, predictions, variants[0].name) for v in variants]
    table = pd.DataFrame(rows)
    table["p_adjusted"] = benjamini_hochberg(table["p_value"].to_numpy(dtype=np.float64))
    table["conclusion"] = [
        "reference" if position == 0 else _conclusion(row) for position, row in enumerate(table.to_dict("records"))
    ]
    metrics = [name for name in table.columns if name.startswith(_METRIC)]
    return table[[name for name in table.columns if name not in metrics] + metrics]


def _variant_row(
    variant: Variant, runs: pd.DataFrame, failed: pd.DataFrame, predictions: pd.DataFrame, reference: str
) -> dict[str, Any]:
    own = runs[runs["variant"] == variant.name] if len(runs) else runs
    mae = seed_interval(own["test_mae"] if len(own) else ())
    row: dict[str, Any] = {
        "variant": variant.name,
        "meaning": variant.meaning,
        "runs": len(own),
        "failed": int((failed["variant"] == variant.name).sum()),
        "seeds": ",".join(str(seed) for seed in own["seed"]) if len(own) else "",
        "parameters": float(own["parameters"].iloc[0]) if len(own) else math.nan,
        "test_mae": mae.mean,
        "test_mae_low": mae.low,
        "test_mae_high": mae.high,
        "test_mae_sd": mae.sd,
    }
    for name in (
        "seconds_per_epoch",
        "test_rmse",
        "val_mae",
        "train_mae",
        "mean_test_mae",
        "composition_ridge_test_mae",
    ):
        row[name] = seed_interval(own[name] if len(own) else ()).mean
    row |= _difference(variant.name, reference, runs, predictions)
    row["verdicts"] = ",".join(str(word) for word in own["verdict"] if isinstance(word, str)) if len(own) else ""
    for name in runs.columns:
        if str(name).startswith(_METRIC):
            row[str(name)] = seed_interval(own[name]).mean
    return row


def _difference(name: str, reference: str, runs: pd.DataFrame, predictions: pd.DataFrame) -> dict[str, Any]:
    """Error of a variant minus that of the reference, paired by seed and, over seeds, by test structure."""
    undefined = dict.fromkeys(
        ("difference", "difference_low", "difference_high", "percent", "structures_low", "structures_high", "p_value"),
        math.nan,
    )
    if not len(runs) or name == reference:
        return {"pairs": 0} | undefined | {"structures": 0}
    by_seed = runs.pivot(index="seed", columns="variant", values="test_mae")
    if name not in by_seed or reference not in by_seed:
        return {"pairs": 0} | undefined | {"structures": 0}
    paired = by_seed[[reference, name]].dropna()
    over_seeds = seed_interval(paired[name] - paired[reference])
    a, b = (_by_structure(predictions, which, paired.index) for which in (reference, name))
    over_structures = compare_paired(a, b, seed=0)
    return {
        "pairs": over_seeds.n,
        "difference": over_seeds.mean,
        "difference_low": over_seeds.low,
        "difference_high": over_seeds.high,
        "percent": 100 * over_seeds.mean / float(paired[reference].mean()) if over_seeds.n else math.nan,
        "structures": over_structures.structures,
        "structures_low": over_structures.difference.low,
        "structures_high": over_structures.difference.high,
        "p_value": over_structures.p_value,
    }


def _by_structure(predictions: pd.DataFrame, variant: str, seeds: Iterable[Any]) -> NDArray[np.float64]:
    """Absolute error of each test structure, mean over the seeds that both variants have, by id."""
    own = predictions[(predictions["variant"] == variant) & predictions["seed"].isin(list(seeds))]
    error = (own["prediction"] - own["target"]).abs()
    result: NDArray[np.float64] = error.groupby(own["id"]).mean().sort_index().to_numpy(dtype=np.float64)
    return result


def _conclusion(row: Mapping[Any, Any]) -> str:
    """A difference counts where neither other seeds nor other test structures would be expected to undo it."""
    if not row["runs"]:
        return "no run finished"
    if row["pairs"] < 2:
        return "cannot tell: fewer than two seeds in common"
    if row["difference_low"] == row["difference_high"] == 0:
        return "identical"
    signs = [np.sign(row[name]) for name in ("difference_low", "difference_high", "structures_low", "structures_high")]
    if len(set(signs)) == 1 and signs[0] and row["p_adjusted"] < 1 - LEVEL:
        return "lower error" if signs[0] < 0 else "higher error"
    return "no difference shown"
