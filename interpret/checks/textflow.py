"""Rules of the text flow family: does the text reach the atoms, the prediction, and the encoder in the first place."""

from __future__ import annotations

import numpy as np

from interpret.checks import flow_measures as flow
from interpret.checks.base import Measured, Rule, Verdict, constant, worst
from interpret.checks.estimates import (
    TOO_FEW,
    Detailed,
    Values,
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
        return _difference_between_structures(evidence)

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


class TruncatedText(Rule):
    """Much of the descriptions never reaches the encoder, which reads a fixed number of pieces.

    What stands at the end of a long description (in robocrystallographer's: bond lengths and the surroundings of the
    later sites) is cut off without a word, in training as in use. Structures with many sites lose most, so that what
    the model knows of a crystal depends on its size. A truncated text is marked in the structures table; here the share
    of pieces lost counts, for a text that is one piece too long has lost nothing. The control is a text that fits.

    Threshold: a fifth of all pieces, on average over structures. It is common that a quarter of a data set is truncated
    and a tenth of its text lost (28 % and 12 % for 50 structures of JARVIS at 512 pieces): that is said in the figures
    without being a finding.
    """

    code = "TF404"
    name = "truncated text"
    severity = "warning"
    needs = frozenset({"data"})
    summary = "much of the text is cut off before the encoder"
    example = "36 of 50 texts are truncated, the longest at 512 of 3148 pieces; on average 41 % of a text is lost."
    remedy = "Shorten the descriptions, or use an encoder that reads longer texts, and train with it."
    reference = "Ganose and Jain, MRS Commun. 9, 874 (2019), for the order of a description's sentences"
    LIMIT = 0.2

    def measure(self, evidence: Evidence) -> Detailed:
        """Share of a text's pieces that were cut off."""
        details = {"": {"truncated": column(evidence, "truncated")}}
        return Detailed(flow.lost_share(evidence), ids(evidence), "share of the text's pieces cut off", details)

    def control(self, evidence: Evidence) -> Measured:
        """A text that fits loses nothing."""
        return constant(0.0, ids(evidence), "share cut off of a text that fits")

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where the mean share lost exceeds a fifth with its whole interval."""
        lost = mean_of(effect.values - control.values)
        cut = int(np.nansum(effect.values > 0))
        figures = f"({lost.text('lost', '%')}; {cut} of {lost.structures} truncated)"
        return settle(
            lost.above(self.LIMIT),
            lost,
            figures,
            found="much of the text is cut off before the encoder",
            clear="most of the text reaches the encoder",
            unknown="much of the text is cut off",
            units=worst(effect),
        )


class LostCharacters(Rule):
    """The normalisation of the text drops characters that the encoder's map does not know.

    The text is mapped to plain characters before it is cut into pieces; what the map lacks becomes a space. A bar over
    the 3 of a space group, a superscript charge or a whole word in another script is then gone, in training as in use,
    and two different descriptions can become one. White space and the accents of letters do not count. The control is a
    text that survives: none of 220 descriptions by robocrystallographer loses a character to the default map.

    Threshold: more than one text in twenty. The structures concerned are listed.
    """

    code = "TF405"
    name = "characters lost in normalisation"
    severity = "warning"
    needs = frozenset({"data"})
    summary = "the normalisation drops characters of the text"
    example = "In 31 of 50 texts the bar of `P3̄m1` is dropped: a trigonal group reads as another one."
    remedy = (
        "Pass a character map that knows them (--mappings), the same as in training, or write them in plain characters."
    )
    reference = "Gupta et al., npj Comput. Mater. 8, 102 (2022), for the normalisation"
    LIMIT = 0.05

    def measure(self, evidence: Evidence) -> Detailed:
        """1 for a text that lost characters, 0 for one that did not."""
        lost = column(evidence, "characters_lost")
        values = np.where(np.isfinite(lost), (lost > 0).astype(np.float64), np.nan)
        return Detailed(values, ids(evidence), "share of texts that lost characters", {"": {"characters": lost}})

    def control(self, evidence: Evidence) -> Measured:
        """A text of known characters loses none."""
        return constant(0.0, ids(evidence), "share among texts of known characters")

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where the share of texts exceeds one in twenty with its whole interval."""
        share = mean_of(effect.values - control.values)
        lost = Measured(
            effect.each("characters") if isinstance(effect, Detailed) else effect.values, effect.units, effect.what
        )
        figures = f"({share.text('share', '%')} of texts; {np.nansum(lost.values):.0f} characters; {share.structures})"
        concerned = {unit for unit, value in zip(effect.units, effect.values, strict=True) if value > 0}
        return settle(
            share.above(self.LIMIT),
            share,
            figures,
            found="the normalisation drops characters of the text",
            clear="the normalisation keeps the text",
            unknown="the normalisation drops characters of many texts",
            units=tuple(unit for unit in worst(lost) if unit in concerned),
        )


class IgnoresText(Rule):
    """The prediction hardly depends on the text.

    Each structure is given the texts of two others. The unit is the difference between the predictions of two
    structures, that is, what exchanging the crystal together with the text does: the control, which shows that
    predictions can be moved at all, and by how much. A network that ignores its text is a graph network with a costly
    appendix, and its attention to words explains nothing. Also given: the change with an empty text, and the curve over
    the share of masked words for a few structures, which tells whether few words are enough.

    Threshold: 5 % of that difference. Healthy networks have 19 to 80 %, and with an empty text 14 to 75 %.
    """

    code = "TF406"
    name = "prediction ignores the text"
    severity = "warning"
    needs = frozenset({"data"})
    summary = "the prediction hardly depends on the text"
    example = (
        "With another structure's text predictions change by 0.009 eV; those of two structures differ by 1.2 eV: 0.8 % "
        "(95 % CI 0.6-1.0; 50 structures). With an empty text 1.1 %, with 25/50/75 % of the words masked 0.2/0.4/0.9 %."
    )
    remedy = (
        "Compare with the same network without text. To make it listen, train with a contrastive loss or drop the "
        "graph at random; do not read its attention to words as explanation."
    )
    reference = "Hessel and Lee, EMNLP 2020, on multimodal networks that use one modality"
    LIMIT = 0.05

    def measure(self, evidence: Evidence) -> Detailed:
        """Absolute change of a structure's prediction with other structures' texts."""
        return Detailed(
            flow.shuffled_change(evidence),
            ids(evidence),
            "change of the prediction with another structure's text",
            {"": flow.text_changes(evidence)},
        )

    def control(self, evidence: Evidence) -> Measured:
        """Mean absolute difference of a structure's prediction to those of all others."""
        return _difference_between_structures(evidence)

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where the change is below 5 % of the difference between structures with its whole interval."""
        change = ratio_of(effect.values, control.values)
        parts = [flow.change_in_words(change, effect.values, control.values)]
        if isinstance(effect, Detailed):
            empty = ratio_of(effect.each("text_empty"), control.values)
            parts += [f"with an empty text {number(empty.value, '%')} %", flow.masked_curve(effect, control.values)]
        figures = f"({'; '.join(part for part in (*parts, change.structures) if part)})"
        return settle(
            change.below(self.LIMIT),
            change,
            figures,
            found="the prediction hardly depends on the text",
            clear="the prediction depends on the text",
            unknown="the prediction depends on the text",
        )


class NeedsText(Rule):
    """Without its text the network is worse than predicting the mean.

    The counterpart of TF406: a network that has learned to read the answer from the description. Its error is
    compared, structure by structure, with that of predicting the mean target of the other structures, once with an
    empty text and once with those of other structures; the replacement that hurts less decides, so that the
    strangeness of an empty text is not taken for dependence. Where the network is no better than the mean with its own
    text either, nothing can be said.

    Threshold: the error without text exceeds that of the mean, with its whole interval. Healthy networks reach 29 to
    90 % of it.
    """

    code = "TF407"
    name = "cannot do without text"
    severity = "warning"
    needs = frozenset({"data", "labels"})
    summary = "without its text the network is worse than predicting the mean"
    example = (
        "The error is 0.21 eV with the own text, 1.62 eV with an empty one, 1.48 eV with another structure's; "
        "predicting the mean gives 1.05 eV. Without the text nothing is left of what the network knows."
    )
    remedy = (
        "Check the descriptions for the answer (a band gap, the word metallic). Train with texts dropped at random so "
        "that the graph has to carry its share."
    )
    reference = "Hessel and Lee, EMNLP 2020, on multimodal networks that use one modality"

    def measure(self, evidence: Evidence) -> Detailed:
        """Absolute error with an empty text or with other structures' texts, whichever hurts less on average."""
        errors = {"an empty": flow.absolute_error(evidence, "text_empty"), "another": flow.shuffled_error(evidence)}
        means = {name: mean_of(values).value for name, values in errors.items()}
        known = {name: mean for name, mean in means.items() if np.isfinite(mean)}
        least = min(known, key=lambda name: known[name]) if known else "an empty"
        own = np.abs(column(evidence, "error"))
        what = f"absolute error with {least} text"
        return Detailed(errors[least], ids(evidence), what, {"": {"own": own}})

    def control(self, evidence: Evidence) -> Measured:
        """Absolute error of predicting the mean target of all other structures."""
        values = flow.mean_target_error(evidence)
        return Measured(values, ids(evidence), "absolute error of predicting the mean of the other targets")

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where the error without text exceeds the mean's, and that with text does not."""
        excess = mean_of(effect.values - control.values)
        own = effect.each("own") if isinstance(effect, Detailed) else np.full_like(effect.values, np.nan)
        better = mean_of(own - control.values).below(0.0)
        figures = (
            f"({effect.what} {number(effect.mean)}, with the own {number(mean_of(own).value)}, of the mean "
            f"{number(control.mean)}; {excess.text('excess')}; {excess.structures})"
        )
        if not better:
            why = "the network is no better than predicting the mean with its text either"
            why = f"{TOO_FEW} whether the network is better than predicting the mean" if better is None else why
            return Verdict(None, f"{why} {figures}")
        return settle(
            excess.above(0.0),
            excess,
            figures,
            found="without its text the network is worse than predicting the mean",
            clear="without its text the network still beats predicting the mean",
            unknown="without its text the network beats predicting the mean",
            units=worst(effect),
        )


def _difference_between_structures(evidence: Evidence) -> Measured:
    values = flow.difference_to_others(column(evidence, "prediction"))
    return Measured(values, ids(evidence), "mean difference of the prediction to those of the other structures")
