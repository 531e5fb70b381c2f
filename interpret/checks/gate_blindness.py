"""Rules on gates that see less than they are given: blind to text, to atoms, or to both."""

from __future__ import annotations

import numpy as np

from interpret.checks import gate_measures as gates
from interpret.checks.base import Measured, Rule, Verdict, worst
from interpret.checks.estimates import (
    Detailed,
    by_layer,
    each_layer,
    mean_of,
    number,
    ratio_of,
    settle,
)
from interpret.checks.evidence import Evidence
from interpret.checks.gates import SaturatedGate


class BlindToText(Rule):
    """The gate is the same whatever text it is given.

    A gate weighs an atom against a text. Here each structure is given the texts of two others, and the gate's values
    are compared with those under its own. The control is how far gate values differ between two atoms of the data: a
    gate that follows its atoms alone moves by a vanishing share of that.

    Threshold: 2 % of the difference between two atoms. Healthy networks have 7 to 40 %; the text's share falls with
    the scale ratio (GA303), and at a ratio of 12.6 it is near 3 %.
    """

    code = "GA307"
    name = "gate blind to text"
    severity = "warning"
    needs = frozenset({"data", "fusion"})
    summary = "the gate does not depend on the text"
    example = (
        "With another structure's text, gate values move by 0.0002; two atoms of the data differ by 0.12. The gate "
        "moves by 0.2 % of what it could: it is a function of the atom alone."
    )
    remedy = (
        "Normalise the gate's inputs (`middle_fusion_use_gate_norm`); see GA303 for the scales and CK for dead weights."
    )
    reference = "Arevalo et al., arXiv:1702.01992, on gates between modalities"
    LIMIT = 0.02

    def measure(self, evidence: Evidence) -> Measured:
        """Mean absolute difference of a structure's gate values under other structures' texts."""
        return gates.change_by_text(evidence)

    def control(self, evidence: Evidence) -> Measured:
        """Mean absolute difference of gate values between two atoms of the data, from their spread."""
        return by_layer(
            evidence,
            evidence.fusion_layers,
            "mean difference of gate values between two atoms of the data",
            lambda layer: np.full(len(evidence.structures), gates.difference_of_atoms(evidence, layer)),
        )

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where the difference by text is below 2 % of that between atoms with its whole interval."""
        return each_layer(effect, control, self._judge)

    def _judge(self, effect: Detailed, control: Measured) -> Verdict:
        if not control.mean > gates.STILL:
            return Verdict(None, f"gate values differ by {number(control.mean)} between atoms: see GA302 and GA312")
        share = ratio_of(effect.values, control.values)
        figures = (
            f"({share.text('change by text', '%')} of the difference between atoms, {number(effect.mean)} against "
            f"{number(control.mean)}; {share.structures})"
        )
        return settle(
            share.below(self.LIMIT),
            share,
            figures,
            found="the gate does not depend on the text",
            clear="the gate depends on the text",
            unknown="the gate depends on the text",
            units=worst(effect, largest=False),
        )


class BlindToAtoms(Rule):
    """The gate is the same for every atom of a structure.

    The counterpart of GA307: the difference of gate values between atoms of a structure, against the change by another
    structure's text. A gate that follows the text alone gives all atoms the same mixture; the fusion then adds one
    vector to all of them and can only make them more alike. Structures whose atoms are all of one class are left out:
    their gates are equal in any network.

    Threshold: 5 % of the change by text. Healthy networks have 200 to 900 %.
    """

    code = "GA308"
    name = "gate blind to atoms"
    severity = "warning"
    needs = frozenset({"data", "fusion"})
    summary = "the gate does not depend on the atom"
    example = (
        "Gate values differ by 0.0004 between the atoms of a structure, and by 0.03 when the text is exchanged: 1.3 %. "
        "The gate is a function of the text alone."
    )
    remedy = (
        "Use a fusion that treats atoms differently (positional, element, token attention); see GA303 for the scales."
    )
    reference = BlindToText.reference
    LIMIT = 0.05

    def measure(self, evidence: Evidence) -> Measured:
        """Mean absolute difference of gate values between two atoms of a structure, from their spread."""
        return by_layer(
            evidence,
            evidence.fusion_layers,
            "mean difference of gate values between two atoms of a structure",
            lambda layer: gates.difference_within(evidence, layer),
        )

    def control(self, evidence: Evidence) -> Measured:
        """Mean absolute difference of a structure's gate values under other structures' texts."""
        return gates.change_by_text(evidence)

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where the difference between atoms is below 5 % of that by text with its whole interval."""
        return each_layer(effect, control, self._judge)

    def _judge(self, effect: Detailed, control: Measured) -> Verdict:
        if not control.mean > gates.STILL / 10:
            return Verdict(None, f"gate values change by {number(control.mean)} with the text: see GA307 and GA312")
        share = ratio_of(effect.values, control.values)
        figures = (
            f"({share.text('difference between atoms', '%')} of the change by text, {number(effect.mean)} against "
            f"{number(control.mean)}; {share.structures} of 2 or more classes)"
        )
        return settle(
            share.below(self.LIMIT),
            share,
            figures,
            found="the gate does not depend on the atom",
            clear="the gate depends on the atom",
            unknown="the gate depends on the atom",
            units=worst(effect, largest=False),
        )


class ConstantGate(Rule):
    """The gate has one value for everything: it depends neither on the atom nor on the text.

    A gate whose weights have died is the sigmoid of its bias. It scales each channel of the text by a fixed number,
    which a linear layer could do, and its alpha is a property of the weights, not of any atom. GA307 and GA308 compare
    the gate's dependence on text with that on atoms, and cannot tell where there is neither; this rule holds both
    against the difference that a freshly initialised gate would show between the atoms of the same structure. A
    saturated gate is constant too and is left to GA302.

    Threshold: values move by less than 0.001, between atoms and with the text. An untrained gate has 0.01 or more.
    """

    code = "GA312"
    name = "constant gate"
    severity = "warning"
    needs = frozenset({"data", "fusion"})
    summary = "the gate is the same for all atoms and texts"
    example = (
        "The weights of a gate were set to zero by pruning. All gate values are 0.5: the largest difference between "
        "atoms, or with another text, is 0, where a fresh gate would show 0.02."
    )
    remedy = "Train the gate again, or leave it out: a constant gate is a scale that text_transform can learn."
    reference = BlindToText.reference

    def measure(self, evidence: Evidence) -> Detailed:
        """The larger of a structure's difference of gate values between atoms and with other texts."""
        return by_layer(
            evidence,
            evidence.fusion_layers,
            "largest difference of gate values, between atoms or by text",
            lambda layer: gates.largest_difference(evidence, layer),
            lambda layer: {"saturated": gates.saturated_share(evidence, layer)},
        )

    def control(self, evidence: Evidence) -> Measured:
        """The difference between atoms that a freshly initialised gate would show, from their features' variance."""
        return by_layer(
            evidence,
            evidence.fusion_layers,
            "difference between atoms expected of a freshly initialised gate",
            lambda layer: gates.fresh_difference(evidence, layer),
        )

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where the mean difference has its whole interval below 0.001 and the gate is not saturated."""
        return each_layer(effect, control, self._judge)

    def _judge(self, effect: Detailed, control: Measured) -> Verdict:
        difference, saturated = mean_of(effect.values), mean_of(effect.each("saturated")).value
        figures = f"({difference.text('difference')}; a fresh gate {number(control.mean)}; {difference.structures})"
        if saturated > SaturatedGate.LIMIT:
            return Verdict(False, f"the gate is saturated, see GA302 {figures}", difference.interval)
        return settle(
            difference.below(gates.STILL),
            difference,
            figures,
            found="the gate is the same for all atoms and texts",
            clear="the gate varies",
            unknown="the gate is constant",
        )
