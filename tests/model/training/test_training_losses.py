"""Losses against loops in numpy, and values that can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from model.training.losses import (
    attention_diversity_loss,
    contrastive_loss,
    gate_diversity_loss,
    prediction_loss,
)

GENERATOR = torch.Generator().manual_seed(0)


def test_prediction_losses_are_torchs() -> None:
    prediction, target = torch.rand(9, generator=GENERATOR), torch.rand(9, generator=GENERATOR)
    for name, function in (
        ("mse", F.mse_loss),
        ("l1", F.l1_loss),
        ("bce", F.binary_cross_entropy),
        ("huber", lambda a, b: F.huber_loss(a, b, delta=0.3)),
    ):
        assert prediction_loss(name, delta=0.3)(prediction, target).mean() == pytest.approx(
            float(function(prediction, target))
        )


def test_attention_diversity_is_minus_the_variance_over_atoms() -> None:
    atoms, tokens = (1, 3, 2), (4, 2, 5)
    scores = torch.randn(3, 2, 3, 5, generator=GENERATOR, dtype=torch.float64)
    atom_mask = torch.arange(3) < torch.tensor(atoms)[:, None]
    token_mask = torch.arange(5) < torch.tensor(tokens)[:, None]
    weights = torch.softmax(scores.masked_fill(~token_mask[:, None, None], -math.inf), dim=-1)
    values = []
    for b, (n, length) in enumerate(zip(atoms, tokens, strict=True)):
        if n > 1:
            values.append(weights[b, :, :n, :length].numpy().var(axis=1).mean())
    assert float(attention_diversity_loss(weights, atom_mask, token_mask)) == pytest.approx(-np.mean(values))


def test_attention_diversity_ignores_what_padding_holds() -> None:
    weights = torch.rand(2, 1, 4, 3, generator=GENERATOR)
    atom_mask = torch.tensor([[True, True, False, False], [True, True, True, False]])
    token_mask = torch.tensor([[True, True, False], [True, True, True]])
    before = attention_diversity_loss(weights, atom_mask, token_mask)
    weights[0, :, 2:] = 77.0
    weights[0, :, :, 2] = -5.0
    weights[1, :, 3] = 12.0
    assert attention_diversity_loss(weights, atom_mask, token_mask) == pytest.approx(float(before))


def test_gate_diversity_is_minus_the_deviation_within_channels() -> None:
    counts = torch.tensor([2, 1, 4])
    gate = torch.rand(7, 5, generator=GENERATOR, dtype=torch.float64)
    owner = torch.repeat_interleave(torch.arange(3), counts)
    expected = -np.mean([gate[:2].numpy().std(axis=0).mean(), gate[3:].numpy().std(axis=0).mean()])
    assert float(gate_diversity_loss(gate, owner, counts)) == pytest.approx(expected, rel=1e-6)


def test_structures_of_one_atom_have_no_diversity() -> None:
    one = torch.tensor([1, 1])
    gate = torch.rand(2, 3, requires_grad=True)
    value = gate_diversity_loss(gate, torch.arange(2), one)
    value.backward()
    assert float(value.detach()) == 0.0
    assert torch.isfinite(gate.grad).all()
    weights = torch.softmax(torch.randn(2, 1, 1, 4), dim=-1)
    mask = torch.ones(2, 1, dtype=torch.bool)
    assert float(attention_diversity_loss(weights, mask, torch.ones(2, 4, dtype=torch.bool))) == 0.0


def test_equal_gates_have_a_gradient_that_is_a_number() -> None:
    gate = torch.full((3, 2), 0.5, requires_grad=True)
    gate_diversity_loss(gate, torch.zeros(3, dtype=torch.long), torch.tensor([3])).backward()
    assert torch.isfinite(gate.grad).all()


def test_contrastive_loss_of_orthogonal_pairs() -> None:
    eye = 3.0 * torch.eye(4)
    expected = math.log(1 + 3 * math.exp(-1 / 0.1))
    assert float(contrastive_loss(eye, 0.1 * eye, 0.1)) == pytest.approx(expected, rel=1e-3)
    assert float(contrastive_loss(torch.ones(4, 2), torch.ones(4, 2), 0.1)) == pytest.approx(math.log(4))
    assert float(contrastive_loss(torch.ones(1, 2), -torch.ones(1, 2), 0.1)) == 0.0


def test_contrastive_loss_is_the_mean_of_both_directions() -> None:
    graph, text = (torch.randn(5, 3, generator=GENERATOR, dtype=torch.float64) for _ in range(2))
    a = (graph / graph.norm(dim=1, keepdim=True)).numpy()
    b = (text / text.norm(dim=1, keepdim=True)).numpy()
    logits = a @ b.T / 0.2
    rows = [np.log(np.exp(logits[i]).sum()) - logits[i, i] for i in range(5)]
    columns = [np.log(np.exp(logits[:, i]).sum()) - logits[i, i] for i in range(5)]
    assert float(contrastive_loss(graph, text, 0.2)) == pytest.approx((np.mean(rows) + np.mean(columns)) / 2)
