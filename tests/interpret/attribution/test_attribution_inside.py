"""What is read off the attention: conserved, equal to brute force, and refused where it cannot be read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from interpret.attribution import AttributionError, attribute, inside
from interpret.attribution.encoder_path import TextPath
from interpret.attribution.players import players_of
from interpret.attribution.subject import Explained
from interpret.hooks import HookRegistry
from interpret.metrics.propagation import rollout
from model.errors import TapError
from model.network import CrystalTextNetwork


@pytest.fixture(params=["fine-grained", "token-attention"])
def subject_and_tap(request: Any, make_network: Any, random_encoder: Any, prepare_one: Any) -> Any:
    middle = request.param == "token-attention"
    network = make_network(**({"middle_fusion_type": "token-attention"} if middle else {})).double()
    subject = Explained(network, random_encoder).subject(prepare_one(random_encoder))
    return subject, "fusion.1.attention" if middle else "attention.atom_to_token"


def test_tokens_together_write_the_output_of_the_attention(subject_and_tap: Any) -> None:
    subject, tap = subject_and_tap
    view = inside.view_attention(subject, tap)
    assert view.conservation < 1e-12
    torch.testing.assert_close(view.weights.sum(dim=-1), torch.ones(view.weights.shape[:-1], dtype=torch.float64))


def test_attention_changed_behind_its_weights_is_refused(
    make_network: Any, random_encoder: Any, prepare_one: Any
) -> None:
    explained = Explained(make_network(), random_encoder)
    module = explained.network.fine_grained_attention.node_output
    module.register_forward_hook(lambda _, inputs, output: output * 1.1)
    with pytest.raises(AttributionError, match="does not sum to its output"):
        inside.view_attention(explained.subject(prepare_one(random_encoder)))


def test_gradient_times_attention_and_head_importance_by_finite_differences(subject_and_tap: Any) -> None:
    """A head's importance is the slope of the target in a factor on that head, at 1 (Michel et al., eq. 5)."""
    subject, tap = subject_and_tap
    view = inside.view_attention(subject, tap)

    def scaled(factor: torch.Tensor) -> float:
        registry = HookRegistry(subject.network).intervene(tap, lambda at: at.values * factor)
        with registry, torch.no_grad():
            return float(subject.with_tokens(subject.batch.token_embeddings)[0])

    heads, _, tokens = view.weights.shape
    step = 1e-5
    slopes = []
    for head in range(heads):
        factor = torch.ones(1, heads, 1, 1, dtype=torch.float64)
        factor[0, head] = 1 + step
        up = scaled(factor)
        factor[0, head] = 1 - step
        slopes.append(abs(up - scaled(factor)) / (2 * step))
    np.testing.assert_allclose(inside.head_importance(view), slopes, rtol=1e-4, atol=1e-10)
    by_token = inside.gradient_times_attention(view)
    for token in (0, tokens // 2):
        factor = torch.ones(1, 1, 1, tokens, dtype=torch.float64)
        factor[..., token] = 1 + step
        up = scaled(factor)
        factor[..., token] = 1 - step
        assert by_token[token] == pytest.approx((up - scaled(factor)) / (2 * step), rel=1e-4, abs=1e-10)


def test_head_importance_is_the_ablation_where_the_target_is_linear() -> None:
    """The target is a fixed linear map of the attention's output: sum A dy/dA is what is lost without the head."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.softmax(torch.randn(3, 4, 5, generator=generator, dtype=torch.float64), dim=-1)
    vectors = torch.randn(3, 5, 6, generator=generator, dtype=torch.float64)
    reader = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    output = torch.einsum("hnt,hto->hno", weights, vectors)
    gradient = torch.einsum("hto,no->hnt", vectors, reader)
    view = inside.AttentionView("t", weights, gradient, vectors, torch.zeros(4, 6), torch.nn.Identity(), 0.0)
    lost = (output * reader).sum(dim=(1, 2)).abs()
    np.testing.assert_allclose(inside.head_importance(view), lost, rtol=1e-12)
    two = np.stack([lost.numpy(), 3 * lost.numpy()])
    normal = inside.normalized_importance(two)
    np.testing.assert_allclose(normal, lost / lost.norm(), rtol=1e-12)
    assert np.isnan(inside.normalized_importance(np.zeros((2, 3)))).all()


def test_value_zeroing_equals_running_the_network_with_the_value_at_zero(subject_and_tap: Any) -> None:
    subject, tap = subject_and_tap
    view = inside.view_attention(subject, tap)
    nodes = "attention.nodes" if tap == "attention.atom_to_token" else "fusion.1.nodes"

    def run(token: int | None) -> torch.Tensor:
        def zero(_: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
            changed = output.clone()
            if token is not None:
                changed[:, token] = 0.0
            return changed

        handle = view.module.a2t_value.register_forward_hook(zero)
        try:
            with HookRegistry(subject.network).capture(nodes) as captured, torch.no_grad():
                subject.network(subject.batch)
        finally:
            handle.remove()
        return captured[nodes].values

    before, found = run(None), inside.value_zeroing(view)
    for token in (0, 3, view.weights.shape[-1] - 1):
        distance = 1 - torch.cosine_similarity(before, run(token), dim=-1)
        assert found[token] == pytest.approx(float(distance.mean()), rel=1e-6, abs=1e-12)


def test_norm_based_weights_and_attention_by_hand(subject_and_tap: Any) -> None:
    subject, tap = subject_and_tap
    view = inside.view_attention(subject, tap)
    weights, vectors = view.weights.numpy(), view.vectors.numpy()
    by_hand = [
        np.mean([sum(weights[h, n, t] * np.linalg.norm(vectors[h, t]) for h in range(len(weights))) for n in range(6)])
        for t in range(weights.shape[-1])
    ]
    np.testing.assert_allclose(inside.norm_based(view), by_hand, rtol=1e-9)
    np.testing.assert_allclose(inside.attention(view), weights.mean(axis=(0, 1)), rtol=1e-12)


def test_rollout_through_the_text_encoder(random_encoder: Any, make_network: Any, prepare_one: Any) -> None:
    one = prepare_one(random_encoder)
    subject = Explained(make_network(), random_encoder).subject(one)
    maps = TextPath(random_encoder).self_attention(one.encoding)
    inputs = torch.from_numpy(one.encoding.piece_ids)[None]
    embedded = random_encoder.network.embeddings(input_ids=inputs)
    layer = random_encoder.network.encoder.layer[0].attention.self
    heads = layer.num_attention_heads
    query, key = (
        part(embedded).reshape(len(inputs[0]), heads, -1).transpose(0, 1) for part in (layer.query, layer.key)
    )
    by_hand = torch.softmax(query @ key.transpose(1, 2) / (12 / heads) ** 0.5, dim=-1).mean(dim=0)
    np.testing.assert_allclose(maps[0], by_hand.detach(), atol=1e-6)
    weights = np.random.default_rng(0).random(len(one.encoding.pieces))
    followed = inside.follow(subject, weights)
    np.testing.assert_allclose(followed, weights @ rollout(maps).numpy())
    assert followed.sum() == pytest.approx(weights.sum())
    # The encoder is left as it was.
    assert random_encoder.encode([one.encoding.text])[0].embeddings.equal(one.encoding.embeddings)


def test_words_get_what_their_pieces_receive(make_network: Any, random_encoder: Any, prepare_one: Any) -> None:
    one = prepare_one(random_encoder)
    network = make_network()
    found = attribute(network, one, method="attention", encoder=random_encoder)
    assert found.values.sum() + found.remainder == pytest.approx(1.0, abs=1e-6)
    assert found.remainder > 0
    assert found.unit == "weight"
    even = attribute(network, one, method="uniform-attention", encoder=random_encoder)
    assert even.values.sum() == len(one.encoding.pieces) - 2
    assert even.values[0] == len(one.words[1].pieces)
    assert attribute(network, one, method="ablation", encoder=random_encoder).unit == "unit of the target"
    assert len(found.values) == len(players_of(one, "words"))
    plain = make_network(use_fine_grained_attention=False)
    with pytest.raises(AttributionError, match=r"no attention 'attention\.atom_to_token'"):
        attribute(plain, one, method="attention", encoder=random_encoder)
    with pytest.raises(AttributionError, match="not by atoms"):
        attribute(network, one, method="attention", players="atoms")


class Twice(CrystalTextNetwork):
    """Runs its attention twice, as code that recycles does."""

    def finish(self, state: Any, batch: Any, text: Any) -> Any:
        return super().finish(state._replace(x=self.fine_grained_attention(state.x, batch)), batch, text)


def test_a_module_that_runs_twice_is_refused(make_config: Any, random_encoder: Any, prepare_one: Any) -> None:
    from interpret.attribution import Target

    torch.manual_seed(0)
    network, one = Twice(make_config()).eval(), prepare_one(random_encoder)
    with pytest.raises(TapError, match="fired twice"):
        attribute(network, one, method="attention", encoder=random_encoder)
    with pytest.raises(TapError, match="fired twice"):
        attribute(network, one, players="atoms", target=Target("attention.nodes"))
    # Paths from the input to the prediction go through both runs: their sum holds.
    assert attribute(network, one, players="atoms").complete
