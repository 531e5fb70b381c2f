"""Rules on attribution: tables made to show each finding, and tables made not to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest

from interpret.checks.base import Outcome
from interpret.checks.evidence import Evidence
from interpret.checks.registry import run_rules, select_rules

IDS = [f"s{i:02d}" for i in range(20)]


def faithfulness(gains: Mapping[str, float], *, scatter: float = 0.01, delta: float = 0.002) -> pd.DataFrame:
    """Comprehensiveness 0.1 of a uniform order, plus the gain of each method, with some scatter."""
    generator = np.random.default_rng(0)
    rows = []
    for identifier in IDS:
        chance = 0.1 + 0.02 * generator.standard_normal()
        for method, gain in {"uniform": 0.0, "random": 0.0, "uniform-attention": 0.0, **gains}.items():
            rows.append(
                {
                    "id": identifier,
                    "side": "text",
                    "kind": "words",
                    "method": method,
                    "comprehensiveness": chance + gain + (scatter * generator.standard_normal() if gain else 0.0),
                    "relative_delta": delta if method == "integrated-gradients" else np.nan,
                }
            )
    return pd.DataFrame(rows)


def attribution(shared: float) -> pd.DataFrame:
    """Values of thirty words by four explainers that share a part of what they say."""
    generator = np.random.default_rng(1)
    rows = []
    for identifier in IDS:
        common = generator.gamma(1.0, size=30)
        for method in ("integrated-gradients", "input-x-gradient", "ablation", "gradient-x-attention", "position"):
            own = np.arange(30.0, 0, -1) if method == "position" else None
            values = shared * common + (1 - shared) * generator.gamma(1.0, size=30) if own is None else own
            rows += [
                {"id": identifier, "side": "text", "method": method, "player": player, "value": value}
                for player, value in enumerate(values)
            ]
    return pd.DataFrame(rows)


def randomisation(correlation: float, pair: float) -> pd.DataFrame:
    """Two stages of the cascade; the last one decides."""
    generator = np.random.default_rng(2)
    return pd.DataFrame(
        [
            {
                "id": identifier,
                "side": "text",
                "method": "integrated-gradients",
                "stage": stage,
                "depth": depth,
                "spearman": value + 0.02 * generator.standard_normal(),
                "untrained_pair": pair,
            }
            for identifier in IDS
            for depth, (stage, value) in enumerate((("head", 0.95), ("embedding", correlation)))
        ]
    )


@pytest.fixture
def ask(make_network: Callable[..., Any]) -> Callable[..., Outcome]:
    """What a rule says of tables."""

    def outcome(code: str, **tables: pd.DataFrame) -> Outcome:
        structures = pd.DataFrame({"id": IDS, "target": 1.0})
        evidence = Evidence(make_network(), structures=structures, extra=tables)
        return run_rules(select_rules([code]), evidence)[0]

    return outcome


def test_without_the_analysis_no_rule_applies(ask: Callable[..., Outcome]) -> None:
    for code in ("AT620", "AT621", "AT622", "AT623"):
        found = ask(code)
        assert found.status == "not applicable"
        assert "--attribution" in found.reason


def test_attention_no_better_than_uniform(ask: Callable[..., Outcome]) -> None:
    found = ask("AT620", faithfulness=faithfulness({"attention": 1e-4, "ablation": 0.3}))
    assert found.status == "found"
    assert found.finding is not None
    assert found.finding.effect == pytest.approx(found.finding.control, abs=0.01)
    assert "20 structures" in found.reason


def test_attention_that_finds_long_words_only(ask: Callable[..., Outcome]) -> None:
    table = faithfulness({"attention": 0.2, "uniform-attention": 0.2, "ablation": 0.4})
    found = ask("AT620", faithfulness=table)
    assert found.status == "found"
    assert "without those of most pieces" in found.reason


def test_attention_that_finds_half_of_what_there_is(ask: Callable[..., Outcome]) -> None:
    assert ask("AT620", faithfulness=faithfulness({"attention": 0.15, "ablation": 0.3})).status == "clear"


def test_attention_between_the_two_cannot_be_told(ask: Callable[..., Outcome]) -> None:
    table = faithfulness({"attention": 0.03, "ablation": 0.3}, scatter=0.1)
    assert ask("AT620", faithfulness=table).status == "cannot tell"


def test_where_no_order_is_better_there_is_nothing_to_test(ask: Callable[..., Outcome]) -> None:
    found = ask("AT620", faithfulness=faithfulness({"attention": 1e-6, "ablation": 1e-6}, scatter=0.05))
    assert found.status == "cannot tell"
    assert "no order of words can be told from chance" in found.reason
    few = faithfulness({"attention": 1e-4, "ablation": 0.3})
    found = ask("AT620", faithfulness=few[few["id"].isin(IDS[:4])])
    assert found.status == "cannot tell"
    assert "not enough structures" in found.reason


def test_no_attention_to_test(ask: Callable[..., Outcome]) -> None:
    assert ask("AT620", faithfulness=faithfulness({"ablation": 0.3})).status == "not applicable"


def test_incomplete_attribution(ask: Callable[..., Outcome]) -> None:
    methods = {"integrated-gradients": 0.2, "ablation": 0.3}
    clear = ask("AT621", faithfulness=faithfulness(methods))
    assert clear.status == "clear"
    table = faithfulness(methods)
    off = table["id"].isin(IDS[::2]) & (table["method"] == "integrated-gradients")
    table.loc[off, "relative_delta"] = np.linspace(0.1, 0.3, off.sum())
    found = ask("AT621", faithfulness=table)
    assert found.status == "found"
    assert found.finding is not None
    assert found.finding.units[0] == f"{IDS[18]} (words)"
    assert "30 %" in found.reason
    one = faithfulness(methods)
    one.loc[(one["id"] == "s03") & (one["method"] == "integrated-gradients"), "relative_delta"] = 0.5
    assert ask("AT621", faithfulness=one).status == "cannot tell"


def test_explanation_that_survives(ask: Callable[..., Outcome]) -> None:
    table = faithfulness({"integrated-gradients": 0.2})
    found = ask("AT622", faithfulness=table, randomisation=randomisation(0.85, 0.88))
    assert found.status == "found"
    assert "0.88" in found.reason
    assert ask("AT622", faithfulness=table, randomisation=randomisation(0.3, 0.2)).status == "clear"
    assert ask("AT622", faithfulness=table, randomisation=pd.DataFrame()).status == "not applicable"


def test_explainers_that_disagree(ask: Callable[..., Outcome]) -> None:
    table = faithfulness({"integrated-gradients": 0.2})
    found = ask("AT623", faithfulness=table, attribution=attribution(shared=0.0))
    assert found.status == "found"
    assert "least agreement" in found.reason
    assert ask("AT623", faithfulness=table, attribution=attribution(shared=0.8)).status == "clear"
    only = attribution(shared=0.8)
    only = only[only["method"] == "ablation"]
    assert ask("AT623", faithfulness=table, attribution=only).status == "not applicable"


def test_a_diagnosis_takes_in_what_these_rules_say(flow_bench: Any) -> None:
    from interpret.attribution.findings import with_attribution
    from interpret.attribution.tables import AttributionTables
    from interpret.diagnose import diagnose

    rules = select_rules(["AT60", "AT62"])
    result = diagnose(flow_bench.network, flow_bench.dataset, flow_bench.encoder, rules=rules)
    before = {outcome.code: outcome.status for outcome in result.outcomes}
    assert {before[code] for code in ("AT620", "AT621", "AT622", "AT623")} == {"not applicable"}
    tables = AttributionTables(
        attribution(0.0),
        faithfulness({"attention": 1e-4, "ablation": 0.3, "integrated-gradients": 0.2}),
        randomisation(0.3, 0.2),
        pd.DataFrame(),
        {},
        {},
    )
    after = with_attribution(result, flow_bench.network, tables, rules)
    status = {outcome.code: outcome.status for outcome in after.outcomes}
    assert status["AT620"] == "found"
    assert status["AT622"] == "clear"
    assert {code: s for code, s in status.items() if not code.startswith("AT62")} == {
        code: s for code, s in before.items() if not code.startswith("AT62")
    }
    assert {"AT620", "AT623"} <= {finding.code for finding in after.findings}
    assert len(after.outcomes) == len(result.outcomes)
