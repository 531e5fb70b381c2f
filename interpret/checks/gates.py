"""Rules on the values of middle-fusion gates: spread, saturation, and the scales they weigh."""

from __future__ import annotations

import math

import numpy as np

from interpret.checks import gate_measures as gates
from interpret.checks.base import Measured, Rule, Verdict, worst
from interpret.checks.estimates import (
    TOO_FEW,
    Detailed,
    by_layer,
    column,
    each_layer,
    mean_of,
    number,
    ratio_of,
    settle,
)
from interpret.checks.evidence import Evidence


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
