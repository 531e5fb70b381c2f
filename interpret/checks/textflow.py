"""Rules on text on its way through the graph layers: whether it enters, what it does, how long it lasts."""

from __future__ import annotations

from interpret.checks import flow_measures as flow
from interpret.checks.base import Measured, Rule, Verdict, worst
from interpret.checks.estimates import (
    Detailed,
    Values,
    by_layer,
    each_layer,
    ids,
    mean_of,
    number,
    ratio_of,
    settle,
)
from interpret.checks.evidence import Evidence
from interpret.checks.text_use import difference_between_structures
from interpret.metrics.dilution import dilution


class NoTextInAtoms(Rule):
    """Behind the fusion the atoms resemble their own text no more than they would had they been given another.

    A cosine between atoms and text says nothing by itself, and its comparison with the texts of other structures only
    half of it: similar crystals have similar descriptions, so that atoms resemble their own text more than others'
    before any text has been fused. Here every structure is run a second time with the text of another. What the
    cosine with the own text loses by that is the text's doing alone, for the crystal is the same; it is given as a
    share of the most it could lose, one minus the cosine between the two texts. The control is the same share at the
    input of the fusion: nothing, for the first fusion, and what an earlier one brought for a later one.

    Threshold: 2 % more than at the fusion's input. Healthy networks have 10 to 55 %, closed gates below 0.4 %. Where
    all transformed texts are one vector the share is 0.
    """

    code = "TF401"
    name = "no text in the atoms"
    severity = "warning"
    needs = frozenset({"data", "fusion", "text_transform"})
    summary = "behind the fusion atoms resemble their own text no more than another's"
    example = (
        "The cosine of atoms with their text is 0.064, with other structures' texts 0.061: it looks like little text. "
        "Fed with another structure's text the same atoms still have 0.064: it is none (0.1 % of what it could be)."
    )
    remedy = (
        "Look at GA302 to GA304 for a gate that lets nothing in, and at the CK rules for text_transform and "
        "text_projection. Scaling text_transform raises the raw cosine and changes nothing."
    )
    reference = "Hewitt and Liang, EMNLP 2019, on control tasks for what a representation holds"
    LIMIT = 0.02

    def applies(self, evidence: Evidence) -> str | None:
        """There must have been another text to feed in."""
        reason = super().applies(evidence)
        if reason is None and not flow.transformed_layers(evidence):
            return "there is no other text to compare with"
        return reason

    def measure(self, evidence: Evidence) -> Detailed:
        """Share of a structure's text that shows in its atoms at the fusion's output."""
        return by_layer(
            evidence,
            flow.transformed_layers(evidence),
            "share of the text that shows in the atoms behind the fusion",
            lambda layer: flow.take_over(evidence, layer, f"fusion.{layer}.nodes"),
            lambda layer: flow.cosine_details(evidence, layer),
        )

    def control(self, evidence: Evidence) -> Measured:
        """The same share at the fusion's input, where this fusion's text has not been added."""
        return by_layer(
            evidence,
            flow.transformed_layers(evidence),
            "share of the text that shows in the atoms before the fusion",
            lambda layer: flow.take_over(evidence, layer, f"alignn.{layer}.nodes"),
        )

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where the mean share has grown by less than 2 % with its whole interval, either way."""
        return each_layer(effect, control, self._judge)

    def _judge(self, effect: Detailed, control: Measured) -> Verdict:
        # Weighted by how different the two texts are: between two that are nearly one, the share is mostly rounding.
        room = effect.each("room")
        share = ratio_of((effect.values - control.values) * room, room)
        cosines = {name: number(mean_of(effect.each(name)).value) for name in ("own", "fed", "others")}
        figures = (
            f"({share.text('share', '%')}; cosine with the own text {cosines['own']}, with another fed in "
            f"{cosines['fed']}; with other structures' texts {cosines['others']}; {share.structures})"
        )
        # A negative text scale turns atoms away from their text, which is text in the atoms all the same.
        present = bool(share.above(self.LIMIT) or share.below(-self.LIMIT))
        absent = bool(share.below(self.LIMIT) and share.above(-self.LIMIT))
        return settle(
            True if absent else (False if present else None),
            share,
            figures,
            found="behind the fusion atoms resemble their own text no more than another's",
            clear="the fusion brings the own text into the atoms",
            unknown="the fusion brings text into the atoms",
            units=worst(effect, largest=False),
        )


class FusionWithoutEffect(Rule):
    """The middle fusion makes no difference to the prediction.

    Each prediction is repeated with the gates of all middle fusions closed, so that no text enters the atoms while the
    fusions' layer norms stay: taking a fusion out altogether would change the atoms' length, and with it predictions,
    although no text was lost. (A fusion without a gate has to be taken out.) The unit is the difference between the
    predictions of two structures, text and crystal exchanged together: the control, which shows that predictions can
    be moved at all.

    Threshold: 0.5 % of that difference. Healthy networks have 1.6 to 50 %: behind one fusion of several layers the
    text also reaches the prediction at the readout.
    """

    code = "TF402"
    name = "fusion without effect"
    severity = "warning"
    needs = frozenset({"data"})
    summary = "the middle fusion makes no difference to the prediction"
    example = (
        "With its gate closed the network's predictions move by 0.0002 eV; those of two structures differ by 1.2 eV: "
        "0.02 %. The fusion can be left out."
    )
    remedy = "See GA302 to GA305 and TF401 for where the text is lost; else leave the middle fusion out, it costs time."
    reference = "Michel, Levy and Neubig, NeurIPS 2019, on removing parts of a trained network"
    LIMIT = 0.005

    def applies(self, evidence: Evidence) -> str | None:
        """The fusion must have been closed or taken out in a second pass."""
        reason = super().applies(evidence)
        if reason is None and self._source(evidence) is None:
            return "the network has no middle fusion that runs"
        return reason

    @staticmethod
    def _source(evidence: Evidence) -> str | None:
        names = ("gate_closed", "fusion_off")
        return next((n for n in names if f"counterfactual.{n}.prediction" in evidence.structures), None)

    def measure(self, evidence: Evidence) -> Measured:
        """Absolute change of a structure's prediction with the fusions' gates closed."""
        values = flow.prediction_change(evidence, self._source(evidence) or "")
        return Measured(values, ids(evidence), "change of the prediction without the text in the middle fusions")

    def control(self, evidence: Evidence) -> Measured:
        """Mean absolute difference of a structure's prediction to those of all others."""
        return difference_between_structures(evidence)

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where the change is below 0.5 % of the difference between structures with its whole interval."""
        change = ratio_of(effect.values, control.values)
        figures = f"({flow.change_in_words(change, effect.values, control.values)}; {change.structures})"
        return settle(
            change.below(self.LIMIT),
            change,
            figures,
            found="the middle fusion makes no difference to the prediction",
            clear="the middle fusion changes the prediction",
            unknown="the middle fusion changes the prediction",
        )


class Dilution(Rule):
    """The layer behind the fusion washes out more than half of the text that the fusion brought in.

    Graph layers mix atoms with their neighbours and add what they compute to what was there; a text that was the same
    for all atoms should survive that. The rule follows what the cosine with the own text gains over that with another
    text fed in (TF401) from the fusion's output through the later layers, and gives the number of layers in which it
    halves. The control is the gain at the fusion's output.

    Threshold: less than half of it is left after one layer, with its whole interval. Healthy networks keep 80 to 93 %.
    """

    code = "TF403"
    name = "dilution after fusion"
    severity = "info"
    needs = frozenset({"data", "fusion", "text_transform"})
    summary = "the layer behind the fusion washes out most of the text"
    example = (
        "The text shows in the cosine by 0.040 behind the fusion, 0.012 one layer later and 0.005 two layers later: "
        "30 % is left, the half-life is 0.7 layers."
    )
    remedy = (
        "Fuse at a later layer as well (middle_fusion_layers), or rely on the attention to tokens before the readout."
    )
    reference = "Oono and Suzuki, ICLR 2020, on what graph convolutions leave of node features"
    LIMIT = 0.5

    def applies(self, evidence: Evidence) -> str | None:
        """There must have been another text to feed in, and a layer behind the fusion."""
        reason = super().applies(evidence)
        if reason is None and not self._layers(evidence):
            return "there is no other text to compare with, or no graph layer behind the fusion"
        return reason

    @staticmethod
    def _layers(evidence: Evidence) -> list[int]:
        layers = flow.transformed_layers(evidence)
        return [layer for layer in layers if len(flow.later_stages(evidence, layer)) > 1]

    def measure(self, evidence: Evidence) -> Detailed:
        """Gain of a structure's cosine with its own text one layer behind the fusion."""

        def gain(layer: int, stage: int) -> Values:
            return flow.cosine_gain(evidence, layer, flow.later_stages(evidence, layer)[stage])[0]

        return by_layer(
            evidence,
            self._layers(evidence),
            "gain of the cosine with the own text one layer behind the fusion",
            lambda layer: gain(layer, 1),
            lambda layer: {str(k): gain(layer, k) for k in range(len(flow.later_stages(evidence, layer)))},
        )

    def control(self, evidence: Evidence) -> Measured:
        """The same gain at the fusion's output."""
        return by_layer(
            evidence,
            self._layers(evidence),
            "gain of the cosine with the own text at the fusion's output",
            lambda layer: flow.cosine_gain(evidence, layer, f"fusion.{layer}.nodes")[0],
        )

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where the ratio of the two is below one half with its whole interval."""
        return each_layer(effect, control, self._judge)

    def _judge(self, effect: Detailed, control: Measured) -> Verdict:
        gain = mean_of(control.values)
        if not gain.above(flow.SAME_TEXT):
            return Verdict(
                None, f"the fusion brings no text into the atoms that could be diluted ({gain.text('gain')})"
            )
        left = ratio_of(effect.values, control.values)
        curve = [mean_of(effect.each(name)).value for name in sorted(effect.names(), key=int)]
        life = dilution(curve)
        half = f"half-life {number(life.half_life)} layers" if life.reason is None else life.reason
        figures = f"({left.text('left', '%')}; {half}; {left.structures})"
        return settle(
            left.below(self.LIMIT),
            left,
            figures,
            found="the layer behind the fusion washes out most of the text",
            clear="the text survives the layer behind the fusion",
            unknown="the text survives the layer behind the fusion",
        )
