"""Rules on what a middle fusion does to the atoms: too little, too much, or nothing that alpha tells."""

from __future__ import annotations

from interpret.checks import gate_measures as gates
from interpret.checks.base import Measured, Rule, Verdict, worst
from interpret.checks.estimates import (
    Detailed,
    by_layer,
    each_layer,
    mean_of,
    number,
    settle,
)
from interpret.checks.evidence import Evidence


class _ChangeByText(Rule):
    """A rule on how far the text that a fusion lets in moves the atoms."""

    def applies(self, evidence: Evidence) -> str | None:
        """The gate must have been closed in a second pass."""
        return super().applies(evidence) or gates.without_closed_gate(evidence)

    def measure(self, evidence: Evidence) -> Measured:
        """Mean over a structure's atoms of the change by the text, against the fusion with its gate closed."""
        return gates.text_change(evidence)

    def control(self, evidence: Evidence) -> Measured:
        """The change that the fusion's layer norm makes with the gate closed."""
        return gates.norm_change(evidence)


class WeakChange(_ChangeByText):
    """The text that the fusion lets in hardly moves the atoms.

    The change by fusion is usually given as ``|x_out - x_in| / |x_in|``. Most of that is the layer norm at the end of
    the fusion, which gives every atom a new length whatever the text says: in healthy networks it is 55 % where the
    text accounts for 13 %, and a closed gate still shows 55 %. Here the fusion's output is compared with the output
    of the same layer norm had the gate been closed: what is left is the text's doing. The change by the norm alone
    stands beside it as control.

    Threshold: 5 %, as in common use for the raw change. Healthy networks have 12 to 40 %.
    """

    code = "GA304"
    name = "weak change by fusion"
    severity = "warning"
    needs = frozenset({"data", "fusion"})
    summary = "the text hardly changes the atoms"
    example = (
        "The raw change by fusion is 54 %, which looks strong. With the gate closed the layer norm alone makes 54 %: "
        "the text moves the atoms by 0.1 %."
    )
    remedy = (
        "Look at GA302 and GA303 for the cause: a closed gate, or a text much shorter than the atoms. Train with a "
        "learnable text scale, or fuse at an earlier layer."
    )
    reference = "Ba, Kiros and Hinton, arXiv:1607.06450, on what layer normalisation does to the length of a vector"
    LIMIT = 0.05

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where the mean change by the text has its whole interval below 5 %."""
        return each_layer(effect, control, self._judge)

    def _judge(self, effect: Detailed, control: Measured) -> Verdict:
        change = mean_of(effect.values)
        figures = gates.change_figures(change, control)
        return settle(
            change.below(self.LIMIT),
            change,
            figures,
            found="the text hardly changes the atoms",
            clear="the text changes the atoms",
            unknown="the text changes the atoms",
            units=worst(effect, largest=False),
        )


class ExcessiveChange(_ChangeByText):
    """The text that the fusion lets in changes the atoms more than half of their length: it covers what they were.

    All atoms of a structure receive the same text. Where it outweighs their own features they become alike, and later
    layers see the description in place of the crystal. As in GA304 the change is that by the text alone, against the
    same fusion with its gate closed; the raw change would call every network excessive in which the layer norm gives
    atoms a new length.

    Threshold: 50 %, as in common use for the raw change. Healthy networks have 12 to 40 %, networks that have barely
    been trained 60 to 90 %.
    """

    code = "GA305"
    name = "excessive change by fusion"
    severity = "warning"
    needs = frozenset({"data", "fusion"})
    summary = "the text changes the atoms by more than half of their length"
    example = (
        "Someone multiplied the last layer of text_transform by 12 to raise a cosine. The text now changes the atoms "
        "by 104 % of their length, where it was 15 %."
    )
    remedy = (
        "Check the scale of text_transform (GA303, and CK for weights scaled after training); train longer, or with a "
        "learnable text scale that starts small. See the ND rules for what it does to the differences between atoms."
    )
    reference = WeakChange.reference
    LIMIT = 0.5

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where the mean change by the text has its whole interval above 50 %."""
        return each_layer(effect, control, self._judge)

    def _judge(self, effect: Detailed, control: Measured) -> Verdict:
        change = mean_of(effect.values)
        figures = gates.change_figures(change, control)
        return settle(
            change.above(self.LIMIT),
            change,
            figures,
            found="the text changes the atoms excessively",
            clear="the text leaves the atoms recognisable",
            unknown="the text covers the atoms",
            units=worst(effect),
        )


class UnrelatedToChange(Rule):
    """Alpha says nothing about how much text an atom receives.

    Alpha is read as the weight of the text. Between the atoms of a structure, which all receive the same text, it
    should then go with the change that the text makes. It need not: alpha weighs all channels alike, the change weighs
    them by the text. The rule correlates alpha with the norm of gate times text over that of the atom, within
    structures, between atoms of different classes (atoms of one class have equal values by construction); the control
    is the same with the alphas of a structure exchanged among its atoms.

    Threshold: the mean correlation lies within 0.1 of 0 with its whole interval, that is, alpha accounts for less than
    1 % of the change. That takes some hundred structures of three or more classes to show: "no correlation was found"
    in a few is not a finding.
    """

    code = "GA306"
    name = "gate unrelated to change"
    severity = "info"
    needs = frozenset({"data", "fusion", "text_transform"})
    summary = "alpha says nothing about how much text an atom receives"
    example = (
        "In 400 structures the correlation between alpha and the text an atom receives is 0.01 (95 % CI -0.04 to "
        "0.06), and 0.00 with the alphas exchanged: a ranking of atoms by alpha is not one by text received."
    )
    remedy = "Rank atoms by the norm of gate times text (column gated_text_ratio of the atoms table), not by alpha."
    reference = "Jain and Wallace, NAACL 2019, who ask the same of attention weights"
    LIMIT = 0.1

    def applies(self, evidence: Evidence) -> str | None:
        """Only where every atom receives the text as it is."""
        reason = super().applies(evidence)
        kind = evidence.network.config.middle_fusion_type
        if reason is None and kind != "broadcast":
            return f"{kind} fusion gives each atom a text of its own, which no tap holds"
        return reason

    def measure(self, evidence: Evidence) -> Measured:
        """Correlation between alpha and gated text over atom norm, between a structure's classes of atoms."""
        return by_layer(
            evidence,
            evidence.fusion_layers,
            "correlation of alpha with the change by the text within a structure",
            lambda layer: gates.change_correlation(evidence, layer),
        )

    def control(self, evidence: Evidence) -> Measured:
        """The same with a structure's alphas exchanged at random among its classes, mean of 20 draws."""
        return by_layer(
            evidence,
            evidence.fusion_layers,
            "the same with alphas exchanged within the structure",
            lambda layer: gates.permuted_correlation(evidence, layer, draws=20, seed=0),
        )

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where the mean correlation has its whole interval within 0.1 of 0."""
        return each_layer(effect, control, self._judge)

    def _judge(self, effect: Detailed, control: Measured) -> Verdict:
        mean = mean_of(effect.values)
        figures = (
            f"({mean.text('correlation')}; with alphas exchanged {number(control.mean)}; "
            f"{mean.structures} of 3 or more classes)"
        )
        related = bool(mean.above(self.LIMIT) or mean.below(-self.LIMIT))
        unrelated = bool(mean.above(-self.LIMIT) and mean.below(self.LIMIT))
        return settle(
            True if unrelated else (False if related else None),
            mean,
            figures,
            found="alpha says nothing about the change by the text",
            clear="alpha goes with the change by the text",
            unknown="alpha goes with the change by the text",
        )
