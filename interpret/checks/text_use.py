"""Rules on what of a text arrives, and whether the prediction depends on it."""

from __future__ import annotations

import numpy as np

from interpret.checks import flow_measures as flow
from interpret.checks.base import Measured, Rule, Verdict, constant, worst
from interpret.checks.estimates import (
    TOO_FEW,
    Detailed,
    column,
    ids,
    mean_of,
    number,
    ratio_of,
    settle,
)
from interpret.checks.evidence import Evidence


def difference_between_structures(evidence: Evidence) -> Measured:
    """Mean difference of each prediction to those of the other structures: the unit of changes of prediction."""
    values = flow.difference_to_others(column(evidence, "prediction"))
    return Measured(values, ids(evidence), "mean difference of the prediction to those of the other structures")


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
        return difference_between_structures(evidence)

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
