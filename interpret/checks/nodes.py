"""Rules of the nodes family: whether atoms that the graph tells apart stay different, and whether it should."""

from __future__ import annotations

import numpy as np

from interpret.checks import node_measures as nodes
from interpret.checks.base import Measured, Rule, Verdict, constant, worst
from interpret.checks.estimates import (
    Detailed,
    by_layer,
    column,
    each_layer,
    ids,
    mean_of,
    number,
    settle,
)
from interpret.checks.evidence import Evidence
from interpret.metrics.spectrum import stage_of_collapse


class OverSmoothing(Rule):
    """Graph layers have made atoms alike that the graph tells apart.

    Every graph layer mixes an atom with its neighbours. After too many of them all atoms of a crystal have nearly the
    same features: attention to tokens is then the same for every atom, a readout of one atom is as good as that of
    all, and nothing that is shown atom by atom means anything. The measure is the cosine distance (MAD) between atoms
    of different classes of the input graph, after the last graph layer; atoms of one class are alike by construction
    and do not count, and structures of one class are left out. The control is the same distance between the same atoms
    at the input. What middle fusions did to the distance on the way is taken out: that is ND502. The stage from which
    on the distance stays below the limit is named, with Dirichlet energy and effective rank there.

    Threshold: 2 % of the distance at the input, geometric mean over structures: a relative difference between atoms of
    a seventh of what it was. Healthy networks of one to ten layers keep 18 % or more, with a pair norm over 100 %.
    """

    code = "ND501"
    name = "over-smoothing"
    severity = "error"
    needs = frozenset({"data"})
    summary = "graph layers make atoms of different classes alike"
    example = (
        "14 layers without residual: cosine distance between atoms of different classes 0.68 at the input, 1e-7 after "
        "the last layer. It falls below 2 % of the input at `gcn.2.nodes`, where the Dirichlet energy is 0.0015 of 8.0."
    )
    remedy = (
        "Train with fewer layers, or with `graph_norm` pair or layer and `graph_initial_residual` 0.1. Read nothing "
        "atom by atom in this checkpoint."
    )
    reference = "Chen et al., AAAI 2020, arXiv 1909.03211 (MAD); Cai and Wang, arXiv 2006.13318; Li et al., AAAI 2018"
    LIMIT = 0.02

    def applies(self, evidence: Evidence) -> str | None:
        """There must be a graph layer."""
        reason = super().applies(evidence)
        return reason or (None if len(nodes.stages(evidence)) > 1 else "the network has no graph layer")

    def measure(self, evidence: Evidence) -> nodes.Noted:
        """Cosine distance between atoms of different classes after the graph layers, without the fusions' doing."""
        start = nodes.distances(evidence, nodes.INPUT)
        means = nodes.stage_means(evidence, "between_class_distance")
        collapse = stage_of_collapse(means, self.LIMIT * means[nodes.INPUT])
        at = collapse.stage or nodes.stages(evidence)[-1]
        energy, rank = (
            nodes.stage_means(evidence, f"{n}") for n in ("between_class_dirichlet_energy", "effective_rank")
        )
        note = (
            f"{'it collapses at' if collapse.stage else 'at'} {at}: Dirichlet energy {number(energy[at])} of "
            f"{number(energy[nodes.INPUT])} at the input, effective rank {number(rank[at])}"
        )
        return nodes.Noted(
            nodes.kept_by_layers(evidence) * start,
            ids(evidence),
            "cosine distance between atoms of different classes after the graph layers",
            note=note,
        )

    def control(self, evidence: Evidence) -> Measured:
        """The same between the same atoms at the input."""
        return Measured(
            nodes.distances(evidence, nodes.INPUT), ids(evidence), "the same at the input of the first layer"
        )

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where what is left of the distance has its whole interval below 2 %."""
        kept = nodes.ratios(effect.values, control.values)
        ratio = nodes.geometric_mean(kept)
        note = effect.note if isinstance(effect, nodes.Noted) else ""
        return settle(
            ratio.below(self.LIMIT),
            ratio,
            f"({ratio.text('ratio')} of the distance at the input; {ratio.structures}; {note})",
            found="atoms of different classes are alike after the graph layers",
            clear="atoms of different classes stay different through the graph layers",
            unknown="atoms stay different",
            units=worst(Measured(kept, effect.units, "ratio"), largest=False),
        )


class HomogenisedByFusion(Rule):
    """Middle fusion makes the atoms of a crystal alike.

    The published fusion adds the same text vector to every atom of a structure and normalises the sum. Where the text
    is much longer than the atoms' own features, what is left of the differences between them is small: the cosine
    distance falls with the square of the ratio of the two lengths. What looks like over-smoothing later in the network
    then has its cause here. The measure is the distance between atoms of different classes right after the fusion, its
    control the same atoms right before it. Each fusion is judged by itself, and atoms that pointed the same way before
    it are left out.

    Threshold: a tenth of the distance before, geometric mean over structures: a text about three times as long as the
    atoms. Healthy networks keep 50 to 200 % (the norm takes out what all channels share), a text transform multiplied
    by 12 after training keeps 20 %.
    """

    code = "ND502"
    name = "homogenised by fusion"
    severity = "error"
    needs = frozenset({"data"})
    summary = "middle fusion makes atoms of different classes alike"
    example = (
        "A learned text scale of 10000: cosine distance between atoms of different classes 0.41 before "
        "`fusion.1.nodes`, 1e-8 behind it. Without the fusion attention tells the atoms apart again."
    )
    remedy = (
        "Lower the text scale (`middle_fusion_initial_scale`, weight decay on it), or use a variant that keeps atoms "
        "apart: `middle_fusion_type` element or token-attention."
    )
    reference = "Perez et al., FiLM, AAAI 2018, arXiv 1709.07871, on conditioning that is the same at every position"
    LIMIT = 0.1

    def applies(self, evidence: Evidence) -> str | None:
        """There must be a fusion that ran."""
        reason = super().applies(evidence)
        return reason or (None if nodes.fusion_layers(evidence) else "the network has no middle fusion that runs")

    def measure(self, evidence: Evidence) -> Detailed:
        """Cosine distance between atoms of different classes right after each fusion."""
        return self._at(evidence, "fusion", "cosine distance between atoms of different classes after the fusion")

    def control(self, evidence: Evidence) -> Measured:
        """The same atoms right before it."""
        return self._at(evidence, "alignn", "the same right before the fusion")

    def _at(self, evidence: Evidence, kind: str, what: str) -> Detailed:
        layers = nodes.fusion_layers(evidence)
        return by_layer(evidence, layers, what, lambda layer: nodes.distances(evidence, f"{kind}.{layer}.nodes"))

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where what a fusion leaves of the distance has its whole interval below a tenth."""
        return each_layer(effect, control, self._judge)

    def _judge(self, effect: Detailed, control: Measured) -> Verdict:
        kept = nodes.ratios(effect.values, control.values)
        ratio = nodes.geometric_mean(kept)
        return settle(
            ratio.below(self.LIMIT),
            ratio,
            f"({ratio.text('ratio')} of the distance before it; {ratio.structures}; "
            f"{number(control.mean)} before, {number(effect.mean)} after)",
            found="atoms of different classes are alike right after the fusion and were not before",
            clear="the fusion leaves atoms of different classes different",
            unknown="the fusion leaves atoms different",
            units=worst(Measured(kept, effect.units, "ratio"), largest=False),
        )


class ElementOnly(Rule):
    """Atoms are told apart by their element and by nothing else.

    The input features are those of the element; what distinguishes two atoms of one element is their surroundings, and
    that must come through bonds and angles. Where atoms of one element in different surroundings are as alike as atoms
    that symmetry makes equal, the graph layers contribute nothing: the network is a table of elements, and its maps
    atom by atom show the composition. The measure is the cosine distance between atoms of one element and different
    classes after the last graph layer, in units of the distance between atoms of different elements there. Its control
    are atoms of one class, which are alike by construction.

    Threshold: 0.0005, that is 2 % of the difference between elements. Healthy networks of one to ten layers have 0.003
    to 0.7, barely trained ones included; networks whose messages are dead have 0.
    """

    code = "ND503"
    name = "distinguishable by element only"
    severity = "warning"
    needs = frozenset({"data"})
    summary = "atoms of one element in different surroundings are as alike as equivalent atoms"
    example = (
        "The messages of all graph layers are zero. O1 and O2 of Fe2SiO4, bonded differently, have a cosine distance "
        "of 0, as O1 has from its mirror image; Fe and O have one of 0.9."
    )
    remedy = (
        "Look at the edge gates and updates of the graph layers (CK rules); train with more layers or a larger "
        "learning rate for them."
    )
    reference = "Xie and Grossman, Phys. Rev. Lett. 120, 145301 (2018), on what convolutions add to elements"
    LIMIT = 0.0005

    def measure(self, evidence: Evidence) -> Measured:
        """Distance of atoms of one element and different classes, over that of atoms of different elements."""
        return Measured(
            nodes.in_units_of_elements(evidence, "same_element_distance"),
            ids(evidence),
            "cosine distance of atoms of one element and different classes, over that of different elements",
        )

    def control(self, evidence: Evidence) -> Measured:
        """The same for atoms of one class, which are alike by construction."""
        values = nodes.in_units_of_elements(evidence, "within_class_distance")
        return Measured(values, ids(evidence), "the same for atoms of one class")

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where the mean share has its whole interval below the limit."""
        if not effect.defined:
            return Verdict(None, "no structure has atoms of one element in different surroundings beside others")
        share = mean_of(effect.values)
        alike = number(control.mean) if control.defined else "0"
        return settle(
            share.below(self.LIMIT),
            share,
            f"({share.text('difference in units of that between elements')}; {share.structures}; "
            f"atoms of one class: {alike})",
            found="atoms of one element in different surroundings are alike",
            clear="atoms of one element in different surroundings differ",
            unknown="atoms of one element in different surroundings differ",
            units=worst(effect, largest=False),
        )


class OrbitsSplit(Rule):
    """The graph tells apart atoms that the crystal does not, and the network makes much of it.

    Atoms that a symmetry of the crystal maps onto each other are equal in every physical sense. The graph of the k
    nearest neighbours can still tell them apart: where several neighbours lie at the k-th distance, rounding decides
    which of them are in, and in 10 to 30 % of real crystals it decides differently for equivalent atoms. Their features
    then differ for no reason, and so does what is shown for them atom by atom. The measure is the cosine distance after
    the last graph layer between atoms of one orbit that the graph tells apart, in units of the distance between atoms
    of different elements; its control are atoms that the graph does not tell apart. How many orbits are split is
    stated either way: it is a property of the graphs, and columns `orbits_split` and `orbits_cut` list them.

    Threshold: a tenth, about a third of the difference between elements, and twice the control: a variant that tells
    atoms apart by their place in the file does so to all of them. Healthy networks have 0.001 to 0.005 on real crystals
    of which a quarter are affected, with a pair norm 0.05.
    """

    code = "ND504"
    name = "orbits split by the graph"
    severity = "warning"
    needs = frozenset({"data"})
    summary = "atoms equivalent by symmetry differ because the graph cut a tie"
    example = (
        "In SrB6 three of the six equivalent B atoms get 16 bonds and three get 12, by a tie at the last neighbour. "
        "After the last layer they differ by 0.2 of what Sr and B differ by; B atoms with equal graphs differ by 0."
    )
    remedy = (
        "Average what is shown over the atoms of an orbit, and compare orbits, not atoms; if the network is trained "
        "again, build its graphs with a radius or with a tolerance at the k-th distance."
    )
    reference = "Togo, Shinohara and Tanaka, arXiv 1808.01590 (orbits); Choudhary and DeCost, npj Comput. Mater. 7, 185"
    LIMIT = 0.1

    def measure(self, evidence: Evidence) -> nodes.Noted:
        """Distance of atoms of one orbit that the graph tells apart, over that of atoms of different elements."""
        split, cut = column(evidence, "orbits_split"), column(evidence, "orbits_cut")
        note = (
            f"the graph splits {np.nansum(split):.0f} orbits in {int((split > 0).sum())} of {len(split)} structures, "
            f"{np.nansum(cut):.0f} by a different number of bonds"
        )
        return nodes.Noted(
            nodes.in_units_of_elements(evidence, "split_orbit_distance"),
            ids(evidence),
            "cosine distance of equivalent atoms that the graph tells apart, over that of different elements",
            note=note,
        )

    def control(self, evidence: Evidence) -> Measured:
        """The same for atoms that the graph does not tell apart."""
        return Measured(
            nodes.in_units_of_elements(evidence, "within_class_distance"),
            ids(evidence),
            "the same for equivalent atoms that it does not tell apart",
        )

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where the mean share has its whole interval above a tenth and above twice the control."""
        note = effect.note if isinstance(effect, nodes.Noted) else ""
        if not effect.defined:
            return Verdict(False, f"no two atoms of one orbit that the graph tells apart to compare ({note})")
        share = mean_of(effect.values)
        by_file = control.mean if control.defined else 0.0
        return settle(
            share.above(max(self.LIMIT, 2 * by_file)),
            share,
            f"({share.text('difference in units of that between elements')}; {share.structures}; "
            f"atoms it does not tell apart: {number(by_file)}; {note})",
            found="equivalent atoms differ because the graph tells them apart",
            clear="equivalent atoms that the graph tells apart stay nearly alike",
            unknown="equivalent atoms that the graph tells apart stay alike",
            units=worst(effect),
        )


class OrbitsMerged(Rule):
    """Atoms that differ in the crystal are the same in the graph: no network can tell them apart on it.

    A graph of few neighbours may not show what distinguishes two sites. Atoms whose elements, bond lengths and bond
    angles agree at every depth of the graph (colour refinement, which sees all that message passing can see) get equal
    features from every network of this family, however it is trained, and what it says of them separately is an
    illusion. In graphite the two kinds of carbon differ only in what lies above them in the next layer. The measure is
    the number of such classes in a structure, the control what symmetry says: a class is one orbit.

    Threshold: more than one structure in twenty. This is a property of the graphs given, not an estimate.
    """

    code = "ND505"
    name = "orbits merged by the graph"
    severity = "warning"
    needs = frozenset({"data"})
    summary = "atoms that differ in the crystal are alike in the graph"
    example = (
        "Graphite, 12 neighbours: C1 above a carbon of the next layer and C2 above a hexagon have the same bonds and "
        "angles within the graph. Both get the same features, the same gate and the same attention."
    )
    remedy = "Build the graphs with more neighbours or a larger cutoff; report such atoms together."
    reference = "Morris et al., AAAI 2019, arXiv 1810.02244; Xu et al., ICLR 2019, arXiv 1810.00826"
    LIMIT = 0.05

    def measure(self, evidence: Evidence) -> Measured:
        """Classes of a structure's graph that hold atoms of several orbits."""
        return Measured(column(evidence, "classes_merged"), ids(evidence), "classes with atoms of several orbits")

    def control(self, evidence: Evidence) -> Measured:
        """What symmetry allows: a class lies in one orbit."""
        return constant(0.0, ids(evidence), "the same where the graph shows what the crystal shows")

    def verdict(self, effect: Measured, control: Measured) -> Verdict:
        """Speaks where more than one structure in twenty has such a class."""
        if not effect.defined:
            return Verdict(None, "the run did not compare orbits and classes")
        merged = effect.values > control.values
        share = float(merged.sum() / effect.defined)
        text = (
            f"atoms of several orbits are one class of the graph in {int(merged.sum())} of {effect.defined} structures"
        )
        speaks = share > self.LIMIT
        units = worst(Measured(np.where(merged, effect.values, np.nan), effect.units, effect.what)) if speaks else ()
        return Verdict(speaks, text, units=units)
