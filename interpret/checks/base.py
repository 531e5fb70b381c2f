"""What a rule is: a measure that never speaks without its control."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from interpret.checks.evidence import Evidence

Severity = Literal["info", "warning", "error"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "error")
FAMILIES = {
    "CK": "checkpoint",
    "GA": "gates",
    "TF": "text flow",
    "ND": "nodes",
    "AT": "attention",
    "MO": "modality",
}
# What a rule may ask for. `weights` needs no data at all.
Need = Literal["weights", "data", "labels", "fusion", "text_transform", "attention", "gated_cross_modal", "predictions"]


@dataclass(frozen=True)
class Measured:
    """A quantity measured on several units, or given by theory.

    Attributes:
        values: [n] float64, one a unit; NaN where it is undefined.
        units: what each value belongs to (structure ids, module names).
        what: the quantity in words, with its unit of measurement.
    """

    values: npt.NDArray[np.float64]
    units: tuple[str, ...]
    what: str

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.units),):
            raise ValueError(f"expected one value a unit ({len(self.units)}), got shape {self.values.shape}")

    @property
    def defined(self) -> int:
        """Number of units where the quantity is defined."""
        return int(np.isfinite(self.values).sum())

    @property
    def mean(self) -> float:
        """Mean over the units where it is defined, NaN where there is none."""
        return float(np.nanmean(self.values)) if self.defined else float("nan")


@dataclass(frozen=True)
class Verdict:
    """Effect against control.

    Attributes:
        speaks: True where the rule found what it looks for, False where not, None where it cannot tell.
        text: one line, with the figures.
        interval: 95 % interval of the figure that decides, where it has one.
        units: those the finding is about (structure ids, modules), worst first.
    """

    speaks: bool | None
    text: str
    interval: tuple[float, float] | None = None
    units: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """What a rule found, with everything needed to defend it.

    Attributes:
        code, name, severity, remedy, reference: of the rule.
        text: the verdict's line.
        effect, control: means of the two measures; ``effect_what`` and ``control_what`` say of what.
        interval: of the figure that decides.
        structures: number of units the figures rest on.
        units: those concerned, worst first.
    """

    code: str
    name: str
    severity: Severity
    text: str
    remedy: str
    reference: str
    effect: float
    effect_what: str
    control: float
    control_what: str
    interval: tuple[float, float] | None
    structures: int
    units: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True)
class Outcome:
    """What became of one rule: its finding, or why there is none."""

    code: str
    status: Literal["found", "clear", "cannot tell", "not applicable"]
    reason: str
    finding: Finding | None = None
    seconds: float = 0.0


class Rule(ABC):
    """One check. Subclasses state what they are, and implement measure, control and verdict.

    The docstring of a rule is its page: what it does and why it matters.
    """

    code: ClassVar[str]
    name: ClassVar[str]
    severity: ClassVar[Severity]
    needs: ClassVar[frozenset[Need]] = frozenset()
    # The option of diagnose that runs the analysis whose tables the rule reads.
    option: ClassVar[str] = ""
    summary: ClassVar[str]
    example: ClassVar[str]
    remedy: ClassVar[str]
    reference: ClassVar[str]

    def __init_subclass__(cls, **options: Any) -> None:
        """Refuse a rule that leaves something out, its control above all, when it is defined."""
        super().__init_subclass__(**options)
        if cls.__name__.startswith("_"):
            return  # a shared base of several rules
        for attribute in ("code", "name", "severity", "summary", "example", "remedy", "reference"):
            if not isinstance(getattr(cls, attribute, None), str):
                raise TypeError(f"rule {cls.__name__} must state its {attribute}")
        for method in ("measure", "control", "verdict"):
            if getattr(cls, method) is getattr(Rule, method):
                raise TypeError(f"rule {cls.__name__} must define {method}(): a rule never speaks without its control")
        if cls.code[:2] not in FAMILIES or not cls.code[2:].isdigit():
            raise TypeError(f"rule {cls.__name__}: expected a code such as GA301, got {cls.code!r}")
        if cls.severity not in SEVERITIES:
            raise TypeError(f"rule {cls.__name__}: expected a severity of {SEVERITIES}, got {cls.severity!r}")

    @abstractmethod
    def measure(self, evidence: Evidence) -> Measured:
        """The quantity on what was given."""

    @abstractmethod
    def control(self, evidence: Evidence) -> Measured:
        """The same quantity where the effect cannot be."""

    @abstractmethod
    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Whether the effect stands out of its control, with the interval that says so."""

    def applies(self, evidence: Evidence) -> str | None:
        """None where the rule can run, else why it cannot."""
        return evidence.lacks(self.needs)

    def run(self, evidence: Evidence) -> Outcome:
        """Measure, control, verdict."""
        reason = self.applies(evidence)
        if reason is not None:
            return Outcome(self.code, "not applicable", reason)
        effect, control = self.measure(evidence), self.control(evidence)
        verdict = self.verdict(effect, control)
        if verdict.speaks is None:
            return Outcome(self.code, "cannot tell", verdict.text)
        if not verdict.speaks:
            return Outcome(self.code, "clear", verdict.text)
        finding = Finding(
            code=self.code,
            name=self.name,
            severity=self.severity,
            text=verdict.text,
            remedy=self.remedy,
            reference=self.reference,
            effect=effect.mean,
            effect_what=effect.what,
            control=control.mean,
            control_what=control.what,
            interval=verdict.interval,
            structures=effect.defined,
            units=verdict.units,
        )
        return Outcome(self.code, "found", verdict.text, finding)


def worst(measured: Measured, *, largest: bool = True, count: int = 10) -> tuple[str, ...]:
    """Units of the most extreme values, those first."""
    known = [i for i in range(len(measured.units)) if np.isfinite(measured.values[i])]
    known.sort(key=lambda i: -measured.values[i] if largest else measured.values[i])
    return tuple(measured.units[i] for i in known[:count])


def constant(value: float, units: Sequence[str], what: str) -> Measured:
    """A control that theory gives: the same value for every unit."""
    return Measured(np.full(len(units), value, dtype=np.float64), tuple(units), what)
