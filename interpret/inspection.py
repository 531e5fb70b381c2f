"""What a checkpoint holds, without any data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from interpret.checks.evidence import Evidence
from interpret.checks.registry import run_rules, select_rules
from interpret.provenance import describe_checkpoint
from interpret.tables import plain
from interpret.taps import taps_of

if TYPE_CHECKING:
    from model.network import CrystalTextNetwork


def inspect_checkpoint(network: CrystalTextNetwork) -> dict[str, Any]:
    """File facts, configuration, sizes by module, taps and notes, as plain values.

    Returns:
        ``file`` (provenance), ``config``, ``parameters``, ``modules`` (parameters by top-level module), ``taps``,
        ``findings`` and ``rules`` of the checkpoint family, ``notes``.
    """
    outcomes = run_rules(select_rules(["CK"]), Evidence(network))
    described = describe_checkpoint(network)
    config = described.pop("config")
    modules = {name: sum(p.numel() for p in child.parameters()) for name, child in network.named_children()}
    notes = list(described.get("assumptions") or [])
    for layer in network.config.missing_fusion_layers:
        notes.append(
            f"middle fusion after ALIGNN layer {layer} never runs: there are {network.config.alignn_layers} layers"
        )
    if network.config.use_fine_grained_attention:
        notes.append("the token-to-atom branch does not reach the prediction")
    result: dict[str, Any] = plain(
        {
            "file": described,
            "config": config,
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "modules": {name: count for name, count in modules.items() if count},
            "taps": [
                {"name": tap.name, "module": tap.module, "axes": tap.axes, "space": tap.space, "meaning": tap.meaning}
                for tap in taps_of(network).values()
            ],
            "findings": [outcome.finding.to_dict() for outcome in outcomes if outcome.finding is not None],
            "rules": [{"code": o.code, "status": o.status, "reason": o.reason} for o in outcomes],
            "notes": notes,
        }
    )
    return result
