"""What makes a rule a rule, and how rules are found, chosen and run."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import pandas as pd
import pytest

from interpret.checks import registry
from interpret.checks.base import FAMILIES, SEVERITIES, Measured, Outcome, Rule, Verdict, constant, worst
from interpret.checks.evidence import Evidence
from model.errors import InterpretError

STATED = {
    "code": "MO901",
    "name": "planted",
    "severity": "warning",
    "summary": "what was planted",
    "example": "1 of 1",
    "remedy": "take it out",
    "reference": "none",
}


def _measure(self: Rule, evidence: Evidence) -> Measured:
    return Measured(np.array([3.0, np.nan, 1.0]), ("a", "b", "c"), "effect")


def _control(self: Rule, evidence: Evidence) -> Measured:
    return constant(0.0, ("a", "b", "c"), "no effect")


def _verdict(self: Rule, effect: Measured, control: Measured) -> Verdict:
    return Verdict(effect.mean > control.mean, f"mean {effect.mean:g}", (1.0, 3.0), worst(effect))


METHODS = {"measure": _measure, "control": _control, "verdict": _verdict}


def make_rule(*, without: str = "", **changes: Any) -> type[Rule]:
    """A complete rule, changed or with one part left out."""
    body = {"__doc__": "A rule.", "__module__": __name__, **STATED, **METHODS, **changes}
    body.pop(without, None)
    return type("Planted", (Rule,), body)


@pytest.fixture
def evidence(make_network: Any) -> Evidence:
    return Evidence(make_network())


@pytest.mark.parametrize("part", ["measure", "control", "verdict"])
def test_a_rule_without_control_cannot_be_defined(part: str) -> None:
    with pytest.raises(TypeError, match=rf"must define {part}\(\)"):
        make_rule(without=part)
    with pytest.raises(TypeError, match=rf"must define {part}\(\)"):
        make_rule(without=part, severity="info")


@pytest.mark.parametrize("part", sorted(STATED))
def test_a_rule_must_state_everything(part: str) -> None:
    with pytest.raises(TypeError, match=f"must state its {part}"):
        make_rule(without=part)


@pytest.mark.parametrize("code", ["XX101", "CKabc", "GA", "ga301"])
def test_codes_have_a_family_and_a_number(code: str) -> None:
    with pytest.raises(TypeError, match="expected a code such as GA301"):
        make_rule(code=code)


def test_severities_are_known() -> None:
    with pytest.raises(TypeError, match="expected a severity"):
        make_rule(severity="fatal")


def test_a_shared_base_may_be_incomplete_and_its_rules_may_not() -> None:
    base = type("_Shared", (Rule,), {"__doc__": "A base.", "measure": _measure})
    with pytest.raises(TypeError, match=r"must define control\(\)"):
        type("Planted", (base,), {"__doc__": "A rule.", **STATED, "verdict": _verdict})
    complete = type("Planted", (base,), {"__doc__": "A rule.", **STATED, "control": _control, "verdict": _verdict})
    assert complete().measure.__func__ is _measure


def test_all_own_rules_are_complete_and_sorted() -> None:
    rules = registry.all_rules()
    assert list(rules) == sorted(rules)
    assert {"CK101", "CK109"} <= set(rules)
    for code, rule in rules.items():
        assert rule.code == code
        assert rule.severity in SEVERITIES
        assert code[:2] in FAMILIES
        assert rule.__doc__
        assert len((rule.__doc__ or "").split()) > 30, f"{code}: its page says too little"
        # Abstract methods left over would fail only when the rule runs.
        assert not rule.__abstractmethods__


def entry(rule: object, name: str = "planted") -> EntryPoint:
    """An entry point that loads an object of this test."""

    class Loaded(EntryPoint):
        def load(self) -> object:
            return rule

    return Loaded(name=name, value="elsewhere:Planted", group=registry.ENTRY_POINT_GROUP)


def install(monkeypatch: pytest.MonkeyPatch, *points: EntryPoint) -> None:
    def entry_points(*, group: str) -> tuple[EntryPoint, ...]:
        assert group == "crystal_interpret.rules"
        return points

    monkeypatch.setattr(registry, "entry_points", entry_points)


def test_entry_points_add_rules(monkeypatch: pytest.MonkeyPatch, evidence: Evidence) -> None:
    rule = make_rule()
    own = list(registry.all_rules())
    install(monkeypatch, entry(rule))
    assert list(registry.all_rules()) == sorted([*own, "MO901"])
    assert registry.select_rules(["MO9"]) == [rule]
    (outcome,) = registry.run_rules([rule], evidence)
    assert outcome.finding is not None
    assert outcome.finding.units == ("a", "c")


def test_entry_points_that_are_no_rules_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, entry(object(), "stray"))
    with pytest.raises(InterpretError, match=r"'stray'.*is not a Rule subclass"):
        registry.all_rules()


def test_two_rules_of_one_code_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, entry(make_rule(code="CK101")))
    with pytest.raises(InterpretError, match="two rules have the code CK101: UnmatchedKeys, Planted"):
        registry.all_rules()


def test_rules_are_selected_and_ignored_by_prefix() -> None:
    everything = [rule.code for rule in registry.select_rules()]
    assert everything == list(registry.all_rules())
    checkpoint = [rule.code for rule in registry.select_rules(["CK"])]
    assert checkpoint == [code for code in everything if code.startswith("CK")]
    assert [rule.code for rule in registry.select_rules(["CK10"], ["CK101", "CK102"])] == [
        code for code in checkpoint if code.startswith("CK10") and code not in ("CK101", "CK102")
    ]
    # Ignoring wins over selecting; families can be joined.
    assert registry.select_rules(["CK101"], ["CK"]) == []
    assert [rule.code for rule in registry.select_rules(["CK101", "CK103"])] == ["CK101", "CK103"]


@pytest.mark.parametrize("arguments", [(["ZZ"],), ((), ["CK9"]), (["ck101"],)])
def test_prefixes_that_fit_no_rule_are_refused_with_those_that_exist(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(InterpretError, match=r"no rule starts with '.*; there are: .*CK101"):
        registry.select_rules(*arguments)


def test_a_finding_carries_all_that_defends_it(evidence: Evidence) -> None:
    (outcome,) = registry.run_rules([make_rule()], evidence)
    finding = outcome.finding
    assert finding is not None
    assert outcome.status == "found"
    assert (finding.effect, finding.control, finding.structures) == (2.0, 0.0, 2)
    assert (finding.effect_what, finding.control_what) == ("effect", "no effect")
    assert (finding.code, finding.severity, finding.text) == ("MO901", "warning", "mean 2")
    assert finding.interval == (1.0, 3.0)
    assert (finding.remedy, finding.reference) == ("take it out", "none")
    assert outcome.seconds >= 0
    assert set(finding.to_dict()) == set(finding.__dataclass_fields__)


def test_outcomes_are_sorted_findings_first_by_severity_then_by_code(evidence: Evidence) -> None:
    def says(speaks: bool | None) -> Any:
        return lambda self, effect, control: Verdict(speaks, "text")

    rules = [
        make_rule(code="MO905", severity="info"),
        make_rule(code="MO904", verdict=says(None)),
        make_rule(code="MO903", severity="error"),
        make_rule(code="MO902", severity="error", verdict=says(False)),
        make_rule(code="MO901", severity="warning"),
        make_rule(code="GA999", severity="error"),
        make_rule(code="TF999", applies=lambda self, evidence: "no data"),
    ]
    outcomes = registry.run_rules(rules, evidence)
    assert [(o.code, o.status) for o in outcomes] == [
        ("GA999", "found"),
        ("MO903", "found"),
        ("MO901", "found"),
        ("MO905", "found"),
        ("MO902", "clear"),
        ("MO904", "cannot tell"),
        ("TF999", "not applicable"),
    ]
    assert [o.finding is not None for o in outcomes] == [True] * 4 + [False] * 3


def test_a_rule_that_lacks_what_it_needs_measures_nothing(evidence: Evidence) -> None:
    def fail(self: Rule, evidence: Evidence) -> Measured:
        raise AssertionError("measured without its needs")

    rule = make_rule(needs=frozenset({"labels"}), measure=fail, control=fail)
    outcome = rule().run(evidence)
    assert outcome == Outcome("MO901", "not applicable", "the data has no targets")


def test_needs_look_at_tables_and_network(make_network: Any) -> None:
    network = make_network()
    bare = Evidence(network)
    assert bare.lacks({"weights"}) is None
    assert bare.lacks({"data"}) == "no structure was analysed"
    assert bare.lacks({"fusion"}) == "the network has no middle fusion that runs"
    table = pd.DataFrame({"id": ["a"], "target": [1.0], "fusion.1.alpha_mean": [0.5]})
    full = Evidence(network, structures=table)
    assert full.lacks({"data", "labels", "fusion", "attention"}) is None
    assert full.fusion_layers == [1]
    assert Evidence(network, structures=table.assign(target=np.nan)).lacks({"labels"}) == "the data has no targets"
    without = Evidence(make_network(use_fine_grained_attention=False))
    assert without.lacks({"attention"}) == "the network has no attention from atoms to tokens"


def test_measures_count_and_average_what_is_defined() -> None:
    measured = Measured(np.array([1.0, np.nan, 4.0]), ("a", "b", "c"), "x")
    assert (measured.defined, measured.mean) == (2, 2.5)
    assert worst(measured) == ("c", "a")
    assert worst(measured, largest=False, count=1) == ("a",)
    nothing = Measured(np.array([np.nan]), ("a",), "x")
    assert nothing.defined == 0
    assert np.isnan(nothing.mean)
    with pytest.raises(ValueError, match="one value a unit"):
        Measured(np.zeros(2), ("a",), "x")
