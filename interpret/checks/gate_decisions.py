"""Rules on the gates of cross-modal attention, and the decision path that follows from them."""

from __future__ import annotations

import math

import numpy as np

from interpret.checks import gate_measures as gates
from interpret.checks.base import Measured, Rule, Verdict, constant, worst
from interpret.checks.estimates import (
    Detailed,
    column,
    ids,
    mean_of,
    number,
    settle,
)
from interpret.checks.evidence import Evidence
from interpret.metrics.fusion import decision_path


class LowEffectiveWeight(Rule):
    """Little of the text passes the gated cross-modal attention.

    First branch of the decision path for the gated family. In the original the effective weight is the product of a
    text-quality gate and a fusion gate, both below 1: untrained it is 0.25, and a product is easily pushed towards 0,
    where neither factor gets a gradient. The control is the weight that the same variant has with all its sigmoids at
    one half; the text names the factor that holds the weight down.

    Threshold: a mean effective weight below 0.3 with its whole interval. The balanced variant cannot fall below 0.5.
    """

    code = "GA309"
    name = "low effective weight"
    severity = "warning"
    needs = frozenset({"data", "gated_cross_modal"})
    summary = "the effective weight of the text is low"
    example = (
        "Quality 0.31 times fusion 0.55 leaves an effective weight of 0.17 (95 % CI 0.15-0.19; 50 structures): the "
        "quality weight holds it down."
    )
    remedy = "Simplify the gate: one gate in place of the product (cross_modal_gate: simplified, or balanced)."
    reference = "Arevalo et al., arXiv:1702.01992, on gates between modalities"
    LIMIT = 0.3

    def measure(self, evidence: Evidence) -> Detailed:
        """Effective weight of the text in each structure."""
        details = {name: column(evidence, f"cross_modal.{name}") for name in ("quality", "fusion")}
        return Detailed(
            column(evidence, "cross_modal.effective"), ids(evidence), "effective weight of the text", {"": details}
        )

    def control(self, evidence: Evidence) -> Measured:
        """The weight of the same variant with all its sigmoids at one half, as before training."""
        weight = gates.untrained_weight(evidence.network)
        return constant(weight, ids(evidence), "effective weight with every sigmoid at one half")

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where the mean weight has its whole interval below 0.3."""
        weight = mean_of(effect.values)
        figures = f"({weight.text('weight')}; untrained {number(control.mean)}; {weight.structures})"
        return settle(
            weight.below(self.LIMIT),
            weight,
            figures + self._explanation(effect),
            found="the effective weight of the text is low",
            clear="the effective weight of the text is not low",
            unknown="the effective weight of the text is low",
            units=worst(effect, largest=False),
        )

    @staticmethod
    def _explanation(effect: Measured) -> str:
        """Which factor holds the weight down, where the decision path names one."""
        quality, fusion = (effect.each(k) if isinstance(effect, Detailed) else None for k in ("quality", "fusion"))
        path = decision_path(quality, fusion, effect.values)
        return next((f": {step.explanation}" for step in path if step.weight == "effective"), "")


class LowQualityWeight(Rule):
    """The text-quality detector of the gated cross-modal attention discounts most texts.

    Second branch of the decision path. The detector is meant to tell poor texts from good ones. Where it gives most
    texts of a data set a weight below one half, it is not telling them apart but turning text down as such; the
    original multiplies a score by ``sigmoid(|t| - 3)``, so that a short vector counts as poor whatever it says. The
    control is a detector at one half for every text.

    Threshold: a mean quality weight below 0.5 with its whole interval, the point from which on it takes more than it
    leaves.
    """

    code = "GA310"
    name = "low quality weight"
    severity = "warning"
    needs = frozenset({"data", "gated_cross_modal"})
    summary = "the text-quality detector discounts most texts"
    example = "The quality weight is 0.31 (95 % CI 0.29-0.33; 50 structures), and no text of the data set gets 0.5."
    remedy = (
        "Improve the quality detector (cross_modal_gate: improved-quality): a shallower network, a learnable "
        "threshold, a weighted average in place of the product."
    )
    reference = LowEffectiveWeight.reference
    LIMIT = 0.5

    def applies(self, evidence: Evidence) -> str | None:
        """Only variants that have a detector."""
        reason = super().applies(evidence)
        if reason is None and "cross_modal.quality" not in evidence.structures:
            return f"the {evidence.network.config.cross_modal_gate} gate has no text-quality detector"
        return reason

    def measure(self, evidence: Evidence) -> Measured:
        """Quality weight of each structure's text."""
        return Measured(column(evidence, "cross_modal.quality"), ids(evidence), "quality weight of the text")

    def control(self, evidence: Evidence) -> Measured:
        """A detector that leaves every text at one half."""
        return constant(0.5, ids(evidence), "quality weight of an undecided detector")

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where the mean weight has its whole interval below that of an undecided detector."""
        weight = mean_of(effect.values)
        share = float(np.mean(effect.values[np.isfinite(effect.values)] < self.LIMIT)) if effect.defined else math.nan
        figures = f"({weight.text('weight')}; {number(share, '%')} % of texts below one half; {weight.structures})"
        return settle(
            weight.below(control.mean),
            weight,
            figures,
            found="the text-quality detector discounts most texts",
            clear="the text-quality detector lets texts through",
            unknown="the text-quality detector discounts most texts",
            units=worst(effect, largest=False),
        )


class UnfinishedWarmUp(Rule):
    """The checkpoint was taken before the gate's warm-up had ended.

    Third branch of the decision path: where training is unstable the gate is scaled up over the first steps. The step
    is stored with the weights, and in evaluation the gate keeps the strength it had: a checkpoint from the middle of
    the warm-up uses a share of its gate, and every figure about it is that of a network in transition. Whether
    training was unstable cannot be read from the weights: GA313 reads it from what the training monitor wrote.

    Threshold: fewer steps than the warm-up has. The control is a warm-up that has ended.
    """

    code = "GA311"
    name = "unfinished warm-up"
    severity = "warning"
    needs = frozenset({"weights", "gated_cross_modal"})
    summary = "the checkpoint was taken before the gate's warm-up had ended"
    example = "Step 500 of a warm-up of 2000: the gate works at 25 % of its strength."
    remedy = "Take a later checkpoint, or shorten the warm-up (cross_modal_gate_warmup_steps)."
    reference = "Goyal et al., arXiv:1706.02677, on warming up"

    def applies(self, evidence: Evidence) -> str | None:
        """Only the variant with a warm-up."""
        reason = super().applies(evidence)
        config = evidence.network.config
        if reason is None and (config.cross_modal_gate != "warm-up" or config.cross_modal_gate_warmup_steps <= 0):
            return "the network's gate has no warm-up"
        return reason

    def measure(self, evidence: Evidence) -> Measured:
        """Steps taken over steps of the warm-up, at most 1."""
        return constant(gates.warm_up(evidence.network), ("gated_cross_attention",), "share of the warm-up done")

    def control(self, evidence: Evidence) -> Measured:
        """A warm-up that has ended."""
        return constant(1.0, ("gated_cross_attention",), "share of the warm-up done at its end")

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where steps are missing."""
        done = f"{number(effect.mean, '%')} % of the warm-up's steps are done"
        if effect.mean >= control.mean:
            return Verdict(False, done)
        return Verdict(True, f"the warm-up of the gate has not ended ({done})", units=effect.units)
