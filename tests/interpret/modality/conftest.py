"""A cheap encoder and networks whose shares are known on paper."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model.batch import CrystalBatch
from model.config import ModelConfig
from model.encoder import TextEncoding
from model.network import CrystalTextNetwork, GraphState
from model.text import normalize

WIDTH = 12


def hashed_vector(word: str) -> np.ndarray:
    """[12] standard normal, the same for the same word."""
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big")
    return np.random.default_rng(seed).standard_normal(WIDTH)


@dataclass
class WordEncoder:
    """A piece a word, a hashed vector a piece; the first token is their sum, so that it is linear in the words."""

    name: str = "words"
    fingerprint: str = "0" * 64
    width: int = WIDTH
    max_pieces: int = 512
    seen: list[str] = field(default_factory=list)

    def encode(self, texts: Sequence[str]) -> list[TextEncoding]:
        """As the protocol wants it."""
        self.seen += texts
        return [self._encode(text) for text in texts]

    def _encode(self, text: str) -> TextEncoding:
        normalized = normalize(text)
        words = list(re.finditer(r"\S+", normalized.text))
        kept = words[: self.max_pieces - 2]
        vectors = [hashed_vector(word[0]) for word in kept]
        total = np.sum(vectors, axis=0) if vectors else np.zeros(WIDTH)
        embeddings = np.stack([total, *vectors, np.ones(WIDTH)])
        return TextEncoding(
            text=text,
            normalized=normalized,
            pieces=("[CLS]", *(word[0] for word in kept), "[SEP]"),
            spans=np.array([(0, 0), *(word.span() for word in kept), (0, 0)], dtype=np.int64),
            special=np.array([True, *([False] * len(kept)), True]),
            piece_ids=np.array([1, *(int(abs(hashed_vector(w[0])[0]) * 1e9) for w in kept), 2]),
            embeddings=torch.tensor(embeddings, dtype=torch.float32),
            pieces_total=len(words) + 2,
        )


class KnownNetwork(CrystalTextNetwork):
    """``a u + b v + c u v``: u of the crystal (mean embedded atom), v of the text (its first token), both known.

    The graph layers run and are not read: what counts of a crystal is the first state, which every step hands on.
    """

    coefficients: tuple[float, float, float] = (1.0, 1.0, 0.0)

    def crystal_value(self, first: Tensor) -> Tensor:
        """Of atoms [N, d]: [N]."""
        weights = torch.linspace(-1, 1, first.shape[-1], dtype=first.dtype)
        return first @ weights

    def text_value(self, tokens: Tensor) -> Tensor:
        """Of first tokens [B, D]: [B]."""
        return tokens @ torch.linspace(0.2, 1, tokens.shape[-1], dtype=tokens.dtype)

    def finish(self, state: GraphState, batch: CrystalBatch, text: Tensor) -> Tensor:
        """The polynomial."""
        per_atom = self.crystal_value(state.first)
        u = torch.zeros(len(batch), dtype=per_atom.dtype).index_add(0, batch.atom_owner, per_atom)
        u = u / batch.atoms_per_structure
        v = self.text_value(batch.token_embeddings[:, 0])
        a, b, c = self.coefficients
        return a * u + b * v + c * u * v


@pytest.fixture(scope="session")
def word_encoder() -> WordEncoder:
    """The cheap encoder."""
    return WordEncoder()


@pytest.fixture
def make_encoder() -> Callable[..., WordEncoder]:
    """Factory of cheap encoders."""
    return WordEncoder


@pytest.fixture(scope="session")
def make_known(make_config: Callable[..., ModelConfig]) -> Callable[..., Any]:
    """Factory of networks of a known polynomial."""

    def make(a: float = 1.0, b: float = 1.0, c: float = 0.0, **changes: Any) -> KnownNetwork:
        torch.manual_seed(0)
        network = KnownNetwork(make_config(**changes)).eval()
        network.coefficients = (a, b, c)
        return network

    return make
