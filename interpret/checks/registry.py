"""All rules by code: ours, and those of other packages found by entry point."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from importlib import import_module
from importlib.metadata import entry_points

from interpret.checks.base import SEVERITIES, Outcome, Rule
from interpret.checks.evidence import Evidence
from model.errors import InterpretError

ENTRY_POINT_GROUP = "crystal_interpret.rules"
FAMILY_MODULES = (
    *("checkpoint", "checkpoint_training"),
    *("gates", "gate_change", "gate_blindness", "gate_decisions", "gate_training"),
    *("textflow", "text_use"),
    "nodes",
    *("attention", "attention_validity"),
    "attribution",
    *("modality", "modality_text"),
)


def all_rules() -> dict[str, type[Rule]]:
    """Rule classes by code, sorted.

    Other packages add rules with an entry point in the group ``crystal_interpret.rules`` that names a Rule subclass.

    Raises:
        InterpretError: two rules share a code, or an entry point is not a rule.
    """
    found: dict[str, type[Rule]] = {}
    candidates: list[type[Rule]] = []
    for family in FAMILY_MODULES:
        module = import_module(f"interpret.checks.{family}")
        candidates += [
            value for value in vars(module).values() if _is_rule(value) and value.__module__ == module.__name__
        ]
    for point in entry_points(group=ENTRY_POINT_GROUP):
        rule = point.load()
        if not _is_rule(rule):
            raise InterpretError(f"entry point {point.name!r} ({point.value}) is not a Rule subclass")
        candidates.append(rule)
    for rule in candidates:
        if rule.code in found:
            raise InterpretError(f"two rules have the code {rule.code}: {found[rule.code].__name__}, {rule.__name__}")
        found[rule.code] = rule
    return dict(sorted(found.items()))


def _is_rule(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Rule) and hasattr(value, "code")


def select_rules(select: Iterable[str] = (), ignore: Iterable[str] = ()) -> list[type[Rule]]:
    """Rules whose code starts with one of ``select`` (all when empty) and with none of ``ignore``.

    Raises:
        InterpretError: a prefix fits no rule, with the codes there are.
    """
    rules = all_rules()
    chosen, ignored = tuple(select), tuple(ignore)
    for prefix in (*chosen, *ignored):
        if not any(code.startswith(prefix) for code in rules):
            raise InterpretError(f"no rule starts with {prefix!r}; there are: {', '.join(rules)}")
    return [
        rule
        for code, rule in rules.items()
        if (not chosen or code.startswith(chosen)) and not (ignored and code.startswith(ignored))
    ]


def run_rules(rules: Iterable[type[Rule]], evidence: Evidence) -> list[Outcome]:
    """Outcomes, findings first by severity, then by code."""
    outcomes = []
    for rule in rules:
        start = time.perf_counter()
        outcome = rule().run(evidence)
        outcomes.append(replace(outcome, seconds=time.perf_counter() - start))
    return sorted(outcomes, key=outcome_order)


def outcome_order(outcome: Outcome) -> tuple[int, str]:
    """Sort key: findings first by severity, then by code."""
    severity = -SEVERITIES.index(outcome.finding.severity) if outcome.finding else 1
    return severity, outcome.code
