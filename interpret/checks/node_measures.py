"""What the rules on nodes measure: distances between atoms at the stages of a network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interpret.checks.estimates import Detailed, Estimate, Values, at_stage, mean_of
from interpret.checks.evidence import Evidence

INPUT = "embedding.nodes"
ENHANCED = "attention.nodes"
# Half the squared distance of unit vectors that differ by rounding alone, in float64 with float32 bond lengths: below
# this, atoms point the same way and a ratio of distances is noise.
SAME_DIRECTION = 1e-12


@dataclass(frozen=True)
class Noted(Detailed):
    """A measure with words that its verdict quotes."""

    note: str = ""


def stages(evidence: Evidence) -> list[str]:
    """Stages of the graph network in forward order: from its input to the last layer before any attention."""
    if not len(evidence.layers):
        return []
    table = evidence.layers[["stage_index", "stage"]].drop_duplicates("stage").sort_values("stage_index")
    return [str(stage) for stage in table["stage"] if stage != ENHANCED]


def fusion_layers(evidence: Evidence) -> list[int]:
    """Layers with a middle fusion that ran, gated or not."""
    return [int(stage.split(".")[1]) for stage in stages(evidence) if stage.startswith("fusion.")]


def distances(evidence: Evidence, stage: str) -> Values:
    """Mean cosine distance between atoms of different classes at a stage, [n] by id."""
    return at_stage(evidence, stage, "between_class_distance")


def kept_by_fusion(evidence: Evidence, layer: int) -> Values:
    """Share of that distance that a fusion leaves, [n]; NaN where atoms point the same way before it."""
    before = distances(evidence, f"alignn.{layer}.nodes")
    return ratios(distances(evidence, f"fusion.{layer}.nodes"), before)


def kept_by_layers(evidence: Evidence) -> Values:
    """Share of that distance at the input that the graph layers leave, without what fusions do to it, [n].

    The distance at the last stage over that at the first, divided by what each fusion on the way left.
    """
    kept = ratios(distances(evidence, stages(evidence)[-1]), distances(evidence, INPUT))
    for layer in fusion_layers(evidence):
        # Where atoms were alike before a fusion it has nothing to take.
        kept = kept / np.nan_to_num(np.maximum(kept_by_fusion(evidence, layer), SAME_DIRECTION), nan=1.0)
    return kept


def ratios(after: Values, before: Values) -> Values:
    """Quotients [n], of a distance of at least rounding; NaN where there is no more than rounding to begin with."""
    quotient = np.full(len(before), np.nan)
    known = before > SAME_DIRECTION
    quotient[known] = np.maximum(after[known], SAME_DIRECTION) / before[known]
    return quotient


def in_units_of_elements(evidence: Evidence, name: str) -> Values:
    """A distance after the last graph layer over that of atoms of different elements there, [n]; NaN without any."""
    last = stages(evidence)[-1]
    scale, values = at_stage(evidence, last, "different_element_distance"), at_stage(evidence, last, name)
    share: Values = np.divide(values, scale, out=np.full(len(scale), np.nan), where=scale > SAME_DIRECTION)
    return share


def geometric_mean(values: Values) -> Estimate:
    """Of positive values over structures; NaN values are left out."""
    with np.errstate(divide="ignore"):
        logs = np.log(values)
    return mean_of(np.where(np.isfinite(logs), logs, np.nan)).map(lambda x: float(np.exp(x)))


def stage_means(evidence: Evidence, name: str) -> dict[str, float]:
    """Mean over structures of a column of the layers table, by stage; NaN where it is defined for none."""
    means = {}
    for stage in stages(evidence):
        values = at_stage(evidence, stage, name)
        means[stage] = float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
    return means
