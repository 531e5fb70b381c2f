"""A diagnosis with what the rules of a further analysis say: one that ran after it, on the same structures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from interpret.checks.base import Rule
from interpret.checks.evidence import Evidence
from interpret.checks.registry import outcome_order, run_rules
from interpret.summary import verdict
from interpret.tables import TABLES

if TYPE_CHECKING:
    from interpret.results import Diagnosis
    from model.network import CrystalTextNetwork


def with_further_rules(
    result: Diagnosis,
    network: CrystalTextNetwork,
    extra: Mapping[str, Any],
    rules: Iterable[type[Rule]],
    prefix: str,
) -> Diagnosis:
    """The diagnosis with the outcomes of some rules asked again; its verdict counts them.

    Args:
        result: of the diagnosis.
        extra: tables of the further analysis, by name.
        rules: those that were asked. prefix: of the codes of those to ask again.
    """
    evidence = Evidence(network, extra=extra, **{name: getattr(result, name) for name in TABLES})
    own = run_rules([rule for rule in rules if rule.code.startswith(prefix)], evidence)
    outcomes = sorted([o for o in result.outcomes if not o.code.startswith(prefix)] + own, key=outcome_order)
    word, reason = verdict(outcomes)
    findings = tuple(outcome.finding for outcome in outcomes if outcome.finding is not None)
    return replace(result, verdict=word, reason=reason, findings=findings, outcomes=tuple(outcomes))
