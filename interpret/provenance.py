"""Where figures come from: checkpoint, data, encoder, options, versions."""

from __future__ import annotations

import dataclasses
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from interpret.tables import plain

if TYPE_CHECKING:
    from model.dataset import CrystalDataset
    from model.encoder import TextEncoder
    from model.network import CrystalTextNetwork

PACKAGES = ("crystal-interpret", "torch", "transformers", "jarvis-tools", "spglib", "numpy", "scipy", "pandas")


def versions() -> dict[str, str]:
    """Installed versions of what figures depend on."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def describe_checkpoint(network: CrystalTextNetwork) -> dict[str, Any]:
    """Provenance and configuration of a network; a network made in memory has no file."""
    described: dict[str, Any] = {"config": network.config.model_dump(mode="json")}
    if network.provenance is None:
        return described | {"source": "made in memory"}
    record = network.provenance
    return described | record.model_dump(mode="json")


def describe_run(
    network: CrystalTextNetwork, dataset: CrystalDataset, encoder: TextEncoder, options: dict[str, Any]
) -> dict[str, Any]:
    """The provenance section of diagnosis.json."""
    return {
        "checkpoint": describe_checkpoint(network),
        "data": {
            "fingerprint": dataset.fingerprint,
            "rows": dataset.rows,
            "samples": len(dataset),
            "columns": [plain(dataclasses.asdict(column)) for column in dataset.columns],
            "notes": list(dataset.notes),
        },
        "encoder": {
            "name": encoder.name,
            "fingerprint": encoder.fingerprint,
            "width": encoder.width,
            "max_pieces": encoder.max_pieces,
            "trained": bool(getattr(encoder, "trained", True)),
        },
        "options": options,
        "versions": versions(),
    }
