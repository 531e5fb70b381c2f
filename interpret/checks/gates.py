"""Rules of the gates family: what the gates of middle fusion and of the gated cross-modal attention do."""

from __future__ import annotations

import math

import numpy as np

from interpret.checks import gate_measures as gates
from interpret.checks.base import Measured, Rule, Verdict, constant, worst
from interpret.checks.estimates import (
    TOO_FEW,
    Detailed,
    by_layer,
    column,
    each_layer,
    ids,
    mean_of,
    number,
    ratio_of,
    settle,
)
from interpret.checks.evidence import Evidence
from interpret.metrics.fusion import decision_path


class AlphaSpread(Rule):
    """The spread of alpha between atoms is what a mean over independent channels leaves, whatever the gate does.

    Alpha is the mean of a gate over its d channels. A mean of d independent numbers spreads by the channels' own
    spread divided by sqrt(d): 16 times less for 256 channels. A small spread of alpha therefore says neither that the
    gate treats all atoms alike, nor that what is left of it is a signal. The rule compares the spread of alpha over
    all atoms with the one that independent channels of the same spread would leave (the null), and gives the
    intraclass correlation, the share of the gate's variance that the channels of an atom have in common.

    Thresholds: the ratio of the two stays below sqrt(2), that is, channels share less than half of alpha's variance;
    and the channels spread by 0.2 or more, two fifths of the most that values in [0, 1] can: the gate does tell atoms
    apart, and alpha hides how. Where channels spread less there is nothing to misread: healthy networks of this family
    have 0.01 to 0.13 and a ratio of 0.6 to 1.9, which is no fault of theirs.
    """

    code = "GA301"
    name = "alpha spread of independent channels"
    severity = "warning"
    needs = frozenset({"data", "fusion"})
    summary = "alpha spread is what independent channels give"
    example = (
        "256 channels spread by 0.3856 between atoms, alpha by 0.0289. Independent channels would leave "
        "0.3856 / 16 = 0.0241: the ratio is 1.2, and 69 % of alpha's variance is the noise of a mean."
    )
    remedy = (
        "Do not read alpha atom by atom: look at single channels, or use another reduction (first channel, learned "
        "weights). To make alpha carry a signal, train with a scalar gate or a gate diversity loss."
    )
    reference = "Shrout and Fleiss, Psychol. Bull. 86, 420 (1979), case 1, for the intraclass correlation"
    LIMIT = math.sqrt(2)
    LEAST_CHANNEL_SPREAD = 0.2

    def applies(self, evidence: Evidence) -> str | None:
        """The null needs the sums over all atoms."""
        missing = any(layer not in evidence.moments for layer in evidence.fusion_layers)
        return super().applies(evidence) or ("the gates' sums over all atoms were not kept" if missing else None)

    def measure(self, evidence: Evidence) -> Detailed:
        """Root mean square deviation of a structure's alphas from the mean over all atoms."""
        return by_layer(
            evidence,
            evidence.fusion_layers,
            "deviation of alpha from its mean over all atoms",
            lambda layer: gates.alpha_deviation(evidence, layer),
            lambda layer: gates.alpha_details(evidence, layer),
        )

    def control(self, evidence: Evidence) -> Measured:
        """The spread between atoms within a channel, divided by the root of the number of channels."""
        return by_layer(
            evidence,
            evidence.fusion_layers,
            "spread of the mean of as many independent channels",
            lambda layer: np.full(len(evidence.structures), float(evidence.moments[layer].independence_null().null)),
        )

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where the ratio of the two, over all atoms, has its whole interval below sqrt(2)."""
        return each_layer(effect, control, self._judge)

    def _judge(self, effect: Detailed, control: Measured) -> Verdict:
        null, spread, channels = control.mean, effect.number("channel_sd"), effect.number("channels")
        if not null > 0:
            return Verdict(None, "the gate is the same for all atoms: there is no spread to judge")
        atoms = effect.each("atoms")
        # The sample variance over all N atoms: one degree of freedom goes to their mean.
        correction = atoms.sum() / (atoms.sum() - 1)
        ratio = ratio_of(atoms * (effect.values / null) ** 2 * correction, atoms).map(math.sqrt)
        figures = (
            f"({ratio.text('ratio')}; {ratio.structures}; observed {number(ratio.value * null)}, "
            f"null {number(null)} = {spread:.4g} / sqrt({channels:.0f}), "
            f"intraclass correlation {number(effect.number('icc'))})"
        )
        if spread < self.LEAST_CHANNEL_SPREAD:
            return Verdict(False, f"the gate's channels differ little between atoms {figures}", ratio.interval)
        return settle(
            ratio.below(self.LIMIT),
            ratio,
            figures,
            found="alpha spread is what independent channels give",
            clear="alpha spreads more than independent channels would",
            unknown="alpha spreads more than independent channels would",
        )


class SaturatedGate(Rule):
    """Most gate values are at an end of the sigmoid, below 0.1 or above 0.9.

    There the gate hardly passes a gradient (at most 0.09 of what reaches it, against 0.25 in the middle), it cannot be
    trained out of it, and what it does is a switch, not a gate: closed, the text is shut out; open, it is added
    whatever the atom. The control is the share that a freshly initialised gate has on inputs of the same norm: inputs
    that have grown large saturate any gate.

    Threshold: more than half of the values, and more than the fresh gate. Healthy networks have below 3 %.
    """

    code = "GA302"
    name = "saturated gate"
    severity = "warning"
    needs = frozenset({"data", "fusion"})
    summary = "the gate is saturated"
    example = (
        "The bias of a gate has drifted to -10. All values lie below 0.1; a fresh gate on the same inputs has 0.01 % "
        "of them outside 0.1-0.9. The text never reaches the atoms, and no gradient opens the gate again."
    )
    remedy = (
        "Train the gate with a smaller learning rate or weight decay on its bias, or normalise its inputs "
        "(`middle_fusion_use_gate_norm`). Do not read its alpha as the weight of the text."
    )
    reference = "Glorot and Bengio, AISTATS 2010, on saturation of sigmoid units"
    LIMIT = 0.5

    def measure(self, evidence: Evidence) -> Detailed:
        """Share of a structure's gate values below 0.1 or above 0.9."""
        return by_layer(
            evidence,
            evidence.fusion_layers,
            "share of gate values below 0.1 or above 0.9",
            lambda layer: gates.saturated_share(evidence, layer),
            lambda layer: {"low": column(evidence, f"fusion.{layer}.gate_low_share")},
        )

    def control(self, evidence: Evidence) -> Measured:
        """The share that a freshly initialised gate has on inputs of the same norm, from the normal distribution."""
        return by_layer(
            evidence,
            evidence.fusion_layers,
            "share expected of a freshly initialised gate on inputs of the same norm",
            lambda layer: gates.fresh_saturation(evidence, layer),
        )

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where the mean share exceeds a half, and the fresh gate's share, with its whole interval."""
        return each_layer(effect, control, self._judge)

    def _judge(self, effect: Detailed, control: Measured) -> Verdict:
        share, excess = mean_of(effect.values), mean_of(effect.values - control.values)
        low = mean_of(effect.each("low")).value
        figures = (
            f"({share.text('share', '%')}, {number(low, '%')} % closed and {number(share.value - low, '%')} % open; "
            f"a fresh gate {number(control.mean, '%')} %; {share.structures})"
        )
        above, stands_out = share.above(self.LIMIT), excess.above(0.0)
        answer = False if stands_out is False else (above and stands_out)
        return settle(
            answer,
            share,
            figures,
            found="the gate is saturated",
            clear="the gate works within its range",
            unknown="the gate is saturated",
            units=worst(effect),
        )


class ScaleRatio(Rule):
    """Atoms and text enter the gate at very different scales, so that one of the two decides it alone.

    The gate is a linear map of atom and text side by side. Where one is ten times longer than the other, it makes 99 %
    of the variance of what goes into the sigmoid, and the gate cannot weigh the two. What counts is the ratio of the
    norms after the gate's own weights, which could make up for it: the control is the ratio at which they do.
    Scaling the text afterwards in a trained checkpoint changes the ratio and every cosine, and says nothing about the
    model.

    Thresholds: atoms 10 times the text, or text 5 times the atoms. They differ because atoms grow with every residual
    layer and nothing holds them back: healthy networks have 1.2 to 5.5 behind two ALIGNN layers, a text does not grow.
    With a norm at the gate's input the scales do not matter, and the rule does not apply.
    """

    code = "GA303"
    name = "scale ratio at the gate"
    severity = "warning"
    needs = frozenset({"data", "fusion", "text_transform"})
    summary = "atoms and text enter the gate at very different scales"
    example = (
        "Atoms have a norm of 27.4 at the gate, the transformed text 2.17: a ratio of 12.6, where the gate's weights "
        "make up for 1.0. The text decides 0.6 % of the variance at the sigmoid's input."
    )
    remedy = (
        "Train with `middle_fusion_use_gate_norm`, or with a learnable text scale. Do not scale the weights of "
        "text_transform in a trained checkpoint."
    )
    reference = "Ba, Kiros and Hinton, arXiv:1607.06450, on normalising the summed inputs of a layer"
    MOST, LEAST = 10.0, 1 / 5

    def applies(self, evidence: Evidence) -> str | None:
        """Not with a norm at the gate's input."""
        reason = super().applies(evidence)
        if reason is None and evidence.network.config.middle_fusion_use_gate_norm:
            return "the gate's inputs are normalised, so that their scales do not matter"
        return reason

    def measure(self, evidence: Evidence) -> Measured:
        """Mean norm of a structure's atoms over the norm of its transformed and scaled text."""
        return by_layer(
            evidence,
            evidence.fusion_layers,
            "norm of the atoms over that of the text at the gate's input",
            lambda layer: column(evidence, f"fusion.{layer}.scale_ratio"),
        )

    def control(self, evidence: Evidence) -> Measured:
        """The ratio at which both weigh alike: norm of the gate's weights on the text over those on the atoms."""
        return by_layer(
            evidence,
            evidence.fusion_layers,
            "ratio for which the gate's weights make up",
            lambda layer: np.full(len(evidence.structures), gates.balanced_ratio(evidence, layer)),
        )

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where the geometric mean of the ratio over its control has its interval outside 1/5 to 10."""
        return each_layer(effect, control, self._judge)

    def _judge(self, effect: Detailed, control: Measured) -> Verdict:
        if not (np.isfinite(control.mean) and control.mean > 0):
            return Verdict(None, "the gate's weights on atoms or text are zero: their scales do not reach it")
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(effect.values / control.values)
        ratio = mean_of(np.where(np.isfinite(logs), logs, np.nan)).map(math.exp)
        figures = f"({ratio.text('ratio')}; the gate's weights make up for {number(control.mean)}; {ratio.structures})"
        high, low = ratio.above(self.MOST), ratio.below(self.LEAST)
        if high or low:
            which = "atoms drown the text" if high else "the text drowns the atoms"
            return Verdict(True, f"{which} at the gate {figures}", ratio.interval, worst(effect, largest=bool(high)))
        if high is None or low is None:
            return Verdict(None, f"{TOO_FEW} whether one side decides the gate {figures}")
        return Verdict(False, f"atoms and text enter the gate at comparable scales {figures}", ratio.interval)


class WeakChange(Rule):
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

    def applies(self, evidence: Evidence) -> str | None:
        """The gate must have been closed in a second pass."""
        return super().applies(evidence) or gates.without_closed_gate(evidence)

    def measure(self, evidence: Evidence) -> Measured:
        """Mean over a structure's atoms of the change by the text, against the fusion with its gate closed."""
        return gates.text_change(evidence)

    def control(self, evidence: Evidence) -> Measured:
        """The change that the fusion's layer norm makes with the gate closed."""
        return gates.norm_change(evidence)

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


class ExcessiveChange(Rule):
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

    def applies(self, evidence: Evidence) -> str | None:
        """The gate must have been closed in a second pass."""
        return super().applies(evidence) or gates.without_closed_gate(evidence)

    def measure(self, evidence: Evidence) -> Measured:
        """Mean over a structure's atoms of the change by the text, against the fusion with its gate closed."""
        return gates.text_change(evidence)

    def control(self, evidence: Evidence) -> Measured:
        """The change that the fusion's layer norm makes with the gate closed."""
        return gates.norm_change(evidence)

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
    training was unstable cannot be read from a checkpoint; the training monitor says so.

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
