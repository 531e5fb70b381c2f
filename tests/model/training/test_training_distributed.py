"""Two processes against one, in float64: gradients and running statistics of every layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from model.batch import CrystalBatch
from model.config import ModelConfig
from model.network import CrystalTextNetwork
from model.training.distributed import SynchronizedBatchNorm, SynchronizedNorms


def step(config: ModelConfig, batch: CrystalBatch, share: float, synchronised: bool) -> CrystalTextNetwork:
    """A network after one backward pass of ``share`` times the sum of squared predictions; no dropout."""
    torch.manual_seed(0)
    network = CrystalTextNetwork(config).double().train()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    if synchronised:
        SynchronizedNorms().apply(network)
    (network(batch).square().sum() * share).backward()
    return network


def work(rank: int, folder: str, config: ModelConfig, parts: list[dict[str, Any]]) -> None:
    """One of two processes: its share of the batch; the first writes the mean gradients and the statistics."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    network = step(config, CrystalBatch(**parts[rank]), 2 / 3, True)
    gradients = {name: value.grad for name, value in network.named_parameters() if value.grad is not None}
    for value in gradients.values():
        dist.all_reduce(value)
        value /= 2
    if rank == 0:
        torch.save({"gradients": gradients, "state": network.state_dict()}, f"{folder}/result.pt")
    dist.destroy_process_group()


def fields(batch: CrystalBatch) -> dict[str, Any]:
    return {each.name: getattr(batch, each.name) for each in dataclasses.fields(batch)}


def joined(a: CrystalBatch, b: CrystalBatch) -> CrystalBatch:
    """Both batches as one."""
    atoms, bonds = len(a.atom_features), len(a.bond_source)
    shifts = {"bond_source": atoms, "bond_target": atoms, "angle_source": bonds, "angle_target": bonds}
    second = {name: value + shifts[name] if name in shifts else value for name, value in fields(b).items()}
    return CrystalBatch(**{name: torch.cat([value, second[name]]) for name, value in fields(a).items()})


@pytest.mark.slow
def test_two_processes_have_the_gradients_and_statistics_of_one(
    make_config: Callable[..., ModelConfig], make_batch: Callable[..., CrystalBatch], tmp_path: Path
) -> None:
    config = make_config(cross_modal_gate="balanced")
    parts = [
        make_batch((1, 3), (4, 7), seed=1).to(dtype=torch.float64),
        make_batch((2,), (7,), seed=2).to(dtype=torch.float64),
    ]
    mp.spawn(work, (str(tmp_path), config, [fields(part) for part in parts]), nprocs=2)
    found = torch.load(tmp_path / "result.pt", weights_only=True)
    network = step(config, joined(*parts), 1 / 3, False)
    expected = {name: value.grad for name, value in network.named_parameters() if value.grad is not None}
    assert expected.keys() == found["gradients"].keys()
    for name, value in expected.items():
        torch.testing.assert_close(found["gradients"][name], value, rtol=1e-9, atol=1e-13, msg=name)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(found["state"][name], value, rtol=1e-9, atol=1e-13, msg=name)


def test_alone_a_synchronised_norm_is_a_norm(make_network: Callable[..., CrystalTextNetwork], make_batch: Any) -> None:
    network = make_network()
    names = list(network.state_dict())
    before = network(make_batch())
    norms = sum(type(module) is nn.BatchNorm1d for module in network.modules())
    parameters = {id(value) for value in network.parameters()}
    SynchronizedNorms().apply(network)
    assert sum(type(module) is SynchronizedBatchNorm for module in network.modules()) == norms > 0
    assert list(network.state_dict()) == names
    assert {id(value) for value in network.parameters()} == parameters
    assert torch.equal(network(make_batch()), before)
    SynchronizedNorms().revert(network)
    assert sum(type(module) is nn.BatchNorm1d for module in network.modules()) == norms
