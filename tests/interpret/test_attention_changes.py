"""Changes of the attention to tokens: softened scores, and queries and keys drawn anew."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from interpret.attention_changes import SOFTENING, soften, untrained_attention
from interpret.hooks import HookRegistry, Intervention

TAP = "attention.atom_to_token"


@pytest.fixture
def network(make_network: Callable[..., Any]) -> Any:
    return make_network().double()


@pytest.fixture
def batch(make_batch: Callable[..., Any]) -> Any:
    return make_batch().to(dtype=torch.float64)


def softened(scores: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    kept = torch.ones(scores.shape[-1], dtype=torch.bool) if mask is None else mask
    return soften(Intervention(tap=None, values=scores, inputs=(scores, kept), layout=None))  # type: ignore[arg-type]


def test_small_scores_are_divided() -> None:
    scores = torch.randn(2, 3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(softened(scores), torch.softmax(scores / SOFTENING, dim=-1))


def test_wide_scores_come_to_unit_spread_from_any_size() -> None:
    scores = torch.randn(2, 3, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    spread = scores.std(dim=-1, keepdim=True, correction=0)
    expected = torch.softmax(scores / spread, dim=-1)
    for size in (10.0, 1e4, 1e8):
        assert size == 10.0 or torch.softmax(size * scores, dim=-1).amin() == 0.0
        torch.testing.assert_close(softened(size * scores), expected)


def test_masked_tokens_have_no_say() -> None:
    scores = torch.tensor([[1.0, 3.0, 1e6]], dtype=torch.float64)
    mask = torch.tensor([True, True, False])
    expected = torch.softmax(scores[:, :2] / SOFTENING, dim=-1)
    torch.testing.assert_close(softened(scores, mask)[:, :2], expected)
    assert softened(scores, mask)[0, 2] == 0.0


def test_a_constant_row_stays_uniform() -> None:
    torch.testing.assert_close(softened(torch.full((1, 4), 7.0)), torch.full((1, 4), 0.25))


def test_softened_attention_of_a_network_is_a_softmax_over_real_tokens(network: Any, batch: Any) -> None:
    registry = HookRegistry(network).intervene(TAP, soften).capture(TAP)
    with registry as captured, torch.no_grad():
        network(batch)
    for weights, tokens in zip(captured[TAP].per_structure(), batch.token_mask.sum(dim=1).tolist(), strict=True):
        assert weights.shape[-1] == tokens
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones_like(weights[..., 0]))


def test_queries_and_keys_are_drawn_anew_and_put_back(network: Any, batch: Any) -> None:
    before = copy.deepcopy(network.state_dict())
    with torch.no_grad():
        trained = network(batch)
        with untrained_attention(0)(network):
            changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
            other = network(batch)
        again = network(batch)
    assert changed == {
        f"fine_grained_attention.a2t_{part}.{kind}" for part in ("query", "key") for kind in ("weight", "bias")
    }
    assert not torch.allclose(trained, other)
    assert torch.equal(trained, again)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_weights_are_put_back_where_the_pass_raises(network: Any) -> None:
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(RuntimeError, match="in the middle"), untrained_attention(0)(network):
        raise RuntimeError("in the middle")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_draws_have_the_spread_of_an_untrained_layer(make_network: Callable[..., Any]) -> None:
    network = make_network(hidden_features=64, fine_grained_hidden_dim=64)
    for parameter in network.fine_grained_attention.a2t_query.parameters():
        parameter.data.mul_(1e3)
    with untrained_attention(3)(network):
        first = network.fine_grained_attention.a2t_query.weight.detach().clone()
    reference = torch.nn.Linear(64, 64).weight.detach()
    assert first.abs().max() <= 1 / 8
    assert float(first.std() / reference.std()) == pytest.approx(1.0, abs=0.05)
    with untrained_attention(3)(network):
        assert torch.equal(network.fine_grained_attention.a2t_query.weight, first)
    with untrained_attention(4)(network):
        assert not torch.equal(network.fine_grained_attention.a2t_query.weight, first)
