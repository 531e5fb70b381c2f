"""Rules of the modality family on the text: does it give the target away, what is read in it, what does it add."""

from __future__ import annotations

import numpy as np

from interpret.checks import modality_measures as modality
from interpret.checks.base import Measured, Rule, Verdict, worst
from interpret.checks.estimates import Detailed, mean_of, number, ratio_of, settle
from interpret.checks.evidence import Evidence
from interpret.modality.share import EMPTY


class Leakage(Rule):
    """Texts carry the target that the network is to predict.

    A number that equals the target within the precision it is printed with, or a word for the property (metallic,
    semiconductor) that tells which targets are large. Numbers can equal a target by accident, and where targets repeat
    they often do: the control is how often a text's numbers equal the targets of the *other* structures, counted over
    all of them. A word counts only where it orders structures by target four times out of five, and does so better
    than with permuted targets (p of 0.01 or less over all words together).

    Threshold: 2 % of texts more than by chance, with the whole interval. An evaluation on such texts measures reading.
    """

    code = "MO702"
    name = "target in the text"
    severity = "error"
    needs = frozenset({"data", "labels"})
    option = "--modality"
    summary = "texts carry the target"
    example = (
        '31 of 50 texts name a number that equals their band gap as printed ("a gap of 1.12 eV"); the numbers of a '
        "text equal another structure's gap in 0.9 % of cases: 61 % too many (95 % CI 47-74)."
    )
    remedy = (
        "Take the numbers and words that leakage.csv lists out of the descriptions and train again; results obtained "
        "with them say nothing of crystals."
    )
    reference = "Kapoor and Narayanan, Patterns 4, 100804 (2023), on leakage"
    LIMIT = 0.02

    def applies(self, evidence: Evidence) -> str | None:
        """The analysis must have been run."""
        return super().applies(evidence) or modality.missing(evidence, "leakage")

    def measure(self, evidence: Evidence) -> Detailed:
        """Whether a text has its own target as a number, or a word that tells it, 1 or 0."""
        effect = modality.carries_target(evidence)
        words = modality.telling_words(evidence)
        details: dict[str, float | np.ndarray] = {f"word {word}": share for word, share in words.items()}
        return Detailed(effect.values, effect.units, effect.what, {"": {**effect.details[""], **details}})

    def control(self, evidence: Evidence) -> Measured:
        """How often its numbers equal the target of another structure."""
        effect = modality.carries_target(evidence)
        return Measured(effect.each("chance"), effect.units, "texts whose numbers equal another structure's target")

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where the share of texts exceeds that by chance by 2 % with its whole interval."""
        assert isinstance(effect, Detailed)
        excess = mean_of(effect.values - control.values)
        words = [f"{name[5:]} ({number(effect.number(name))})" for name in effect.names() if name.startswith("word ")]
        told = f"; words that tell it: {', '.join(words)}" if words else ""
        figures = (
            f"({excess.text('excess', '%')}: {number(effect.mean, '%')} % of texts, by chance "
            f"{number(control.mean, '%')} %{told}; {excess.structures})"
        )
        carriers = [unit for unit, value in zip(effect.units, effect.values, strict=True) if value > 0]
        return settle(
            excess.above(self.LIMIT),
            excess,
            figures,
            found="texts carry the target",
            clear="texts carry the target no more often than by chance",
            unknown="texts carry the target more often than by chance",
            units=tuple(carriers[:10]),
        )


class WordingOverFacts(Rule):
    """Predictions move more when a text is reworded than when a fact in it is changed.

    Each text is edited eight ways that change one fact (elements, structure type, space group, coordination, bond
    lengths) while the crystal stays. The control is the same text in other words, with other function words, and with
    its sentences in another order: the same is said. A network that reads descriptions reacts to the first; one that
    has learned their shape reacts to the second.

    Threshold: the changes by facts, mean over edits, are smaller than those by wording with the whole interval. Healthy
    networks have 2 to 4 times as much by facts.
    """

    code = "MO705"
    name = "wording over facts"
    severity = "warning"
    needs = frozenset({"data"})
    option = "--modality"
    summary = "predictions move more by wording than by facts of the text"
    example = (
        "A fact changed moves predictions by 0.031 eV, the same facts in other words by 0.088 eV: ratio 0.35 (95 % CI "
        "0.27-0.46; 32 structures)."
    )
    remedy = (
        "Do not read attention to words as knowledge of them. Train with descriptions in several wordings, or with "
        "sentences in random order."
    )
    reference = "Ribeiro et al., ACL 2020, on invariance and directional tests"
    LIMIT = 1.0

    def applies(self, evidence: Evidence) -> str | None:
        """The analysis must have been run, and the text must move predictions at all."""
        reason = super().applies(evidence) or modality.missing(evidence, "text_edits")
        return reason or modality.silent_text(evidence)

    def measure(self, evidence: Evidence) -> Measured:
        """Absolute change of a structure's prediction by a fact changed in its text, mean over edits."""
        changes, names = modality.edit_changes(evidence, control=False)
        return Measured(changes, names, "change of the prediction by a fact changed in the text")

    def control(self, evidence: Evidence) -> Measured:
        """The same by texts that say the same in other words or order."""
        changes, names = modality.edit_changes(evidence, control=True)
        return Measured(changes, names, "change of the prediction by the same facts worded otherwise")

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where the ratio of the two is below 1 with its whole interval."""
        ratio = ratio_of(effect.values, control.values)
        figures = (
            f"({ratio.text('ratio')}: {number(effect.mean)} by facts, {number(control.mean)} by wording, in the unit "
            f"of the target; {ratio.structures})"
        )
        return settle(
            ratio.below(self.LIMIT),
            ratio,
            figures,
            found="predictions move more by wording than by facts of the text",
            clear="predictions move more by facts of the text than by wording",
            unknown="predictions move more by facts of the text than by wording",
            units=worst(effect, largest=False),
        )


class GraphKnewIt(Rule):
    """With the crystal there, the text adds hardly anything: the graph already had what it says.

    A description is written from the crystal, so that much of it says nothing new. What a text does with its own
    crystal there, ``f(g,t) - f(g,-)``, is held against what it does with the mean crystal, ``f(-,t) - f(-,-)``, the
    control, where the graph cannot have said it. ("Without text" is an empty one. Against other structures' texts the
    two would be alike by symmetry.) text_parts.csv has the same for each part of the text.

    Threshold: less than a fifth is left, with the whole interval. Healthy networks keep 53 to 190 %.
    """

    code = "MO706"
    name = "the graph already had it"
    severity = "info"
    needs = frozenset({"data"})
    option = "--modality"
    summary = "with the crystal there the text adds hardly anything"
    example = (
        "Without the crystal a text moves the prediction by 0.81 eV, with it by 0.06 eV: 7.4 % (95 % CI 5.8-9.3; 50 "
        "structures). What the network reads in the text it also sees in the graph."
    )
    remedy = (
        "Compare with the same network without text. Texts that say what a graph of this depth cannot see (symmetry, "
        "structure type) would add more than bond lengths."
    )
    reference = "Gat et al., NeurIPS 2020, on what a second modality adds"
    LIMIT = 0.2

    def applies(self, evidence: Evidence) -> str | None:
        """The analysis must have been run, and the text must move predictions at all."""
        reason = super().applies(evidence) or modality.missing(evidence)
        return reason or modality.silent_text(evidence)

    def measure(self, evidence: Evidence) -> Measured:
        """Absolute change of a structure's prediction by its text, with its crystal."""
        rows = modality.shares(evidence, EMPTY, "")
        return Measured(np.abs(rows.each("text_given_graph")), rows.units, "what the text does with its crystal there")

    def control(self, evidence: Evidence) -> Measured:
        """The same with the mean crystal, whose atoms, bonds and angles are all alike."""
        rows = modality.shares(evidence, EMPTY, "")
        return Measured(np.abs(rows.each("text_alone")), rows.units, "what the text does with the mean crystal")

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where the ratio of the two is below one fifth with its whole interval."""
        left = ratio_of(effect.values, control.values)
        figures = f"({left.text('left', '%')}; {number(effect.mean)} against {number(control.mean)}; {left.structures})"
        return settle(
            left.below(self.LIMIT),
            left,
            figures,
            found="with the crystal there the text adds hardly anything",
            clear="the text adds to what the graph says",
            unknown="the text adds to what the graph says",
        )
