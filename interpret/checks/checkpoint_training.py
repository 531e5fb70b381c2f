"""Rules on what training did to the weights: modules it never reached, and weights changed after it."""

from __future__ import annotations

import math

import numpy as np

from interpret.checks import weights
from interpret.checks.base import Measured, Rule, Verdict
from interpret.checks.evidence import Evidence
from interpret.checks.listing import count, listed
from interpret.gradients import CUT_OFF


class UntrainedModules(Rule):
    """Modules that still hold the weights they were initialised with.

    PyTorch draws weight and bias of a linear layer uniformly on +-b, b = 1/sqrt(fan in). Training pushes
    weights across that bound within a few steps. A module is at its initial state when no weight lies beyond
    the bound, a Kolmogorov-Smirnov test against the uniform distribution does not reject and the spread is
    b/sqrt(3) (level 0.01, Bonferroni over all tests of the network); a batch norm when its running mean is 0
    and variance 1, so that it never saw a batch; a layer norm when it is exactly 1 and 0. Whatever such a
    module computes, an attention map above all, is an image of random numbers. Modules that no network of
    this configuration uses for its prediction are left out: they are expected to be untrained, and CK105
    names them.

    Thresholds: how many weights it takes to tell is read from the network itself. Where the median layer has
    a share f of its weights beyond the bound, a layer of n weights that moved alike has none with probability
    exp(-n f), and n is chosen so that this happens to none of the m layers but with probability 0.01: n =
    ln(m / 0.01) / f, some 220 in a network with 4 % of its weights beyond the bound. Smaller layers of one
    parent are tested together, and left out where they are too few. Where the median layer has no weight
    beyond the bound, 1,000 are asked for: had they moved by 1 % of the bound, three or four steps of Adam,
    five would lie beyond it. Weights converted from half precision may lie 2^-8 beyond the bound by rounding.
    """

    code = "CK104"
    name = "untrained modules"
    severity = "error"
    needs = frozenset({"weights"})
    summary = "modules are still at their initial distribution"
    example = (
        "`fine_grained_attention.a2t_query` (64 to 64, b = 0.125): of 4,160 parameters the largest is "
        "0.9997 b, and the Kolmogorov-Smirnov test gives p = 0.7. In a trained network some 4 % are beyond "
        "b. Its attention map is random."
    )
    remedy = (
        "Check that these modules were in the optimizer and in the file; do not interpret what they compute "
        "until they are trained."
    )
    reference = (
        "PyTorch, torch.nn.Linear.reset_parameters; He et al., arXiv 1502.01852; Massey, J. Am. Stat. "
        "Assoc. 46, 68 (1951)"
    )

    def measure(self, evidence: Evidence) -> Measured:
        """1 for each module on the way to the prediction that is at its initial state, else 0."""
        return weights.initial_modules(evidence.network, "module is at its initial state (1) or not (0)")

    def control(self, evidence: Evidence) -> Measured:
        """The same tests on a freshly initialised copy: the share of its modules that they recognise."""
        return weights.initial_modules(evidence.network, "the same in a freshly initialised copy (seed 0)", fresh=True)

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """One module is enough, where the tests recognise an initial state at all."""
        tested = len(effect.units)
        if not tested:
            return Verdict(None, "no module is large enough to tell")
        seen = f"{int(control.values.sum())} of {len(control.units)} in a freshly initialised copy"
        units = tuple(unit for unit, value in zip(effect.units, effect.values, strict=True) if value > 0)
        if not units:
            return Verdict(False, f"none of {count(tested, 'module')} is at its initial state ({seen})")
        return Verdict(
            True,
            f"{len(units)} of {count(tested, 'module')} still at the initial state ({seen}): " + listed(units),
            units=units,
        )


class DeadBranches(Rule):
    """Parts of this architecture that cannot reach the prediction, whatever their weights.

    The tokens enhanced by the atoms are not read by anything, so the token-to-atom attention is never trained
    and its map is that of random weights. Cross-modal attention has one query and one key: its softmax is 1
    whatever query and key are. The last edge-gated convolution updates bonds that nothing reads. None of this
    is a defect of this checkpoint; but a figure made of such a branch shows random numbers, and interpreting
    it is a mistake that has been made. Found by a backward pass in float64 over three made-up crystals: a
    module counts where its gradient is zero in a freshly initialised network of the same configuration as
    well as in this one.

    Threshold: a gradient norm below 1e-12 of the largest in the network. What is zero by construction comes
    out below 1e-15 in float64.
    """

    code = "CK105"
    name = "branches without gradient"
    severity = "info"
    needs = frozenset({"weights"})
    summary = "branches of this architecture never reach the prediction"
    example = (
        "A network with fine-grained attention: 11 modules have a gradient below 1e-16, in a fresh copy "
        "too; five of them are the token-to-atom branch. Its attention map means nothing."
    )
    remedy = "Nothing to repair in this file: read no attention map, norm or weight of these branches."
    reference = "Jain and Wallace, Attention is not Explanation, arXiv 1902.10186"

    def measure(self, evidence: Evidence) -> Measured:
        """Gradient of each module, relative to the largest."""
        return weights.reach(evidence)

    def control(self, evidence: Evidence) -> Measured:
        """The same in a freshly initialised network: 0 for all draws, or not."""
        return weights.fresh_reach(evidence.network)

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Cut off here and in a fresh copy alike."""
        if not effect.defined:
            return Verdict(None, "the gradient is not finite")
        units = _cut_off(effect, control, fresh=True)
        if not units:
            return Verdict(False, f"all of {count(len(effect.units), 'module')} can reach the prediction")
        return Verdict(
            True,
            f"{len(units)} of {len(effect.units)} modules cannot reach the prediction, by construction: "
            + listed(weights.branches(units)),
            units=units,
        )


class RescaledText(Rule):
    """Weights of the text transform that were multiplied after training.

    Cosines between atoms and transformed text can be raised without learning anything, by multiplying the
    weights of `text_transform` in a finished checkpoint: the text then drowns the atoms it is added to.
    Training moves all linear layers of a network by like amounts, so the spread of a weight over the spread
    it was drawn with (b/sqrt(3) with b = 1/sqrt(fan in)) is of one order throughout. The spreads of the other
    linear layers are the control.

    Thresholds: a factor of 3 either way against the median of the others, and a robust z of the logarithm
    above 3.5 (Iglewicz and Hoaglin's bound for outliers). In healthy networks the factor stayed between 0.9
    and 1.1, also where a learnable text scale of 12 was trained; the z keeps networks silent in which all
    layers have spread out. At least eight other layers are needed.
    """

    code = "CK108"
    name = "rescaled text transform"
    severity = "warning"
    needs = frozenset({"weights"})
    summary = "text_transform weights are far out of line with their neighbours"
    example = (
        "`text_transform.3` has 12.1 times the spread it was drawn with; the 50 other layers have 1.01 "
        "times, none more than 1.4. Factor 12.0, robust z 50."
    )
    remedy = (
        "Ask where the file comes from and take the checkpoint that training wrote; use a learnable text "
        "scale if the text should weigh more."
    )
    reference = "Iglewicz and Hoaglin, How to Detect and Handle Outliers, ASQC Quality Press (1993)"
    factor, robust_z, fewest = 3.0, 3.5, 8

    def applies(self, evidence: Evidence) -> str | None:
        """Without a text transform nothing can be rescaled."""
        if not self.measure(evidence).units:
            return "the network has no text transform that runs"
        return super().applies(evidence)

    def measure(self, evidence: Evidence) -> Measured:
        """Logarithm of the spread over the initial one, of the linear layers of text transforms."""
        return weights.log_spreads(
            evidence.network, "log of the spread over the initial one, text transform", text=True
        )

    def control(self, evidence: Evidence) -> Measured:
        """The same for all other linear layers on the way to the prediction."""
        return weights.log_spreads(evidence.network, "the same for the other linear layers of the network", text=False)

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """The farthest layer of a text transform against the distribution of the others."""
        if control.defined < self.fewest:
            return Verdict(None, f"only {count(control.defined, 'other linear layer')} to compare with")
        middle = float(np.median(control.values))
        # Never below the sampling error of a spread over a hundred weights.
        spread = max(1.4826 * float(np.median(np.abs(control.values - middle))), 0.05)
        distance = effect.values - middle
        z = distance / spread
        out = (np.abs(distance) > math.log(self.factor)) & (np.abs(z) > self.robust_z)
        order = np.argsort(-np.abs(distance), kind="stable")
        low, high = (math.exp(q) for q in np.quantile(control.values, (0.025, 0.975)))
        text = (
            f"{effect.units[order[0]]} has {math.exp(effect.values[order[0]]):.3g} times its initial spread "
            f"(the {len(control.units)} other layers {math.exp(middle):.3g}, 95 % of them "
            f"{low:.3g}-{high:.3g}; robust z {z[order[0]]:.1f})"
        )
        return Verdict(bool(out.any()), text, units=tuple(effect.units[i] for i in order if out[i]))


class CutOffModules(Rule):
    """Modules that could reach the prediction in this architecture, and do not with these weights.

    The gradient of the prediction to every module is taken by a backward pass in float64 over three made-up
    crystals, and held against a freshly initialised network of the same configuration. A module whose
    gradient vanishes here and not there was cut off by weights further on: columns set to zero, a gate shut
    for good, a warm-up that never began, units that are off for every input. What it computes has no
    influence, and it cannot be trained any further.

    Threshold: a gradient norm below 1e-12 of the largest in the network, for each of four draws of crystals
    and texts. A sigmoid gate at a bias of -30 passes 1e-13; in float32 such a share is lost in rounding. The
    smallest gradient of a module in use was 2e-10 in freshly initialised networks and 1e-6 in trained ones.
    """

    code = "CK109"
    name = "modules cut off"
    severity = "warning"
    needs = frozenset({"weights"})
    summary = "no gradient from the prediction reaches modules that should have one"
    example = (
        "The columns for the text were zeroed in fusion, attention and head: `text_projection` has a "
        "gradient of exactly 0, in a fresh copy 3e-2 of the largest. The network cannot read its text."
    )
    remedy = (
        "Look for zeroed weights or a shut gate between these modules and the head; the modules listed can be left out."
    )
    reference = (
        "Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks, AISTATS 2010"
    )

    def measure(self, evidence: Evidence) -> Measured:
        """Gradient of each module, relative to the largest."""
        return weights.reach(evidence)

    def control(self, evidence: Evidence) -> Measured:
        """The same in a freshly initialised network."""
        return weights.fresh_reach(evidence.network)

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Cut off here and not in a fresh copy."""
        if not effect.defined:
            return Verdict(None, "the gradient is not finite")
        units = _cut_off(effect, control, fresh=False)
        if not units:
            return Verdict(False, f"a gradient reaches each of {count(len(effect.units), 'module')} that can have one")
        return Verdict(
            True,
            f"no gradient reaches {count(len(units), 'module')} that a fresh copy uses: "
            + listed(weights.branches(units)),
            units=units,
        )


def _cut_off(effect: Measured, control: Measured, *, fresh: bool) -> tuple[str, ...]:
    """Modules without gradient here, and in a fresh copy (or not)."""
    pairs = zip(effect.units, effect.values, control.values, strict=True)
    return tuple(unit for unit, here, there in pairs if here < CUT_OFF and (there < CUT_OFF) == fresh)
