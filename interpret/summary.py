"""From tables and rule outcomes to the lines a person reads: statistics, facts, verdict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interpret.checks.base import Outcome
from interpret.checks.evidence import Evidence
from interpret.checks.gate_training import training_was_unstable
from interpret.metrics.fusion import change_correlation, decision_path
from interpret.metrics.statistics import mean_with_interval
from interpret.root_cause import root_cause

if TYPE_CHECKING:
    from model.encoder import TextEncoder

RESAMPLES = 2000


def verdict(outcomes: Iterable[Outcome]) -> tuple[str, str]:
    """``good``, ``acceptable`` or ``poor``, and why.

    An error makes it poor, a warning acceptable; what no rule could tell is named and does not count as good news.
    """
    outcomes = list(outcomes)
    found = [o.finding for o in outcomes if o.finding is not None]
    unknown = [o.code for o in outcomes if o.status == "cannot tell"]
    aside = f"; not enough to tell: {', '.join(unknown)}" if unknown else ""
    for severity, word in (("error", "poor"), ("warning", "acceptable")):
        codes = [f"{f.code} {f.name}" for f in found if f.severity == severity]
        if codes:
            return word, f"{len(codes)} {severity}{'s' if len(codes) > 1 else ''}: {', '.join(codes)}{aside}"
    asked = sum(o.status in ("found", "clear") for o in outcomes)
    return "good", f"none of {asked} rules found an error or a warning{aside}"


def statistics(evidence: Evidence) -> dict[str, Any]:
    """Means with 95 % bootstrap intervals over structures, and figures that exist for the data set only."""
    frame = evidence.structures.sort_values("id", kind="stable")
    columns = {
        str(name): asdict(mean_with_interval(frame[name].to_numpy(dtype=np.float64), resamples=RESAMPLES))
        for name in frame.columns
        if pd.api.types.is_float_dtype(frame[name]) and name not in ("target", "prediction")
    }
    result: dict[str, Any] = {"columns": columns}
    if frame["target"].notna().any():
        target = frame["target"].to_numpy(dtype=np.float64)
        error = frame["error"].to_numpy(dtype=np.float64)
        result["accuracy"] = {
            "mean_absolute_error": float(np.nanmean(np.abs(error))),
            "root_mean_square_error": float(np.sqrt(np.nanmean(error**2))),
            # What predicting the mean of these very targets gives: the yardstick of any error.
            "mean_predictor_absolute_error": float(np.nanmean(np.abs(target - np.nanmean(target)))),
            "labelled": int(np.isfinite(target).sum()),
        }
    for layer in evidence.fusion_layers:
        result[f"fusion.{layer}"] = _fusion(evidence, layer)
    quality, fusion, effective = (
        frame[name].to_numpy(dtype=np.float64) if (name := f"cross_modal.{part}") in frame else None
        for part in ("quality", "fusion", "effective")
    )
    if evidence.network.config.use_fine_grained_attention:
        result["root_cause"] = root_cause(evidence.structures).to_dict()
    if effective is not None:
        path = decision_path(quality, fusion, effective, instability=training_was_unstable(evidence))
        result["decision_path"] = [step._asdict() for step in path]
    return result


def _fusion(evidence: Evidence, layer: int) -> dict[str, Any]:
    moments = evidence.moments[layer]
    null = moments.independence_null()
    alpha = evidence.atoms[f"fusion.{layer}.alpha_mean"].to_numpy(dtype=np.float64)
    change = evidence.atoms[f"fusion.{layer}.relative_change"].to_numpy(dtype=np.float64)
    by_element = evidence.atoms.assign(alpha=alpha).groupby("element")["alpha"]
    return {
        "atoms": moments.atoms,
        "alpha_sd_over_all_atoms": float(null.observed),
        "channel_sd": float(null.channel_sd),
        "independence_null": float(null.null),
        "spread_ratio": float(null.ratio),
        "intraclass_correlation": float(moments.intraclass_correlation().value),
        "change_correlation": change_correlation(alpha, change)._asdict(),
        "alpha_by_element": {
            str(element): {"mean": float(values.mean()), "atoms": len(values)} for element, values in by_element
        },
    }


def facts(evidence: Evidence, encoder: TextEncoder) -> dict[str, Any]:
    """What follows from the architecture or the file, whatever the data."""
    config = evidence.network.config
    notes = []
    if config.use_fine_grained_attention:
        notes.append(
            "the token-to-atom branch does not reach the prediction: its attention map is that of untrained weights"
        )
    if config.use_cross_modal_attention:
        notes.append("cross-modal attention has one query and one key: its weight is 1 whatever was learned")
    for layer in config.missing_fusion_layers:
        notes.append(f"middle fusion after ALIGNN layer {layer} never runs: there are {config.alignn_layers} layers")
    cut = int(evidence.structures["truncated"].sum())
    if cut:
        limit = f"{encoder.max_pieces} pieces"
        notes.append(f"{cut} of {len(evidence.structures)} texts are longer than the encoder reads ({limit})")
    if not getattr(encoder, "trained", True):
        notes.append(f"the text encoder is {encoder.name}: nothing that depends on the text can be trusted")
    record = evidence.network.provenance
    if record is not None:
        notes += [f"assumed: {assumption}" for assumption in record.assumptions]
        if record.partial:
            notes.append("the checkpoint was loaded partially: some weights are random")
    return {"notes": notes, "taps_never_fired": list(evidence.never_fired)}
