"""Rules on the shape of attention maps: what they are like between atoms, heads and tokens."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

import numpy as np

from interpret.checks import attention_measures as maps
from interpret.checks.base import Measured, Outcome, Rule, Verdict, worst
from interpret.checks.estimates import (
    FEWEST_STRUCTURES,
    TOO_FEW,
    Detailed,
    column,
    each_layer,
    ids,
    mean_of,
    number,
    ratio_of,
    settle,
)
from interpret.checks.evidence import Evidence
from interpret.root_cause import ALIKE, TAP, root_cause


class _MapRule(Rule):
    """A rule that judges every map from atoms to tokens by itself."""

    needs = frozenset({"data"})

    def applies(self, evidence: Evidence) -> str | None:
        """There must be a map."""
        return super().applies(evidence) or maps.no_map(evidence)

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """One map that fails is a finding."""
        return each_layer(effect, control, self._judge)

    @abstractmethod
    def _judge(self, effect: Detailed, control: Measured) -> Verdict:
        """The verdict on one map."""


class AtomsCollapsed(_MapRule):
    """Atoms that the graph tells apart attend to the same tokens: the map has one row, repeated.

    A heat map of atoms and words is read as if each atom chose its words. Where all atoms have nearly the same row, its
    variation along atoms is noise, and only a ranking of tokens for the whole structure can be read. The measure is the
    total variation distance between the rows of atoms of different classes, in the head where they differ most: the
    share of attention that would have to move. Atoms of one class attend alike by construction and do not count;
    structures of one class are left out. The control is the same distance between rows just as sharp whose tokens are
    in random order: what atoms that attend independently differ by. Flat maps, in which no row differs from any other
    by much, are thereby not taken for collapsed ones (that is AT604). Structures whose heads are saturated are left out
    as well: AT602 speaks of those. The finding ends with its cause, by counterfactual: softened scores, no fusion,
    standardised atoms.

    Threshold: a tenth of the control, where rows correlate by more than 0.99. Healthy networks have 0.36 to 0.76,
    whether their attention is flat or sharp.
    """

    code = "AT601"
    name = "atoms attend alike"
    severity = "warning"
    summary = "atoms of different classes attend to the same tokens"
    example = (
        "After 14 layers without residual atoms differ by 0.09 % of their attention, atoms that attend independently "
        "by 4.1 %: ratio 0.03. Standardising the atoms restores 27 times the difference: they are over-smoothed before "
        "attention."
    )
    remedy = (
        "Read the global ranking of tokens, not the map by atom. Take away the cause named: fewer layers or a norm "
        "between them, a weaker fusion, a lower temperature."
    )
    reference = "Dong, Cordonnier and Loukas, ICML 2021, arXiv 2103.03404, on rank collapse"
    LIMIT = ALIKE

    def measure(self, evidence: Evidence) -> Detailed:
        """Share of attention by which atoms of different classes differ."""
        return maps.by_map(
            evidence,
            "share of attention by which atoms of different classes differ",
            lambda tap: maps.unsaturated(evidence, tap, "atom_difference"),
            lambda tap: {
                "one class": float((column(evidence, "graph_classes") == 1).sum()),
                "saturated": float((column(evidence, f"{tap}.saturation") >= maps.MOSTLY_SATURATED).sum()),
            },
        )

    def control(self, evidence: Evidence) -> Measured:
        """The same where each atom attends just as sharply to tokens of its own."""
        return maps.by_map(
            evidence,
            "the same for rows as sharp with tokens in random order",
            lambda tap: maps.unsaturated(evidence, tap, "atom_difference_independent"),
        )

    def _judge(self, effect: Detailed, control: Measured) -> Verdict:
        share = maps.quotient(effect.values, control.values)
        ratio = mean_of(share)
        if not ratio.count:
            why = "heads are saturated, see AT602" if effect.number("saturated") else "all structures have one class"
            return Verdict(None, f"no structure in which atoms could attend differently: {why}")
        return settle(
            ratio.below(self.LIMIT),
            ratio,
            f"({ratio.text('ratio')}: {number(effect.mean, '%')} % of their attention, "
            f"{number(control.mean, '%')} % if they attended independently; {ratio.structures}, "
            f"{effect.number('one class'):.0f} of one class left out)",
            found="atoms of different classes attend alike",
            clear="atoms of different classes attend differently",
            unknown="atoms of different classes attend differently",
            units=worst(Measured(share, effect.units, "ratio"), largest=False),
        )

    def run(self, evidence: Evidence) -> Outcome:
        """Measure, control, verdict, and where it speaks of the map before the readout the cause."""
        outcome = super().run(evidence)
        if outcome.finding is None or TAP not in maps.maps(evidence):
            return outcome
        cause = root_cause(evidence.structures)
        if not cause.rows:
            return outcome
        text = f"{outcome.finding.text}; {cause.sentence}"
        return replace(outcome, reason=text, finding=replace(outcome.finding, text=text))


class SaturatedHeads(_MapRule):
    """Heads put all their weight on one token, and the average over heads hides it.

    A softmax whose scores have grown large is a choice of one token. The average over H such heads has weights in
    multiples of 1/H (0.375 and 0.125 with eight heads), which look like graded attention and are counts of heads. No
    gradient passes through such a row, and entropy, Gini or effective tokens of the average say how many heads
    disagree, not how attention is spread. This is not over-smoothing: atoms may well differ. The measure is the share
    of rows (head, atom) whose largest weight is above 0.99; the control is uniform attention, in which no row of two or
    more tokens has one. Texts of one token are left out. The share of head-averaged rows that are multiples of 1/H is
    given beside it.

    Threshold: a tenth of the rows. Healthy networks of this family have at most 0.3 %, in their sharpest head 2 %.
    """

    code = "AT602"
    name = "saturated heads"
    severity = "warning"
    summary = "heads are saturated: their rows are one-hot"
    example = (
        "Eight heads, each with all its weight on one token. The averaged row is (0.375, 0.25, 0.125, 0.125, 0.125): "
        "it looks like attention to five words, and is the vote of eight heads. 100 % of rows are above 0.99."
    )
    remedy = (
        "Show heads one by one. Train with a smaller learning rate or weight decay on queries and keys, or normalise "
        "them; a temperature after training changes the model."
    )
    reference = "Zhai et al., ICML 2023, arXiv 2303.06296, on entropy collapse"
    LIMIT = 0.1

    def measure(self, evidence: Evidence) -> Detailed:
        """Share of a structure's rows, head by head, with a weight above 0.99."""
        return maps.by_map(
            evidence,
            "share of rows (head, atom) with a weight above 0.99",
            lambda tap: column(evidence, f"{tap}.saturation"),
            lambda tap: maps.saturated_heads(evidence, tap),
        )

    def control(self, evidence: Evidence) -> Measured:
        """Uniform attention has no such row."""
        return maps.by_map(evidence, "the same under uniform attention", lambda tap: np.zeros(len(ids(evidence))))

    def _judge(self, effect: Detailed, control: Measured) -> Verdict:
        share = mean_of(effect.values - control.values)
        if not share.count:
            return Verdict(None, "no text of more than one token")
        heads, hot = effect.number("heads"), effect.number("fingerprint")
        figures = f"({share.text('share of rows above 0.99', '%')}; {share.structures}"
        if np.isfinite(heads):
            figures += f"; {effect.number('saturated'):.0f} of {heads:.0f} heads in most of their rows"
        if np.isfinite(heads) and np.isfinite(hot):
            figures += f"; {number(hot, '%')} % of head-averaged rows are multiples of 1/{heads:.0f}"
        return settle(
            share.above(self.LIMIT),
            share,
            f"{figures})",
            found="heads are saturated",
            clear="heads are not saturated",
            unknown="heads are saturated",
            units=worst(effect),
        )


class RedundantHeads(_MapRule):
    """All heads of a map attend alike: there is one head, computed several times.

    Heads exist to attend to different tokens. Where the rows of two heads for the same atom correlate nearly perfectly,
    showing them head by head shows one map several times, agreement between heads is no confirmation of anything, and
    the capacity is wasted. The measure is one minus the mean correlation between heads; the control is heads whose
    tokens are in random order, which are uncorrelated in the mean: exactly 1.

    Threshold: 0.05, a mean correlation above 0.95. Healthy networks have 0.7 to 1.0. Networks of one head are left out.
    """

    code = "AT603"
    name = "redundant heads"
    severity = "warning"
    summary = "all heads attend alike"
    example = "Queries and keys of eight heads are copies of the first: head diversity 0.000, where 1 is independent."
    remedy = "Show one head; train with fewer heads, or with a diversity term between them."
    reference = "Michel, Levy and Neubig, NeurIPS 2019, arXiv 1905.10650; Li et al., EMNLP 2018, arXiv 1810.10183"
    LIMIT = 0.05

    def applies(self, evidence: Evidence) -> str | None:
        """There must be a map with two heads."""
        reason = super().applies(evidence)
        if reason is None and not any(
            np.isfinite(column(evidence, f"{tap}.head_diversity")).any() for tap in maps.maps(evidence)
        ):
            return "no map has two heads and two tokens"
        return reason

    def measure(self, evidence: Evidence) -> Detailed:
        """One minus the mean correlation between the rows of two heads."""
        return maps.by_map(
            evidence,
            "one minus the mean correlation between heads",
            lambda tap: column(evidence, f"{tap}.head_diversity"),
        )

    def control(self, evidence: Evidence) -> Measured:
        """The mean over all orders of the tokens."""
        return maps.by_map(
            evidence, "the same with the tokens of each head in random order", lambda tap: np.ones(len(ids(evidence)))
        )

    def _judge(self, effect: Detailed, control: Measured) -> Verdict:
        diversity = mean_of(maps.quotient(effect.values, control.values))
        return settle(
            diversity.below(self.LIMIT),
            diversity,
            f"({diversity.text('head diversity')}; {diversity.structures}; 1 is independent)",
            found="all heads attend alike",
            clear="heads attend differently",
            unknown="heads attend differently",
            units=worst(effect, largest=False),
        )


class UniformAttention(Rule):
    """Attention to tokens is flatter than that of untrained queries and keys.

    A map in which every token gets 1/T says nothing of any token; its colours are a matter of the scale bar. Small
    models are often nearly uniform because untrained ones are: scores start small. So the measure, one minus the
    normalised entropy (0 for a uniform row), is held against the same network with its queries and keys drawn anew, on
    the same atoms and tokens. Attention that training made at least as selective as chance is clear; attention that is
    flatter than chance has been trained away. In between it cannot be told from random numbers, and the outcome says
    so. The normalised entropy is stated either way: above 0.999, read no map however this rule decides.

    Thresholds: flatter than a third of what re-initialised queries and keys give, which scatter by a quarter; clear
    where it is above them; and a normalised entropy of at least 0.95, below which no map is uniform. Healthy networks
    have 1.05 to 35 times the control.
    """

    code = "AT604"
    name = "uniform attention"
    severity = "warning"
    needs = frozenset({"data", "attention"})
    summary = "attention to tokens is uniform"
    example = (
        "Weight decay took the queries to 1e-4 of their size. Normalised entropy 1.000000; re-initialised queries and "
        "keys have 0.9998 on the same inputs: a selectivity of 0.00001 of theirs."
    )
    remedy = "Show no map of this network. Look at the learning rate and weight decay of queries and keys."
    reference = "Jain and Wallace, NAACL 2019, arXiv 1902.10186; Wiegreffe and Pinter, arXiv 1908.04626"
    LIMIT = 1 / 3
    LEAST_ENTROPY = 0.95

    def applies(self, evidence: Evidence) -> str | None:
        """The control is a pass with other weights."""
        name = f"{maps.REINITIALIZED.format(0)}.normalized_entropy"
        return super().applies(evidence) or maps.lacks_column(evidence, name)

    def measure(self, evidence: Evidence) -> Measured:
        """One minus the normalised entropy, mean over heads and atoms."""
        entropy = column(evidence, f"{TAP}.normalized_entropy")
        return Measured(1 - entropy, ids(evidence), "one minus the normalised entropy of attention to tokens")

    def control(self, evidence: Evidence) -> Measured:
        """The same with queries and keys drawn anew, mean over draws."""
        entropy = maps.draws(evidence, "normalized_entropy").mean(axis=0)
        return Measured(1 - entropy, ids(evidence), "the same with re-initialised queries and keys")

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where attention is flat, and flatter than a third of the control with its whole interval."""
        entropy, ratio = mean_of(1 - effect.values), ratio_of(effect.values, control.values)
        figures = (
            f"(normalised entropy {entropy.value:.6f}, with re-initialised queries and keys {1 - control.mean:.6f}; "
            f"{ratio.text('selectivity over theirs')}; {ratio.structures})"
        )
        if entropy.count < FEWEST_STRUCTURES:
            return Verdict(None, f"{TOO_FEW} whether attention is uniform {figures}", ratio.interval)
        if entropy.above(self.LEAST_ENTROPY) is False:
            return Verdict(False, f"attention is not uniform {figures}", ratio.interval)
        if ratio.above(1.0):
            return Verdict(False, f"attention is more selective than chance {figures}", ratio.interval)
        if ratio.below(self.LIMIT):
            return Verdict(True, f"attention is uniform {figures}", ratio.interval, worst(effect, largest=False))
        text = "attention this flat cannot be told from that of re-initialised queries and keys"
        return Verdict(None, f"{text} {figures}", ratio.interval)


class Sinks(_MapRule):
    """Special tokens and punctuation collect the attention.

    Softmax must put its weight somewhere; trained transformers put what they have no use for on tokens without content,
    [CLS], [SEP], commas, full stops. A map then shows where the rest is parked, and statistics over it (entropy,
    effective tokens) describe the sink. The measure is the share of attention on special tokens and on pieces that are
    nothing but punctuation, the control their share of the tokens: what uniform attention gives them. Between a
    quarter and a third of the pieces of a crystal's description are punctuation, brackets of site labels above all, so
    the raw share says nothing.

    Threshold: sinks take 30 % of what uniform attention leaves for the other tokens, the share at which attention
    sinks are counted in language models. Healthy networks stay within 1 % of uniform, in their worst head too.
    """

    code = "AT605"
    name = "attention sinks"
    severity = "warning"
    summary = "special tokens and punctuation collect the attention"
    example = (
        "[SEP] and full stops receive 82 % of the attention and are 28 % of the pieces: three quarters of what uniform "
        "attention leaves for words go to sinks."
    )
    remedy = (
        "Leave sinks out and renormalise before reading a map, and say how much was left out; rank words by norm-based "
        "weights, which see that sinks carry small values."
    )
    reference = "Gu et al., ICLR 2025, arXiv 2410.10781; Kobayashi et al., EMNLP 2020, arXiv 2004.10102"
    LIMIT = 0.3

    def measure(self, evidence: Evidence) -> Detailed:
        """Share of attention on special tokens and punctuation."""
        return maps.by_map(
            evidence,
            "share of attention on special tokens and punctuation",
            lambda tap: column(evidence, f"{tap}.sink_share"),
            lambda tap: {
                "special": column(evidence, f"{tap}.special_share"),
                "special_uniform": column(evidence, f"{tap}.special_share_uniform"),
            },
        )

    def control(self, evidence: Evidence) -> Measured:
        """Their share of the tokens."""
        return maps.by_map(
            evidence,
            "the same under uniform attention",
            lambda tap: column(evidence, f"{tap}.sink_share_uniform"),
        )

    def _judge(self, effect: Detailed, control: Measured) -> Verdict:
        excess = maps.quotient(effect.values - control.values, 1 - control.values)
        taken = mean_of(excess)
        if not taken.count:
            return Verdict(None, "no text with a word")
        special, expected = (mean_of(effect.each(name)).value for name in ("special", "special_uniform"))
        return settle(
            taken.above(self.LIMIT),
            taken,
            f"({taken.text('excess', '%')} of what uniform attention leaves for words; {number(effect.mean, '%')} % of "
            f"attention, {number(control.mean, '%')} % of tokens; special tokens alone {number(special, '%')} % and "
            f"{number(expected, '%')} %; {taken.structures})",
            found="special tokens and punctuation collect the attention",
            clear="special tokens and punctuation get about their share",
            unknown="special tokens and punctuation collect attention",
            units=worst(Measured(excess, effect.units, "excess")),
        )
