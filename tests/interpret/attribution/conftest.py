"""Networks and encoders whose attributions are known, and structures to explain."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from interpret.runner import Prepared, Runner
from model.dataset import Sample
from model.encoder import TransformersEncoder, load_encoder
from model.encoder_sources import LoadedEncoder, untrained_bert
from model.network import CrystalTextNetwork
from model.structure import Structure

RUTILE = Structure(
    np.diag([4.594, 4.594, 2.959]),
    np.array([[0, 0, 0], [0.5] * 3, [0.305, 0.305, 0], [0.695, 0.695, 0], [0.195, 0.805, 0.5], [0.805, 0.195, 0.5]]),
    ("Ti", "Ti", "O", "O", "O", "O"),
)
SALT = Structure(2.82 * (1 - np.eye(3)), np.array([[0.0] * 3, [0.5] * 3]), ("Na", "Cl"))
TEXT = "TiO2 is Rutile structured, and crystallizes in the cubic space group. Ti is bonded to six O atoms."
DECIDING, ELSEWHERE = "cubic", "space"


@pytest.fixture(scope="session")
def crystals() -> tuple[Structure, Structure]:
    """Rock salt and rutile."""
    return SALT, RUTILE


class LinearEncoder(nn.Module):
    """Each piece to a fixed vector; the first token also gets the sum of channel 0 over all pieces.

    Channel 0 is 1 for the piece ``cubic``, channel 1 is 1 for ``space``, both are 0 for all others.
    """

    def __init__(self, tokenizer: Any, width: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        table = torch.randn(len(tokenizer), width, generator=generator)
        table[:, :2] = 0.0
        for channel, word in enumerate((DECIDING, ELSEWHERE)):
            table[tokenizer.convert_tokens_to_ids(word), channel] = 1.0
        self.embedding = nn.Embedding.from_pretrained(table)
        self.config = SimpleNamespace(hidden_size=width, max_position_embeddings=512)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embedding

    def forward(
        self,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Any:
        embedded = self.embedding(input_ids) if inputs_embeds is None else inputs_embeds
        first = embedded[:, :1].clone()
        first[..., 0] = first[..., 0] + embedded[..., 0].sum(dim=1, keepdim=True)
        return SimpleNamespace(last_hidden_state=torch.cat([first, embedded[:, 1:]], dim=1))


@pytest.fixture(scope="session")
def linear_encoder() -> TransformersEncoder:
    """An encoder of width 12 that is linear in its input embeddings."""
    tokenizer = untrained_bert(12, 0).tokenizer
    return TransformersEncoder(LoadedEncoder("linear", tokenizer, LinearEncoder(tokenizer, 12), "linear", True))


@pytest.fixture(scope="session")
def random_encoder() -> TransformersEncoder:
    """One layer of BERT of width 12."""
    return load_encoder("random:12", cache_directory=False)


@pytest.fixture(scope="session")
def prepare_one() -> Callable[..., Prepared]:
    """A structure with its text, as the runner prepares it."""

    def make(encoder: Any, text: str = TEXT, structure: Structure = RUTILE, identifier: str = "made") -> Prepared:
        sample = Sample(id=identifier, structure=structure, text=text, target=1.0, row=1)
        return next(Runner(nn.Identity(), encoder).prepare([sample]))  # type: ignore[arg-type]

    return make


class LinearTokens(nn.Module):
    """``f = sum_tokens v . t + sum_atoms w . x``: every attribution is known."""

    def __init__(self, token_width: int = 12, atom_width: int = 92) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.v = nn.Parameter(torch.randn(token_width, generator=generator, dtype=torch.float64))
        self.w = nn.Parameter(torch.randn(atom_width, generator=generator, dtype=torch.float64))
        self.u = nn.Parameter(torch.randn(atom_width, generator=generator, dtype=torch.float64))

    def forward(self, batch: Any) -> Tensor:
        text = (batch.token_embeddings @ self.v * batch.token_mask).sum(dim=1)
        return text + self.total(batch, batch.atom_features @ self.w)

    def total(self, batch: Any, values: Tensor) -> Tensor:
        return values.new_zeros(len(batch)).index_add(0, batch.atom_owner, values)


class Polynomial(LinearTokens):
    """``f = (sum_atoms w . x) (sum_atoms u . x)``."""

    def forward(self, batch: Any) -> Tensor:
        return self.total(batch, batch.atom_features @ self.w) * self.total(batch, batch.atom_features @ self.u)


@pytest.fixture
def linear_model() -> LinearTokens:
    return LinearTokens()


@pytest.fixture
def polynomial_model() -> Polynomial:
    return Polynomial()


@pytest.fixture(scope="session")
def one_word_decides(make_network: Callable[..., CrystalTextNetwork]) -> CrystalTextNetwork:
    """Reads ``cubic`` through the first token; its attention goes to ``space`` and hardly moves anything."""
    network = make_network(
        seed=2, token_features=12, fine_grained_use_projection=False, use_cross_modal_attention=False
    )
    attention = network.fine_grained_attention
    with torch.no_grad():
        network.text_projection.projection.weight.zero_()
        network.text_projection.projection.weight[:, 0] = torch.linspace(-2, 2, 10)
        attention.a2t_query.weight.zero_()
        attention.a2t_query.bias.fill_(4.0)
        attention.a2t_key.weight.zero_()
        attention.a2t_key.weight[:, 1] = 4.0
        attention.a2t_key.bias.zero_()
        attention.node_output.weight.mul_(1e-4)
    return network
