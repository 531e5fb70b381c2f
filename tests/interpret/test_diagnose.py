"""A diagnosis of real crystals: the same tables however it is run, nothing lost, everything read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import interpret.diagnose as diagnose_module
from interpret.checks.base import Finding
from interpret.diagnose import DiagnoseOptions, diagnose
from interpret.results import Diagnosis
from interpret.tables import TABLES
from model.dataset import CrystalDataset, Sample
from model.encoder import TransformersEncoder, load_encoder
from model.errors import DataError, RecordError


@pytest.fixture(scope="module")
def encoder() -> TransformersEncoder:
    return load_encoder(None, cache_directory=False)


@pytest.fixture
def network(make_network: Callable[..., Any]) -> Any:
    return make_network(token_features=384)


def run(network: Any, folder: Path, encoder: Any, **options: Any) -> Diagnosis:
    return diagnose(
        network, CrystalDataset.from_directory(folder), encoder, options=DiagnoseOptions(**options), rules=[]
    )


def assert_tables_equal(first: Diagnosis, second: Diagnosis, tolerance: float) -> None:
    for name in TABLES:
        a, b = getattr(first, name), getattr(second, name)
        assert len(a) > 0
        pd.testing.assert_frame_equal(a, b, rtol=0, atol=tolerance)


@pytest.mark.parametrize("batch_size", [1, 2, 50])
def test_tables_do_not_depend_on_the_batch_size(
    batch_size: int, network: Any, textbook_data: Path, encoder: Any
) -> None:
    reference = run(network, textbook_data, encoder, batch_size=3)
    assert_tables_equal(reference, run(network, textbook_data, encoder, batch_size=batch_size), 1e-9)


def test_tables_do_not_depend_on_the_order_of_rows(network: Any, textbook_data: Path, encoder: Any) -> None:
    dataset = CrystalDataset.from_directory(textbook_data)
    backwards = CrystalDataset(samples=tuple(reversed(dataset.samples)), rows=dataset.rows)
    options = DiagnoseOptions()
    one = diagnose(network, dataset, encoder, options=options, rules=[])
    two = diagnose(network, backwards, encoder, options=options, rules=[])
    for name in TABLES:
        a = getattr(one, name).sort_values("id", kind="stable", ignore_index=True)
        b = getattr(two, name).sort_values("id", kind="stable", ignore_index=True)
        pd.testing.assert_frame_equal(a, b[a.columns], rtol=0, atol=1e-9)
    assert one.statistics["columns"].keys() == two.statistics["columns"].keys()
    assert json.dumps(one.statistics["fusion.1"], sort_keys=True, default=float)[:40]


def test_corner_cases_are_told_apart(network: Any, textbook_data: Path, encoder: Any) -> None:
    result = run(network, textbook_data, encoder)
    table = result.structures.set_index("id")
    mode = table["attention.atom_to_token.mode"]
    assert mode["copper"] == "one atom"
    assert mode["silicon"] == "one class"
    assert mode[["rutile", "perovskite"]].isin(["atoms differ", "atoms collapsed"]).all()
    assert np.isnan(table.loc[["copper", "silicon"], "attention.atom_to_token.atom_diversity"]).all()
    assert table.loc["rutile", "truncated"]
    assert table.loc["rutile", "tokens_total"] > table.loc["rutile", "tokens"]
    assert not table.loc["silicon", "truncated"]
    assert any(note.startswith("1 of 5 texts are longer") for note in result.facts["notes"])
    assert table.loc["salt", "tokens"] == 2  # the special tokens of an empty text
    assert table["graph_classes"].to_dict() == {
        "copper": 1,
        "silicon": 1,
        "salt": 2,
        "rutile": 2,
        "perovskite": 3,
    }
    assert table.loc["silicon", "space_group"] == "Fd-3m"
    np.testing.assert_allclose(table["error"], table["prediction"] - table["target"])


def test_figures_of_the_tables_equal_an_independent_computation(
    network: Any, textbook_data: Path, encoder: Any
) -> None:
    from interpret.hooks import HookRegistry
    from model.batch import collate
    from model.crystal import build_graph

    result = run(network, textbook_data, encoder).structures.set_index("id")
    sample = next(s for s in CrystalDataset.from_directory(textbook_data) if s.id == "perovskite")
    batch = collate([build_graph(sample.structure)], encoder.encode([sample.text]))
    double = network.double()
    with HookRegistry(double).capture("*") as captured, torch.no_grad():
        prediction = double(batch)
    gate = captured["fusion.1.gate"].values.numpy()
    weights = captured["attention.atom_to_token"].per_structure()[0].numpy()
    row = result.loc["perovskite"]
    np.testing.assert_allclose(row["prediction"], prediction.item(), atol=1e-10)
    np.testing.assert_allclose(row["fusion.1.alpha_mean"], gate.mean(), atol=1e-10)
    np.testing.assert_allclose(row["fusion.1.alpha_sd"], gate.mean(axis=1).std(ddof=1), atol=1e-10)
    null = np.sqrt(gate.var(axis=0, ddof=1).mean() / gate.shape[1])
    np.testing.assert_allclose(row["fusion.1.spread_ratio"], gate.mean(axis=1).std(ddof=1) / null, rtol=1e-8)
    entropy = -(weights * np.log(weights)).sum(axis=-1).mean()
    np.testing.assert_allclose(row["attention.atom_to_token.entropy"], entropy, atol=1e-10)
    oxygen, rest = [2, 3, 4], [0, 1]
    pairs = [(a, b) for a in rest for b in oxygen] + [(0, 1)]
    distance = np.array([np.abs(weights[:, a] - weights[:, b]).sum(axis=-1) / 2 for a, b in pairs])
    np.testing.assert_allclose(row["attention.atom_to_token.atom_difference"], distance.mean(axis=0).max(), rtol=1e-9)


def test_counterfactual_text_equals_a_pass_with_that_text(network: Any, textbook_data: Path, encoder: Any) -> None:
    from model.batch import collate
    from model.crystal import build_graph

    result = run(network, textbook_data, encoder).structures.set_index("id")
    sample = next(s for s in CrystalDataset.from_directory(textbook_data) if s.id == "rutile")
    with torch.no_grad():
        empty = network.double()(collate([build_graph(sample.structure)], encoder.encode([""])))
    np.testing.assert_allclose(result.loc["rutile", "counterfactual.text_empty.prediction"], empty.item(), atol=1e-10)
    # An empty text in its place changes nothing where the text was empty.
    salt = result.loc["salt"]
    np.testing.assert_allclose(salt["counterfactual.text_empty.prediction"], salt["prediction"], atol=1e-10)


def test_bad_input_costs_only_itself(network: Any, tmp_path: Path, encoder: Any, textbook_data: Path) -> None:
    import shutil

    folder = tmp_path / "data"
    shutil.copytree(textbook_data, folder)
    (folder / "cif" / "broken.cif").write_text("data_broken\n_cell_length_a 4\n", encoding="utf-8")
    table = folder / "description.csv"
    rows = ["broken,X,1.0,a text,broken.cif", "silicon,Si,1.0,again,silicon.vasp", "ghost,X,1.0,a text,ghost.cif"]
    table.write_text(table.read_text(encoding="utf-8") + "\n".join(rows) + "\n", encoding="utf-8")
    result = run(network, folder, encoder)
    reasons = {(skipped.id, skipped.stage) for skipped in result.skipped}
    assert reasons == {("broken", "structure"), ("silicon", "row"), ("ghost", "structure")}
    assert len(result.structures) == 5
    clean = run(network, textbook_data, encoder)
    pd.testing.assert_frame_equal(result.atoms, clean.atoms)


def test_nothing_to_analyse_is_one_clear_error(network: Any, tmp_path: Path, encoder: Any) -> None:
    sample = Sample(id="x", structure=tmp_path / "missing.cif", text="t", target=1.0, row=1)
    with pytest.raises((DataError,), match=r"missing\.cif|no structure could be analysed"):
        diagnose(network, CrystalDataset(samples=(sample,)), encoder, rules=[])


def test_saved_results_are_read_back(network: Any, textbook_data: Path, encoder: Any, tmp_path: Path) -> None:
    result = run(network, textbook_data, encoder)
    result.save(tmp_path / "out")
    again = Diagnosis.load(tmp_path / "out")
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(again, name), getattr(result, name))
    assert again.to_dict() == result.to_dict()
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == sorted(
        ["diagnosis.json", *(f"{t}.{e}" for t in (*TABLES, "skipped", "heatmap") for e in ("csv", "parquet"))]
    )
    content = json.loads((tmp_path / "out" / "diagnosis.json").read_text(encoding="utf-8"))
    assert content["schema_version"] == 1
    assert content["provenance"]["encoder"]["name"] == "all-MiniLM-L6-v2"
    with pytest.raises(RecordError, match="expected a diagnosis"):
        Diagnosis.load(tmp_path)


def test_same_call_gives_the_same_bytes(network: Any, textbook_data: Path, encoder: Any, tmp_path: Path) -> None:
    for name in ("one", "two"):
        run(network, textbook_data, encoder).save(tmp_path / name)
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_killed_run_goes_on_where_it_stopped(
    network: Any, textbook_data: Path, encoder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = CrystalDataset.from_directory(textbook_data)
    whole = diagnose(network, dataset, encoder, rules=[])
    monkeypatch.setattr(diagnose_module, "SHARD_SIZE", 2)
    options = DiagnoseOptions(batch_size=2)
    measured: list[str] = []
    original = diagnose_module.measure_structure

    def stop_at_fourth(record: Any, *args: Any, **kwargs: Any) -> Any:
        measured.append(record.id)
        if len(measured) == 4:
            raise KeyboardInterrupt
        return original(record, *args, **kwargs)

    monkeypatch.setattr(diagnose_module, "measure_structure", stop_at_fourth)
    work = tmp_path / ".progress"
    with pytest.raises(KeyboardInterrupt):
        diagnose(network, dataset, encoder, options=options, work=work, rules=[])
    resumed = diagnose(network, dataset, encoder, options=options, work=work, rules=[])
    assert measured == ["copper", "silicon", "salt", "rutile", "salt", "rutile", "perovskite"]
    assert_tables_equal(whole, resumed, 1e-9)
    assert whole.statistics["fusion.1"]["atoms"] == resumed.statistics["fusion.1"]["atoms"]
    assert not work.exists()

    # Shards of another checkpoint are not mixed in.
    measured.clear()
    with pytest.raises(KeyboardInterrupt):
        diagnose(network, dataset, encoder, options=options, work=work, rules=[])
    measured.extend(["x"] * 10)
    other = CrystalDataset(samples=dataset.samples[1:], rows=4)
    assert len(diagnose(network, other, encoder, options=options, work=work, rules=[]).structures) == 4


def test_rows_in_another_order_are_not_taken_for_those_of_a_killed_run(
    network: Any, textbook_data: Path, encoder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = CrystalDataset.from_directory(textbook_data)
    turned = replace(dataset, samples=tuple(reversed(dataset.samples)))
    whole = diagnose(network, turned, encoder, rules=[])
    monkeypatch.setattr(diagnose_module, "SHARD_SIZE", 1)
    options = DiagnoseOptions(batch_size=1)

    def stop(count: int) -> None:
        if count:
            raise KeyboardInterrupt

    done: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        diagnose(
            network, dataset, encoder, options=options, work=tmp_path, rules=[],
            progress=lambda count: (done.append(count), stop(sum(done) > 2)),
        )  # fmt: skip
    resumed = diagnose(network, turned, encoder, options=options, work=tmp_path, rules=[])
    assert resumed.structures["id"].tolist() == [sample.id for sample in turned.samples]
    assert_tables_equal(whole, resumed, 1e-9)


def test_what_never_ran_is_known_after_a_kill_too(
    make_network: Any, textbook_data: Path, encoder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = make_network(token_features=384, middle_fusion_layers=(7,))
    dataset = CrystalDataset.from_directory(textbook_data)
    whole = diagnose(network, dataset, encoder, rules=[])
    assert whole.facts["taps_never_fired"]
    monkeypatch.setattr(diagnose_module, "_best_heatmap", lambda shards: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        diagnose(network, dataset, encoder, work=tmp_path, rules=[])
    monkeypatch.undo()
    assert diagnose(network, dataset, encoder, work=tmp_path, rules=[]).facts == whole.facts


def test_no_hook_is_left_and_the_network_is_untouched(network: Any, textbook_data: Path, encoder: Any) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    run(network, textbook_data, encoder)
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules()) == 0
    for name, value in network.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])


def test_single_structure_has_its_control(network: Any, textbook_data: Path, encoder: Any) -> None:
    dataset = CrystalDataset.from_structure(textbook_data / "cif" / "rutile.vasp", "TiO2 is rutile.")
    result = diagnose(network, dataset, encoder, rules=[], spare_texts=["Si is diamond.", "NaCl is halite."])
    assert np.isfinite(result.layers["fusion.1.text_cosine_control"]).all()
    alone = diagnose(network, dataset, encoder, rules=[])
    assert alone.layers["fusion.1.text_cosine_control"].isna().all()


def test_a_diagnosis_is_a_table_in_a_notebook_with_hostile_text_escaped() -> None:
    finding = Finding(
        code="XX1",
        name="n",
        severity="error",
        text="<script>alert(1)</script>",
        remedy="",
        reference="",
        effect=1.0,
        effect_what="",
        control=0.5,
        control_what="a & b",
        interval=None,
        structures=1,
    )
    empty = pd.DataFrame()
    result = Diagnosis("poor", "1 error", (finding,), (), {}, {}, {}, empty, empty, empty, empty)
    page = result._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "0.5 (a &amp; b)" in page
