"""The rule on unstable gates, on histories made to show it and not to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from interpret.checks.base import Outcome
from interpret.checks.evidence import Evidence
from interpret.checks.gate_training import UnstableGate, training_was_unstable


def history(means: dict[str, np.ndarray], scatter: float = 0.02) -> pd.DataFrame:
    """Twenty records an epoch of each gate about its epoch's mean."""
    generator = np.random.default_rng(0)
    rows = [
        {"gate": gate, "epoch": epoch, "mean": mean + scatter * generator.normal()}
        for gate, course in means.items()
        for epoch, mean in enumerate(course)
        for _ in range(20)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def ask(make_network: Callable[..., Any]) -> Callable[..., Outcome]:
    def run(table: pd.DataFrame | None, gate: str = "simplified") -> Outcome:
        network = make_network(cross_modal_gate=gate)
        return UnstableGate().run(Evidence(network, extra={} if table is None else {"gate_history": table}))

    return run


EPOCHS = np.arange(20)
JUMPING = np.where(EPOCHS % 2, 0.6, 0.3)


def test_a_jumping_gate_is_found_and_named(ask: Callable[..., Outcome]) -> None:
    table = history({"fusion.1.gate": np.full(20, 0.5), "cross_modal.gate": JUMPING, "cross_modal.effective": JUMPING})
    outcome = ask(table)
    assert outcome.finding is not None
    # Second differences of +-0.3 steps are +-0.6: 0.6 / sqrt(6).
    assert outcome.finding.effect == pytest.approx(0.6 / np.sqrt(6), abs=0.01)
    assert outcome.finding.control == pytest.approx(0.02 / np.sqrt(20), rel=0.3)
    assert set(outcome.finding.units) == {"cross_modal.gate", "cross_modal.effective"}
    assert "spread 0.24" in outcome.finding.text


def test_a_gate_that_learns_is_not(ask: Callable[..., Outcome]) -> None:
    assert ask(history({"cross_modal.gate": 0.5 + 0.4 * np.tanh((EPOCHS - 8) / 4)})).status == "clear"
    # Middle fusion is not what the remedy is about.
    jumping_alpha = {"fusion.1.gate": JUMPING, "cross_modal.gate": np.full(20, 0.5)}
    assert ask(history(jumping_alpha)).status == "clear"
    # As much as batches scatter, whatever that is.
    assert ask(history({"cross_modal.gate": np.full(20, 0.5)}, scatter=0.5)).status == "clear"


def test_what_is_scaled_on_purpose_is_not_judged(ask: Callable[..., Outcome]) -> None:
    table = history({"cross_modal.gate": np.full(20, 0.9), "cross_modal.effective": JUMPING})
    assert ask(table, "warm-up").status == "clear"
    assert ask(table, "simplified").status == "found"


def test_without_a_record_it_cannot_tell(ask: Callable[..., Outcome]) -> None:
    outcome = ask(None)
    assert outcome.status == "not applicable"
    assert "no record of the gates" in outcome.reason
    assert ask(history({"cross_modal.gate": JUMPING[:4]})).status == "cannot tell"
    one = history({"cross_modal.gate": JUMPING}).groupby(["gate", "epoch"], as_index=False).first()
    assert ask(one).status == "cannot tell"
    assert ask(history({"cross_modal.gate": JUMPING}), "none").status == "not applicable"


@pytest.mark.parametrize(("course", "answer"), [(JUMPING, True), (np.full(20, 0.5), False), (JUMPING[:4], None)])
def test_the_decision_path_is_told(make_network: Callable[..., Any], course: np.ndarray, answer: bool | None) -> None:
    network = make_network(cross_modal_gate="simplified")
    table = history({"cross_modal.gate": course})
    assert training_was_unstable(Evidence(network, extra={"gate_history": table})) is answer
    assert training_was_unstable(Evidence(network)) is None
