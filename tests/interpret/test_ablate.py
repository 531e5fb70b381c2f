"""Ablations: real small trainings, statistics against scipy, interruption, and runs that fail."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from interpret.ablate import AblateOptions, ablate
from interpret.ablate_variants import VARIANTS, Variant, choose_variants, read_variants
from interpret.ablation_results import Ablation, seed_interval
from interpret.diagnose import DiagnoseOptions
from model.batch import collate
from model.checkpoint import load_checkpoint
from model.config import ElementEmbedding, GraphNorm, LateFusionType, MiddleFusionType, ModelConfig
from model.crystal import build_graph
from model.dataset import CrystalDataset
from model.encoder import load_encoder
from model.errors import DataError, RecordError
from model.training import TrainConfig, read_record

PLAIN = AblateOptions(diagnosis=None)
WIDTH = 12


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> CrystalDataset:
    """Sixteen rock salts of different size; the target is the cell's edge."""
    folder = tmp_path_factory.mktemp("salts")
    (folder / "cif").mkdir()
    rows = ["id,text,target"]
    pairs = [(a, b) for a in ("Li", "Na", "K", "Rb") for b in ("F", "Cl", "Br", "I")]
    for number, (a, b) in enumerate(pairs):
        edge = 2.0 + 0.1 * number
        cell = f"0 {edge} {edge}\n{edge} 0 {edge}\n{edge} {edge} 0"
        text = f"{a}{b}\n1.0\n{cell}\n{a} {b}\n1 1\ndirect\n0 0 0\n0.5 0.5 0.5\n"
        (folder / "cif" / f"s{number}.vasp").write_text(text, encoding="utf-8")
        rows.append(f"s{number},{a}{b} is Halite structured with bonds of {edge:.2f} angstrom.,{edge}")
    (folder / "description.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return CrystalDataset.from_directory(folder, require_target=True)


@pytest.fixture(scope="module")
def encoder() -> Any:
    return load_encoder(f"random:{WIDTH}")


@pytest.fixture(scope="module")
def config(make_config: Callable[..., ModelConfig]) -> TrainConfig:
    model = make_config(alignn_layers=1, middle_fusion_layers=(0,), fine_grained_num_heads=2)
    fields = {name: getattr(model, name) for name in model.model_fields_set if name != "token_features"}
    return TrainConfig.model_validate(
        {
            "model": fields,
            "data": {"train": 0.5, "val": 0.25, "test": 0.25},
            "training": {"epochs": 2, "batch_size": 4, "learning_rate": 0.01, "loggers": []},
        }
    )


def names_and_broken() -> tuple[Variant, ...]:
    """Two good variants around one whose layers do not exist, and one that diverges."""
    nowhere = Variant("nowhere", "fuses after a layer that is not there", {"model.middle_fusion_layers": [7]})
    wild = Variant("wild", "a learning rate nothing survives", {"training.learning_rate": 1e30})
    return (VARIANTS["full"], nowhere, VARIANTS["simplified-gate"], wild)


@pytest.fixture(scope="module")
def finished(
    config: TrainConfig, data: CrystalDataset, encoder: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Ablation, Path]:
    output = tmp_path_factory.mktemp("ablation") / "out"
    options = AblateOptions(DiagnoseOptions(), tuple(sample.text for sample in data))
    return ablate(config, names_and_broken(), (3, 5), data, encoder, output, options=options), output


def test_failed_runs_do_not_sink_the_rest(finished: tuple[Ablation, Path]) -> None:
    result, output = finished
    assert sorted(zip(result.runs["variant"], result.runs["seed"], strict=True)) == [
        ("full", 3),
        ("full", 5),
        ("simplified-gate", 3),
        ("simplified-gate", 5),
    ]
    failed = pd.read_csv(output / "failed.csv")
    assert failed["variant"].tolist() == ["nowhere", "wild"] * 2
    assert failed["seed"].tolist() == [3, 3, 5, 5]
    nowhere, wild = failed.iloc[0], failed.iloc[1]
    assert nowhere["stage"] == "configuration"
    assert "would never run" in nowhere["reason"]
    assert wild["stage"] == "training"
    assert len(wild["reason"]) > 20
    table = result.ablation.set_index("variant")
    assert table.loc["nowhere", "conclusion"] == "no run finished"
    assert math.isnan(table.loc["wild", "test_mae"])
    assert table["failed"].tolist() == [0, 2, 0, 2]


def test_errors_are_those_of_the_saved_checkpoints(
    finished: tuple[Ablation, Path], data: CrystalDataset, encoder: Any
) -> None:
    result, output = finished
    for row in result.runs.to_dict("records"):
        best = output / "runs" / row["variant"] / f"seed-{row['seed']}" / "best"
        test = set(read_record(best).splits.test)
        samples = [sample for sample in data if sample.id in test]
        network = load_checkpoint(best)
        batch = collate([build_graph(s.structure) for s in samples], encoder.encode([s.text for s in samples]))
        with torch.no_grad():
            errors = network(batch).double() - torch.tensor([s.target for s in samples], dtype=torch.float64)
        assert row["test_mae"] == pytest.approx(float(errors.abs().mean()), abs=1e-5)
        assert row["parameters"] == sum(p.numel() for p in network.parameters() if p.requires_grad)
        assert row["seconds_per_epoch"] > 0
    assert (result.runs["mean_test_mae"] > 0).all()


def test_gate_and_attention_figures_come_from_the_test_split(finished: tuple[Ablation, Path]) -> None:
    result, output = finished
    for row in result.runs.to_dict("records"):
        folder = output / "runs" / row["variant"] / f"seed-{row['seed']}"
        table = pd.read_parquet(folder / "diagnosis" / "structures.parquet")
        assert set(table["id"]) == set(read_record(folder / "best").splits.test)
        for name in ("fusion.0.alpha_mean", "attention.atom_to_token.gini"):
            assert row[f"metric.{name}"] == pytest.approx(table[name].mean())
        gated = row["variant"] == "simplified-gate"
        assert math.isnan(row["metric.cross_modal.effective"]) != gated
        assert row["verdict"] in ("good", "acceptable", "poor")
        assert (folder / "gate_history.parquet").is_file()


def test_differences_are_paired_by_seed(finished: tuple[Ablation, Path]) -> None:
    result, _ = finished
    table = result.ablation.set_index("variant")
    mae = result.runs.pivot(index="seed", columns="variant", values="test_mae")
    row = table.loc["simplified-gate"]
    expected = stats.ttest_rel(mae["simplified-gate"], mae["full"])
    interval = expected.confidence_interval(0.95)
    assert row["difference"] == pytest.approx((mae["simplified-gate"] - mae["full"]).mean())
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((interval.low, interval.high))
    assert row["pairs"] == 2
    errors = result.predictions.assign(error=(result.predictions["prediction"] - result.predictions["target"]).abs())
    by_structure = errors.pivot_table(index="id", columns="variant", values="error")
    assert row["structures"] == len(by_structure) == 4
    assert (
        row["structures_low"]
        <= (by_structure["simplified-gate"] - by_structure["full"]).mean()
        <= row["structures_high"]
    )
    assert table.loc["full", "conclusion"] == "reference"
    assert math.isnan(table.loc["full", "difference"])


def test_what_is_saved_is_read_back(finished: tuple[Ablation, Path], tmp_path: Path) -> None:
    result, output = finished
    loaded = Ablation.load(output)
    for name in ("runs", "ablation", "failed", "predictions"):
        pd.testing.assert_frame_equal(getattr(loaded, name), getattr(result, name), check_dtype=False)
        assert (output / f"{name}.csv").is_file()
    assert loaded.to_dict() == json.loads((output / "ablation.json").read_text(encoding="utf-8"))
    with pytest.raises(RecordError, match="expected an ablation in"):
        Ablation.load(tmp_path)


def test_figures_are_drawn_from_the_tables(finished: tuple[Ablation, Path], tmp_path: Path) -> None:
    from matplotlib.image import imread

    from reports.ablation_figures import ablation_lines, draw_ablation
    from reports.gate_figures import draw_gates

    _, output = finished
    result = Ablation.load(output)
    written = draw_ablation(result, tmp_path)
    written += draw_gates(output / "runs" / "simplified-gate" / "seed-3")
    assert [path.name for path in written] == ["ablation.png", "ablation_metrics.png", "gates.png"]
    for path in written:
        picture = imread(path)
        assert min(picture.shape[:2]) > 200
        assert picture[..., :3].std() > 0.01
    assert draw_gates(tmp_path) == []
    lines = ablation_lines(result, output)
    assert lines[0].split()[0] == "variant"
    assert lines[1].startswith("full ")
    assert f"{result.ablation['test_mae'].iloc[0]:.4g}" in lines[1]
    assert any("4 of 8 runs failed" in line for line in lines)


def without_times(folder: Path) -> dict[str, Any]:
    """Everything an ablation wrote about results: no clock, no path."""
    runs = pd.read_parquet(folder / "runs.parquet").drop(columns="seconds_per_epoch")
    found: dict[str, Any] = {"runs": runs.to_csv(), "predictions": (folder / "predictions.csv").read_bytes()}
    for path in sorted(folder.glob("runs/*/*/gate_history.csv")):
        found[str(path.relative_to(folder))] = path.read_bytes()
    for path in sorted(folder.glob("runs/*/*/best/model.safetensors")):
        found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def test_interrupted_ablation_goes_on_to_the_same_results(
    config: TrainConfig, data: CrystalDataset, encoder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from interpret.gate_monitor import GateMonitor

    variants = choose_variants(["full", "quality-gate"])
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    ablate(config, variants, (0,), data, encoder, whole, options=PLAIN)

    record = GateMonitor.on_train_batch_end
    steps = []

    def stop(self: GateMonitor, trainer: Any, *rest: Any) -> None:
        record(self, trainer, *rest)
        steps.append(trainer.global_step)
        # Two epochs of two steps: the second run dies in its second epoch.
        if len(steps) == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(GateMonitor, "on_train_batch_end", stop)
    with pytest.raises(KeyboardInterrupt):
        ablate(config, variants, (0,), data, encoder, killed, options=PLAIN)
    partial = Ablation.load(killed)
    assert partial.runs["variant"].tolist() == ["full"]
    assert not (killed / "runs" / "quality-gate" / "seed-0" / "result.json").exists()
    first = killed / "runs" / "full" / "seed-0" / "best" / "model.safetensors"
    stamp = first.stat().st_mtime_ns
    before = len(steps)
    ablate(config, variants, (0,), data, encoder, killed, options=PLAIN)
    assert first.stat().st_mtime_ns == stamp, "a finished run is not trained again"
    assert len(steps) - before == 2, "an interrupted one goes on where it stopped"
    assert without_times(killed) == without_times(whole)
    before = len(steps)
    ablate(config, variants, (0,), data, encoder, killed, options=PLAIN)
    assert len(steps) == before
    assert without_times(killed) == without_times(whole)


def test_another_configuration_does_not_get_into_the_folder(
    config: TrainConfig, data: CrystalDataset, encoder: Any, tmp_path: Path
) -> None:
    (tmp_path / "ablation_run.json").write_text(
        json.dumps({"training.epochs": 99, "data set": data.fingerprint}), encoding="utf-8"
    )
    with pytest.raises(RecordError, match=r"training\.epochs was 99, is 2"):
        ablate(config, choose_variants(["full"]), (0,), data, encoder, tmp_path, options=PLAIN)


def test_mistakes_are_said_before_anything_is_trained(
    config: TrainConfig, data: CrystalDataset, encoder: Any, tmp_path: Path
) -> None:
    full = choose_variants(["full"])
    with pytest.raises(DataError, match="expected each seed once, got 1 more than once"):
        ablate(config, full, (1, 2, 1), data, encoder, tmp_path)
    with pytest.raises(DataError, match="at least one variant and one seed, got 1 and 0"):
        ablate(config, full, (), data, encoder, tmp_path)
    with pytest.raises(DataError, match=r"data\.test: 0"):
        ablate(config.changed({"data.test": 0}), full, (0,), data, encoder, tmp_path)
    with pytest.raises(DataError, match=r"training\.devices: 1"):
        ablate(config.changed({"training.devices": 2}), full, (0,), data, encoder, tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match=r"all 1 runs failed; the first: .*would never run"):
        ablate(config, names_and_broken()[1:2], (0,), data, encoder, tmp_path / "out", options=PLAIN)


def test_a_file_of_splits_without_a_test_is_refused(
    config: TrainConfig, data: CrystalDataset, encoder: Any, tmp_path: Path
) -> None:
    ids = [sample.id for sample in data]
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps({"train": ids[:10], "val": ids[10:]}), encoding="utf-8")
    given = config.changed({"data.splits": str(splits), "training.epochs": 1})
    with pytest.raises(DataError, match=r"expected a test split to compare variants on, got none from splits\.json"):
        ablate(given, choose_variants(["full"]), (0,), data, encoder, tmp_path / "out", options=PLAIN)


def test_any_death_of_a_run_is_kept_with_its_trace(
    config: TrainConfig, data: CrystalDataset, encoder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from interpret import ablate as module

    real = module.train

    def explode(changed: TrainConfig, *rest: Any, **named: Any) -> Any:
        if changed.model.cross_modal_gate == "quality":
            raise RuntimeError("CUDA out of memory\nand a long tail")
        return real(changed, *rest, **named)

    monkeypatch.setattr(module, "train", explode)
    variants = choose_variants(["quality-gate", "full"])
    said: list[str] = []
    result = ablate(config, variants, (0,), data, encoder, tmp_path, options=PLAIN, say=said.append)
    assert result.failed["reason"].tolist() == ["RuntimeError: CUDA out of memory (see error.txt in its folder)"]
    trace = (tmp_path / "runs" / "quality-gate" / "seed-0" / "error.txt").read_text(encoding="utf-8")
    assert "Traceback" in trace
    assert "explode" in trace
    assert said[0].startswith("quality-gate, seed 0: failed in training: RuntimeError")
    assert said[1].startswith("full, seed 0: test MAE ")
    assert result.ablation["conclusion"].tolist() == ["reference", "cannot tell: fewer than two seeds in common"]
    monkeypatch.setattr(module, "train", real)
    again = ablate(config, variants, (0,), data, encoder, tmp_path, options=PLAIN)
    assert len(again.failed) == 0, "failed runs are tried again"
    assert not (tmp_path / "runs" / "quality-gate" / "seed-0" / "error.txt").exists()


@given(st.lists(st.floats(0.01, 10), min_size=2, max_size=8))
@settings(max_examples=80, deadline=None)
def test_seed_interval_is_students(values: list[float]) -> None:
    found = seed_interval(values)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    if np.ptp(values) > 1e-9:
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-6)
    assert found.n == len(values)
    assert found.mean == pytest.approx(math.fsum(values) / len(values))


def test_one_seed_has_no_interval() -> None:
    found = seed_interval([0.5, float("nan")])
    assert (found.mean, found.n) == (0.5, 1)
    assert math.isnan(found.low)
    assert seed_interval([]).n == 0
    assert math.isnan(seed_interval([]).mean)


def made_up(differences: dict[str, float], noise: float, *, seeds: int = 4, structures: int = 40) -> Ablation:
    """Runs whose absolute errors are drawn; a variant's are those of the first plus a difference."""
    generator = np.random.default_rng(0)
    base = 1 + generator.random(structures)
    rows, frames = [], []
    for name, difference in differences.items():
        for seed in range(seeds):
            errors = base + difference + (noise * generator.normal(size=structures) if noise else 0)
            ids = [f"s{number}" for number in range(structures)]
            frames.append(pd.DataFrame({"variant": name, "seed": seed, "id": ids, "target": 0.0, "prediction": errors}))
            row = {"variant": name, "seed": seed, "parameters": 10, "seconds_per_epoch": 1.0, "verdict": None}
            extra = ("test_rmse", "val_mae", "train_mae", "mean_test_mae", "composition_ridge_test_mae")
            rows.append(row | {"test_mae": errors.mean()} | dict.fromkeys(extra, 1.0))
    variants = [Variant(name, name) for name in differences]
    return Ablation.of(variants, rows, [], pd.concat(frames, ignore_index=True))


def test_conclusions_need_seeds_and_structures() -> None:
    found = made_up({"first": 0.0, "better": -0.3, "worse": 0.3, "alike": 0.0}, noise=0.1).ablation
    assert found["conclusion"].tolist() == ["reference", "lower error", "higher error", "no difference shown"]
    assert found["difference"].tolist()[1:3] == pytest.approx([-0.3, 0.3], abs=0.05)
    assert made_up({"first": 0.0, "same": 0.0}, noise=0).ablation["conclusion"].iloc[1] == "identical"
    one = made_up({"first": 0.0, "better": -0.3}, noise=0.1, seeds=1).ablation
    assert one["conclusion"].iloc[1].startswith("cannot tell")
    # Three structures: the seeds agree, the test set is too small for it to mean anything.
    few = made_up({"first": 0.0, "better": -0.3}, noise=0.1, structures=3).ablation
    assert few["conclusion"].iloc[1] == "no difference shown"


def test_pure_noise_is_rarely_called_a_difference() -> None:
    generator = np.random.default_rng(7)
    calls = 0
    for _ in range(40):
        rows, frames = [], []
        for name in ("first", "second"):
            for seed in range(3):
                errors = np.abs(generator.normal(size=30))
                ids = [f"s{number:02d}" for number in range(30)]
                frames.append(
                    pd.DataFrame({"variant": name, "seed": seed, "id": ids, "target": 0.0, "prediction": errors})
                )
                extra = ("test_rmse", "val_mae", "train_mae", "mean_test_mae", "composition_ridge_test_mae")
                row = {"variant": name, "seed": seed, "parameters": 1, "seconds_per_epoch": 1.0, "verdict": None}
                rows.append(row | {"test_mae": errors.mean()} | dict.fromkeys(extra, 1.0))
        result = Ablation.of([Variant("first", ""), Variant("second", "")], rows, [], pd.concat(frames))
        calls += result.ablation["conclusion"].iloc[1] != "no difference shown"
    assert calls <= 2


def test_every_published_choice_has_a_name() -> None:
    base = TrainConfig()
    configs = {name: variant.apply(base).model for name, variant in VARIANTS.items() if name != "fixed-elements"}
    fixed = TrainConfig.model_validate(
        {"model": {"element_embedding": "fixed"}, "data": {"element_embeddings": "vectors.csv"}}
    )
    configs["fixed-elements"] = VARIANTS["fixed-elements"].apply(fixed).model

    def reached(field: str) -> set[Any]:
        return {getattr(model, field) for model in configs.values()}

    assert reached("middle_fusion_type") == set(get_args(MiddleFusionType))
    assert reached("late_fusion_type") == set(get_args(LateFusionType))
    assert reached("graph_norm") == set(get_args(GraphNorm))
    assert reached("element_embedding") == set(get_args(ElementEmbedding))
    gates = ModelConfig.model_fields["cross_modal_gate"].annotation
    assert reached("cross_modal_gate") == set(get_args(gates))
    for switch in ("use_middle_fusion", "use_fine_grained_attention", "use_cross_modal_attention"):
        assert reached(switch) == {True, False}
    full = configs["full"]
    assert full.use_middle_fusion
    assert full.use_fine_grained_attention
    for name, model in configs.items():
        if name not in ("base", "full", "broadcast-fusion", "no-gate", "late-concat") and not name.endswith("-loss"):
            assert model != full, f"{name} changes nothing"


def test_variants_follow_the_given_configuration() -> None:
    small = TrainConfig.model_validate({"model": {"alignn_layers": 2, "gcn_layers": 3}})
    # The published fusion layer, 2, is not there: the last one.
    assert VARIANTS["full"].apply(small).model.middle_fusion_layers == (1,)
    given = small.changed({"model.middle_fusion_layers": [0]})
    assert VARIANTS["full"].apply(given).model.middle_fusion_layers == (0,)
    fewer = VARIANTS["fewer-layers"].apply(TrainConfig()).model
    assert (fewer.alignn_layers, fewer.gcn_layers, fewer.middle_fusion_layers) == (2, 2, (1,))
    assert VARIANTS["fusion-after-every-layer"].apply(small).model.middle_fusion_layers == (0, 1)
    assert VARIANTS["base"].apply(small) == small


def test_two_names_of_one_network_are_noted(
    config: TrainConfig, data: CrystalDataset, encoder: Any, tmp_path: Path
) -> None:
    result = ablate(config, choose_variants(["full", "late-concat"]), (0, 1), data, encoder, tmp_path, options=PLAIN)
    assert result.notes == ("late-concat is full under another name: their configurations are equal",)
    row = result.ablation.iloc[1]
    assert (row["difference"], row["conclusion"]) == (0.0, "identical")


def test_unknown_names_list_the_valid_ones() -> None:
    with pytest.raises(DataError, match=r"'simplifed-gate' \(did you mean simplified-gate\?\); there are: base, full"):
        choose_variants(["full", "simplifed-gate"])
    with pytest.raises(DataError, match="each variant once, got 'full' 2 times"):
        choose_variants(["full", "full"])
    with pytest.raises(DataError, match="at least one variant"):
        choose_variants([])


def test_own_variants_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "variants.yaml"
    path.write_text(
        "wide-text:\n  model.projection_features: 128\nslow-gates:\n  from: quality-gate\n"
        "  training.gate_learning_rate: 0.1\n",
        encoding="utf-8",
    )
    own = read_variants(path)
    wide, slow = (variant.apply(TrainConfig()) for variant in choose_variants(["wide-text", "slow-gates"], own))
    assert wide.model.projection_features == 128
    assert wide.model.use_middle_fusion
    assert (slow.model.cross_modal_gate, slow.training.gate_learning_rate) == ("quality", 0.1)
    assert own["slow-gates"].meaning == "quality-gate with training.gate_learning_rate=0.1"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("full:\n  model.hidden_features: 3\n", "name of a published variant"),
        ("a/b:\n  model.hidden_features: 3\n", "expected letters, digits"),
        ("mine:\n  from: fulll\n", "starts from 'fulll'; there are: base, full"),
        ("mine:\n  data.limit: 3\n", "expected changes of model.NAME or training.NAME under 'mine'"),
        ("mine: 3\n", "expected changes by dotted names under 'mine'"),
        ("- mine\n", "expected names of variants"),
        ("mine: [\n", "are not YAML"),
    ],
)
def test_mistakes_in_the_file_are_said(content: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "variants.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=words):
        read_variants(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_variants(tmp_path / "nowhere.yaml")


@pytest.mark.slow
@pytest.mark.parametrize("part", range(6))
def test_every_named_variant_trains(
    part: int, config: TrainConfig, data: CrystalDataset, encoder: Any, tmp_path: Path
) -> None:
    names = [name for name in VARIANTS if name != "fixed-elements"][part::6]
    result = ablate(config, choose_variants(names), (0,), data, encoder, tmp_path, options=PLAIN)
    assert result.failed["reason"].tolist() == []
    assert result.runs["variant"].tolist() == names
    assert np.isfinite(result.runs["test_mae"]).all()


def test_element_vectors_come_from_a_file(
    config: TrainConfig, data: CrystalDataset, encoder: Any, tmp_path: Path
) -> None:
    table = tmp_path / "vectors.csv"
    elements = ("Li", "Na", "K", "Rb", "F", "Cl", "Br", "I")
    rows = [f"{symbol},{number},{number % 3},{number * 0.5}" for number, symbol in enumerate(elements)]
    table.write_text("\n".join(["element,a,b,c", *rows]) + "\n", encoding="utf-8")
    given = config.changed(
        {"model.element_embedding": "fixed", "data.element_embeddings": str(table), "training.epochs": 1}
    )
    variants = choose_variants(["fixed-elements", "learned-elements"])
    result = ablate(given, variants, (0,), data, encoder, tmp_path / "out", options=PLAIN)
    assert result.failed["reason"].tolist() == []
    network = load_checkpoint(tmp_path / "out" / "runs" / "fixed-elements" / "seed-0" / "best")
    assert network.element_table.shape[1] == 3
    with pytest.raises(DataError, match=r"expected data\.element_embeddings"):
        ablate(config, choose_variants(["fixed-elements"]), (0,), data, encoder, tmp_path / "none", options=PLAIN)
