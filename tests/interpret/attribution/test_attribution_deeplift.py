"""DeepLift where its rules hold, and its refusal where captum would give numbers without a word."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from interpret.attribution import AttributionError, attribute
from interpret.attribution.baselines import mean_atom
from interpret.attribution.deeplift import why_not


class Rectified(nn.Module):
    """``f = sum_atoms relu(w . x + b)``, the activation as a module or as a function, once or twice."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        generator = torch.Generator().manual_seed(5)
        self.linear = nn.Linear(92, 1).double()
        with torch.no_grad():
            self.linear.weight.copy_(torch.randn(1, 92, generator=generator, dtype=torch.float64))
        self.activation = nn.ReLU()

    def forward(self, batch: Any) -> torch.Tensor:
        inner = self.linear(batch.atom_features)
        if self.kind == "function":
            values = torch.relu(inner)
        elif self.kind == "twice":
            values = self.activation(inner) + self.activation(inner - 0.3)
        elif self.kind == "product":
            values = self.activation(inner) * inner
        else:
            values = self.activation(inner)
        return values.new_zeros(len(batch)).index_add(0, batch.atom_owner, values[:, 0])


def test_rescale_rule_of_a_rectified_sum(random_encoder: Any, prepare_one: Any) -> None:
    model, one = Rectified("module"), prepare_one(random_encoder)
    found = attribute(model, one, method="deeplift", players="atoms")
    with torch.no_grad():
        own = torch.relu(model.linear(one.graph.atom_features.double()))[:, 0]
        absent = torch.relu(model.linear(mean_atom()[None]))[0, 0]
    np.testing.assert_allclose(found.values, own - absent, atol=1e-8)
    assert found.complete


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("function", "relu"), ("twice", "more than once in a pass: activation"), ("product", "outside activation.*mul")],
)
def test_what_no_rule_covers_is_refused_by_name(kind: str, reason: str, random_encoder: Any, prepare_one: Any) -> None:
    with pytest.raises(AttributionError, match=reason):
        attribute(Rectified(kind), prepare_one(random_encoder), method="deeplift", players="atoms")


def test_networks_of_the_family_are_refused(make_network: Any, random_encoder: Any, prepare_one: Any) -> None:
    with pytest.raises(AttributionError, match=r"layer_norm.*silu.*Use integrated-gradients"):
        attribute(make_network(), prepare_one(random_encoder), method="deeplift", players="atoms")


def test_a_chain_of_modules_is_covered() -> None:
    chain = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), nn.Sigmoid(), nn.Linear(2, 1))
    assert why_not(chain, lambda rows: chain(rows).sum(dim=(1, 2)), torch.randn(2, 5, 3)) is None
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in chain.modules())
