"""Rules on what a checkpoint file holds: keys, values, and the configuration beside them."""

from __future__ import annotations

from interpret.checks import weights
from interpret.checks.base import Measured, Rule, Verdict, constant
from interpret.checks.evidence import Evidence
from interpret.checks.listing import SHOWN, above, count, listed
from interpret.gradients import fresh_copy
from model.provenance import by_module


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
        units = above(effect, control)
        if not units:
            return Verdict(False, f"every key of the file found its place in {count(len(effect.units), 'module')}")
        size = dict(zip(effect.units, effect.values, strict=True))
        return Verdict(
            True,
            f"{count(int(sum(size[u] for u in units)), 'key')} of the checkpoint did not match the network: "
            + listed([f"{unit.removesuffix(')')}, {size[unit]:.0f})" for unit in units]),
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
        units = above(effect, control)
        if not units:
            return Verdict(False, f"all values of {count(len(effect.units), 'tensor')} are finite")
        return Verdict(True, f"{count(len(units), 'tensor')} with NaN or infinity: {listed(units)}", units=units)


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
        units = above(effect, control)
        if not units:
            return Verdict(False, f"none of {count(len(effect.units), 'tensor')} is zero or constant")
        return Verdict(True, f"{count(len(units), 'tensor')} zero or constant: {listed(units)}", units=units)


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
        units = above(effect, control)
        if not units:
            return Verdict(False, f"fusion runs after {count(len(effect.units), 'layer')}")
        return Verdict(True, f"middle fusion never runs after layers that do not exist: {listed(units)}", units=units)


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
        units = above(effect, control)
        if not units:
            return Verdict(False, f"configuration and weights agree in {count(len(effect.units), 'field')}")
        return Verdict(True, f"the configuration disagrees with the weights: {'; '.join(units[:SHOWN])}", units=units)
