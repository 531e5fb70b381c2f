"""Networks that read the shipped encoder, runs of them over textbook crystals, and runs made by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from interpret.compare.pairing import Run
from model.dataset import CrystalDataset
from model.encoder import TransformersEncoder, load_encoder

TAP = "attention.atom_to_token"
HEADS = 4


@pytest.fixture(scope="session")
def encoder() -> TransformersEncoder:
    return load_encoder("random:12", cache_directory=False)


@pytest.fixture(scope="session")
def crystals(textbook_data: Path) -> CrystalDataset:
    return CrystalDataset.from_directory(textbook_data)


@pytest.fixture
def network(make_network: Callable[..., Any]) -> Any:
    """With attention sharp enough to have something to compare."""
    return scaled_queries(make_network(), range(HEADS), 6.0)


def scaled_queries(network: Any, heads: Sequence[int], factor: float) -> Any:
    """A copy in which the logits of some heads of the attention to tokens are multiplied by a factor."""
    twin = copy.deepcopy(network)
    query = twin.fine_grained_attention.a2t_query
    width = query.out_features // HEADS
    for head in heads:
        rows = slice(head * width, (head + 1) * width)
        query.weight.data[rows] *= factor
        query.bias.data[rows] *= factor
    return twin


def permuted_heads(network: Any, order: Sequence[int]) -> Any:
    """A copy whose head k is head ``order[k]`` of the network; it computes the same prediction."""
    twin = copy.deepcopy(network)
    attention = twin.fine_grained_attention
    width = attention.a2t_query.out_features // HEADS
    rows = np.concatenate([np.arange(head * width, (head + 1) * width) for head in order])
    for part in (attention.a2t_query, attention.a2t_key, attention.a2t_value):
        part.weight.data = part.weight.data[rows].clone()
        part.bias.data = part.bias.data[rows].clone()
    attention.node_output.weight.data = attention.node_output.weight.data[:, rows].clone()
    return twin


def made_run(values: dict[str, np.ndarray], label: str = "a", **provenance: Any) -> Run:
    """A run whose structures have these columns; ``target`` and ``prediction`` where they are not given."""
    count = len(next(iter(values.values())))
    columns = {
        "id": [f"s{i:03d}" for i in range(count)],
        "formula": ["Si"] * count,
        "atoms": [2] * count,
        "target": np.zeros(count),
        "prediction": np.zeros(count),
    }
    columns |= values
    structures = pd.DataFrame(columns)
    structures["absolute_error"] = (structures["prediction"] - structures["target"]).abs()
    empty = pd.DataFrame()
    atoms = pd.DataFrame({"id": structures["id"], "element": "Si"})
    base = {"encoder": {"name": "made", "fingerprint": "f"}, "options": {"dtype": "float64"}, "data": {}}
    return Run(label, structures, atoms, empty, empty, {**base, **provenance}, {})
