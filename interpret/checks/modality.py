"""Rules of the modality family on shares: what comes from the graph, what from the text."""

from __future__ import annotations

import numpy as np

from interpret.checks import modality_measures as modality
from interpret.checks.base import Measured, Rule, Verdict, worst
from interpret.checks.estimates import TOO_FEW, Detailed, mean_of, number, ratio_of, settle
from interpret.checks.evidence import Evidence
from interpret.modality.share import EMPTY, REFERENCES, UNTRAINED
from interpret.modality.summary import at_baseline, correlation_of


class OneModality(Rule):
    """Predictions come from the graph alone, or from the text alone.

    Each prediction is taken apart into what the graph and what the text contribute, exactly (Shapley values from four
    predictions: with both, with either, with neither). "Without" has to mean something: once the crystal or the text of
    another structure is put in its place, mean over eight, and once an empty text and the mean crystal. The share of
    the text is the sum of its absolute contributions over that of both. The control is a network of the same
    architecture that was never trained: it shows that the share is a matter of weights, not of where text enters.

    Threshold: a share below 5 % or above 95 % with its whole interval, under both meanings of "without". Healthy
    networks of this family have 14 to 37 % against other structures, 10 to 49 % against an empty text.
    """

    code = "MO701"
    name = "predicts from one modality"
    severity = "warning"
    needs = frozenset({"data"})
    option = "--modality"
    summary = "predictions come from one of graph and text alone"
    example = (
        "Of what sets a prediction apart from the average, 0.7 % is the text's (95 % CI 0.5-0.9; 50 structures), 0.9 % "
        "against an empty text; in a network that was never trained 41 %. The text could be left out."
    )
    remedy = (
        "Where the text is ignored, compare with the same network without it, and see TF406 and GA302 to GA307 for "
        "where it is lost. Where the graph is, look for leakage (MO702) and train with texts dropped at random."
    )
    reference = "Sundararajan and Najmi, ICML 2020, on Shapley values with a baseline"
    LIMIT = 0.05

    def applies(self, evidence: Evidence) -> str | None:
        """The analysis must have been run."""
        return super().applies(evidence) or modality.missing(evidence)

    def measure(self, evidence: Evidence) -> Detailed:
        """Share of the text in a structure's prediction, against other structures."""
        effect = modality.shares(evidence, REFERENCES, "share of the text in a prediction")
        empty = modality.shares(evidence, EMPTY, "")
        both = {"empty_text": empty.each("text_shapley"), "empty_graph": empty.each("graph_shapley")}
        return Detailed(effect.values, effect.units, effect.what, {"": {**effect.details[""], **both}})

    def control(self, evidence: Evidence) -> Measured:
        """The same share in a network of this architecture that was never trained."""
        return modality.shares(evidence, UNTRAINED, "share of the text in an untrained network")

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where the share over all structures is below 5 % or above 95 % with its whole interval."""
        assert isinstance(effect, Detailed)
        assert isinstance(control, Detailed)
        text, graph = np.abs(effect.each("text_shapley")), np.abs(effect.each("graph_shapley"))
        share = ratio_of(text, text + graph)
        empty_text, empty_graph = np.abs(effect.each("empty_text")), np.abs(effect.each("empty_graph"))
        empty = ratio_of(empty_text, empty_text + empty_graph)
        fresh_text, fresh_graph = np.abs(control.each("text_shapley")), np.abs(control.each("graph_shapley"))
        untrained = ratio_of(fresh_text, fresh_text + fresh_graph)
        figures = (
            f"({share.text('share of the text', '%')}; against an empty text and the mean crystal "
            f"{number(empty.value, '%')} %; untrained {number(untrained.value, '%')} %; {share.structures})"
        )
        only_graph = _both(share.below(self.LIMIT), empty.below(self.LIMIT))
        only_text = _both(share.above(1 - self.LIMIT), empty.above(1 - self.LIMIT))
        answer = True if only_graph or only_text else (False if only_graph is False and only_text is False else None)
        return settle(
            answer,
            share,
            figures,
            found=f"predictions come from the {'text' if only_text else 'graph'} alone",
            clear="predictions come from both graph and text",
            unknown="predictions come from both graph and text",
        )


class InteractionDominates(Rule):
    """Much of what text and graph do, they only do together, so that a share of either means little.

    The interaction is what is left of a prediction when the effects of graph and text alone are taken off. A Shapley
    value gives half of it to each; where it is large, that convention decides the shares. The control is the
    interaction of crystals with texts of *other* structures: where those have as much, the network does not compare
    crystal and text, it merely is not additive.

    Threshold: a third of all effects, with the whole interval: there the interaction is as large as what graph and text
    do alone, on average. Healthy networks have 7 to 24 %, a network that multiplies the two has 40 to 70 %.
    """

    code = "MO703"
    name = "interaction dominates"
    severity = "info"
    needs = frozenset({"data"})
    option = "--modality"
    summary = "much of what graph and text do they do only together"
    example = (
        "The interaction is 62 % of all effects (95 % CI 57-68; 50 structures), with texts of other structures 60 %: "
        "shares of graph and text are a convention here."
    )
    remedy = "Read text_given_graph and text_alone in modality.csv side by side instead of the shares."
    reference = "Grabisch and Roubens, Int. J. Game Theory 28, 547 (1999), on interaction"
    LIMIT = 1 / 3

    def applies(self, evidence: Evidence) -> str | None:
        """The analysis must have been run."""
        return super().applies(evidence) or modality.missing(evidence)

    def measure(self, evidence: Evidence) -> Detailed:
        """Absolute interaction of a structure's graph and text."""
        rows = at_baseline(modality.table(evidence, "modality"), REFERENCES)
        return modality.interactions(rows, modality.units(rows), "interaction of graph and text")

    def control(self, evidence: Evidence) -> Measured:
        """The same where crystal and text do not belong together."""
        rows = modality.table(evidence, "modality_pairs")
        if not len(rows):
            return Detailed(
                np.zeros(0), (), "interaction of a crystal with another's text", {"": {"total": np.zeros(0)}}
            )
        names = tuple(f"{g} with {t}" for g, t in zip(rows["crystal_id"], rows["text_id"], strict=True))
        return modality.interactions(rows, names, "interaction of a crystal with another's text")

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where the interaction is more than a third of all effects with its whole interval."""
        assert isinstance(effect, Detailed)
        assert isinstance(control, Detailed)
        share = ratio_of(effect.values, effect.each("total"))
        other = ratio_of(control.values, control.each("total"))
        figures = (
            f"({share.text('interaction', '%')} of all effects; with texts of other structures "
            f"{number(other.value, '%')} %; {share.structures})"
        )
        return settle(
            share.above(self.LIMIT),
            share,
            figures,
            found="much of what graph and text do they do only together",
            clear="graph and text mostly act one by one",
            unknown="graph and text mostly act one by one",
            units=worst(effect),
        )


class ShareDependsOnBaseline(Rule):
    """How much is the text's depends on what "without" is taken to mean.

    The share of the text against other structures, and against an empty text with the mean crystal: the first asks
    what sets a crystal apart from others, the second what sets it apart from nothing. Each is the control of the other.
    Where they differ, "the text contributes so much" is no statement without its baseline.

    Threshold: the mean shares differ by 0.25 with the whole interval. In healthy networks they differ by at most 0.12.
    """

    code = "MO704"
    name = "share depends on the baseline"
    severity = "info"
    needs = frozenset({"data"})
    option = "--modality"
    summary = "the text's share depends on what it is held against"
    example = (
        "The text has 9.5 % of a prediction against other structures and 70 % against an empty text: 0.61 apart (95 % "
        "CI 0.57-0.66; 50 structures). An empty text is nothing the network has seen."
    )
    remedy = "Quote the share with its baseline; prefer that against other structures, whose inputs the network knows."
    reference = "Sturmfels, Lundberg and Lee, Distill 2020, on baselines"
    LIMIT = 0.25

    def applies(self, evidence: Evidence) -> str | None:
        """The analysis must have been run."""
        return super().applies(evidence) or modality.missing(evidence)

    def measure(self, evidence: Evidence) -> Detailed:
        """Share of the text in a structure's prediction against an empty text and the mean crystal."""
        return modality.shares(evidence, EMPTY, "share of the text against an empty text and the mean crystal")

    def control(self, evidence: Evidence) -> Measured:
        """The same share against other structures."""
        return modality.shares(evidence, REFERENCES, "share of the text against other structures")

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where the mean difference of the two shares exceeds 0.25, either way, with its whole interval."""
        difference = mean_of(effect.values - control.values)
        figures = (
            f"({difference.text('difference')}: {number(effect.mean, '%')} % against an empty text and the mean "
            f"crystal, {number(control.mean, '%')} % against other structures; {difference.structures})"
        )
        far = difference.above(self.LIMIT) or difference.below(-self.LIMIT)
        near = difference.below(self.LIMIT) and difference.above(-self.LIMIT)
        return settle(
            True if far else (False if near else None),
            difference,
            figures,
            found="the text's share depends on what it is held against",
            clear="the text's share depends little on what it is held against",
            unknown="the text's share depends on what it is held against",
        )


class ErrorsFollowText(Rule):
    """Predictions that lean on the text are the wrong ones.

    The rank correlation of the text's share in a structure's prediction with its absolute error. Where errors grow with
    the share, the text misleads the network, or the network falls back on it where the graph fails. The control is the
    correlation of the same errors with the share of a network that was never trained, which depends on the structures
    alone: large crystals have long texts and large errors.

    Threshold: a correlation above 0.3 and above the control's, with its whole interval.
    """

    code = "MO707"
    name = "errors follow the text"
    severity = "info"
    needs = frozenset({"data", "labels"})
    option = "--modality"
    summary = "the larger the text's share, the larger the error"
    example = (
        "Spearman correlation of the text's share with the absolute error 0.52 (95 % CI 0.36-0.66; 120 structures), "
        "with the share of an untrained network 0.04."
    )
    remedy = "Look at the structures named: modality.csv gives their shares, text_parts.csv the part of the text."
    reference = "Spearman, Am. J. Psychol. 15, 72 (1904)"
    LIMIT = 0.3

    def applies(self, evidence: Evidence) -> str | None:
        """The analysis must have been run."""
        return super().applies(evidence) or modality.missing(evidence)

    def measure(self, evidence: Evidence) -> Detailed:
        """Share of the text in a structure's prediction, beside its absolute error."""
        return modality.shares(evidence, REFERENCES, "share of the text in a prediction")

    def control(self, evidence: Evidence) -> Measured:
        """The share in a network that was never trained, beside the same errors."""
        return modality.shares(evidence, UNTRAINED, "share of the text in an untrained network")

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where the correlation exceeds 0.3 with its whole interval."""
        assert isinstance(effect, Detailed)
        error = effect.each("absolute_error")
        own, other = correlation_of(effect.values, error), correlation_of(control.values, error)
        figures = (
            f"({own.text('correlation')}; with the share of an untrained network {number(other.value)}; "
            f"{own.structures})"
        )
        if not np.isfinite(own.value):
            return Verdict(None, f"{TOO_FEW} whether errors follow the text {figures}")
        limit = max(self.LIMIT, other.value) if np.isfinite(other.value) else self.LIMIT
        return settle(
            own.above(limit),
            own,
            figures,
            found="the larger the text's share, the larger the error",
            clear="errors do not follow the text's share",
            unknown="errors follow the text's share",
            units=worst(Measured(error * (effect.values > np.nanmedian(effect.values)), effect.units, effect.what)),
        )


def _both(first: bool | None, second: bool | None) -> bool | None:
    """True where both are, False where one is not, None where that cannot be told."""
    if first is False or second is False:
        return False
    return True if first and second else None
