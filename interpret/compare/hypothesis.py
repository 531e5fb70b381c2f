"""The verdict on a hypothesis about two models, such as "middle fusion sharpens alignment"."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from interpret.compare.differences import Inference, paired_interval
from interpret.compare.pairing import Values
from model.errors import DataError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_FILE = Path(__file__).with_name("hypothesis.toml")
CANNOT_TELL = "not enough structures to tell"
NOT_APPLICABLE = "not applicable"
Band = Literal["supported", "partly supported", "no effect", "contradicted"]


class Criterion(BaseModel):
    """One figure and how far it is expected to go; the file says what each number means."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    direction: Literal["up", "down"]
    partly_from: float = Field(gt=0)
    supported_from: float = Field(gt=0)
    expected_to: float = Field(gt=0)
    contradicted_from: float = Field(gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Criterion:
        if not self.partly_from < self.supported_from < self.expected_to:
            raise ValueError("expected partly_from < supported_from < expected_to")
        return self

    def bands(self, low: float, high: float) -> tuple[Band, ...]:
        """The bands that an interval of the change in the expected direction touches, in percent; worst first."""
        edges = (-self.contradicted_from, self.partly_from, self.supported_from)
        names: tuple[Band, ...] = ("contradicted", "no effect", "partly supported", "supported")
        first = int(np.searchsorted(edges, low, side="right"))
        last = int(np.searchsorted(edges, high, side="right"))
        # A change of exactly -contradicted_from contradicts.
        first = 0 if low == edges[0] else first
        last = 0 if high == edges[0] else last
        return names[first : last + 1]


class Hypothesis(BaseModel):
    """A named set of criteria on one attention map."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    tap: str
    treatment: Literal["a", "b", "middle fusion"]
    fewest_structures: int = Field(ge=2)
    criteria: dict[str, Criterion] = Field(min_length=1)


def read_hypothesis(path: Path | None = None) -> Hypothesis:
    """Read a file of thresholds; None reads the one that is shipped.

    Raises:
        DataError: the file cannot be read, or holds a key or a value that does not exist; with its name.
    """
    path = path or DEFAULT_FILE
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        return Hypothesis.model_validate(content)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"the hypothesis {path} cannot be read: {error}; {DEFAULT_FILE.name} is an example") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise DataError(
            f"the hypothesis {path} does not fit: {problems}; a file has {', '.join(Hypothesis.model_fields)}, a "
            f"criterion {', '.join(Criterion.model_fields)}"
        ) from error


@dataclass(frozen=True)
class CriterionResult:
    """A criterion with its evidence.

    Attributes:
        metric, direction: what was expected to move, and where.
        baseline, treatment: means of the two models.
        change: in percent of the baseline, in the expected direction: positive is as expected.
        low, high: its interval over structures.
        structures: it rests on.
        verdict: the band, :data:`CANNOT_TELL` or :data:`NOT_APPLICABLE`.
        possible: bands that the interval touches.
        evidence: a sentence.
    """

    metric: str
    direction: str
    baseline: float
    treatment: float
    change: float
    low: float
    high: float
    structures: int
    verdict: str
    possible: tuple[Band, ...]
    evidence: str


@dataclass(frozen=True)
class HypothesisResult:
    """A hypothesis with its verdict.

    Attributes:
        name: of the hypothesis.
        verdict: a band, ``mixed``, :data:`CANNOT_TELL` or :data:`NOT_APPLICABLE`.
        reason: why, in a sentence.
        treatment, baseline: labels.
        criteria: one result each.
        thresholds: the figures that were used.
    """

    name: str
    verdict: str
    reason: str
    treatment: str
    baseline: str
    criteria: tuple[CriterionResult, ...]
    thresholds: Mapping[str, Any]


def judge(
    hypothesis: Hypothesis,
    pairs: pd.DataFrame,
    labels: tuple[str, str],
    middle_fusion: tuple[bool, bool],
    inference: Inference | None = None,
) -> HypothesisResult:
    """Hold the pairs of two models against a hypothesis.

    Args:
        pairs: of :func:`interpret.compare.differences.compare_figures`.
        labels: of a and b.
        middle_fusion: which of them have it.
    """
    inference = inference or Inference()
    thresholds = hypothesis.model_dump(mode="json")
    side = {"a": 0, "b": 1}.get(hypothesis.treatment)
    if side is None:
        if middle_fusion[0] == middle_fusion[1]:
            reason = "both models have middle fusion" if middle_fusion[0] else "neither model has middle fusion"
            return HypothesisResult(hypothesis.name, NOT_APPLICABLE, reason, "", "", (), thresholds)
        side = 0 if middle_fusion[0] else 1
    treatment, baseline = labels[side], labels[1 - side]
    columns = ("a", "b") if side == 0 else ("b", "a")
    results = []
    for figure, criterion in hypothesis.criteria.items():
        own = pairs[pairs["metric"] == f"{hypothesis.tap}.{figure}"].dropna(subset=["a", "b"])
        # The difference has the rounding taken out, the two columns do not.
        second = own["a"] + own["difference"]
        values = {"a": own["a"].to_numpy(dtype=np.float64), "b": second.to_numpy(dtype=np.float64)}
        results.append(
            _criterion(
                figure, criterion, values[columns[0]], values[columns[1]], hypothesis.fewest_structures, inference
            )
        )
    verdict, reason = overall(results)
    return HypothesisResult(hypothesis.name, verdict, reason, treatment, baseline, tuple(results), thresholds)


def _criterion(
    figure: str, criterion: Criterion, treated: Values, plain: Values, fewest: int, inference: Inference
) -> CriterionResult:
    count = len(plain)
    means = (float(plain.mean()), float(treated.mean())) if count else (np.nan, np.nan)

    def result(
        verdict: str, evidence: str, change: tuple[float, float, float] = (np.nan,) * 3, possible: tuple[Band, ...] = ()
    ) -> CriterionResult:
        return CriterionResult(
            figure,
            criterion.direction,
            *means,
            *change,
            structures=count,
            verdict=verdict,
            possible=possible,
            evidence=evidence,
        )

    if count == 0:
        return result(NOT_APPLICABLE, f"{figure} is not there in both models")
    if abs(means[0]) < 1e-9:
        return result(NOT_APPLICABLE, f"{figure} is 0 in the baseline, so there is no percent change")
    change = percent_change(plain, treated, inference)
    if criterion.direction == "down":
        # 0 and not -0, also where nothing changed.
        change = (0.0 - change[0], 0.0 - change[2], 0.0 - change[1])
    value, low, high = change
    word = f"{figure} {means[0]:.4g} to {means[1]:.4g}, {_signed(value, criterion.direction)}"
    span = f"95 % CI {_signed(low, criterion.direction)} to {_signed(high, criterion.direction)}, {count} structures"
    if count < fewest or not np.isfinite(low):
        return result(CANNOT_TELL, f"{word} ({count} structures, at least {fewest} are needed)", change)
    possible = criterion.bands(low, high)
    if len(possible) > 1:
        spanned = f"the interval spans {' and '.join((possible[0], possible[-1]))}"
        return result(CANNOT_TELL, f"{word} ({span}): {spanned}", change, possible)
    beyond = ", beyond what was expected" if low > criterion.expected_to else ""
    return result(possible[0], f"{word} ({span}): {possible[0]}{beyond}", change, possible)


def percent_change(baseline: Values, treated: Values, inference: Inference) -> tuple[float, float, float]:
    """``100 (mean(treated) - mean(baseline)) / |mean(baseline)|`` with its bootstrap interval over structures."""
    if np.array_equal(baseline, treated):
        return 0.0, 0.0, 0.0

    def statistic(first: Values, second: Values, axis: int = -1) -> Any:
        before = first.mean(axis=axis)
        return 100 * (second.mean(axis=axis) - before) / np.abs(before)

    value = float(statistic(baseline, treated))
    if len(baseline) < 2:
        return value, np.nan, np.nan
    return (value, *paired_interval(statistic, baseline, treated, inference))


def _signed(change: float, direction: str) -> str:
    return f"{-change if direction == 'down' else change:+.1f} %"


def overall(results: Iterable[CriterionResult]) -> tuple[str, str]:
    """The verdict over all criteria, and why.

    Criteria that cannot tell count as each of the bands their interval touches: where every reading gives the same
    verdict, it is given all the same.
    """
    decided = [result for result in results if result.verdict != NOT_APPLICABLE]
    if not decided:
        return NOT_APPLICABLE, "none of the criteria can be computed"
    everything: tuple[Band, ...] = ("contradicted", "no effect", "partly supported", "supported")
    readings = itertools.product(*((r.possible or everything) for r in decided))
    verdicts = {_combine(reading) for reading in readings}
    lines = "; ".join(f"{r.metric}: {r.verdict}" for r in decided)
    if len(verdicts) == 1:
        return verdicts.pop(), lines
    return CANNOT_TELL, f"{lines}; possible: {', '.join(sorted(verdicts))}"


def _combine(bands: tuple[Band, ...]) -> str:
    found = set(bands)
    if found == {"supported"}:
        return "supported"
    if "contradicted" in found:
        return "contradicted" if found <= {"contradicted", "no effect"} else "mixed"
    return "no effect" if found == {"no effect"} else "partly supported"
