"""Rules of the checkpoint family: what the weights and the file say, without any data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from interpret.checks import weights
from interpret.checks.base import Measured, Rule, Verdict, constant
from interpret.checks.evidence import Evidence
from interpret.gradients import CUT_OFF, fresh_copy
from model.provenance import by_module

_SHOWN = 4


def _above(effect: Measured, control: Measured) -> tuple[str, ...]:
    """Units where the effect exceeds its control, largest first."""
    order = np.argsort(-effect.values, kind="stable")
    return tuple(effect.units[i] for i in order if effect.values[i] > control.values[i])


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")


class UnmatchedKeys(Rule):
    """Keys of the file without a place in the network, and parts of the network that the file does not fill.

    A checkpoint is loaded by name. A missing key leaves random weights where trained ones are expected, an
    unexpected one is dropped, one of another shape does both. Loading with ``strict=False`` says nothing
    about any of it, and predictions, gates and attention maps are then partly those of an untrained network.
    Here such a file is loaded only with ``--allow-partial``, and this rule says by module what did not match.
    A copy saved from a partially loaded network carries that history and is reported too.

    Threshold: one key. There is no number of random weights that does not matter.
    """

    code = "CK101"
    name = "unmatched keys"
    severity = "error"
    needs = frozenset({"weights"})
    summary = "keys of the file are missing, unexpected or of another shape"
    example = (
        "A checkpoint lost the 8 keys of `middle_fusion_modules.layer_1`. With `--allow-partial` the fusion "
        "runs on random weights: 8 keys missing, where a file that fits has none."
    )
    remedy = (
        "Load the file with the configuration it was trained with, or take a complete checkpoint. Do not "
        "interpret the modules listed."
    )
    reference = "PyTorch, torch.nn.Module.load_state_dict, argument strict"

    def applies(self, evidence: Evidence) -> str | None:
        """A network made in memory was not loaded."""
        if evidence.network.provenance is None:
            return "the network was made in memory, not loaded from a file"
        return super().applies(evidence)

    def measure(self, evidence: Evidence) -> Measured:
        """Keys that did not match, by module and kind of mismatch."""
        counts = {f"{module} (missing)": 0 for module in by_module(list(evidence.network.state_dict()))}
        for record in weights.history(evidence.network):
            kinds = {
                "missing": record.missing,
                "unexpected": record.unexpected,
                "reshaped": record.mismatched,
            }
            for kind, modules in kinds.items():
                for module, keys in modules.items():
                    unit = f"{module} ({kind})"
                    counts[unit] = counts.get(unit, 0) + len(keys)
        return weights.measured(counts, "keys of a module that did not match")

    def control(self, evidence: Evidence) -> Measured:
        """A file that fits has none."""
        return constant(0.0, self.measure(evidence).units, "keys that do not match in a file that fits")

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """One unmatched key is enough."""
        units = _above(effect, control)
        if not units:
            return Verdict(False, f"every key of the file found its place in {_count(len(effect.units), 'module')}")
        size = dict(zip(effect.units, effect.values, strict=True))
        return Verdict(
            True,
            f"{_count(int(sum(size[u] for u in units)), 'key')} of the checkpoint did not match the network: "
            + _listed([f"{unit.removesuffix(')')}, {size[unit]:.0f})" for unit in units]),
            units=units,
        )


class NonFiniteWeights(Rule):
    """Weights that are not a number, or infinite.

    One NaN in a weight makes every prediction, gate and attention map NaN that depends on it; a figure that
    skips NaN would silently rest on what is left. It comes from a training run that diverged, or from a file
    converted to half precision whose values overflowed. Parameters and buffers (running statistics) are
    looked at.

    Threshold: one value.
    """

    code = "CK102"
    name = "non-finite weights"
    severity = "error"
    needs = frozenset({"weights"})
    summary = "weights hold NaN or infinity"
    example = (
        "A run diverged in epoch 40 and was saved: 256 of 65,536 values of "
        "`alignn_layers.3.node_update.src_gate.weight` are NaN, and every prediction is NaN."
    )
    remedy = "Take the last checkpoint with finite weights; lower the learning rate or clip gradients and train again."
    reference = "IEEE 754-2019, section 6"

    def measure(self, evidence: Evidence) -> Measured:
        """Share of non-finite values in each tensor."""
        return weights.measured(
            weights.non_finite_shares(evidence.network), "share of the values of a tensor that are not finite"
        )

    def control(self, evidence: Evidence) -> Measured:
        """The same in a freshly initialised copy."""
        return weights.measured(
            weights.non_finite_shares(fresh_copy(evidence.network.config)),
            "the same in a freshly initialised copy (seed 0)",
        )

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """One value is enough."""
        units = _above(effect, control)
        if not units:
            return Verdict(False, f"all values of {_count(len(effect.units), 'tensor')} are finite")
        return Verdict(True, f"{_count(len(units), 'tensor')} with NaN or infinity: {_listed(units)}", units=units)


class ConstantTensors(Rule):
    """Weights that are zero, or all equal.

    A weight matrix of one value passes on only the sum of its inputs, a matrix of zeros nothing at all; a
    norm whose scale is zero everywhere shuts the branch behind it; a text scale of zero takes the text out of
    the fusion; a running variance of zero blows features up by 1/sqrt(eps) = 316. Zero-initialised weights
    that were never trained, a key filled with zeros by a conversion script and a branch switched off by hand
    all look like this. Legitimate constants are not counted: biases, and norms at weight 1 and bias 0.

    Threshold: exact equality. Two weights drawn from a continuous distribution are equal with probability
    zero, so no initialisation of these networks gives one.
    """

    code = "CK103"
    name = "constant tensors"
    severity = "error"
    needs = frozenset({"weights"})
    summary = "weight matrices or norm scales are zero or constant"
    example = (
        "All 16,384 values of `middle_fusion_modules.layer_2.text_transform.3.weight` are 0: no text enters the atoms."
    )
    remedy = (
        "Find out what wrote the constant (conversion, zero initialisation, pruning); train or load that tensor again."
    )
    reference = (
        "Goodfellow, Bengio and Courville, Deep Learning (2016), section 8.4: equal weights never break symmetry"
    )

    def measure(self, evidence: Evidence) -> Measured:
        """1 for each tensor that is zero or constant where it must not be, else 0."""
        return weights.measured(weights.constant_tensors(evidence.network), "tensor is zero or constant (1) or not (0)")

    def control(self, evidence: Evidence) -> Measured:
        """What drawing from a continuous distribution gives."""
        return constant(0.0, self.measure(evidence).units, "the same for weights drawn from a continuous distribution")

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """One tensor is enough."""
        units = _above(effect, control)
        if not units:
            return Verdict(False, f"none of {_count(len(effect.units), 'tensor')} is zero or constant")
        return Verdict(True, f"{_count(len(units), 'tensor')} zero or constant: {_listed(units)}", units=units)


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
            return Verdict(False, f"none of {_count(tested, 'module')} is at its initial state ({seen})")
        return Verdict(
            True,
            f"{len(units)} of {_count(tested, 'module')} still at the initial state ({seen}): " + _listed(units),
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
            return Verdict(False, f"all of {_count(len(effect.units), 'module')} can reach the prediction")
        return Verdict(
            True,
            f"{len(units)} of {len(effect.units)} modules cannot reach the prediction, by construction: "
            + _listed(weights.branches(units)),
            units=units,
        )


class MissingFusionLayers(Rule):
    """Middle fusion after layers that the network does not have.

    `middle_fusion_layers` counts ALIGNN layers from 0; graph convolution layers do not count. A number at or
    above `alignn_layers` names no layer: the module is built, saved and loaded, and never runs, without a
    word from the published code. A comparison "with and without middle fusion" then compares two networks
    without it.

    Threshold: one layer.
    """

    code = "CK106"
    name = "missing fusion layers"
    severity = "error"
    needs = frozenset({"weights"})
    summary = "middle fusion is set after layers that do not exist"
    example = '`middle_fusion_layers` is "4" in a network of 4 ALIGNN layers (0 to 3): the fusion never runs.'
    remedy = (
        "Count ALIGNN layers from 0 and train again; results of this checkpoint are those of a network "
        "without this fusion."
    )
    reference = "Choudhary and DeCost, npj Comput. Mater. 7, 185 (2021), for the layers that there are"

    def applies(self, evidence: Evidence) -> str | None:
        """A network without middle fusion names no layer."""
        config = evidence.network.config
        if not config.use_middle_fusion or not config.middle_fusion_layers:
            return "the network has no middle fusion"
        return super().applies(evidence)

    def measure(self, evidence: Evidence) -> Measured:
        """1 for each layer of the configuration after which no fusion runs, else 0."""
        running = {index for kind, index in evidence.network.steps if kind == "fusion"}
        layers = evidence.network.config.middle_fusion_layers
        flags = {f"middle_fusion_modules.layer_{layer}": float(layer not in running) for layer in layers}
        return weights.measured(flags, "fusion never runs (1) or runs (0)")

    def control(self, evidence: Evidence) -> Measured:
        """After a layer that exists, fusion runs."""
        return constant(0.0, self.measure(evidence).units, "the same after a layer that exists")

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """One layer is enough."""
        units = _above(effect, control)
        if not units:
            return Verdict(False, f"fusion runs after {_count(len(effect.units), 'layer')}")
        return Verdict(True, f"middle fusion never runs after layers that do not exist: {_listed(units)}", units=units)


class ConfigDisagreement(Rule):
    """A configuration that says something else than the weights.

    A state dict says what it is: sizes by shapes, switches by names and values. Where the configuration in
    the file says otherwise, one of the two belongs to another run. Contradicting sizes stop the loading; with
    `--allow-partial` the weights are followed, and this rule says so. Some contradictions load without
    complaint and change what is computed: a text scale that has moved from 1 though the configuration says it
    is fixed, or a quality gate whose norm term was trained though the configuration switches it off.

    Threshold: one field.
    """

    code = "CK107"
    name = "configuration disagrees"
    severity = "warning"
    needs = frozenset({"weights"})
    summary = "the configuration contradicts the weights"
    example = (
        "The configuration has `middle_fusion_use_learnable_scale: false`, and `text_scale` is 7.3 in the "
        "weights: the text enters 7.3 times as strong as the configuration says."
    )
    remedy = "Put the configuration of the training run beside the weights and load again."
    reference = "the published flat configuration, as model.config.ModelConfig reads it"

    def measure(self, evidence: Evidence) -> Measured:
        """1 for each field or key where the two disagree, 0 for a field that was compared and agrees."""
        flags = weights.configuration_flags(evidence.network)
        for record in weights.history(evidence.network):
            flags |= {f"{m}.{key}": 1.0 for m, keys in record.mismatched.items() for key in keys}
            flags |= {sentence: 1.0 for sentence in record.assumptions if weights.CONTRADICTION in sentence}
        return weights.measured(flags, "configuration and weights disagree (1) or agree (0)")

    def control(self, evidence: Evidence) -> Measured:
        """The same comparison for a network made from this configuration."""
        fresh = weights.configuration_flags(fresh_copy(evidence.network.config))
        units = self.measure(evidence).units
        return weights.measured(
            {unit: fresh.get(unit, 0.0) for unit in units},
            "the same for a network made from the configuration",
        )

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """One disagreement is enough."""
        units = _above(effect, control)
        if not units:
            return Verdict(False, f"configuration and weights agree in {_count(len(effect.units), 'field')}")
        return Verdict(True, f"the configuration disagrees with the weights: {'; '.join(units[:_SHOWN])}", units=units)


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
            return Verdict(None, f"only {_count(control.defined, 'other linear layer')} to compare with")
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
            return Verdict(False, f"a gradient reaches each of {_count(len(effect.units), 'module')} that can have one")
        return Verdict(
            True,
            f"no gradient reaches {_count(len(units), 'module')} that a fresh copy uses: "
            + _listed(weights.branches(units)),
            units=units,
        )


def _cut_off(effect: Measured, control: Measured, *, fresh: bool) -> tuple[str, ...]:
    """Modules without gradient here, and in a fresh copy (or not)."""
    pairs = zip(effect.units, effect.values, control.values, strict=True)
    return tuple(unit for unit, here, there in pairs if here < CUT_OFF and (there < CUT_OFF) == fresh)
