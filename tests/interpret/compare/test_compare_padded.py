"""The upstream script's way of counting, written out a second time, and what padding does to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from interpret.compare.observe import observe
from interpret.compare.padded import METRICS, STEPS, padded_statistics, script_rows
from interpret.compare.pairing import Run
from model.dataset import CrystalDataset
from model.errors import TapError

from .conftest import TAP


def written_out(row: np.ndarray) -> list[float]:
    """One row, step by step."""
    row = row / (row.sum() + 1e-8)
    ordered = np.sort(row)
    count = len(row)
    gini = 2 * sum((k + 1) * w for k, w in enumerate(ordered)) / (count * ordered.sum()) - (count + 1) / count
    return [float(entropy(row + 1e-8)), row.max(), float((row > 0.1).sum()), gini]


def test_rows_of_the_script() -> None:
    rows = np.random.default_rng(0).dirichlet(np.full(9, 0.5), size=20)
    rows[3, 4:] = 0
    rows[3] /= rows[3].sum()
    found = script_rows(torch.from_numpy(rows))
    assert found == pytest.approx(np.array([written_out(row) for row in rows]), abs=1e-12)


@pytest.fixture(scope="module")
def run(network_of_module: Any, crystals: CrystalDataset, encoder: Any) -> Run:
    return observe([network_of_module], ["a"], crystals, encoder, pairs=False).runs[0]


@pytest.fixture(scope="module")
def network_of_module(make_network: Any) -> Any:
    return make_network()


def test_the_last_step_is_ours(network_of_module: Any, run: Run, crystals: CrystalDataset, encoder: Any) -> None:
    table = padded_statistics(network_of_module, crystals, encoder, batch_size=5).set_index("step")
    assert tuple(table.index) == STEPS
    for metric in METRICS:
        assert table.loc["head by head", metric] == pytest.approx(run.structures[f"{TAP}.{metric}"].mean(), abs=1e-9)
        averaged = run.structures[f"{TAP}.averaged.{metric}"].mean()
        assert table.loc["mean over structures", metric] == pytest.approx(averaged, abs=1e-9)


def test_alone_there_is_no_padding(network_of_module: Any, crystals: CrystalDataset, encoder: Any) -> None:
    table = padded_statistics(network_of_module, crystals, encoder, batch_size=1).set_index("step")
    assert table.loc["padded"].tolist() == table.loc["without padded atoms"].tolist()
    # What is left is the 1e-8 that the script adds.
    assert table.loc["padded"].to_numpy() == pytest.approx(table.loc["without padding"].to_numpy(), abs=1e-4)


def test_only_the_padded_figures_depend_on_the_batch_size(
    network_of_module: Any, crystals: CrystalDataset, encoder: Any
) -> None:
    small, large = (
        padded_statistics(network_of_module, crystals, encoder, batch_size=size).set_index("step") for size in (1, 5)
    )
    for step in STEPS[2:]:
        assert small.loc[step].to_numpy() == pytest.approx(large.loc[step].to_numpy(), abs=1e-9)
    # A text of 512 pieces beside one of 2: the rows of the short ones are nearly all padding.
    assert large.loc["padded", "gini"] > small.loc["padded", "gini"] + 0.3


def test_without_attention_to_tokens_there_is_nothing(
    make_network: Any, crystals: CrystalDataset, encoder: Any
) -> None:
    with pytest.raises(TapError, match="no attention from atoms to tokens"):
        padded_statistics(make_network(use_fine_grained_attention=False), crystals, encoder)
