"""The gate monitor against gates recomputed from captured inputs, through real Lightning training."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interpret.gate_history import GateHistory, history_beside, instability, statistics_beside, summarise
from interpret.gate_monitor import GateMonitor, watched_gates
from interpret.gate_sums import BINS, GateSums, pack, unpack
from interpret.hooks import BatchLayout, Capture
from interpret.taps import Tap
from model.batch import CrystalBatch
from model.errors import RecordError, TapError

EVERY_GATE = ("fusion.1.gate", "cross_modal.quality", "cross_modal.fusion", "cross_modal.effective")
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "logger": False,
}


class Training(lightning.LightningModule):
    """A small network; notes by plain hooks what went into each gate, in every step."""

    def __init__(self, network: Any, fail_at: int | None = None) -> None:
        super().__init__()
        self.network = network.train()
        self.fail_at = fail_at
        self.seen: list[dict[str, Tensor]] = []

    def watch(self) -> None:
        """Independent of the registry: inputs of the gates' modules, as torch hands them over."""

        def keep(name: str) -> Callable[..., None]:
            def hook(_: Any, inputs: tuple[Tensor, ...]) -> None:
                self.seen[-1][name] = inputs[0].detach().clone()

            return hook

        modules = dict(self.network.named_modules())
        for name, path in (
            ("fusion.1.gate", "middle_fusion_modules.layer_1.gate"),
            ("quality", "gated_cross_attention.text_quality_gate"),
            ("fusion", "gated_cross_attention.adaptive_fusion_gate"),
        ):
            if path in modules:
                modules[path].register_forward_pre_hook(keep(name))

    def training_step(self, batch: tuple[CrystalBatch, Tensor], index: int) -> Tensor:
        if self.fail_at is not None and self.global_step == self.fail_at:
            raise KeyboardInterrupt
        self.seen.append({})
        crystals, targets = batch
        self.seen[-1]["atoms"] = crystals.atoms_per_structure
        for name, value in self.network.state_dict().items():
            if ".gate." in name or "gated_cross_attention" in name:
                self.seen[-1][name] = value.detach().clone()
        return (self.network(crystals) - targets).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)


@pytest.fixture
def data(make_batch: Callable[..., Any]) -> list[tuple[CrystalBatch, Tensor]]:
    """Four batches of structures of different sizes."""
    batches = [make_batch((1, 3, 2), seed=seed) for seed in range(3)] + [make_batch((4, 1), (3, 6), seed=9)]
    return [(batch, torch.linspace(-1, 1, len(batch))) for batch in batches]


def fit(module: Training, data: Any, monitor: GateMonitor | None, *, epochs: int = 1, **changes: Any) -> Any:
    """Train without shuffling."""
    checkpoint = changes.pop("checkpoint", None)
    callbacks = [callback for callback in (monitor, changes.pop("saver", None)) if callback is not None]
    options = QUIET | {"enable_checkpointing": len(callbacks) > 1} | changes
    trainer = lightning.Trainer(callbacks=callbacks, max_epochs=epochs, **options)
    loader = torch.utils.data.DataLoader(data, batch_size=None)
    trainer.fit(module, loader, ckpt_path=checkpoint, weights_only=None if checkpoint is None else True)
    return trainer


def no_dropout(network: Any) -> Any:
    """Gates recomputed from their inputs must not depend on draws within them."""
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return network


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def mlp(seen: dict[str, Tensor], prefix: str, layers: tuple[int, ...], x: np.ndarray) -> np.ndarray:
    """Linear, ReLU, ..., Linear, sigmoid in float64 numpy, by the names in the state dict."""
    for position in layers:
        weight = seen[f"{prefix}.{position}.weight"].double().numpy()
        x = x @ weight.T + seen[f"{prefix}.{position}.bias"].double().numpy()
        x = sigmoid(x) if position == layers[-1] else np.maximum(x, 0)
    return x


def recomputed(seen: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Every gate of a step by its published formula, from its captured inputs and the weights of that step."""
    base = "gated_cross_attention"
    text = seen["quality"].double().numpy()
    norm = np.linalg.norm(text, axis=1, keepdims=True)
    quality = mlp(seen, f"{base}.text_quality_gate.quality_network", (0, 3, 5), text) * sigmoid(norm - 3.0)
    fusion = mlp(seen, f"{base}.adaptive_fusion_gate", (0, 3, 5), seen["fusion"].double().numpy())
    both = seen["fusion.1.gate"].double().numpy()
    alpha = mlp(seen, "middle_fusion_modules.layer_1.gate", (0,), both)
    return dict(zip(EVERY_GATE, (alpha, quality, fusion, quality * fusion), strict=True))


def test_every_row_is_what_the_formula_gives(make_network: Callable[..., Any], data: Any, tmp_path: Path) -> None:
    module = Training(no_dropout(make_network(cross_modal_gate="quality")))
    module.watch()
    monitor = GateMonitor(every_n_steps=1, folder=tmp_path)
    fit(module, data, monitor, epochs=2)
    table = pd.read_parquet(tmp_path / "gate_history.parquet")
    assert list(table["gate"].unique()) == list(EVERY_GATE) == watched_gates(module.network)
    assert table.groupby("gate").size().eq(8).all()
    for step, seen in enumerate(module.seen):
        for name, values in recomputed(seen).items():
            row = table[(table["step"] == step) & (table["gate"] == name)].iloc[0]
            assert row["epoch"] == step // 4
            assert row["units"] == len(values)
            expected = {
                "mean": values.mean(),
                "std": values.std(ddof=1),
                "min": values.min(),
                "max": values.max(),
                "low_share": (values < 0.1).mean(),
                "high_share": (values > 0.9).mean(),
                "spread": values.mean(axis=1).std(ddof=1),
            }
            for column, value in expected.items():
                assert row[column] == pytest.approx(value, abs=2e-6), (step, name, column)
            counts = row[[f"bin_{index:02d}" for index in range(BINS)]].to_numpy(dtype=float)
            assert counts.sum() == values.size
        # Between-atom spread within structures: the atoms of each structure about their own mean.
        alpha = recomputed(seen)["fusion.1.gate"].mean(axis=1)
        owner = np.repeat(np.arange(len(seen["atoms"])), seen["atoms"].numpy())
        centred = alpha - pd.Series(alpha).groupby(owner).transform("mean").to_numpy()
        pooled = np.sqrt((centred**2).sum() / (len(alpha) - len(seen["atoms"])))
        row = table[(table["step"] == step) & (table["gate"] == "fusion.1.gate")].iloc[0]
        assert row["spread_within"] == pytest.approx(pooled, abs=2e-6)
    others = table[table["gate"] != "fusion.1.gate"]
    assert others["spread_within"].isna().all(), "a gate of a structure has no atoms to differ"


def test_monitoring_changes_no_weight_and_leaves_no_hook(
    make_network: Callable[..., Any], data: Any, tmp_path: Path
) -> None:
    states, hooks = [], 0
    for monitor in (GateMonitor(every_n_steps=1, folder=tmp_path), None):
        module = Training(make_network(cross_modal_gate="simplified"))
        torch.manual_seed(3)
        fit(module, data, monitor)
        states.append(module.network.state_dict())
        hooks += sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())
    assert hooks == 0
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_interrupted_step_leaves_no_hook(make_network: Callable[..., Any], data: Any, tmp_path: Path) -> None:
    module = Training(make_network(), fail_at=2)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(module, data, GateMonitor(every_n_steps=1, folder=tmp_path))
    assert sum(len(part._forward_hooks) for part in module.network.modules()) == 0


def test_history_survives_kill_and_resume(make_network: Callable[..., Any], data: Any, tmp_path: Path) -> None:
    def run(folder: Path, fail_at: int | None, checkpoint: Path | None, every: int | None = 1) -> GateMonitor:
        module = Training(no_dropout(make_network(cross_modal_gate="quality")), fail_at)
        monitor = GateMonitor(every_n_steps=every, folder=folder)
        saver = lightning.pytorch.callbacks.ModelCheckpoint(folder / "saved", save_last=True, every_n_epochs=1)
        fit(module, data, monitor, epochs=4, saver=saver, checkpoint=checkpoint)
        return monitor

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(whole, None, None)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run(killed, 10, None)
    before = pd.read_parquet(killed / "gate_history.parquet")
    assert before["step"].max() == 7, "the last file is of the last whole epoch"
    run(killed, None, killed / "saved" / "last.ckpt")
    for name in ("gate_history.parquet", "gate_history.csv", "gate_statistics.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    assert len(pd.read_parquet(whole / "gate_history.parquet")) == 16 * len(EVERY_GATE)


def history_of(means: list[float], gate: str = "cross_modal.effective", **options: Any) -> GateHistory:
    """A history whose batch means are the given numbers."""
    history = GateHistory()
    for step, mean in enumerate(means):
        history.add(step, step // 2, gate, sums(torch.full((3, 1), mean, dtype=torch.float64)), **options)
    return history


def sums(values: Tensor, atoms: tuple[int, ...] | None = None) -> GateSums:
    """The sums of gate values, of structures or of atoms."""
    axes = ("structure", "channel") if atoms is None else ("atom", "channel")
    count = torch.tensor([1] * len(values) if atoms is None else list(atoms))
    layout = BatchLayout(count, torch.ones(len(count), 1, dtype=torch.bool))
    result, rest = unpack(pack(Capture(Tap("gate", "gate", axes, "gate", "both"), values, layout))["sums"])
    assert rest.numel() == 0
    return result


@pytest.mark.parametrize(
    ("gate", "means", "steps"),
    [
        ("cross_modal.effective", [0.4, 0.29, 0.2, 0.1, 0.4, 0.31, 0.29, 0.5], [1, 6]),
        # Back by less than the margin: the same crossing.
        ("cross_modal.effective", [0.29, 0.31, 0.29, 0.33, 0.29], [0, 4]),
        ("cross_modal.quality", [0.6, 0.49, float("nan"), 0.48, 0.55, 0.4], [1, 5]),
        ("cross_modal.gate", [0.89, 0.91, 0.95, 0.5, 0.92], [1, 4]),
        ("fusion.2.gate", [0.2, 0.05, 0.95], [2]),
        ("cross_modal.fusion", [0.2, 0.91], [1]),
        ("cross_modal.effective", [0.3, 0.95], []),
    ],
)
def test_one_warning_a_crossing_with_step_and_value(gate: str, means: list[float], steps: list[int]) -> None:
    found = history_of(means, gate).warnings
    assert [warning.step for warning in found] == steps
    assert [warning.value for warning in found] == [pytest.approx(means[step]) for step in steps]
    for warning in found:
        assert warning.epoch == warning.step // 2
        assert f"step {warning.step}" in warning.text
        assert f"{warning.value:.3f}" in warning.text
        assert f"{means[0]:.3f} at the first" in warning.text


def test_warnings_are_said_once_and_not_again_after_a_resume(caplog: Any) -> None:
    history = history_of([0.4, 0.2])
    assert len(history.warnings) == 1
    again = GateHistory()
    again.load_state_dict(history.state_dict())
    again.add(2, 1, "cross_modal.effective", sums(torch.full((3, 1), 0.2)))
    assert len(again.warnings) == 1
    again.add(3, 1, "cross_modal.effective", sums(torch.full((3, 1), 0.6)))
    again.add(4, 2, "cross_modal.effective", sums(torch.full((3, 1), 0.1)))
    assert [warning.step for warning in again.warnings] == [1, 4]


def test_a_gate_that_is_warming_up_is_not_accused(
    make_network: Callable[..., Any], data: Any, tmp_path: Path, caplog: Any
) -> None:
    module = Training(no_dropout(make_network(cross_modal_gate="warm-up", cross_modal_gate_warmup_steps=6)))
    with torch.no_grad():
        module.network.gated_cross_attention.adaptive_gate[-2].bias.fill_(-3.0)
    with caplog.at_level(logging.WARNING, "interpret.gate_monitor"):
        fit(module, data, GateMonitor(every_n_steps=1, folder=tmp_path), epochs=3)
    content = json.loads((tmp_path / "gate_statistics.json").read_text(encoding="utf-8"))
    # The step is advanced before the gate is used: the sixth pass, after 5 steps, is the first at full strength.
    assert [warning["step"] for warning in content["warnings"] if warning["gate"] == "cross_modal.effective"] == [5]
    assert sum("cross_modal.effective" in record.message for record in caplog.records) == 1
    means = pd.read_parquet(tmp_path / "gate_history.parquet").pivot(index="step", columns="gate", values="mean")
    scale = np.minimum((means.index.to_numpy() + 1) / 6, 1)
    assert means["cross_modal.effective"].to_numpy() == pytest.approx(means["cross_modal.gate"].to_numpy() * scale)


@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=6),
    cut=st.integers(1, 5),
    channels=st.sampled_from([1, 2, 7]),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=60, deadline=None)
def test_sums_do_not_depend_on_the_batches(sizes: list[int], cut: int, channels: int, seed: int) -> None:
    values = torch.rand(sum(sizes), channels, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    cut = min(cut, len(sizes) - 1)
    first = sum(sizes[:cut])
    merged = sums(values[:first], tuple(sizes[:cut])).merge(sums(values[first:], tuple(sizes[cut:]))).row()
    whole = sums(values, tuple(sizes)).row()
    assert merged == {name: pytest.approx(value, abs=1e-12, nan_ok=True) for name, value in whole.items()}


def test_padding_cannot_enter(make_network: Callable[..., Any], make_batch: Callable[..., Any], tmp_path: Path) -> None:
    big, small = make_batch((5,), (9,), seed=1), make_batch((1, 2), (3, 4), seed=2)
    means = []
    for batches in ([make_batch((5, 1, 2), (9, 3, 4), seed=1)], [big], [small]):
        module = Training(no_dropout(make_network(cross_modal_gate="quality")))
        monitor = GateMonitor(every_n_steps=1, folder=tmp_path)
        fit(module, [(batch, torch.zeros(len(batch))) for batch in batches], monitor)
        means.append({row["gate"]: row["units"] for row in monitor.history.rows})
    assert [m[0] for m in means] == [8, 5, 3]
    assert [m[1] for m in means] == [3, 1, 2]


def test_instability_is_jitter_not_trend() -> None:
    def frame(means: np.ndarray, scatter: float) -> pd.DataFrame:
        generator = np.random.default_rng(0)
        rows = [(epoch, mean + scatter * generator.normal()) for epoch, mean in enumerate(means) for _ in range(20)]
        return pd.DataFrame(rows, columns=["epoch", "mean"])

    epochs = np.arange(30)
    noise = np.random.default_rng(1).normal(size=30)
    steady = instability(frame(0.8 - 0.02 * epochs, 0.02))
    assert steady.unstable is False
    assert steady.spread == pytest.approx(steady.control, rel=0.5)
    jumping = instability(frame(0.5 + 0.2 * noise, 0.02))
    assert jumping.unstable is True
    assert jumping.spread == pytest.approx(0.2, rel=0.35)
    # The effective weight of a healthy demo network under a one-cycle rate: it wanders, and finds its place.
    healthy = np.array([0.275, 0.308, 0.252, 0.299, 0.525, 0.635, 0.582, 0.374, 0.391, 0.399, 0.412, 0.415])
    assert instability(frame(healthy, 0.05)).unstable is False
    # As much between epochs as the scatter of 20 batches leaves: noise of sampling, whatever its size.
    assert instability(frame(np.full(30, 0.5), 0.4)).unstable is False
    assert instability(frame(0.5 + 0.2 * noise[:5], 0.02)).unstable is None
    assert instability(frame(np.full(30, 0.5), 0.02).groupby("epoch", as_index=False).first()).unstable is None
    assert instability(frame(np.where(epochs < 20, 0.5, np.nan), 0.02)).unstable is True


def test_statistics_follow_from_the_table(make_network: Callable[..., Any], data: Any, tmp_path: Path) -> None:
    fit(Training(make_network(cross_modal_gate="balanced")), data, GateMonitor(folder=tmp_path), epochs=6)
    content = json.loads((tmp_path / "gate_statistics.json").read_text(encoding="utf-8"))
    table = pd.read_parquet(tmp_path / "gate_history.parquet")
    assert content["epochs"] == 6
    for gate, frame in table.groupby("gate"):
        by_epoch = frame.groupby("epoch")["mean"].mean()
        assert content["gates"][gate]["epoch_means"] == pytest.approx(by_epoch.tolist())
        assert content["gates"][gate]["last_epoch"]["mean"] == pytest.approx(by_epoch.iloc[-1])
        second = np.diff(by_epoch.to_numpy(), n=2)
        assert content["gates"][gate]["instability"]["spread"] == pytest.approx(np.sqrt((second**2).mean() / 6))
    assert content["unstable"] is False
    assert pd.read_csv(tmp_path / "gate_history.csv").shape == table.shape


def test_tensorboard_has_scalars_and_histograms(make_network: Callable[..., Any], data: Any, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = lightning.pytorch.loggers.TensorBoardLogger(str(tmp_path / "logs"))
    monitor = GateMonitor(every_n_steps=2, folder=tmp_path)
    fit(Training(make_network(cross_modal_gate="quality")), data, monitor, epochs=2, logger=logger)
    logger.finalize("success")
    events = EventAccumulator(logger.log_dir, size_guidance={"histograms": 0})
    events.Reload()
    table = monitor.history.table()
    for gate, frame in table.groupby("gate"):
        points = events.Scalars(f"gates/{gate}/mean")
        assert [point.step for point in points] == frame["step"].tolist() == [0, 2, 4, 6]
        assert [point.value for point in points] == pytest.approx(frame["mean"].tolist(), rel=1e-6)
        histogram = events.Histograms(f"gates/{gate}")[0].histogram_value
        assert sum(histogram.bucket) == histogram.num
        assert histogram.sum / histogram.num == pytest.approx(frame["mean"].iloc[0], rel=1e-6)


def test_a_network_without_gates_is_left_alone(make_network: Callable[..., Any], data: Any, tmp_path: Path) -> None:
    fit(Training(make_network(use_middle_fusion=False)), data, GateMonitor(folder=tmp_path))
    assert list(tmp_path.iterdir()) == []
    assert summarise(pd.DataFrame())["gates"] == {}
    # A fusion after a layer that does not exist never runs; token attention without a gate has none.
    assert watched_gates(make_network(middle_fusion_layers=(1, 7))) == ["fusion.1.gate"]
    assert watched_gates(make_network(middle_fusion_type="token-attention", middle_fusion_use_gate=False)) == []


def test_diverged_gates_are_recorded_as_undefined(make_network: Callable[..., Any], data: Any, tmp_path: Path) -> None:
    module = Training(make_network(cross_modal_gate="quality"))
    with torch.no_grad():
        module.network.gated_cross_attention.adaptive_fusion_gate[0].weight.fill_(float("nan"))
    logger = lightning.pytorch.loggers.TensorBoardLogger(str(tmp_path / "logs"))
    fit(module, data, GateMonitor(every_n_steps=1, folder=tmp_path), epochs=6, logger=logger)
    content = json.loads((tmp_path / "gate_statistics.json").read_text(encoding="utf-8"))
    assert content["gates"]["cross_modal.fusion"]["last_epoch"]["mean"] is None
    assert content["gates"]["cross_modal.fusion"]["instability"]["unstable"] is True
    assert content["unstable"] is True


def test_statistics_are_found_beside_a_native_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    history_of([0.5] * 14).save(run)
    best = run / "best"
    best.mkdir()
    other = tmp_path / "elsewhere"
    other.mkdir()
    found = statistics_beside(best)
    assert found is not None
    assert found["unstable"] is False
    assert statistics_beside(best / "model.safetensors") == found
    table = history_beside(best)
    assert table is not None
    assert len(table) == 14
    assert history_beside(other) is None
    # The file of a folder above belongs to it only where that is how a run is laid out.
    assert statistics_beside(other) is None
    pd.DataFrame({"gate": ["a"], "epoch": [0]}).to_parquet(run / "gate_history.parquet")
    with pytest.raises(RecordError, match=r"expected the columns mean, step in .*gate_history\.parquet"):
        history_beside(best)
    (run / "gate_history.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(RecordError, match=r"gate_history\.parquet cannot be read"):
        history_beside(best)
    (run / "gate_statistics.json").write_text("{", encoding="utf-8")
    with pytest.raises(RecordError, match=r"gate_statistics\.json cannot be read"):
        statistics_beside(best)
    (run / "gate_statistics.json").write_text('{"schema_version": 99}', encoding="utf-8")
    with pytest.raises(RecordError, match="schema version 1"):
        statistics_beside(best)


def test_mistakes_are_said(tmp_path: Path) -> None:
    with pytest.raises(TapError, match="every_n_steps >= 1, got 0"):
        GateMonitor(every_n_steps=0)

    class Other(lightning.LightningModule):
        pass

    with pytest.raises(TapError, match="Other trains no CrystalTextNetwork"):
        GateMonitor(folder=tmp_path).on_train_start(None, Other())


def test_accumulated_batches_are_recorded_once_a_step(
    make_network: Callable[..., Any], data: Any, tmp_path: Path
) -> None:
    monitor = GateMonitor(every_n_steps=1, folder=tmp_path)
    fit(Training(make_network()), data, monitor, epochs=2, accumulate_grad_batches=2)
    assert [row["step"] for row in monitor.history.rows] == [0, 1, 2, 3]


def _distributed(rank: int, folder: Path, batches: list[Any], network: Any) -> None:
    """One of two processes: its own half of each global batch."""
    from lightning.pytorch.plugins.environments import LightningEnvironment

    class Environment(LightningEnvironment):
        @property
        def creates_processes_externally(self) -> bool:
            return True

        def world_size(self) -> int:
            return 2

        def global_rank(self) -> int:
            return rank

        def local_rank(self) -> int:
            return rank

    monitor = GateMonitor(every_n_steps=1, folder=folder / f"rank{rank}")
    own = [halves[rank] for halves in batches]
    strategy = lightning.pytorch.strategies.DDPStrategy(process_group_backend="gloo", find_unused_parameters=True)
    options = {"devices": 2, "strategy": strategy, "plugins": [Environment()], "use_distributed_sampler": False}
    # A network given to a process shares its memory with the other one's.
    fit(Training(copy.deepcopy(network)), own, monitor, **options)
    torch.save(monitor.state_dict(), folder / f"state{rank}.pt")


@pytest.mark.slow
def test_two_processes_record_the_global_batch(
    make_network: Callable[..., Any], make_batch: Callable[..., Any], tmp_path: Path, monkeypatch: Any
) -> None:
    network = no_dropout(make_network(cross_modal_gate="quality"))
    halves = [make_batch((5, 1), (3, 4), seed=1), make_batch((2, 3, 1), (9, 3, 4), seed=2)]
    # Batch norm runs on each process's own half, so the halves are recomputed apart and joined by hand.
    kept: list[Tensor] = []
    gate = network.train().get_submodule("middle_fusion_modules.layer_1.gate")
    handle = gate.register_forward_hook(lambda _, __, output: kept.append(output.detach().double()))
    for half in halves:
        network(half)
    handle.remove()
    values = torch.cat(kept)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "29537")
    pairs = [[(half, torch.zeros(len(half))) for half in halves]]
    torch.multiprocessing.spawn(_distributed, (tmp_path, pairs, network), nprocs=2)
    assert not (tmp_path / "rank1").exists(), "only rank 0 writes"
    states = [torch.load(tmp_path / f"state{rank}.pt", weights_only=True)["history"] for rank in (0, 1)]
    assert torch.equal(states[0]["values"].nan_to_num(-1), states[1]["values"].nan_to_num(-1))
    table = pd.read_parquet(tmp_path / "rank0" / "gate_history.parquet").set_index("gate")
    assert table.loc["fusion.1.gate", "units"] == 12
    assert table.loc["cross_modal.effective", "units"] == 5
    row = table.loc["fusion.1.gate"]
    assert row["mean"] == pytest.approx(float(values.mean()), abs=1e-7)
    assert row["std"] == pytest.approx(float(values.std()), abs=1e-7)
    assert row["spread"] == pytest.approx(float(values.mean(dim=1).std()), abs=1e-7)
