"""Modality rules on tables built to show each finding, on tables built not to, and on whole analyses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from interpret.checks.base import Outcome
from interpret.checks.evidence import Evidence
from interpret.checks.registry import run_rules, select_rules
from interpret.modality.analysis import analyze_modality
from interpret.modality.options import ModalityOptions
from interpret.modality.shapley import two_player
from model.dataset import CrystalDataset
from model.demo import DEMO_DATA
from model.encoder import load_encoder

STRUCTURES = 40
NAMES = [f"S{i:03d}" for i in range(STRUCTURES)]
CODES = ("MO701", "MO702", "MO703", "MO704", "MO705", "MO706", "MO707")


def ask(code: str, evidence: Evidence) -> Outcome:
    (rule,) = select_rules([code])
    return rule().run(evidence)


@pytest.fixture
def network(make_network: Callable[..., Any]) -> Any:
    return make_network()


def noise(seed: int, count: int = STRUCTURES) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(count)


def rows_of(baseline: str, graph: np.ndarray, text: np.ndarray, cross: float = 0.0, error: Any = None) -> pd.DataFrame:
    """The rows of ``f = g + t + cross g t`` against g = t = 0."""
    shares = two_player(graph + text + cross * graph * text, graph, text, 0.0)
    size = np.abs(shares.graph) + np.abs(shares.text)
    return pd.DataFrame(
        {
            "id": NAMES,
            "baseline": baseline,
            "target": 0.0,
            "prediction": shares.whole,
            "absolute_error": np.abs(noise(9)) if error is None else error,
            "graph_shapley": shares.graph,
            "text_shapley": shares.text,
            "interaction": shares.interaction,
            "whole": shares.whole,
            "text_given_graph": shares.text_given_graph,
            "text_alone": shares.text_alone,
            "text_share": np.abs(shares.text) / size,
        }
    )


def evidence_of(
    network: Any,
    *,
    text: float = 0.3,
    empty_text: float | None = None,
    cross: float = 0.0,
    error: Any = None,
    **extra: Any,
) -> Evidence:
    """Predictions in which the text has about ``text`` over ``1 + text`` of all."""
    empty = text if empty_text is None else empty_text
    modality = pd.concat(
        [
            rows_of("references", noise(0), text * noise(1), cross, error),
            rows_of("empty", noise(2), empty * noise(3), cross, error),
            rows_of("untrained", noise(4), noise(5), 0.0, error),
        ]
    ).sample(frac=1.0, random_state=0)
    pairs = rows_of("pairs", noise(6), text * noise(7), cross).assign(crystal_id=NAMES, text_id=NAMES[::-1])
    structures = pd.DataFrame({"id": NAMES, "target": 0.0, "prediction": 0.0})
    return Evidence(network, structures=structures, extra={"modality": modality, "modality_pairs": pairs, **extra})


def test_without_the_analysis_nothing_applies(network: Any) -> None:
    evidence = Evidence(network, structures=pd.DataFrame({"id": NAMES, "target": 0.0}))
    for code in CODES:
        outcome = ask(code, evidence)
        assert outcome.status == "not applicable"
        assert "--modality" in outcome.reason
    assert ask("MO705", evidence_of(network)).reason == "there is nothing in text_edits"
    assert ask("MO702", evidence_of(network)).reason == "there is nothing in leakage"


@pytest.mark.parametrize(
    ("text", "empty", "status", "words"),
    [
        (0.3, None, "clear", "from both"),
        (0.001, None, "found", "graph alone"),
        (0.0, None, "found", "graph alone"),
        (1000.0, None, "found", "text alone"),
        (0.001, 0.5, "clear", "from both"),
        (0.5, 0.001, "clear", "from both"),
        (0.05, None, "cannot tell", "both"),
    ],
)
def test_one_modality(text: float, empty: float | None, status: str, words: str, network: Any) -> None:
    """Under both meanings of "without", or it is no finding."""
    outcome = ask("MO701", evidence_of(network, text=text, empty_text=empty))
    assert outcome.status == status
    assert words in outcome.reason
    if outcome.finding:
        # The control is an untrained network, in which both have about half.
        assert outcome.finding.control == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("cross", "status"), [(0.0, "clear"), (0.2, "clear"), (50.0, "found")])
def test_interaction(cross: float, status: str, network: Any) -> None:
    outcome = ask("MO703", evidence_of(network, cross=cross))
    assert outcome.status == status
    if outcome.finding:
        assert outcome.finding.severity == "info"
        assert "with texts of other structures" in outcome.finding.text


@pytest.mark.parametrize(("empty", "status"), [(0.3, "clear"), (20.0, "found"), (0.0, "found")])
def test_share_depends_on_the_baseline(empty: float, status: str, network: Any) -> None:
    text = 3.0 if empty == 0 else 0.3
    assert ask("MO704", evidence_of(network, text=text, empty_text=empty)).status == status


def edits(facts: float, wording: float) -> pd.DataFrame:
    parts = []
    for number, (name, control, size) in enumerate(
        (("space group", False, facts), ("bond lengths", False, facts), ("reworded", True, wording))
    ):
        change = size * noise(20 + number)
        parts.append(pd.DataFrame({"id": NAMES, "edit": name, "control": control, "change": change}))
    return pd.concat(parts).sample(frac=1.0, random_state=1)


@pytest.mark.parametrize(
    ("facts", "wording", "status"), [(0.3, 0.1, "clear"), (0.05, 0.2, "found"), (0.1, 0.1, "cannot tell")]
)
def test_wording_over_facts(facts: float, wording: float, status: str, network: Any) -> None:
    outcome = ask("MO705", evidence_of(network, text_edits=edits(facts, wording)))
    assert outcome.status == status
    if outcome.finding:
        # Of two edits of facts and one of wording.
        drawn = [np.abs(noise(20 + number)).mean() for number in range(3)]
        assert outcome.finding.effect == pytest.approx(facts * (drawn[0] + drawn[1]) / 2)
        assert outcome.finding.control == pytest.approx(wording * drawn[2])


def test_a_text_that_moves_nothing_is_not_asked_what_it_reads(network: Any) -> None:
    evidence = evidence_of(network, text=1e-15, text_edits=edits(1e-15, 1e-14))
    for code in ("MO705", "MO706"):
        assert ask(code, evidence).reason == "predictions do not depend on the text"


@pytest.mark.parametrize(("left", "status"), [(0.05, "found"), (1.0, "clear"), (0.2, "cannot tell")])
def test_the_graph_already_had_it(left: float, status: str, network: Any) -> None:
    evidence = evidence_of(network)
    table = evidence.extra["modality"].copy()
    empty = table["baseline"] == "empty"
    alone = table.loc[empty, "text_alone"]
    table.loc[empty, "text_given_graph"] = left * alone * (1 + 0.3 * noise(30))
    outcome = ask("MO706", replace(evidence, extra={**evidence.extra, "modality": table}))
    assert outcome.status == status


def test_errors_follow_the_text(network: Any) -> None:
    evidence = evidence_of(network)
    references = evidence.extra["modality"].query("baseline == 'references'").sort_values("id")
    share = references["text_share"].to_numpy()
    found = ask("MO707", evidence_of(network, error=share + 0.1 * np.abs(noise(40))))
    assert found.status == "found"
    assert found.finding is not None
    assert len(found.finding.units) == 10
    assert ask("MO707", evidence_of(network, error=2 - share + 0.1 * np.abs(noise(40)))).status == "clear"
    # Where an untrained network's share goes with the errors as well, it is the structures, not what was learned.
    untrained = evidence.extra["modality"].query("baseline == 'untrained'").sort_values("id")["text_share"].to_numpy()
    both = ask("MO707", evidence_of(network, error=untrained + 0.05 * share))
    assert both.status != "found"
    assert ask("MO707", evidence_of(network, error=np.full(STRUCTURES, 0.1))).status == "cannot tell"


def leakage(match: np.ndarray, chance: float, words: str = "") -> pd.DataFrame:
    written = [words if hit else "" for hit in match]
    return pd.DataFrame(
        {
            "id": NAMES,
            "target": 1.0,
            "match": 0.0 if words else match.astype(float),
            "chance": chance,
            "property_words": written,
        }
    )


@pytest.mark.parametrize(
    ("hits", "chance", "status"), [(0, 0.01, "clear"), (24, 0.01, "found"), (20, 0.5, "cannot tell"), (4, 0.5, "clear")]
)
def test_number_that_is_the_target(hits: int, chance: float, status: str, network: Any) -> None:
    outcome = ask("MO702", evidence_of(network, leakage=leakage(np.arange(STRUCTURES) < hits, chance)))
    assert outcome.status == status
    if outcome.finding:
        assert outcome.finding.severity == "error"
        assert set(outcome.finding.units) <= set(NAMES[:hits])


@pytest.mark.parametrize(
    ("separation", "p_value", "status"), [(0.02, 0.001, "found"), (0.55, 0.4, "clear"), (0.9, 0.2, "clear")]
)
def test_word_that_tells_the_target(separation: float, p_value: float, status: str, network: Any) -> None:
    words = pd.DataFrame({"word": ["metallic"], "separation": [separation], "p_value": [p_value]})
    table = leakage(np.arange(STRUCTURES) % 2 == 0, 0.0, "metallic; hard")
    outcome = ask("MO702", evidence_of(network, leakage=table, leakage_words=words))
    assert outcome.status == status
    assert ("metallic (0.02)" in outcome.reason) == (status == "found")


def test_no_labels_no_leakage(network: Any) -> None:
    evidence = evidence_of(network, leakage=leakage(np.zeros(STRUCTURES), 0.0))
    unlabelled = replace(evidence, structures=evidence.structures.assign(target=np.nan))
    assert ask("MO702", unlabelled).reason == "the data has no targets"


OPTIONS = ModalityOptions(references=3, averaged=6, detailed=2)


def outcomes(network: Any, dataset: CrystalDataset, encoder: Any) -> dict[str, Outcome]:
    analysis = analyze_modality(network, dataset, encoder, options=OPTIONS)
    own = analysis.modality[analysis.modality["baseline"] == "references"]
    evidence = Evidence(network, structures=own.reset_index(drop=True), extra=analysis.tables)
    return {outcome.code: outcome for outcome in run_rules(select_rules(["MO"]), evidence)}


@pytest.fixture(scope="module")
def crystals() -> CrystalDataset:
    return CrystalDataset(CrystalDataset.from_directory(DEMO_DATA).samples[::8], rows=22)


def test_whole_analysis_of_networks_deaf_to_text_and_blind_to_the_crystal(
    crystals: CrystalDataset, make_network: Callable[..., Any]
) -> None:
    encoder = load_encoder("random:12", cache_directory=False)
    deaf, blind = make_network(), make_network()
    with torch.no_grad():
        for module in (deaf.text_projection, deaf.fine_grained_attention.node_output):
            for parameter in module.parameters():
                parameter.zero_()
        for parameter in blind.graph_projection.parameters():
            parameter.zero_()
    told = outcomes(deaf, crystals, encoder)
    assert told["MO701"].status == "found"
    assert "graph alone" in told["MO701"].reason
    assert told["MO705"].status == "not applicable"
    seen = outcomes(blind, crystals, encoder)
    assert seen["MO701"].status == "found"
    assert "text alone" in seen["MO701"].reason
    for result in (told, seen):
        assert result["MO702"].status in ("clear", "cannot tell")


def test_whole_analysis_of_texts_that_print_their_target(
    crystals: CrystalDataset, make_network: Callable[..., Any]
) -> None:
    encoder = load_encoder("random:12", cache_directory=False)
    samples = tuple(replace(s, text=f"{s.text} The gap is {s.target:.2f} eV.") for s in crystals)
    told = outcomes(make_network(), CrystalDataset(samples, rows=22), encoder)
    assert told["MO702"].status == "found"
    words = tuple(replace(s, text=f"{s.text} It is {'metallic' if s.target == 0 else 'stable'}.") for s in crystals)
    told = outcomes(make_network(), CrystalDataset(words, rows=22), encoder)
    assert told["MO702"].status == "found"
    assert "metallic" in told["MO702"].reason
