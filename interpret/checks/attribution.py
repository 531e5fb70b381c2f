"""Rules on attribution: whether an explanation can be believed. They read the tables of ``diagnose --attribution``."""

from __future__ import annotations

import numpy as np

from interpret.checks import attribution_measures as measures
from interpret.checks.base import Measured, Rule, Verdict, constant, worst
from interpret.checks.estimates import FEWEST_STRUCTURES, TOO_FEW, Detailed, Values, mean_of, number, ratio_of, settle
from interpret.checks.evidence import Evidence


class _AttributionRule(Rule):
    """A rule that reads a table of the attribution analysis."""

    needs = frozenset({"data"})
    option = "--attribution"
    table = "faithfulness"

    def applies(self, evidence: Evidence) -> str | None:
        """The analysis must have been run."""
        return super().applies(evidence) or measures.missing(evidence, self.table)


class AttentionNoBetterThanUniform(_AttributionRule):
    """Taking out the words that attention points at changes predictions no more than taking out any others.

    A map is read as if the words it lights up were those that the prediction rests on. That can be tested: write the
    text without them, encode it again, and see what the prediction loses (comprehensiveness, mean over 1 to 50 % of the
    words, in the unit of the target). Attention is followed to words by summing their pieces, mean over heads and
    atoms. The control is the same for attention spread evenly over the pieces, which gives words of many pieces more:
    long words are rare words, and a map without any choice has that much. What attention finds beyond it is held
    against what ablation, which knows by trying, finds beyond words drawn by chance.

    Threshold: a tenth of what ablation finds, with the whole interval. Where ablation itself finds nothing beyond
    chance, no order of words is better than any other and there is nothing to test. No defect of the network: with
    eight structures a network whose attention was never trained has 0 %, networks trained on the demo data have -6 to
    41 % with intervals that mostly hold the threshold, because what they read of the text they read from its first
    token. Many structures are needed to tell.
    """

    code = "AT620"
    name = "attention no better than uniform"
    severity = "info"
    summary = "words that attention points at matter no more than any others"
    example = (
        "Without the words that attention names predictions change by 0.061 eV, without those of most pieces by 0.060 "
        "eV, without those that ablation names by 0.26 eV, by chance 0.05 eV: 0 % of what is there to be found."
    )
    remedy = "Do not show the map as an explanation. Show ablation or integrated gradients, with their intervals."
    reference = "Jain and Wallace, NAACL 2019, arXiv 1902.10186; DeYoung et al., ACL 2020, arXiv 1911.03429"
    LIMIT = 0.1

    def applies(self, evidence: Evidence) -> str | None:
        """There must be an attention among the explainers."""
        reason = super().applies(evidence)
        if reason is not None:
            return reason
        found = measures.figure(evidence, "comprehensiveness")
        return None if measures.ATTENTION in found else "no attention from atoms to tokens was explained"

    def measure(self, evidence: Evidence) -> Detailed:
        """Change of the prediction without the words that attention names."""
        found = measures.figure(evidence, "comprehensiveness")
        details: dict[str, float | Values] = {
            "attention": measures.gain(found, measures.ATTENTION, measures.UNIFORM_ATTENTION),
            "ablation": measures.gain(found, "ablation"),
            "by ablation": float(found["ablation"].mean()) if "ablation" in found else float("nan"),
            "by chance": float(found["uniform"].mean()),
        }
        what = "change of the prediction without the words that attention names, mean over shares of words"
        values = found[measures.ATTENTION].to_numpy(dtype=np.float64)
        return Detailed(values, measures.names(found), what, {"": details})

    def control(self, evidence: Evidence) -> Measured:
        """The same without the words that attention spread evenly over the pieces names."""
        found = measures.figure(evidence, "comprehensiveness")
        values = found[measures.UNIFORM_ATTENTION].to_numpy(dtype=np.float64)
        return Measured(values, measures.names(found), "the same for attention spread evenly over the pieces")

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where attention finds less than a tenth of what ablation finds beyond chance."""
        assert isinstance(effect, Detailed)
        gained, possible = effect.each("attention"), effect.each("ablation")
        ceiling, share = mean_of(possible), ratio_of(gained, possible)
        figures = (
            f"({number(effect.mean)} without the words it names, {number(control.mean)} without those of most pieces, "
            f"{number(effect.number('by chance'))} by chance, {number(effect.number('by ablation'))} by ablation; "
            f"{share.text('share of what is to be found', '%')}; "
            f"{share.structures})"
        )
        if not ceiling.above(0.0):
            why = TOO_FEW if ceiling.count < FEWEST_STRUCTURES else "no order of words can be told from chance"
            return Verdict(None, f"{why} {figures}", share.interval)
        return settle(
            share.below(self.LIMIT),
            share,
            figures,
            found="words that attention points at matter no more than any others",
            clear="words that attention points at matter more than others",
            unknown="words that attention points at matter more than others",
            units=worst(Measured(gained, effect.units, "gain"), largest=False),
        )


class IncompleteAttribution(_AttributionRule):
    """Integrated gradients do not sum to what they explain.

    Their promise is that the values of all words (or atoms) add up to the prediction minus the prediction at the
    baseline. The sum is over points of a path, and points are added where it is off until the promise holds to 1 %, up
    to 512. Where it still fails the path crosses a jump or a kink (a saturated gate, a hard attention), and values are
    wrong by an unknown share in unknown places. The measure is the relative convergence delta of each explanation. The
    control is what is allowed.

    Threshold: 1 % of the change in more than 5 % of the explanations, the whole interval above.
    """

    code = "AT621"
    name = "attribution fails completeness"
    severity = "warning"
    summary = "integrated gradients do not sum to the change they explain"
    example = (
        "In 18 of 50 structures the values of the words sum to 0.41 eV where the prediction changes by 0.53 eV: off by "
        "23 % at 512 steps."
    )
    remedy = (
        "Do not read these values; use ablation for the structures named, and look at AT602 and GA301 for the jump."
    )
    reference = "Sundararajan, Taly and Yan, ICML 2017, arXiv 1703.01365"
    ALLOWED = 0.01
    SHARE = 0.05

    def applies(self, evidence: Evidence) -> str | None:
        """There must be integrated gradients."""
        reason = super().applies(evidence)
        if reason is not None:
            return reason
        rows = measures.table(evidence, "faithfulness")
        return None if (rows["method"] == "integrated-gradients").any() else "integrated gradients were not asked for"

    def measure(self, evidence: Evidence) -> Measured:
        """Size of the convergence delta over the change of the prediction."""
        rows = measures.table(evidence, "faithfulness")
        own = rows[rows["method"] == "integrated-gradients"].sort_values(["id", "side"], kind="stable")
        units = tuple(f"{row.id} ({row.kind})" for row in own.itertuples())
        what = "convergence delta over the change of the prediction"
        return Measured(own["relative_delta"].to_numpy(dtype=np.float64), units, what)

    def control(self, evidence: Evidence) -> Measured:
        """What is allowed: 1 % of the change."""
        return constant(self.ALLOWED, self.measure(evidence).units, "the delta that is allowed")

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where more than 5 % of the explanations are off by more than is allowed."""
        known = np.isfinite(effect.values)
        off = np.where(known, (effect.values > control.values).astype(np.float64), np.nan)
        share = mean_of(off)
        largest = float(np.nanmax(effect.values)) if known.any() else float("nan")
        figures = (
            f"({share.text('share of explanations off by more than 1 %', '%')}; largest delta {number(largest, '%')} % "
            f"of the change; {int(known.sum())} explanations)"
        )
        return settle(
            share.above(self.SHARE),
            share,
            figures,
            found="integrated gradients do not sum to the change they explain",
            clear="integrated gradients sum to the change they explain",
            unknown="integrated gradients sum to the change they explain",
            units=worst(effect),
        )


class SurvivesRandomisation(_AttributionRule):
    """The explanation of the words is that of a network with random weights.

    An explanation of a trained network must change when its weights are drawn anew. Where it stays, it shows what the
    text and its frozen encoder look like, and would show it for any network. Weights are drawn anew stage by stage from
    the output to the input; the measure is Spearman's correlation of the sizes of integrated gradients before and after
    the last stage. The control is the correlation between two networks with different random weights: how far the input
    alone decides.

    Threshold: a correlation above 0.7 with its whole interval, half of the variance of the ranks. The frozen encoder
    makes some words larger than others whatever reads them, so a correlation above 0 is no defect: networks
    trained on the demo data have 0.24 to 0.35, two random networks have 0.31 to 0.40.
    """

    code = "AT622"
    name = "explanation survives randomised weights"
    severity = "warning"
    summary = "random weights give the same explanation"
    example = (
        "Integrated gradients of the words correlate by 0.86 with those of the network with random weights; those of "
        "two random networks by 0.88."
    )
    remedy = "Read ablation in place of this explanation, and see MO701 for whether the text is used at all."
    reference = "Adebayo et al., NeurIPS 2018, arXiv 1810.03292"
    table = "randomisation"
    METHOD = "integrated-gradients"
    LIMIT = 0.7

    def measure(self, evidence: Evidence) -> Measured:
        """Rank correlation with the explanation of the randomised network."""
        rows = measures.last_stage(evidence, self.METHOD)
        what = "rank correlation of integrated gradients before and after all weights are drawn anew"
        return Measured(rows["spearman"].to_numpy(dtype=np.float64), tuple(rows["id"].astype(str)), what)

    def control(self, evidence: Evidence) -> Measured:
        """The same between two networks with random weights."""
        rows = measures.last_stage(evidence, self.METHOD)
        values = rows["untrained_pair"].to_numpy(dtype=np.float64)
        return Measured(values, tuple(rows["id"].astype(str)), "the same between two networks with random weights")

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where the correlation is above 0.7 with its whole interval."""
        correlation = mean_of(effect.values)
        figures = (
            f"({correlation.text('rank correlation')}; between two random networks {number(control.mean)}; "
            f"{correlation.structures})"
        )
        return settle(
            correlation.above(self.LIMIT),
            correlation,
            figures,
            found="random weights give the same explanation",
            clear="random weights give another explanation",
            unknown="random weights give another explanation",
            units=worst(effect),
        )


class ExplainersDisagree(_AttributionRule):
    """Explainers that claim to say the same put the words in different orders.

    Integrated gradients, input times gradient, ablation and gradient times attention all claim to say which words the
    prediction rests on. Where their orders have little in common, choosing the explainer is choosing the explanation.
    The measure is Kendall's tau of the sizes of their values, mean over pairs. The control is an order by position,
    which knows nothing of the network, against each of them. The pair that disagrees most and the structures where
    they do are named.

    Threshold: a mean tau below 0.1 with its whole interval: fewer than 55 of 100 pairs of words in the same order,
    where chance has 50. Networks trained on the demo data have 0.18 to 0.23.
    """

    code = "AT623"
    name = "explainers disagree"
    severity = "info"
    summary = "explainers put words in different orders"
    example = (
        "Mean tau 0.04 over six pairs of explainers; an order by position has 0.02 with them. Least agreement: "
        "ablation / input-x-gradient, tau -0.03."
    )
    remedy = "Believe none of them by itself: prefer the one with the larger comprehensiveness, and show its interval."
    reference = (
        "Krishna et al., TMLR 2024, arXiv 2202.01602, on the disagreement problem; Neely et al., arXiv 2105.03287"
    )
    table = "attribution"
    LIMIT = 0.1

    def applies(self, evidence: Evidence) -> str | None:
        """There must be two explainers of words."""
        reason = super().applies(evidence)
        if reason is not None:
            return reason
        found = measures.agreements(evidence, "text", measures.CLAIMANTS)
        return None if found.shape[1] else "fewer than two explainers of words were asked for"

    def measure(self, evidence: Evidence) -> Detailed:
        """Kendall's tau between explainers of the words, mean over pairs."""
        found = measures.agreements(evidence, "text", measures.CLAIMANTS)
        details = {str(pair): float(found[pair].mean()) for pair in found.columns}
        values = measures.row_means(found)
        return Detailed(values, measures.names(found), "Kendall's tau between explainers of the words", {"": details})

    def control(self, evidence: Evidence) -> Measured:
        """The same between each of them and an order by position."""
        found = measures.agreements(evidence, "text", (*measures.CLAIMANTS, "position"))
        with_position = found[[pair for pair in found.columns if pair.endswith(" / position")]]
        return Measured(
            measures.row_means(with_position), measures.names(found), "the same between them and an order by position"
        )

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where the mean tau is below 0.1 with its whole interval, and names the pair that agrees least."""
        assert isinstance(effect, Detailed)
        tau = mean_of(effect.values)
        pairs = {name: effect.number(name) for name in effect.names()}
        known = {name: value for name, value in pairs.items() if np.isfinite(value)}
        least = min(known, key=lambda name: known[name]) if known else "none"
        figures = (
            f"({tau.text('mean tau')}; order by position {number(control.mean)}; least agreement: {least}, tau "
            f"{number(known.get(least, float('nan')))}; {tau.structures})"
        )
        return settle(
            tau.below(self.LIMIT),
            tau,
            figures,
            found="explainers put words in different orders",
            clear="explainers put words in similar orders",
            unknown="explainers put words in similar orders",
            units=worst(effect, largest=False),
        )
