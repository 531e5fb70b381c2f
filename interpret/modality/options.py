"""How a modality analysis is run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

CHUNK = 8


@dataclass(frozen=True)
class ModalityOptions:
    """How to run.

    Attributes:
        references: structures that stand in for a crystal or text taken away.
        untrained_references: the same for the control, a network of this architecture as it was before training.
        averaged: structures that the mean crystal is the mean of.
        detailed: structures whose text is taken apart and edited; each costs some fifty passes of the encoder.
        chunk: structures whose rows are kept at a time, what a killed run loses at most; changes no figure.
        device: torch device of the network. dtype: ``float64`` or ``float32``.
        seed: of every draw; draws are by hash of id and text, so that order does not matter.
    """

    references: int = 8
    untrained_references: int = 2
    averaged: int = 64
    detailed: int = 32
    chunk: int = CHUNK
    device: str = "cpu"
    dtype: str = "float64"
    seed: int = 0

    def of_figures(self) -> dict[str, Any]:
        """Those that figures depend on."""
        return {name: value for name, value in asdict(self).items() if name != "chunk"}
