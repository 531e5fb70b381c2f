"""CKA and Procrustes distance as they are streamed: published values, and the kernels on all samples at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from interpret.compare.representations import ProcrustesSums, Representations, Stages
from interpret.metrics.similarity import debiased_cka, procrustes_distance
from model.errors import DataError


@pytest.fixture(scope="module")
def samples() -> tuple[np.ndarray, np.ndarray]:
    """The data of FORMULAS.md."""
    state = np.random.RandomState(1337)
    x = state.randn(100, 10)
    return x, state.randn(100, 10) + x


def stages_of(values: np.ndarray, rows: range, name: str = "stage") -> Stages:
    """Every sample a structure of one atom."""
    return Stages.of([f"s{row:03d}" for row in rows], [{name: values[row : row + 1]} for row in rows])


def streamed(x: np.ndarray, y: np.ndarray, batch: int) -> Representations:
    state = Representations()
    for start in range(0, len(x), batch):
        rows = range(start, start + batch)
        state.update(stages_of(x, rows), stages_of(y, rows, "other"))
    return state


@pytest.mark.parametrize(
    ("batch", "expected"),
    [(100, 0.5134564895), (10, 0.54373), (20, 0.53372), (25, 0.51327), (50, 0.53084)],
)
def test_minibatch_cka_of_the_formulas(batch: int, expected: float, samples: tuple[np.ndarray, np.ndarray]) -> None:
    table = streamed(*samples, batch).table().set_index("level")
    tolerance = 1e-9 if batch == 100 else 5e-6
    assert table.loc["atom", "cka"] == pytest.approx(expected, abs=tolerance)
    assert table.loc["atom", ["samples", "batches", "channels_a", "channels_b"]].tolist() == [100, 100 // batch, 10, 10]
    # Structures wait until there are enough for a minibatch of their own.
    assert table.loc["structure", "cka"] == pytest.approx(0.5134564895, abs=1e-9)
    assert table.loc["structure", "batches"] == 1
    assert table.loc["atom", "estimator"].startswith("debiased")


@pytest.mark.parametrize("batch", [1, 10, 50, 100])
@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_procrustes_from_sums(batch: int, shift: float, samples: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = (torch.from_numpy(values) + shift for values in samples)
    sums = ProcrustesSums()
    for start in range(0, 100, batch):
        sums = sums.update(x[start : start + batch], y[start : start + batch, :7])
    assert sums.compute() == pytest.approx(float(procrustes_distance(x, y[:, :7]).value), abs=1e-9)


def test_equal_features_are_exactly_equal(samples: tuple[np.ndarray, np.ndarray]) -> None:
    x = samples[0]
    row = streamed(x, x + 1e-13, 20).table().set_index("level").loc["atom"]
    assert (row["cka"], row["procrustes"]) == (1, 0)


def test_rotated_features_are_equal_to_both_measures(samples: tuple[np.ndarray, np.ndarray]) -> None:
    x = samples[0]
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(10, 10)))[0]
    row = streamed(x, 3 * x @ rotation, 100).table().iloc[0]
    assert row["cka"] == pytest.approx(1, abs=1e-9)
    assert row["procrustes"] == pytest.approx(0, abs=1e-9)


def test_atoms_and_structures_are_two_levels() -> None:
    generator = np.random.default_rng(1)
    atoms = [generator.normal(size=(count, 6)) for count in (1, 5, 3, 4, 2, 6)]
    other = [own @ generator.normal(size=(6, 4)) for own in atoms]
    ids = [f"s{i}" for i in range(6)]
    state = Representations()
    first = Stages.of(ids, [{"stage": own} for own in atoms])
    state.update(first, Stages.of(ids, [{"stage": own} for own in other]))
    table = state.table().set_index("level")
    assert table.loc["atom", "samples"] == 21
    assert table.loc["atom", "cka"] == pytest.approx(
        float(debiased_cka(np.concatenate(atoms), np.concatenate(other)).value), abs=1e-12
    )
    means = [np.stack([own.mean(axis=0) for own in values]) for values in (atoms, other)]
    assert table.loc["structure", "cka"] == pytest.approx(float(debiased_cka(*means).value), abs=1e-12)


def test_other_samples_are_an_error(samples: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = samples
    with pytest.raises(DataError, match="row 0 is 's000' in one run and 's001'"):
        Representations().update(stages_of(x, range(5)), stages_of(y, range(1, 6)))


def test_too_few_structures_are_a_gap() -> None:
    values = np.random.default_rng(2).normal(size=(3, 4))
    row = streamed(values, values * 2, 3).table().iloc[0]
    assert np.isnan(row["cka"])
    assert "more than three samples" in row["gap"]
    assert row["left_out"] == 3


def test_constant_features_have_no_distance() -> None:
    values = np.full((10, 4), 0.1)
    assert np.isnan(streamed(values, np.random.default_rng(3).normal(size=(10, 4)), 10).table().iloc[0]["procrustes"])
