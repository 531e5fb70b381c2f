"""Seeds of one variant against seeds of another: the variance between seeds is the yardstick of a difference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from interpret.compare.catalogue import GLOBAL, Metric, figures_of, metrics_of
from interpret.compare.differences import Inference
from interpret.compare.pairing import Run, Values, check_pair
from interpret.metrics.statistics import benjamini_hochberg
from interpret.tables import plain, read_result, read_table, write_json, write_table
from model.errors import DataError

SCHEMA_VERSION = 1
ERROR = Metric("prediction", "mean_absolute_error", GLOBAL)
COLUMNS = (
    "metric",
    "mean_a",
    "mean_b",
    "difference",
    "percent_change",
    "sd_seeds_a",
    "sd_seeds_b",
    "in_seed_sds",
    "ci_low",
    "ci_high",
    "p_value",
    "p_adjusted",
    "p_least",
    "seeds_a",
    "seeds_b",
    "structures",
    "phenomenon",
    "gap",
)


@dataclass(frozen=True)
class GroupComparison:
    """Two groups of models on the same structures.

    Attributes:
        labels: of the groups.
        members: labels of the models of each group.
        statistics: one row a metric, columns :data:`COLUMNS`.
        seeds: one row a metric and model: ``metric``, ``group``, ``model``, ``mean``.
        sentence: what the yardstick says.
        structures: number of structures.
        notes: what a reader must know.
        provenance: of every model, and of the tests.
    """

    labels: tuple[str, str]
    members: tuple[tuple[str, ...], tuple[str, ...]]
    statistics: pd.DataFrame
    seeds: pd.DataFrame
    sentence: str
    structures: int
    notes: tuple[str, ...]
    provenance: Mapping[str, Any]

    def to_frame(self) -> pd.DataFrame:
        """The statistics, one row a metric."""
        return self.statistics.copy()

    def to_dict(self) -> dict[str, Any]:
        """group_comparison.json: everything but the tables."""
        names = ("labels", "members", "sentence", "structures", "notes", "provenance")
        content = {name: getattr(self, name) for name in names}
        result: dict[str, Any] = plain({"schema_version": SCHEMA_VERSION, **content})
        return result

    def save(self, folder: Path) -> None:
        """Write group_statistics and seeds as CSV and parquet, and group_comparison.json, each atomically."""
        folder.mkdir(parents=True, exist_ok=True)
        write_table(self.statistics, folder, "group_statistics")
        write_table(self.seeds, folder, "seeds")
        write_json(folder / "group_comparison.json", self.to_dict())

    @classmethod
    def load(cls, folder: Path) -> GroupComparison:
        """Read what :meth:`save` wrote.

        Raises:
            RecordError: the folder does not hold one, or one of another schema.
        """
        path = folder / "group_comparison.json"
        content = read_result(path, "a comparison of groups", SCHEMA_VERSION, "compare")
        del content["schema_version"]
        content["labels"] = tuple(content["labels"])
        content["members"] = tuple(tuple(group) for group in content["members"])
        content["notes"] = tuple(content["notes"])
        content |= {"statistics": read_table(folder, "group_statistics"), "seeds": read_table(folder, "seeds")}
        return cls(**content)


def compare_groups(
    first: Sequence[Run], second: Sequence[Run], labels: tuple[str, str], inference: Inference | None = None
) -> GroupComparison:
    """Compare the means over structures of two groups of models; the models are the units.

    The interval is Welch's t interval over models. The p-value is that of a permutation of the models' labels, all of
    them where there are not too many: with k and m models it cannot be below ``p_least``, 2 / C(k + m, k) for k = m.
    ``in_seed_sds`` is the difference in units of the pooled standard deviation between seeds.

    Raises:
        DataError: a group is empty, none has two models, or runs are not of the same inputs.
    """
    inference = inference or Inference()
    runs = [*first, *second]
    if not first or not second or len(runs) < 3:
        raise DataError(
            f"expected two groups with at least two models in one of them, got {len(first)} and {len(second)}: one "
            "model a variant has no variance between seeds"
        )
    for run in runs[1:]:
        check_pair(runs[0], run)
    figures = [figures_of(run).join(_errors(run)) for run in runs]
    rows: list[dict[str, object]] = []
    seeds: list[dict[str, object]] = []
    for metric in [*metrics_of(*runs), ERROR]:
        lacking = [run.label for run, frame in zip(runs, figures, strict=True) if metric.name not in frame]
        head = {"metric": metric.name, "phenomenon": metric.phenomenon}
        if lacking:
            rows.append(head | _gap(f"{', '.join(lacking)} has no tap {metric.tap}"))
            continue
        values = np.stack([frame[metric.name].to_numpy(dtype=np.float64) for frame in figures])
        known = ~np.isnan(values).any(axis=0)
        if not known.any():
            rows.append(head | _gap("no structure has a value in all models"))
            continue
        means = values[:, known].mean(axis=1)
        means = np.array([runs[0].resolution.snap(means[:1], means[i : i + 1])[0] for i in range(len(means))])
        a, b = means[: len(first)], means[len(first) :]
        rows.append(head | _row(a, b, inference) | {"structures": int(known.sum())})
        groups = [labels[0]] * len(first) + [labels[1]] * len(second)
        seeds += [
            {"metric": metric.name, "group": group, "model": run.label, "mean": float(mean)}
            for group, run, mean in zip(groups, runs, means, strict=True)
        ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["p_adjusted"] = benjamini_hochberg(table["p_value"].to_numpy(dtype=np.float64))
    members = (tuple(run.label for run in first), tuple(run.label for run in second))
    return GroupComparison(
        labels=labels,
        members=members,
        statistics=table,
        seeds=pd.DataFrame(seeds, columns=["metric", "group", "model", "mean"]),
        sentence=_sentence(table, labels),
        structures=len(runs[0].structures),
        notes=_notes(table, members, inference),
        provenance={"models": {run.label: run.provenance for run in runs}, "inference": asdict(inference)},
    )


def _errors(run: Run) -> pd.DataFrame:
    own = run.structures.set_index("id")["absolute_error"].astype("float64")
    return own.rename(ERROR.name).to_frame()


def _gap(reason: str) -> dict[str, object]:
    return {"seeds_a": 0, "seeds_b": 0, "structures": 0, "gap": reason}


def _row(a: Values, b: Values, inference: Inference) -> dict[str, object]:
    difference = float(b.mean() - a.mean())
    sds = [float(group.std(ddof=1)) if len(group) > 1 else math.nan for group in (a, b)]
    pooled = _pooled(a, b)
    low, high = _interval(a, b, difference, pooled, inference.level)
    scale = abs(float(a.mean()))
    return {
        "mean_a": float(a.mean()),
        "mean_b": float(b.mean()),
        "difference": difference,
        "percent_change": 100 * difference / scale if scale > 1e-9 else (0.0 if difference == 0 else math.nan),
        "sd_seeds_a": sds[0],
        "sd_seeds_b": sds[1],
        "in_seed_sds": difference / pooled if pooled > 0 else (0.0 if difference == 0 else math.nan),
        "ci_low": low,
        "ci_high": high,
        "p_value": _permutation(a, b, inference),
        "p_least": least_p_value(len(a), len(b)),
        "seeds_a": len(a),
        "seeds_b": len(b),
        "gap": "" if pooled > 0 or difference == 0 else "the models of each group do not differ at all",
    }


def _pooled(a: Values, b: Values) -> float:
    squares = float(((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum())
    return math.sqrt(squares / (len(a) + len(b) - 2))


def _interval(a: Values, b: Values, difference: float, pooled: float, level: float) -> tuple[float, float]:
    if pooled == 0:
        # Models that do not differ at all say nothing of how much seeds differ.
        return (0.0, 0.0) if difference == 0 else (math.nan, math.nan)
    if min(len(a), len(b)) > 1:
        interval = stats.ttest_ind(b, a, equal_var=False).confidence_interval(level)
        return float(interval.low), float(interval.high)
    # A group of one model has no variance of its own: that of the other stands in for it.
    reach = stats.t.ppf((1 + level) / 2, len(a) + len(b) - 2) * pooled * math.sqrt(1 / len(a) + 1 / len(b))
    return difference - float(reach), difference + float(reach)


def _permutation(a: Values, b: Values, inference: Inference) -> float:
    if np.ptp(np.concatenate([a, b])) == 0:
        return 1.0

    if min(len(a), len(b)) == 1:
        return _one_against_many(a, b)

    def statistic(left: Values, right: Values, axis: int = -1) -> Any:
        return right.mean(axis=axis) - left.mean(axis=axis)

    found = stats.permutation_test(
        (a, b),
        statistic,
        permutation_type="independent",
        vectorized=True,
        n_resamples=inference.resamples,
        random_state=np.random.default_rng(inference.seed),
    )
    return float(found.pvalue)


def _one_against_many(a: Values, b: Values) -> float:
    """The same with a group of one model, for which scipy has no test: each model in turn is the single one."""
    single, others = (a, b) if len(a) == 1 else (b, a)
    everything = np.concatenate([single, others])
    apart = everything - (everything.sum() - everything) / (len(everything) - 1)
    # Rounding must not tell a model from itself.
    tolerance = 1e-12 * float(np.abs(apart).max())
    above, below = (apart >= apart[0] - tolerance).mean(), (apart <= apart[0] + tolerance).mean()
    return min(1.0, 2 * float(min(above, below)))


def least_p_value(first: int, second: int) -> float:
    """The smallest two-sided p-value that a permutation of so many labels can give."""
    return min(1.0, 2 / math.comb(first + second, first))


def _sentence(table: pd.DataFrame, labels: tuple[str, str]) -> str:
    known = table[table["in_seed_sds"].notna()]
    if not len(known):
        return "Nothing could be compared: the models have no tap in common."
    apart = known[(known["ci_low"] > 0) | (known["ci_high"] < 0)]
    order = apart["in_seed_sds"].abs().sort_values(ascending=False, kind="stable").index
    shown = ", ".join(
        f"{row['metric']} by {row['in_seed_sds']:+.1f} sd between seeds"
        for _, row in apart.loc[order].head(3).iterrows()
    )
    start = (
        f"{len(apart)} of {len(known)} metrics differ between {labels[0]} and {labels[1]} by more than seeds explain"
    )
    return f"{start} ({shown})." if len(apart) else f"{start}."


def _notes(
    table: pd.DataFrame, members: tuple[tuple[str, ...], tuple[str, ...]], inference: Inference
) -> tuple[str, ...]:
    counts = (len(members[0]), len(members[1]))
    least = least_p_value(*counts)
    notes = [
        f"the units are {counts[0]} and {counts[1]} models, each a mean over the same structures; intervals are t "
        "intervals over models, one a metric, not adjusted for their number"
    ]
    if least > inference.significance:
        notes.append(
            f"with {counts[0]} and {counts[1]} models no permutation test can give p below {least:.2g}: look at the "
            "intervals, or train more seeds"
        )
    if min(counts) == 1:
        notes.append("one group has a single model: the variance between seeds of the other stands in for its own")
    return tuple(notes)
