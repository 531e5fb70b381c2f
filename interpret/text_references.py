"""Texts of other structures in a network's node space: the control of every cosine with the text."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from interpret.record import StructureRecord
    from model.encoder import TextEncoder
    from model.network import CrystalTextNetwork

MOST_REFERENCES = 64
FEWEST_REFERENCES = 16


class TextReferences:
    """A fixed pool of texts, transformed as each middle fusion transforms them.

    A derangement gives each structure the text of one other; the pool gives it the mean over up to 64 others, which
    is what repeated derangements estimate. It depends on the data set only, neither on order nor on batches.

    Args:
        network: whose middle fusion is meant; a float64 copy of its text path is used.
        encoder: of the network.
        texts: of the data set; a pool is drawn by hash.
        spare: texts to fill up with where the data set has fewer than 16 different ones.
        seed: of the draw.
    """

    def __init__(
        self,
        network: CrystalTextNetwork,
        encoder: TextEncoder,
        texts: Sequence[str],
        spare: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        modules = network.middle_fusion_modules
        self.layers = [
            index
            for index in range(network.config.alignn_layers)
            if f"layer_{index}" in modules and hasattr(modules[f"layer_{index}"], "text_transform")
        ]
        self._projection = copy.deepcopy(network.text_projection).double().cpu().eval()
        self._transforms: dict[int, nn.Module] = {}
        for index in self.layers:
            transform = modules[f"layer_{index}"].text_transform
            assert isinstance(transform, nn.Module)
            self._transforms[index] = copy.deepcopy(transform).double().cpu().eval()
        self.texts = _draw(texts, spare, seed)
        self._vectors: dict[int, Tensor] = {}
        if self.layers and self.texts:
            first = torch.stack([encoder.encode([text])[0].embeddings[0] for text in self.texts])
            self._vectors = {index: self._transform(first, index) for index in self.layers}

    def _transform(self, tokens: Tensor, layer: int) -> Tensor:
        with torch.no_grad():
            result: Tensor = self._transforms[layer](self._projection(tokens.double()))
        return result

    def own(self, record: StructureRecord, layer: int) -> Tensor:
        """[d] float64: the structure's own text in node space."""
        return self._transform(record.encoding.embeddings[:1], layer)[0]

    def others(self, record: StructureRecord, layer: int) -> Tensor:
        """[P, d] float64: the pool without the structure's own text."""
        keep = [row for row, text in enumerate(self.texts) if text != record.encoding.text]
        return self._vectors[layer][keep]


def _draw(texts: Sequence[str], spare: Sequence[str], seed: int) -> list[str]:
    """Up to 64 different texts, chosen and ordered by a seeded hash so that the order of the data does not matter."""

    def key(text: str) -> str:
        return hashlib.sha256(f"{seed}:{text}".encode()).hexdigest()

    pool = sorted(set(texts), key=key)[:MOST_REFERENCES]
    extra = [text for text in sorted(set(spare), key=key) if text not in pool]
    return pool + extra[: max(0, FEWEST_REFERENCES - len(pool))]
