"""Batches, optimizer groups, schedules, baselines, element tables: the parts a step is made of."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import ModelConfig
from model.network import CrystalTextNetwork
from model.training import PreparedData, TrainingConfig, TrainingError
from model.training.baselines import baselines, composition, predict_ridge, ridge
from model.training.batches import GlobalBatches
from model.training.elements import read_element_table
from model.training.examples import examples_for, first_token, join, uses_tokens
from model.training.optimization import cancelled_biases, is_gate, learning_rate_schedule, parameter_groups


@settings(max_examples=80, deadline=None)
@given(st.integers(2, 90), st.integers(2, 20), st.integers(0, 5), st.integers(0, 3))
def test_an_epoch_is_every_crystal_once_in_batches_of_nearly_equal_size(
    count: int, size: int, seed: int, epoch: int
) -> None:
    sampler = GlobalBatches(count, size, seed=seed)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert len(batches) == len(sampler) == -(-count // size)
    assert sorted(index for batch in batches for index in batch) == list(range(count))
    sizes = {len(batch) for batch in batches}
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1


@settings(max_examples=40, deadline=None)
@given(st.integers(12, 60), st.integers(4, 12), st.integers(1, 3), st.integers(0, 40))
def test_processes_share_the_same_batches_and_a_restart_goes_on(count: int, size: int, world: int, step: int) -> None:
    one = GlobalBatches(count, size, seed=1)
    epoch, first = divmod(step, len(one))
    one.set_epoch(epoch)
    whole = list(one)
    shares = []
    for rank in range(world):
        sampler = GlobalBatches(count, size, seed=1, rank=rank, world=world)
        sampler.start_at(step)
        shares.append(list(sampler))
        sampler.set_epoch(epoch + 1)
        assert len(list(sampler)) == len(one), "only the first epoch after a restart is a part"
    for joined, parts in zip(whole[first:], zip(*shares, strict=True), strict=True):
        assert sorted(joined) == sorted(index for part in parts for index in part)
        assert all(parts)


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = GlobalBatches(30, 30, seed=seed)
        sampler.set_epoch(epoch)
        return next(iter(sampler))

    orders = {tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    assert next(iter(GlobalBatches(30, 30))) == list(range(30))


def test_more_processes_than_crystals_in_a_batch_are_refused() -> None:
    with pytest.raises(TrainingError, match="one crystal for each of 4 processes"):
        GlobalBatches(10, 3, seed=0, world=4)


@pytest.mark.parametrize("gate", ["none", "quality", "simplified", "improved-quality", "balanced", "warm-up"])
def test_groups_hold_every_parameter_once_and_norms_do_not_decay(
    gate: str, make_network: Callable[..., CrystalTextNetwork]
) -> None:
    network = make_network(cross_modal_gate=gate, middle_fusion_use_learnable_scale=True, graph_norm="layer")
    config = TrainingConfig(gate_learning_rate=0.1, learning_rate=1.0, weight_decay=0.5)
    groups = parameter_groups(network, config)
    found = [id(value) for group in groups for value in group["params"]]
    still = cancelled_biases(network)
    assert len(still) == 5 + 2 * 5
    assert sorted(found) == sorted(id(value) for name, value in network.named_parameters() if name not in still)
    of = {id(value): group for group in groups for value in group["params"]}
    norms = (torch.nn.BatchNorm1d, torch.nn.LayerNorm)
    for name, module in network.named_modules():
        for which, value in module.named_parameters(recurse=False):
            if f"{name}.{which}" in still:
                continue
            decays = of[id(value)]["weight_decay"] > 0
            # Scalars and vectors that belong to no linear map: scales, thresholds.
            expected = not isinstance(module, norms) and which != "bias" and value.ndim > 1
            assert decays is expected, f"{name}.{which}"
    slow = {
        name
        for name, value in network.named_parameters()
        if name not in still and of[id(value)]["lr"] == pytest.approx(0.1)
    }
    assert any(name.startswith("middle_fusion_modules.layer_1.gate.") for name in slow)
    assert not any("src_gate" in name or "edge_gate" in name or "text_transform" in name for name in slow)
    assert any(name.startswith("gated_cross_attention") for name in slow) is (gate != "none")
    assert not any("cross_attention.g2t" in name for name in slow)


def test_cancelled_biases_have_no_effect_while_training(
    make_network: Callable[..., CrystalTextNetwork], prepared: PreparedData
) -> None:
    network = make_network(graph_norm="pair").double().train()
    batch = join(prepared.examples[:6]).crystals.to(dtype=torch.float64)
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    still = cancelled_biases(network)
    before = network(batch)
    before.square().sum().backward()
    largest = max(float(value.grad.abs().max()) for value in network.parameters() if value.grad is not None)
    for name, value in network.named_parameters():
        if name in still:
            assert value.grad is None or float(value.grad.abs().max()) < 1e-4 * largest, name
            value.data += 0.5
    torch.testing.assert_close(network(batch), before, rtol=1e-4, atol=1e-5)


def test_gates_are_told_from_edge_gates() -> None:
    assert is_gate("fusion_module.gate_graph.0.weight")
    assert is_gate("middle_fusion_modules.layer_2.gate_norm.weight")
    assert not is_gate("alignn_layers.0.node_update.dst_gate.weight")


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 10, 100])
@pytest.mark.parametrize("schedule", ["one-cycle", "constant"])
def test_schedules_rise_to_the_rate_of_each_group(schedule: Any, steps: int) -> None:
    weights = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    optimizer = torch.optim.AdamW([{"params": [weights[0]], "lr": 0.1}, {"params": [weights[1]], "lr": 0.01}], lr=0.1)
    config = TrainingConfig(schedule=schedule, warm_up=0.3, learning_rate=0.1)
    scheduler = learning_rate_schedule(optimizer, config, steps)
    rates = []
    for _ in range(steps):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    first = [rate[0] for rate in rates]
    assert max(first) == pytest.approx(0.1, rel=0.2 if steps < 20 else 1e-2)
    assert all(a == pytest.approx(10 * b) for a, b in rates)
    if steps == 100:
        assert first.index(max(first)) == pytest.approx(29, abs=1)
        assert first[0] < 0.01
        assert (first[-1] == pytest.approx(0.1)) is (schedule == "constant")


def test_ridge_is_scikit_like() -> None:
    """Against the augmented least-squares problem, solved by QR."""
    generator = np.random.default_rng(0)
    inputs, targets = generator.normal(size=(20, 6)), generator.normal(size=20)
    weights, intercept = ridge(inputs, targets, 0.7)
    moved = inputs - inputs.mean(axis=0)
    stacked = np.vstack([moved, np.sqrt(0.7) * np.eye(6)])
    expected = np.linalg.lstsq(stacked, np.concatenate([targets - targets.mean(), np.zeros(6)]), rcond=None)[0]
    np.testing.assert_allclose(weights, expected, atol=1e-10)
    np.testing.assert_allclose(predict_ridge((weights, intercept), inputs).mean(), targets.mean(), atol=1e-10)


def test_baselines_know_the_composition_and_no_more(prepared: PreparedData) -> None:
    examples = prepared.examples
    fractions = composition(examples)
    np.testing.assert_allclose(fractions.sum(axis=1), 1.0)
    assert np.array_equal(fractions[0], fractions[1]), "one halide in two structures"
    splits = {"train": examples[:24], "val": examples[24:28], "test": examples[28:]}
    found = baselines(splits)
    targets = np.array([each.target for each in examples])
    assert found.mean.test.mae == pytest.approx(np.abs(targets[28:] - targets[:24].mean()).mean())
    assert found.mean.test.rmse == pytest.approx(np.sqrt(np.square(targets[28:] - targets[:24].mean()).mean()))
    assert found.composition_ridge.test.mae < found.mean.test.mae


def test_networks_without_token_attention_read_the_first_token_alone(
    prepared: PreparedData, make_network: Callable[..., CrystalTextNetwork]
) -> None:
    network = make_network(use_fine_grained_attention=False)
    assert not uses_tokens(network.config)
    assert uses_tokens(make_network().config)
    assert uses_tokens(ModelConfig(use_middle_fusion=True, middle_fusion_type="token-attention"))
    some = prepared.examples[:6]
    cut = examples_for(network.config, some)
    assert all(len(each.encoding.pieces) == 1 for each in cut)
    assert first_token(some[0].encoding).truncated
    with torch.no_grad():
        assert torch.equal(network(join(cut).crystals), network(join(some).crystals))


@pytest.mark.parametrize(
    "content",
    ['{"H": [1, 2], "8": [3, 4], "Xx": [0, 0]}', "element,a,b\nH,1,2\nO,3,4\n\nXx,1,1\n"],
)
def test_element_tables(content: str, tmp_path: Path) -> None:
    (tmp_path / "table").write_text(content, encoding="utf-8")
    table, known = read_element_table(tmp_path / "table")
    assert table.shape == (104, 2)
    assert known == {1, 8}
    assert table[8].tolist() == [3.0, 4.0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"H": [1, 2], "O": [1]}', "all of one length"),
        ('{"H": [1, "a"]}', "expected numbers for H"),
        ('{"H": [1, NaN]}', "finite numbers for H"),
        ("{", "not JSON"),
        ("", "no element"),
        ("element\nH\n", "all of one length"),
    ],
)
def test_element_tables_that_cannot_be_used(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "table").write_text(content, encoding="utf-8")
    with pytest.raises(TrainingError, match=words):
        read_element_table(tmp_path / "table")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the allocator is glibc's")
def test_freed_memory_is_kept() -> None:
    """Resident memory after 300 MB of tensors came and went: still there where it is kept, gone where it is not."""
    code = (
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from model.training.memory import keep_freed_memory\n"
        "if sys.argv[1] == 'keep' and not keep_freed_memory(): sys.exit('no glibc')\n"
        "def resident():\n"
        "    lines = Path('/proc/self/status').read_text().splitlines()\n"
        "    return next(int(line.split()[1]) for line in lines if line.startswith('VmRSS:')) / 1024\n"
        "before = resident()\n"
        "tensors = [torch.ones(5_000_000) for _ in range(15)]\n"
        "del tensors\n"
        "print(resident() - before)\n"
    )
    left = {}
    for mode in ("keep", "leave"):
        done = subprocess.run([sys.executable, "-c", code, mode], capture_output=True, text=True, check=False)
        if "no glibc" in done.stderr:
            pytest.skip("this libc has no mallopt")
        left[mode] = float(done.stdout)
    assert left["keep"] > 250, left
    assert left["leave"] < 100, left
