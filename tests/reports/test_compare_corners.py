"""Comparisons with next to nothing to compare are saved, drawn and read back like any other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interpret.compare import Comparison, Inference, compare
from model.dataset import CrystalDataset
from model.encoder import load_encoder
from reports.compare_page import save_comparisons
from reports.compare_text import comparison_lines

FEW = Inference(resamples=199)


@pytest.fixture(scope="module")
def encoder() -> Any:
    return load_encoder("random:12", cache_directory=False)


def check(result: Comparison, folder: Path) -> list[str]:
    """Save, draw, read back and print; the lines printed."""
    save_comparisons([result], folder)
    again = Comparison.load(folder)
    assert again.to_dict() == result.to_dict()
    assert comparison_lines(again, folder) == comparison_lines(result, folder)
    assert (folder / "index.html").stat().st_size > 1000
    return comparison_lines(result, folder)


def test_without_any_attention_to_tokens(
    make_network: Callable[..., Any], textbook_data: Path, encoder: Any, tmp_path: Path
) -> None:
    bare = {"use_fine_grained_attention": False, "use_middle_fusion": False}
    data = CrystalDataset.from_directory(textbook_data)
    result = compare(make_network(**bare), make_network(seed=1, **bare), data, encoder, inference=FEW)
    lines = check(result, tmp_path)
    assert any("global statistics could not be compared" in line.lower() for line in lines)
    assert result.matches.empty
    assert result.hypothesis.verdict == "not applicable"


@pytest.mark.slow
def test_one_has_attention_and_the_other_has_not(
    make_network: Callable[..., Any], textbook_data: Path, encoder: Any, tmp_path: Path
) -> None:
    data = CrystalDataset.from_directory(textbook_data)
    bare = make_network(use_fine_grained_attention=False)
    result = compare(make_network(), bare, data, encoder, inference=FEW, untrained=False)
    lines = check(result, tmp_path)
    assert any(line.startswith("gap: attention.atom_to_token.entropy") for line in lines)
    assert not result.identical


def test_one_structure_without_a_label(
    make_network: Callable[..., Any], textbook_data: Path, encoder: Any, tmp_path: Path
) -> None:
    sample = replace(CrystalDataset.from_directory(textbook_data)[0], target=np.nan)
    data = CrystalDataset(samples=(sample,), rows=1)
    result = compare(make_network(), make_network(seed=1), data, encoder, inference=FEW)
    lines = check(result, tmp_path)
    assert any("0 of 1 structures have a target" in line for line in lines)
    assert any("(one structure has no interval)" in line for line in lines)
    assert not any(" nan" in line for line in lines)
    assert result.statistics["p_value"].isna().all()
    assert (result.representations["cka"].isna()).all()
