"""Rows about the gates of middle fusion and of the gated cross-modal family."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from interpret.metrics import fusion, gates
from interpret.record import StructureRecord


def fusion_layers(record: StructureRecord) -> list[int]:
    """Indices of the middle-fusion layers whose gate was captured."""
    names = (str(name) for name in record.data)
    return sorted(int(name.split(".")[1]) for name in names if name.startswith("fusion.") and name.endswith(".gate"))


def gate_columns(record: StructureRecord, layer: int, text_scale: float) -> dict[str, Any]:
    """Statistics of one middle-fusion gate over a structure's atoms, columns prefixed ``fusion.{layer}.``.

    Args:
        text_scale: the factor on the transformed text, for the scale ratio at the gate's input.
    """
    gate = torch.from_numpy(record.values(f"fusion.{layer}.gate"))
    alpha = gates.reduce_gate(gate)
    share = gates.saturation(gate)
    null = gates.independence_null(gate)
    columns = {
        "alpha_mean": float(alpha.mean()),
        "alpha_sd": float(alpha.std()) if len(alpha) > 1 else np.nan,
        "alpha_min": float(alpha.min()),
        "alpha_max": float(alpha.max()),
        "gate_low_share": float(share.low),
        "gate_high_share": float(share.high),
        "gate_middle_share": float(share.middle),
        "channel_sd": float(null.channel_sd),
        "spread_null": float(null.null),
        "spread_ratio": float(null.ratio),
        "intraclass_correlation": float(gates.intraclass_correlation(gate).value),
    }
    columns |= _change(record, layer, text_scale)
    return {f"fusion.{layer}.{name}": value for name, value in columns.items()}


def _change(record: StructureRecord, layer: int, text_scale: float) -> dict[str, float]:
    change = fusion.relative_change(record.values(f"alignn.{layer}.nodes"), record.values(f"fusion.{layer}.nodes"))
    columns = {"relative_change": float(change.nanmean())}
    if f"fusion.{layer}.text_transform" in record:
        text = text_scale * record.values(f"fusion.{layer}.text_transform")
        columns["scale_ratio"] = float(fusion.scale_ratio(record.values(f"alignn.{layer}.nodes"), text).value)
    return columns


def atom_gate_columns(record: StructureRecord, layer: int) -> list[dict[str, float]]:
    """Per atom: every reduction of the gate, its saturation, the relative change by fusion, and what the text adds.

    ``gated_text_ratio`` is the norm of gate times transformed text (before ``text_scale``) over that of the atom's
    features: the change before the fusion's layer norm, which rescales all atoms whatever the gate does.
    """
    gate = torch.from_numpy(record.values(f"fusion.{layer}.gate"))
    atoms = torch.from_numpy(record.values(f"alignn.{layer}.nodes"))
    change = fusion.relative_change(atoms, record.values(f"fusion.{layer}.nodes"))
    columns = {
        "alpha_mean": gates.reduce_gate(gate, "mean"),
        "alpha_max": gates.reduce_gate(gate, "max"),
        "alpha_sd": gates.reduce_gate(gate, "std"),
        "gate_low_share": (gate < 0.1).to(torch.float64).mean(dim=1),
        "gate_high_share": (gate > 0.9).to(torch.float64).mean(dim=1),
        "relative_change": change,
    }
    if f"fusion.{layer}.text_transform" in record:
        added = gate * torch.from_numpy(record.values(f"fusion.{layer}.text_transform"))
        columns["gated_text_ratio"] = added.norm(dim=1) / atoms.norm(dim=1)
    return [
        {f"fusion.{layer}.{name}": float(values[atom]) for name, values in columns.items()}
        for atom in range(gate.shape[0])
    ]


def cross_modal_gate_columns(record: StructureRecord) -> dict[str, float]:
    """Quality, fusion, effective or single gate of the gated cross-modal family, where the network has one."""
    names = ("quality", "fusion", "gate", "effective")
    return {
        f"cross_modal.{name}": float(record.values(f"cross_modal.{name}").reshape(-1)[0])
        for name in names
        if f"cross_modal.{name}" in record
    }
