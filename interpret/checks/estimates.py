"""What the rules on gates and text flow share: values by structure and fusion layer, and estimates with intervals."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from interpret.checks.base import Measured, Verdict
from interpret.checks.evidence import Evidence
from interpret.metrics.statistics import Method, mean_with_interval

Values = npt.NDArray[np.float64]

RESAMPLES = 2000
# Below five structures there are at most 35 different resamples: too few for the ends of a 95 % interval.
FEWEST_STRUCTURES = 5
# The acceleration of a BCa interval costs n^2; beyond this the plain percentiles are as good.
_MOST_FOR_BCA = 1000
TOO_FEW = "not enough structures to tell"


@dataclass(frozen=True)
class Estimate:
    """A figure over structures with its 95 % interval.

    Attributes:
        value, low, high: NaN where undefined.
        count: structures it rests on.
    """

    value: float
    low: float
    high: float
    count: int

    def above(self, limit: float) -> bool | None:
        """True where the whole interval lies above the limit, False where none of it does, None where it spans it."""
        if self.count < FEWEST_STRUCTURES or not math.isfinite(self.low):
            return None
        return True if self.low > limit else (False if self.high <= limit else None)

    def below(self, limit: float) -> bool | None:
        """True where the whole interval lies below the limit, False where none of it does, None where it spans it."""
        if self.count < FEWEST_STRUCTURES or not math.isfinite(self.low):
            return None
        return True if self.high < limit else (False if self.low >= limit else None)

    def text(self, name: str, unit: str = "") -> str:
        """``ratio 1.2, 95 % CI 1.1-1.3``; with the unit ``%`` the figures are shares of one."""
        value, low, high = (number(x, unit) for x in (self.value, self.low, self.high))
        between = " to " if self.low < 0 else "-"
        return f"{name} {value}{' ' + unit if unit else ''}, 95 % CI {low}{between}{high}"

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends; None where they are undefined."""
        return (self.low, self.high) if math.isfinite(self.low) else None

    @property
    def structures(self) -> str:
        """``50 structures``."""
        return f"{self.count} structure{'' if self.count == 1 else 's'}"

    def map(self, function: Callable[[float], float]) -> Estimate:
        """The estimate of an increasing function of the figure."""
        return Estimate(function(self.value), function(self.low), function(self.high), self.count)


def number(value: float, unit: str = "") -> str:
    """Three figures at most; a share as percent where the unit is ``%``."""
    return f"{100 * value if unit == '%' else value:.3g}"


def mean_of(values: Values) -> Estimate:
    """Mean over structures; NaN values are left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        result = mean_with_interval(values, resamples=RESAMPLES, method=_method(int(np.isfinite(values).sum())))
        if result.count > 1 and not math.isfinite(result.low):
            # Values that differ by rounding alone have no BCa interval.
            result = mean_with_interval(values, resamples=RESAMPLES, method="percentile")
    return Estimate(result.mean, result.low, result.high, result.count)


def _method(count: int) -> Method:
    return "BCa" if count <= _MOST_FOR_BCA else "percentile"


def ratio_of(numerator: Values, denominator: Values, seed: int = 0) -> Estimate:
    """Sum of one figure over the sum of another, structures drawn in pairs; pairs with a NaN are left out.

    A ratio of sums, not a mean of ratios: a structure in which the denominator happens to be small does not decide.
    """
    known = np.isfinite(numerator) & np.isfinite(denominator)
    above, below = numerator[known], denominator[known]
    count = int(known.sum())
    total = math.fsum(below)
    if not count or total == 0:
        return Estimate(math.nan, math.nan, math.nan, count)
    value = math.fsum(above) / total
    if count < 2:
        return Estimate(value, math.nan, math.nan, count)
    if np.ptp(above - value * below) == 0:
        return Estimate(value, value, value, count)

    def ratio(a: Values, b: Values, axis: int = -1) -> Values:
        with np.errstate(divide="ignore", invalid="ignore"):
            result: Values = a.sum(axis=axis) / b.sum(axis=axis)
        return result

    low, high = _bootstrap(above, below, ratio, _method(count), seed)
    if not math.isfinite(low):
        # One structure makes the whole figure: without variation in the jackknife there is no BCa interval.
        low, high = _bootstrap(above, below, ratio, "percentile", seed)
    return Estimate(value, low, high, count)


def _bootstrap(
    above: Values, below: Values, ratio: Callable[..., Values], method: Method, seed: int
) -> tuple[float, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        interval = stats.bootstrap(
            (above, below),
            ratio,
            paired=True,
            vectorized=True,
            n_resamples=RESAMPLES,
            batch=max(1, 2_000_000 // len(above)),
            method=method,
            random_state=np.random.default_rng(seed),
        ).confidence_interval
    return float(interval.low), float(interval.high)


def settle(
    answer: bool | None,
    estimate: Estimate,
    figures: str,
    *,
    found: str,
    clear: str,
    unknown: str,
    units: tuple[str, ...] = (),
) -> Verdict:
    """The verdict for an answer: one sentence for each of yes, no and "cannot tell whether", with the figures."""
    if answer is None:
        return Verdict(None, f"{TOO_FEW} whether {unknown} {figures}", estimate.interval)
    return Verdict(answer, f"{found if answer else clear} {figures}", estimate.interval, units if answer else ())


@dataclass(frozen=True)
class Detailed(Measured):
    """A measure with the figures that its verdict quotes or needs beside it.

    Attributes:
        details: by fusion layer ("" where the measure is not one of a layer), by name: numbers for the whole data
            set, or one value a unit of that layer.
    """

    details: Mapping[str, Mapping[str, float | Values]] = field(default_factory=dict)

    def names(self) -> tuple[str, ...]:
        """Names of the figures of the only layer."""
        return tuple(self._only())

    def number(self, name: str) -> float:
        """A number of the only layer; NaN where there is none."""
        value = self._only().get(name, math.nan)
        return float(value) if np.ndim(value) == 0 else math.nan

    def each(self, name: str) -> Values:
        """One value a unit of the only layer; NaN where there is none."""
        value = np.asarray(self._only().get(name, math.nan), dtype=np.float64)
        return np.broadcast_to(value, self.values.shape).copy()

    def _only(self) -> Mapping[str, float | Values]:
        return next(iter(self.details.values()), {})


def structures(evidence: Evidence) -> pd.DataFrame:
    """The structures table by id: bootstraps follow the order of rows, which must not be that of the data set."""
    return evidence.structures.sort_values("id", kind="stable", ignore_index=True)


def ids(evidence: Evidence) -> tuple[str, ...]:
    """Structures in the order of all values here."""
    return tuple(structures(evidence)["id"].astype(str))


def column(evidence: Evidence, name: str) -> Values:
    """A column of the structures table, [n] by id; NaN where there is none."""
    if name not in evidence.structures:
        return np.full(len(evidence.structures), np.nan)
    return np.asarray(structures(evidence)[name], dtype=np.float64)


def mean_column(evidence: Evidence, pattern: str, repeats: Iterable[int]) -> Values:
    """Mean over repeats of the columns ``pattern.format(i)``, [n]; NaN where none is defined."""
    table = np.stack([column(evidence, pattern.format(i)) for i in repeats])
    known = np.isfinite(table).sum(axis=0)
    total = np.where(np.isfinite(table), table, 0.0).sum(axis=0)
    return np.where(known > 0, total / np.maximum(known, 1), np.nan)


def at_stage(evidence: Evidence, stage: str, name: str) -> Values:
    """A column of the layers table at one stage, [n] by id; NaN where there is none."""
    if name not in evidence.layers:
        return np.full(len(evidence.structures), np.nan)
    rows = evidence.layers[evidence.layers["stage"] == stage]
    by_id = pd.Series(rows[name].to_numpy(dtype=np.float64), index=rows["id"].astype(str))
    return np.asarray(by_id.reindex(list(ids(evidence))), dtype=np.float64)


def by_layer(
    evidence: Evidence,
    layers: Iterable[int],
    what: str,
    values: Callable[[int], Values],
    details: Callable[[int], Mapping[str, float | Values]] = lambda _: {},
) -> Detailed:
    """A measure of several fusion layers: units are ``fusion.LAYER ID``."""
    names = ids(evidence)
    numbers = list(layers)
    parts = [values(layer) for layer in numbers]
    return Detailed(
        values=np.concatenate(parts) if parts else np.zeros(0),
        units=tuple(f"fusion.{layer} {name}" for layer in numbers for name in names),
        what=what,
        details={f"fusion.{layer}": details(layer) for layer in numbers},
    )


def each_layer(effect: Measured, control: Measured, judge: Callable[[Detailed, Measured], Verdict]) -> Verdict:
    """Judge every fusion layer by itself: one layer that fails is a finding, whatever the others do."""
    layers = list(dict.fromkeys(unit.split(" ", 1)[0] for unit in effect.units))
    verdicts = {layer: judge(_part(effect, layer), _part(control, layer)) for layer in layers}
    if len(verdicts) == 1:
        return next(iter(verdicts.values()))
    speaking = {layer: v for layer, v in verdicts.items() if v.speaks}
    unknown = {layer: v for layer, v in verdicts.items() if v.speaks is None}
    shown = speaking or unknown or verdicts
    return Verdict(
        speaks=True if speaking else (None if unknown or not verdicts else False),
        text="; ".join(f"{layer}: {v.text}" for layer, v in shown.items()) or TOO_FEW,
        interval=next((v.interval for v in shown.values()), None),
        units=tuple(dict.fromkeys(unit for v in shown.values() for unit in v.units)),
    )


def _part(measured: Measured, layer: str) -> Detailed:
    where = [i for i, unit in enumerate(measured.units) if unit.split(" ", 1)[0] == layer]
    details = measured.details.get(layer, {}) if isinstance(measured, Detailed) else {}
    units = tuple(measured.units[i].split(" ", 1)[1] for i in where)
    return Detailed(measured.values[where], units, measured.what, {layer: details})
