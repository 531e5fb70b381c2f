"""Pages of real crystals: the files say what was captured, a killed run goes on, an old one is told apart."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import interpret.pages.page as page_module
import interpret.pages.stream as stream_module
from interpret.pages.page import build_page, rounded
from interpret.pages.quantity import Quantity
from interpret.pages.store import LEDGER, PageStore
from interpret.pages.stream import PageOptions, PageStream, page_taps
from interpret.record import StructureRecord
from interpret.runner import Runner
from model.dataset import CrystalDataset
from model.encoder import TransformersEncoder, load_encoder
from model.errors import RecordError

TAP = "attention.atom_to_token"


@pytest.fixture(scope="module")
def encoder() -> TransformersEncoder:
    return load_encoder("random:12")


@pytest.fixture(scope="module")
def network(make_network: Callable[..., Any]) -> Any:
    return make_network()


@pytest.fixture(scope="module")
def saved(network: Any, encoder: Any, textbook_data: Path, tmp_path_factory: pytest.TempPathFactory) -> PageStore:
    store = PageStore(tmp_path_factory.mktemp("pages") / "report")
    assert len(list(stream(network, encoder, textbook_data, store).run())) == 5
    store.write_manifest({})
    return store


def stream(network: Any, encoder: Any, folder: Path, store: PageStore, **options: Any) -> PageStream:
    return PageStream(network, CrystalDataset.from_directory(folder), encoder, store, **options)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_files_hold_what_the_hooks_saw_to_the_last_decimal(
    saved: PageStore, network: Any, encoder: Any, textbook_data: Path
) -> None:
    samples = CrystalDataset.from_directory(textbook_data)
    for record in Runner(network, encoder, taps=page_taps(network)).run(samples):
        weights = record.values(TAP)
        page = saved.read(record.id)
        for row in rows_of(saved.data / f"{record.id}.pairs.csv"):
            atom = record.graph.atom_labels.index(row["atoms"].split()[0])
            pieces = list(record.words[int(row["word_index"])].pieces)
            for head in range(4):
                expected = weights[head, atom, pieces].sum()
                assert abs(float(row[f"{TAP}.head_{head}"]) - expected) <= 0.5000001e-6
            assert abs(float(row[f"{TAP}.all"]) - weights[:, atom, pieces].sum(axis=-1).mean()) <= 0.5000001e-6
            assert abs(float(row[f"{TAP}.all.uniform"]) - len(pieces) / weights.shape[-1]) <= 0.5000001e-6
        assert sum(map(len, page["rows"])) == record.graph.number_of_atoms
        assert page["outcome"]["prediction"] == float(f"{record.prediction:.6g}")


def test_json_and_csv_are_the_same_numbers(saved: PageStore) -> None:
    page = saved.read("rutile")
    quantities = {quantity["name"]: quantity for quantity in page["quantities"]}
    shown = quantities[TAP]
    assert shown["heads"][0] == "mean over heads"
    words, rows = len(page["words"]["text"]), len(page["rows"])
    values = np.array(shown["values"]).reshape(5, rows, words)
    pairs = rows_of(saved.data / "rutile.pairs.csv")
    assert len(pairs) == rows * words
    for place, row in enumerate(pairs):
        assert row["word"] == page["words"]["text"][place % words]
        assert [row[f"{TAP}.{head}"] for head in ("all", "head_0", "head_3")] == [
            f"{values[head].flat[place] / 1e6:.6f}" for head in (0, 1, 4)
        ]
    atoms = rows_of(saved.data / "rutile.atoms.csv")
    alpha = quantities["fusion.1.alpha_mean"]
    assert [row["fusion.1.alpha_mean"] for row in atoms] == [f"{value / 1e5:.5f}" for value in alpha["values"]]
    assert [row["label"] for row in atoms] == ["Ti1", "Ti2", "O1", "O2", "O3", "O4"]


def test_text_is_whole_in_its_segments_and_says_where_it_was_cut(saved: PageStore, textbook_data: Path) -> None:
    texts = {sample.id: sample.text for sample in CrystalDataset.from_directory(textbook_data)}
    for identifier, text in texts.items():
        page = saved.read(identifier)
        assert "".join(part for _, part in page["segments"]) == text
        for word, part in page["segments"]:
            if word is not None:
                start, end = page["words"]["start"][word], page["words"]["end"][word]
                assert part == text[start:end]
    assert "512 of" in saved.read("rutile")["left_out"][0]
    assert "6 atoms have 2 different rows" in saved.read("rutile")["left_out"][-1]
    assert saved.read("salt")["segments"] == []
    assert saved.read("silicon")["summary"][2].startswith("All atoms read the same words, and no network could")
    assert any("There is one row to read" in line for line in saved.read("copper")["summary"])


def test_the_branch_that_is_not_read_is_marked(saved: PageStore) -> None:
    marks = {q["name"]: q["reaches_prediction"] for q in saved.read("perovskite")["quantities"]}
    assert [name for name, reaches in marks.items() if not reaches] == ["attention.token_to_atom"]


def test_crystals_have_the_bonds_a_chemist_draws(saved: PageStore) -> None:
    for identifier, length, coordination in (("rutile", 1.95, 6), ("silicon", 2.351, 4), ("salt", 2.82, 6)):
        page = saved.read(identifier)
        crystal, cell = page["crystal"], np.array(page["crystal"]["cell"])
        bonds = np.array(crystal["bonds"]).reshape(-1, 5)
        positions = np.array(crystal["positions"])
        vectors = (positions[bonds[:, 1]] + bonds[:, 2:] - positions[bonds[:, 0]]) @ cell
        lengths = np.linalg.norm(vectors, axis=1)
        np.testing.assert_allclose(lengths, length, atol=0.05)
        first = page["atoms"]["element"][0]
        ends = [page["atoms"]["label"][atom] for bond in bonds for atom in bond[:2]]
        assert ends.count(f"{first}1") == coordination


def test_a_second_run_computes_nothing(
    saved: PageStore, network: Any, encoder: Any, textbook_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "build_page", lambda *_: pytest.fail("a page was computed again"))
    again = PageStore(saved.folder)
    other = stream(network, encoder, textbook_data, again, options=PageOptions(batch_size=2))
    assert [row["id"] for row in other.run()] == list(saved.rows)
    assert again.rows == saved.rows


def test_a_killed_run_goes_on_where_it_stopped(
    saved: PageStore, network: Any, encoder: Any, textbook_data: Path, tmp_path: Path
) -> None:
    store = PageStore(tmp_path)
    run = stream(network, encoder, textbook_data, store, options=PageOptions(batch_size=1)).run()
    done = [next(run)["id"], next(run)["id"]]
    run.close()
    with (store.data / LEDGER).open("a", encoding="utf-8") as ledger:
        ledger.write('\n{"id":"salt","name":"sa')
    resumed = PageStore(tmp_path)
    assert list(resumed.rows) == done
    assert [row["id"] for row in stream(network, encoder, textbook_data, resumed).run()] == list(saved.rows)
    for identifier in saved.rows:
        assert PageStore(tmp_path).read(identifier) == saved.read(identifier)


def test_another_network_or_text_is_computed_anew(
    saved: PageStore, make_network: Callable[..., Any], network: Any, encoder: Any, textbook_data: Path
) -> None:
    known = {name: row["digest"] for name, row in saved.rows.items()}
    other = stream(make_network(seed=1), encoder, textbook_data, PageStore(saved.folder))
    key = other._key([], [])
    assert key != stream(network, encoder, textbook_data, PageStore(saved.folder))._key([], [])
    sample = CrystalDataset.from_directory(textbook_data).samples[0]
    changed = CrystalDataset.from_structure(sample.structure, "another text", id=sample.id).samples[0]
    assert len({stream_module._digest(key, one, {}) for one in (sample, changed)} - set(known.values())) == 2


def test_many_atoms_and_words_are_cut_to_what_a_page_can_hold(
    make_record: Callable[..., StructureRecord], network: Any, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "MOST_CELLS", 8 * 10)
    generator = np.random.default_rng(0)
    atoms, pieces = 12, 8
    weights = generator.dirichlet(np.ones(pieces), size=(4, atoms))
    record = make_record({TAP: weights, "gcn.0.nodes": generator.normal(size=(atoms, 16))}, elements=["Si"] * atoms)
    page = build_page(record, context(network, encoder))
    assert len(page["rows"]) == 8
    assert f"the rows of 8 of {atoms} atoms, 8 different ones" in " ".join(page["left_out"])
    shown = page["quantities"][0]
    over = np.array(shown["over_atoms"]).reshape(5, pieces) / 1e6
    np.testing.assert_allclose(over[0], weights.mean(axis=(0, 1)), atol=1e-6)
    values = np.array(shown["values"]).reshape(5, 8, pieces) / 1e6
    for row, (atom,) in enumerate(page["rows"]):
        np.testing.assert_allclose(values[1:, row], weights[:, atom], atol=1e-6)


def test_quantities_of_other_analyses_find_their_place(
    make_record: Callable[..., StructureRecord], network: Any, encoder: Any, tmp_path: Path
) -> None:
    record = make_record({}, elements=["Ba", "O"])
    words = len(record.words)
    values = np.array([-0.5, 0.25, 0.0, 0.0, 0.0, 1.0, -0.75, 0.0])
    extra = [
        Quantity("attribution", "integrated gradients", "eV", ("word",), values, signed=True),
        Quantity("by_atom", "attribution of atoms", "eV", ("atom",), np.array([0.25, -0.5])),
        Quantity("pairs", "both", "eV", ("atom", "word"), np.arange(2.0 * words).reshape(2, words)),
    ]
    store = PageStore(tmp_path)
    page = build_page(record, context(network, encoder), extra)
    assert page["reading"] is None
    assert page["summary"] == [
        "This network has no attention from atoms to words.",
        "By integrated gradients, the prediction rests most on “O” (+1); “.” (-0.75); “[CLS]” (-0.5).",
    ]
    assert build_page(record, context(network, encoder))["summary"][1].startswith(
        "What the prediction rests on was not"
    )
    store.add(page, "digest")
    name = store.rows["made"]["name"]
    assert rows_of(store.data / f"{name}.words.csv")[0]["attribution"] == "-0.500000"
    assert [row["by_atom"] for row in rows_of(store.data / f"{name}.atoms.csv")] == ["0.250000", "-0.500000"]
    assert rows_of(store.data / f"{name}.pairs.csv")[-1]["pairs"] == f"{2 * words - 1:.6f}"
    assert "pairs" in json.dumps(store.read("made"))


def context(network: Any, encoder: Any) -> Any:
    from interpret.pages.other_crystals import OtherCrystals
    from interpret.pages.page import PageContext
    from interpret.text_references import TextReferences

    return PageContext(
        network, TextReferences(network, encoder, ["a text", "another"]), {}, OtherCrystals(network, encoder, [])
    )


def test_what_is_not_a_report_is_refused(saved: PageStore, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="expected a report of this program"):
        PageStore(tmp_path).manifest()
    with pytest.raises(RecordError, match="no structure 'nowhere'"):
        saved.read("nowhere")
    (tmp_path / "report.json").write_text('{"schema_version": 99}', encoding="utf-8")
    with pytest.raises(RecordError, match="got 99"):
        PageStore(tmp_path).manifest()


def test_rounding_keeps_six_digits_and_no_nan() -> None:
    assert rounded({"a": [1.23456789, float("nan"), 3, True, None], "b": np.float64(1e-9)}) == {
        "a": [1.23457, None, 3, True, None],
        "b": 1e-9,
    }
