"""The calibration script on runs whose truth is known."""

from __future__ import annotations

import numpy as np

from interpret.compare import Inference, Run
from tools.calibrate_compare import calibrate, summarise

from .conftest import made_run


def seeds(count: int, structures: int = 60) -> list[Run]:
    """Models of one variant: structures have much in common, each model has a shift of its own."""
    generator = np.random.default_rng(0)
    common = generator.normal(size=(5, structures))
    runs = []
    for number in range(count):
        own = common + 0.3 * generator.normal(size=(5, structures)) + 0.3 * generator.normal(size=(5, 1))
        runs.append(made_run({f"fusion.{i}.alpha_mean": row for i, row in enumerate(own)}, f"seed-{number}"))
    return runs


def test_permuted_labels_are_not_found_and_real_shifts_are() -> None:
    table = calibrate(seeds(6), 30, Inference(resamples=299))
    summary = summarise(table)
    assert summary["tests"] == 150
    assert summary["significant_share"] <= 0.08
    assert summary["pairs_with_any_significant"] <= 0.15
    assert summary["significant_share_as_is"] > 0.3
    assert (table["a"] != table["b"]).all()
