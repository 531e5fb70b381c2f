"""Runs that may not be held against each other say why."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interpret.compare import Inference, Run, compare, compare_all, compare_runs, observe
from interpret.compare.pairing import check_labels, check_pair, folder_name, labels_of, read_group
from interpret.diagnose import DiagnoseOptions, diagnose
from model.dataset import CrystalDataset
from model.encoder import load_encoder
from model.errors import DataError

from .conftest import made_run


def values(count: int = 6) -> dict[str, np.ndarray]:
    return {"fusion.1.alpha_mean": np.linspace(0.2, 0.8, count)}


def with_provenance(run: Run, **changes: Any) -> Run:
    return replace(run, provenance={**run.provenance, **changes})


def test_runs_of_the_same_inputs_pass() -> None:
    check_pair(made_run(values()), made_run(values(), "b"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda run: made_run(values(7), "b"), r"6 ids are in both, 1 only in 'b' \(s006\)"),
        (lambda run: made_run(values(2), "b"), r"4 only in 'a' \(s002, s003, s004, \.\.\.\)"),
        (
            lambda run: with_provenance(run, encoder={"name": "made", "fingerprint": "g"}),
            "the same encoder, but another normalisation",
        ),
        (
            lambda run: with_provenance(run, encoder={"name": "else", "fingerprint": "g"}),
            "got 'made' for 'a' and 'else'",
        ),
        (lambda run: with_provenance(run, options={"dtype": "float32"}), "dtype 'float64' for 'a' and 'float32'"),
        (
            lambda run: with_provenance(run, options={"dtype": "float64", "stop_words": True}),
            "stop_words None for 'a' and True for 'b'",
        ),
        (lambda run: with_provenance(run, data={"fingerprint": "other"}), "have different fingerprints"),
        (lambda run: replace(run, structures=run.structures.assign(atoms=3)), "number of atoms 2 in 'a' and 3 in 'b'"),
        (lambda run: replace(run, structures=run.structures.assign(target=1.0)), "target 0.0 in 'a' and 1.0 in 'b'"),
        (lambda run: replace(run, structures=run.structures.assign(formula="Ge")), "formula Si in 'a' and Ge in 'b'"),
    ],
)
def test_other_inputs_are_refused(change: Callable[[Run], Run], words: str) -> None:
    first, second = made_run(values()), made_run(values(), "b")
    with pytest.raises(DataError, match=words):
        compare_runs(first, change(second))


def test_another_text_of_one_structure_is_refused() -> None:
    texts = {f"s{i:03d}": "digest" for i in range(6)}
    first, second = replace(made_run(values()), texts=texts), replace(made_run(values(), "b"), texts=texts)
    check_pair(first, second)
    with pytest.raises(DataError, match="same text of 's003'"):
        check_pair(first, replace(second, texts={**texts, "s003": "other"}))


def test_missing_targets_are_the_same_in_both() -> None:
    empty = values() | {"target": np.full(6, np.nan)}
    check_pair(made_run(empty), made_run(empty, "b"))


def test_an_id_twice_is_refused() -> None:
    run = made_run(values())
    with pytest.raises(DataError, match="'s000' several times"):
        run.merge(run)


def test_real_texts_are_compared_after_normalisation(network: Any, crystals: CrystalDataset, encoder: Any) -> None:
    samples = list(crystals)
    samples[1] = replace(samples[1], text=samples[1].text + " It is hard.")
    other = CrystalDataset(samples=tuple(samples), rows=crystals.rows)
    runs = [observe([network], [n], d, encoder, pairs=False).runs[0] for n, d in (("a", crystals), ("b", other))]
    with pytest.raises(DataError, match=f"same text of '{samples[1].id}' in both runs"):
        compare_runs(*runs)


def test_another_normalisation_is_refused(network: Any, crystals: CrystalDataset, encoder: Any) -> None:
    mapped = load_encoder("random:12", mappings={"Å": "angstrom"}, cache_directory=False)
    runs = [observe([network], [n], crystals, e, pairs=False).runs[0] for n, e in (("a", encoder), ("b", mapped))]
    with pytest.raises(DataError, match="another normalisation"):
        compare_runs(*runs)


def test_models_of_different_encoders_are_refused(
    make_network: Callable[..., Any], network: Any, crystals: CrystalDataset, encoder: Any
) -> None:
    with pytest.raises(DataError, match=r"different width \('a' 12, 'b' 384\)"):
        compare(network, make_network(token_features=384), crystals, encoder)
    with pytest.raises(DataError, match="expected an encoder of width 12"):
        compare(network, network, crystals, load_encoder("random:8", cache_directory=False))
    with pytest.raises(DataError, match="two or more checkpoints"):
        compare_all([network], crystals, encoder, labels=["a"])


def test_an_empty_data_set_is_an_error(network: Any, encoder: Any) -> None:
    with pytest.raises(DataError, match="the data set is empty"):
        compare(network, network, CrystalDataset(samples=()), encoder)


def test_what_is_skipped_is_listed(network: Any, textbook_data: Path, encoder: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken.vasp"
    broken.write_text("no structure", encoding="utf-8")
    dataset = CrystalDataset.from_directory(textbook_data)
    samples = (*dataset, replace(dataset[0], id="broken", structure=broken))
    both = CrystalDataset(samples=samples, rows=6)
    comparison = compare(network, network, both, encoder, inference=Inference(resamples=99), untrained=False)
    assert comparison.structures == 5
    assert [entry["id"] for entry in comparison.skipped] == ["broken"]


def test_saved_diagnoses_can_be_compared(network: Any, crystals: CrystalDataset, encoder: Any) -> None:
    options = DiagnoseOptions(batch_size=2)
    saved = diagnose(network, crystals, encoder, options=options, rules=[])
    fresh = observe([copy.deepcopy(network)], ["b"], crystals, encoder, pairs=False).runs[0]
    comparison = compare_runs(Run.of_diagnosis(saved, "a"), fresh)
    assert comparison.identical
    assert comparison.representations.empty
    assert any("read from saved tables" in note for note in comparison.notes)


def test_labels(tmp_path: Path) -> None:
    for name in ("one/best", "two/best", "two/last"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "full.pt").touch()
    paths = [tmp_path / "one/best", tmp_path / "two/best", tmp_path / "full.pt"]
    assert labels_of(paths[1:]) == ("best", "full")
    assert labels_of(paths[:2]) == ("one/best", "two/best")
    assert labels_of([paths[0], paths[0]]) == ("best (1)", "best (2)")
    assert labels_of(paths, ["x", "y", "z"]) == ("x", "y", "z")
    with pytest.raises(DataError, match="expected 2 labels"):
        check_labels(["one"], 2)
    with pytest.raises(DataError, match="2 different labels"):
        check_labels(["one", "one "], 2)
    assert folder_name("no middle/../x") == "no-middle-..-x"
    assert folder_name("../..") == "model"


def test_groups_are_read(tmp_path: Path) -> None:
    for name in ("full-0", "full-1", "none"):
        (tmp_path / name).mkdir()
    label, paths = read_group(f" full = {tmp_path}/full-*, {tmp_path}/full-0")
    assert label == "full"
    assert [path.name for path in paths] == ["full-0", "full-1"]
    with pytest.raises(DataError, match="LABEL=PATH"):
        read_group(str(tmp_path))
    with pytest.raises(DataError, match="there is no checkpoint"):
        read_group(f"x={tmp_path}/nothing-*")
