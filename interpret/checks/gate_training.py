"""Rules on how the gates came about, from the history that the gate monitor wrote during training."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interpret.checks.base import Measured, Rule, Verdict
from interpret.checks.estimates import number
from interpret.checks.evidence import Evidence
from interpret.gate_history import FEWEST_EPOCHS, UNSTABLE, Instability, instability

HISTORY = "gate_history"


class UnstableGate(Rule):
    """A gate of the cross-modal attention jumped from epoch to epoch while the network was trained.

    Third branch of the decision path. A gate that opens and closes between epochs makes the later layers chase two
    different inputs; the weight it ends with is an accident of the last epoch, and another seed gives another. The
    gate monitor records every gate about twenty times an epoch. A gate that moves steadily has learned, so the measure
    leaves a straight course out: it is the spread of the epoch means about their trend, from second differences. The
    control is the spread that the scatter of batches within an epoch alone would give them.

    Threshold: 0.1, and twice the control, with six epochs or more; healthy trainings of a dozen epochs reach 0.05. A
    warm-up is not held against a gate: its weight before the scaling is judged.
    """

    code = "GA313"
    name = "unstable gate"
    severity = "info"
    needs = frozenset({"weights", "gated_cross_modal"})
    summary = "a gate jumped from epoch to epoch in training"
    example = (
        "The effective weight is 0.3 and 0.6 in turn from epoch to epoch: a spread of 0.24 about the trend, where the "
        "scatter of batches leaves 0.01."
    )
    remedy = (
        "Scale the gate up over the first steps (cross_modal_gate: warm-up), or give gates a smaller learning rate."
    )
    reference = "Goyal et al., arXiv:1706.02677, on warming up"

    def applies(self, evidence: Evidence) -> str | None:
        """Only where the training was watched."""
        reason = super().applies(evidence)
        if reason is None and not len(_gates(evidence)):
            return "no record of the gates during training lies beside the checkpoint"
        return reason

    def measure(self, evidence: Evidence) -> Measured:
        """Spread of the epoch means about their trend, for each gate; NaN with fewer than six epochs."""
        found = _instabilities(evidence)
        values = np.array([each.spread for each in found.values()], dtype=np.float64)
        return Measured(values, tuple(found), "spread of the gate's epoch means about their trend")

    def control(self, evidence: Evidence) -> Measured:
        """The spread that the scatter of batches within an epoch leaves."""
        found = _instabilities(evidence)
        values = np.array([each.control for each in found.values()], dtype=np.float64)
        return Measured(values, tuple(found), "spread that the scatter of batches gives epoch means")

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where the spread of a gate exceeds 0.1 and twice its control."""
        known = np.isfinite(effect.values) & np.isfinite(control.values)
        if not known.any():
            return Verdict(None, f"fewer than {FEWEST_EPOCHS} epochs, or one record in each, were written down")
        over = known & (effect.values > UNSTABLE) & (effect.values > 2 * control.values)
        order = np.argsort(np.where(known, -effect.values, np.inf), kind="stable")
        worst = int(order[0])
        figures = (
            f"({effect.units[worst]}: spread {number(effect.values[worst])}, "
            f"from batches {number(control.values[worst])})"
        )
        if not over.any():
            return Verdict(False, f"no gate jumped from epoch to epoch in training {figures}")
        units = tuple(effect.units[index] for index in order if over[index])
        return Verdict(True, f"a gate jumped from epoch to epoch in training {figures}", units=units)


def training_was_unstable(evidence: Evidence) -> bool | None:
    """Whether a cross-modal gate was, for the decision path; None where that is not known."""
    answers = {each.unstable for each in _instabilities(evidence).values()}
    return True if True in answers else (False if False in answers else None)


def _gates(evidence: Evidence) -> pd.DataFrame:
    """Rows of the cross-modal gates; of a gate that warms up, those of its weight before the scaling."""
    table = evidence.extra.get(HISTORY, pd.DataFrame())
    if not len(table):
        return table
    kept = table["gate"].astype(str).str.startswith("cross_modal.")
    if evidence.network.config.cross_modal_gate == "warm-up":
        kept &= table["gate"] != "cross_modal.effective"
    return table[kept]


def _instabilities(evidence: Evidence) -> dict[str, Instability]:
    table = _gates(evidence)
    return {str(name): instability(frame) for name, frame in table.groupby("gate", sort=False)} if len(table) else {}
