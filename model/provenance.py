"""Where a network's weights came from, and what had to be assumed or left out to load them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

Scalar = str | int | float | bool | None


class Provenance(BaseModel):
    """The record that every result of a loaded network carries.

    Attributes:
        path: name of the file or directory.
        sha256: of the weights file, of exactly the bytes that were read.
        format: "zip", "legacy" or "safetensors"; "pretrained" for a directory of ours.
        layout: where in the file the weights were.
        prefix: what wrappers (DataParallel, torch.compile, Lightning) had put before every name.
        config_source: where the configuration was, or "inferred from the weights".
        missing, unexpected: keys by module; mismatched: key with both shapes, by module.
        tolerated: absent keys that a network in evaluation does not need, or whose value is known.
        assumptions: what the file does not say and was chosen, one sentence each.
        partial: some of the network's weights are not from the file, or some of the file's were not used.
        non_finite: weights that hold NaN or infinity.
        dtype_note: how weights that are not float32 were converted.
        entries: the file's other plain values, such as epoch and val_mae.
        training: plain values that stood around the model's configuration.
        origin: for a saved copy, the provenance that the network had when it was saved.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    sha256: str
    format: str
    layout: str
    prefix: str = ""
    config_source: str
    missing: dict[str, tuple[str, ...]] = {}
    unexpected: dict[str, tuple[str, ...]] = {}
    mismatched: dict[str, tuple[str, ...]] = {}
    tolerated: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    partial: bool = False
    non_finite: tuple[str, ...] = ()
    dtype_note: str | None = None
    entries: dict[str, Scalar] = {}
    training: dict[str, Scalar] = {}
    origin: Provenance | None = None


def by_module(names: list[str]) -> dict[str, tuple[str, ...]]:
    """Parameter names grouped by the part of the network they belong to.

    >>> by_module(["fc.bias", "alignn_layers.0.edge_update.bn_nodes.bias"])
    {'fc': ('bias',), 'alignn_layers.0': ('edge_update.bn_nodes.bias',)}
    """
    grouped: dict[str, list[str]] = {}
    for name in names:
        parts = name.split(".")
        depth = 2 if parts[0] in ("alignn_layers", "gcn_layers", "middle_fusion_modules") else 1
        depth = min(depth, len(parts) - 1) or 1
        grouped.setdefault(".".join(parts[:depth]), []).append(".".join(parts[depth:]) or name)
    return {module: tuple(rest) for module, rest in grouped.items()}
