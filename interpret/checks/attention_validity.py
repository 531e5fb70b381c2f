"""Rules on whether an attention map may be read at all: one key, a dead branch, no effect, padding."""

from __future__ import annotations

import numpy as np

from interpret.checks import attention_measures as maps
from interpret.checks.base import Measured, Rule, Verdict, worst
from interpret.checks.estimates import (
    FEWEST_STRUCTURES,
    TOO_FEW,
    Detailed,
    ids,
    mean_of,
    number,
    ratio_of,
    settle,
)
from interpret.checks.evidence import Evidence
from interpret.gradients import CUT_OFF, fresh_copy, fresh_gradient_reach


class SingleKeyAttention(Rule):
    """Cross-modal attention has one query and one key: its weight is 1, whatever was learned.

    Graph and text are pooled to one vector each before they attend to each other. A softmax over one key is 1, so the
    map is constant, its queries and keys receive no gradient, and the branch is a linear map of the other modality.
    Nothing is wrong with the model; an analysis that shows these weights as attention, or reports their mean as the
    strength of alignment, is. Measured on three probe crystals; the control is a freshly initialised network of the
    same configuration.

    Threshold: every weight exactly 1, in both.
    """

    code = "AT606"
    name = "single-key attention"
    severity = "info"
    needs = frozenset({"weights"})
    summary = "cross-modal attention has one key: its weight is always 1"
    example = "`cross_modal.graph_to_text` is 1.0 for all crystals and heads; so it is in a network never trained."
    remedy = "Do not show or average these weights; the attention between atoms and tokens is the one that can vary."
    reference = "Vaswani et al., NeurIPS 2017, arXiv 1706.03762, equation 1 with one key"

    def applies(self, evidence: Evidence) -> str | None:
        """There must be cross-modal attention."""
        config = evidence.network.config
        there = config.use_cross_modal_attention or config.cross_modal_gate != "none"
        return super().applies(evidence) or (None if there else "the network has no cross-modal attention")

    def measure(self, evidence: Evidence) -> Measured:
        """Least weight over probe crystals and heads."""
        return maps.single_key_weights(evidence.network, "least weight of a cross-modal map on probe crystals")

    def control(self, evidence: Evidence) -> Measured:
        """The same in a network that never learned anything."""
        fresh = fresh_copy(evidence.network.config)
        return maps.single_key_weights(fresh, "the same in a freshly initialised network")

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where all weights are 1, here and in the control."""
        if not effect.units:
            return Verdict(None, "no cross-modal map ran on the probe crystals")
        if not bool(np.all(effect.values == 1.0)):
            return Verdict(False, f"cross-modal weights vary (least {number(float(np.nanmin(effect.values)))})")
        learned = "so they are" if bool(np.all(control.values == 1.0)) else "which they are not"
        return Verdict(
            True,
            f"weights of {' and '.join(effect.units)} are 1 whatever was learned: one query, one key ({learned} in a "
            "freshly initialised network)",
            units=effect.units,
        )


class DeadBranchMap(Rule):
    """The map from tokens to atoms comes from a branch that the prediction does not depend on.

    Tokens attend to atoms beside atoms to tokens, but only the atoms go on to the readout. No gradient ever reached the
    queries and keys of this branch, so its map is that of random weights, at every stage of training. It looks as
    plausible as the other one. Measured by a backward pass over probe crystals; the control is the branch from atoms
    to tokens in a freshly initialised network, which a gradient does reach.

    Threshold: a gradient below 1e-12 of the largest in the network.
    """

    code = "AT607"
    name = "map from a dead branch"
    severity = "info"
    needs = frozenset({"attention"})
    summary = "the token-to-atom map is that of untrained weights"
    example = (
        "The gradient of `fine_grained_attention.t2a_query` is 0, that of `a2t_query` 3e-4 of the largest. Randomising "
        "the first changes no prediction and the whole map."
    )
    remedy = "Do not show the token-to-atom map; transpose nothing in its place, rows and columns are not exchangeable."
    reference = "Adebayo et al., NeurIPS 2018, arXiv 1810.03292, on explanations that ignore the model"

    def measure(self, evidence: Evidence) -> Measured:
        """Gradient of the modules of the branch, over the largest in the network."""
        reach = evidence.gradient_reach
        return self._of(reach, maps.TOKEN_TO_ATOM, "gradient of the token-to-atom branch over the largest")

    def control(self, evidence: Evidence) -> Measured:
        """The same for the atom-to-token branch of a freshly initialised network."""
        reach = fresh_gradient_reach(evidence.network.config)
        return self._of(reach, maps.ATOM_TO_TOKEN, "the same for the atom-to-token branch of a fresh network")

    def _of(self, reach: dict[str, float], modules: tuple[str, ...], what: str) -> Measured:
        names = tuple(name for part in modules if (name := f"{maps.FINE_GRAINED}.{part}") in reach)
        return Measured(np.array([reach[name] for name in names], dtype=np.float64), names, what)

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where no module of the branch has a gradient, and the other branch can have one."""
        if not effect.defined or not control.defined:
            return Verdict(None, "the gradient is not finite")
        largest, other = float(np.nanmax(effect.values)), float(np.nanmax(control.values))
        figures = f"(largest gradient {number(largest)} of that of the network; atom-to-token branch {number(other)})"
        if largest >= CUT_OFF or other < CUT_OFF:
            return Verdict(False, f"the prediction depends on the token-to-atom branch {figures}")
        return Verdict(
            True,
            f"the token-to-atom map is that of untrained weights: the prediction does not depend on it {figures}",
            units=("attention.token_to_atom",),
        )


class IdleAttention(Rule):
    """Attention to tokens moves nothing: predictions do not depend on where it goes.

    Whether a map explains a prediction is first of all whether the prediction would be another with another map. The
    weights are replaced by uniform ones, and the measure is the change of each prediction in the unit of the target.
    Permuted and sharpened weights are given beside it. The control is the same change for the network with queries and
    keys drawn anew: what a random map moves. Attention that moves more than that does something; attention that moves
    less than a third of it has been switched off, behind it or in it; in between its effect cannot be told from that of
    a random map, and the outcome says so. The change in units of the spread of predictions is stated either way: below
    one part in a hundred it hardly matters, however this rule decides.

    Thresholds: clear at a hundredth of the standard deviation of predictions. Below it, the rule speaks under 0.00001
    of that, float32's resolution of a prediction by a network of this depth, or under a third of what re-initialised
    queries and keys move, which scatter by a third. Healthy networks move 0.0001 to 0.006 standard deviations, 0.6 to
    20 times the control.
    """

    code = "AT608"
    name = "attention moves nothing"
    severity = "warning"
    needs = frozenset({"data", "attention"})
    summary = "predictions do not depend on where attention goes"
    example = (
        "Values of the attention are 1e-4 of their size. Uniform weights change predictions by 3e-7 eV, where their "
        "spread is 2.1 eV; permuted and sharpened weights do no more."
    )
    remedy = (
        "Do not explain predictions by this map. Train with attention in place from the start, or leave it out: the "
        "model does without."
    )
    reference = "Jain and Wallace, NAACL 2019, arXiv 1902.10186; Serrano and Smith, ACL 2019, arXiv 1906.03731"
    LIMIT = 1 / 3
    LEAST_SHARE = 1e-5
    AMPLE_SHARE = 0.01

    def applies(self, evidence: Evidence) -> str | None:
        """Effect and control are passes of their own."""
        names = ("counterfactual.attention_uniform.prediction", f"{maps.REINITIALIZED.format(0)}.prediction")
        missing = (maps.lacks_column(evidence, name) for name in names)
        return super().applies(evidence) or next((reason for reason in missing if reason), None)

    def measure(self, evidence: Evidence) -> Detailed:
        """How far uniform attention moves each prediction."""
        others = {
            change: float(np.nanmean(values))
            for change in ("permuted", "sharpened")
            if np.isfinite(values := maps.moved(evidence, change)).any()
        }
        return Detailed(
            maps.moved(evidence, "uniform"),
            ids(evidence),
            "change of the prediction under uniform attention, in the unit of the target",
            {"": others | {"spread": maps.spread(evidence)}},
        )

    def control(self, evidence: Evidence) -> Measured:
        """The same for re-initialised queries and keys, mean over draws."""
        return Measured(maps.moved_untrained(evidence), ids(evidence), "the same with re-initialised queries and keys")

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where the change is next to nothing, or a third of the control with its whole interval."""
        details = effect if isinstance(effect, Detailed) else Detailed(effect.values, effect.units, effect.what)
        change, ratio, spread = (
            mean_of(effect.values),
            ratio_of(effect.values, control.values),
            details.number("spread"),
        )
        figures = (
            f"({change.text('change under uniform weights')}, permuted {number(details.number('permuted'))}, sharpened "
            f"{number(details.number('sharpened'))}; {number(change.value / spread, '%') if spread else 'no'} % of the "
            f"spread of predictions; {ratio.text('over re-initialised queries and keys')}; {change.structures})"
        )
        if change.count < FEWEST_STRUCTURES or not spread > 0:
            why = TOO_FEW if change.count < FEWEST_STRUCTURES else "predictions do not vary: it cannot be told"
            return Verdict(None, f"{why} whether attention moves them {figures}", change.interval)
        if change.above(self.AMPLE_SHARE * spread):
            return Verdict(False, f"attention moves predictions {figures}", change.interval)
        if change.below(self.LEAST_SHARE * spread) or ratio.below(self.LIMIT):
            return Verdict(True, f"attention moves nothing {figures}", change.interval, worst(effect, largest=False))
        if ratio.above(1.0):
            return Verdict(False, f"attention moves more than a random map {figures}", change.interval)
        text = "what attention moves cannot be told from what a random map moves"
        return Verdict(None, f"{text} {figures}", change.interval)


class PaddedStatistics(Rule):
    """What statistics of this attention would be if padding were counted, and how wrong that is.

    In a batch, structures are padded to the largest and texts to the longest. Scripts that take statistics over the
    whole array count padded tokens, whose weight is 0, and padded atoms, whose query is zero and whose row is uniform.
    Entropy, Gini, largest weight and effective tokens then depend on what else is in the batch: the Gini coefficient
    rises to near 1 because the text is short, and sharp attention is averaged with flat rows of atoms that do not
    exist. All figures here leave padding out. The measure is the Gini coefficient as the padded array of the whole
    data set would give it, its control the right one. It says nothing against the model; it says which published
    figures for it not to believe.

    Threshold: a mean error of 0.05, one twentieth of the range of a Gini coefficient.
    """

    code = "AT609"
    name = "statistics over padding"
    severity = "info"
    summary = "statistics over the padded array would be wrong"
    example = (
        "Twenty structures of 1 to 20 atoms in one batch: Gini 0.372 over the padded array, 0.021 over what is real."
    )
    remedy = "Take statistics over real atoms and tokens only; recompute figures that were taken over padded batches."
    reference = "Hurley and Rickard, arXiv 0811.4706: appended zeros raise a Gini coefficient"
    needs = frozenset({"data"})
    LIMIT = 0.05

    def applies(self, evidence: Evidence) -> str | None:
        """There must be a map, and a batch of two."""
        reason = super().applies(evidence) or maps.no_map(evidence)
        return reason or (None if len(evidence.structures) > 1 else "one structure alone is not padded")

    def measure(self, evidence: Evidence) -> Detailed:
        """Gini coefficient over the padded array."""
        tap = maps.maps(evidence)[0]
        statistics = maps.padded_statistics(evidence, tap)
        details = {
            f"{name} {kind}": float(np.nanmean(values))
            for name, pair in statistics.items()
            for kind, values in zip(("right", "padded"), pair, strict=True)
            if np.isfinite(values).any()
        }
        what = "Gini coefficient over an array padded to the largest structure and the longest text"
        return Detailed(statistics["gini"][1], ids(evidence), what, {"": details})

    def control(self, evidence: Evidence) -> Measured:
        """The same over real atoms and tokens."""
        right, _ = maps.padded_statistics(evidence, maps.maps(evidence)[0])["gini"]
        return Measured(right, ids(evidence), "the same over real atoms and tokens")

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where the mean error has its whole interval beyond 0.05."""
        error = mean_of(np.abs(effect.values - control.values))
        details = effect if isinstance(effect, Detailed) else Detailed(effect.values, effect.units, effect.what)
        others = ", ".join(
            f"{name.replace('_', ' ')} {number(details.number(f'{name} padded'))} in place of "
            f"{number(details.number(f'{name} right'))}"
            for name in ("gini", "entropy", "max_weight", "effective_tokens")
        )
        figures = f"({error.text('mean error of Gini')}; {others}; {error.structures})"
        return settle(
            error.above(self.LIMIT),
            error,
            figures,
            found="a padded computation would have been wrong",
            clear="a padded computation would have been about right",
            unknown="a padded computation would have been wrong",
            units=worst(Measured(np.abs(effect.values - control.values), effect.units, "error")),
        )
