"""The zoo's members are what they claim to be, and the checkpoint rules tell them apart."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from interpret.checks.base import Outcome
from interpret.checks.evidence import Evidence
from interpret.checks.registry import all_rules, run_rules, select_rules
from interpret.gradients import probe_batch
from interpret.hooks import HookRegistry
from model.batch import CrystalBatch
from model.checkpoint import load_checkpoint
from model.dataset import CrystalDataset
from model.demo import DEMO_DATA, demo_config
from model.encoder import load_encoder
from model.network import CrystalTextNetwork
from tools import zoo
from tools.zoo_members import MEMBERS, Member, make

WIDTH = 24
BY_NAME = {member.name: member for member in MEMBERS}


def steps(network: CrystalTextNetwork, count: int) -> CrystalTextNetwork:
    """Adam towards a random target on three distorted crystals; batch norms see the batch."""
    network.train()
    batch = probe_batch(network.config).to(dtype=torch.float32)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    for _ in range(count):
        optimizer.zero_grad()
        (network(batch) - torch.tensor([1.0, -1.0, 0.5])).square().sum().backward()
        optimizer.step()
    return network.eval()


@pytest.fixture(scope="module")
def healthy() -> CrystalTextNetwork:
    """A network of the demo's configuration after thirty steps, in place of a full training run."""
    torch.manual_seed(0)
    return steps(CrystalTextNetwork(demo_config(WIDTH)), 30)


@pytest.fixture(scope="module")
def zoo_folder(healthy: CrystalTextNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every member as a file."""
    folder = tmp_path_factory.mktemp("zoo")
    for member in MEMBERS:
        if member.config:
            torch.manual_seed(0)
            config = healthy.config.model_copy(update=member.config)
            network = steps(CrystalTextNetwork(config), 30)
        else:
            network = make(member, healthy)
        member.save(network, folder)
    return folder


@pytest.fixture(scope="module")
def members(zoo_folder: Path) -> dict[str, CrystalTextNetwork]:
    """Every member, loaded from its file."""
    return {m.name: load_checkpoint(m.file(zoo_folder), allow_partial=bool(m.lost)) for m in MEMBERS}


@pytest.fixture
def batch() -> CrystalBatch:
    return probe_batch(demo_config(WIDTH), seed=5).to(dtype=torch.float32)


def tap(network: CrystalTextNetwork, batch: CrystalBatch, name: str) -> torch.Tensor:
    with HookRegistry(network).capture(name) as captured, torch.no_grad():
        network(batch)
    return captured[name].values


def relative_spread(nodes: torch.Tensor, batch: CrystalBatch) -> float:
    """Largest distance of an atom to its structure's mean, over the norm of the mean."""
    spreads = []
    for structure in range(len(batch)):
        own = nodes[batch.atom_owner == structure]
        spreads.append(float((own - own.mean(0)).norm(dim=1).max() / own.mean(0).norm()))
    return max(spreads)


def other_text(batch: CrystalBatch) -> CrystalBatch:
    return batch.with_tokens(torch.flip(batch.token_embeddings, (0,)) * 1.5 + 0.3, batch.token_mask)


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)
def test_checkpoint_rules_tell_the_members_apart(member: Member, members: dict[str, CrystalTextNetwork]) -> None:
    outcomes = run_rules(select_rules(["CK"]), Evidence(members[member.name]))
    speaking = {outcome.code for outcome in outcomes if outcome.status == "found"}
    assert speaking == {code for code in member.codes if code.startswith("CK")}


def test_expected_codes_are_those_of_rules() -> None:
    known = set(all_rules())
    for member in MEMBERS:
        assert member.codes <= known, member.name
    assert len(BY_NAME) == len(MEMBERS)


def test_healthy_text_and_atoms_matter(healthy: CrystalTextNetwork, batch: CrystalBatch) -> None:
    """What the defects take away is there in the first place."""
    with torch.no_grad():
        assert float((healthy(other_text(batch)) - healthy(batch)).abs().max()) > 1e-3
    assert relative_spread(tap(healthy, batch, "gcn.1.nodes"), batch) > 0.05
    assert relative_spread(tap(healthy, batch, "fusion.1.nodes"), batch) > 0.05
    assert float(tap(healthy, batch, "attention.atom_to_token").max()) < 0.9


def test_over_smoothed_atoms_are_alike_at_the_end_and_not_before(
    members: dict[str, CrystalTextNetwork], healthy: CrystalTextNetwork, batch: CrystalBatch
) -> None:
    network = members["over-smoothed"]
    before = tap(network, batch, "gcn.1.nodes")
    assert torch.allclose(before, tap(healthy, batch, "gcn.1.nodes"))
    spreads = [
        relative_spread(tap(network, batch, f"gcn.{layer}.nodes") - 25.0 * (layer - 1), batch)
        for layer in range(1, network.config.gcn_layers)
    ]
    assert spreads[-1] < 1e-3 < spreads[0]
    # Diffusion contracts, layer by layer, but for the rounding of float32 at its end.
    assert all(later < earlier + 1e-5 for earlier, later in pairwise(spreads[1:]))


def test_a_diffusion_layer_is_the_gated_mean_of_the_neighbours(
    members: dict[str, CrystalTextNetwork], batch: CrystalBatch
) -> None:
    network = members["over-smoothed"]
    layer = network.gcn_layers[-1]
    shift = 25.0 * (len(network.gcn_layers) - 3)
    nodes = torch.randn(len(batch.atom_features), network.config.hidden_features) + shift
    edges = torch.randn(len(batch.bond_source), network.config.hidden_features)
    with torch.no_grad():
        result, _ = layer(batch.bond_source, batch.bond_target, nodes, edges)
        source, target = batch.bond_source, batch.bond_target
        gate = torch.sigmoid(layer.src_gate(nodes)[source] + layer.dst_gate(nodes)[target] + layer.edge_gate(edges))
        for atom in range(len(nodes)):
            of_atom = target == atom
            mean = (gate[of_atom] * nodes[source[of_atom]]).sum(0) / gate[of_atom].sum(0)
            assert torch.allclose(result[atom] - 25.0, mean, atol=1e-3)


def test_homogenised_atoms_are_alike_after_fusion_and_not_before(
    members: dict[str, CrystalTextNetwork], batch: CrystalBatch
) -> None:
    network = members["homogenised"]
    assert relative_spread(tap(network, batch, "alignn.1.nodes"), batch) > 0.05
    assert relative_spread(tap(network, batch, "fusion.1.nodes"), batch) < 0.02


def test_saturated_heads_put_all_weight_on_one_token(
    members: dict[str, CrystalTextNetwork], batch: CrystalBatch
) -> None:
    weights = tap(members["saturated-heads"], batch, "attention.atom_to_token")
    largest = weights.flatten(0, -2).amax(dim=-1)
    assert float(largest[largest > 0].median()) > 0.99


def test_a_dead_gate_leaves_the_atoms_as_they_are(members: dict[str, CrystalTextNetwork], batch: CrystalBatch) -> None:
    network = members["dead-gate"]
    assert float(tap(network, batch, "fusion.1.gate").max()) < 1e-10
    fusion = network.middle_fusion_modules["layer_1"]
    expected = fusion.layer_norm(tap(network, batch, "alignn.1.nodes"))
    assert torch.allclose(tap(network, batch, "fusion.1.nodes"), expected, atol=1e-6)


@pytest.mark.parametrize(("name", "most"), [("text-ignored", 0.0), ("text-faint", 1e-3)])
def test_ignored_text_does_not_move_the_prediction(
    name: str, most: float, members: dict[str, CrystalTextNetwork], healthy: CrystalTextNetwork, batch: CrystalBatch
) -> None:
    def moved(network: CrystalTextNetwork) -> float:
        with torch.no_grad():
            return float((network(other_text(batch)) - network(batch)).abs().max())

    assert moved(members[name]) <= most * moved(healthy) + 1e-6


def test_the_wrong_layer_never_fires(members: dict[str, CrystalTextNetwork]) -> None:
    network = members["wrong-layer"]
    assert "layer_2" in network.middle_fusion_modules
    assert not [kind for kind, _ in network.steps if kind == "fusion"]


def test_the_partial_file_stops_without_permission(zoo_folder: Path, members: dict[str, Any]) -> None:
    from model.errors import CheckpointError

    with pytest.raises(CheckpointError, match="6 keys missing"):
        load_checkpoint(BY_NAME["partially-loaded"].file(zoo_folder))
    assert members["partially-loaded"].provenance.partial


def test_making_a_member_leaves_the_healthy_network_alone(healthy: CrystalTextNetwork) -> None:
    before = {name: value.clone() for name, value in healthy.state_dict().items()}
    for member in MEMBERS:
        if not member.config:
            make(member, healthy)
    assert all(torch.equal(value, before[name]) for name, value in healthy.state_dict().items())


def said(code: str, status: Any) -> Outcome:
    return Outcome(code, status, "text")


def test_the_matrix_shows_hits_misses_and_false_alarms() -> None:
    members = (Member("first", "planted", expected="GA301 GA302"), Member("second one", "nothing"))
    results = {
        "first": [said("GA301", "found"), said("GA302", "cannot tell"), said("CK105", "found"), said("ND501", "clear")],
        "second one": [said("GA301", "found"), said("GA302", "cannot tell"), said("CK105", "found")],
    }
    lines = zoo.matrix(results, members)
    assert [line.split() for line in lines[:3]] == [
        ["CK105", "GA301", "GA302", "ND501"],
        ["first", "F", "F", "M", "."],
        ["second", "one", "F", "x", "?"],
    ]
    assert zoo.mistakes(results, members) == ["first: GA302 missed", "second one: GA301 not planted"]


def test_rates_count_the_networks_that_could_tell() -> None:
    rates = zoo.alarm_rates(
        [
            [said("GA301", "found"), said("CK105", "found"), said("AT601", "not applicable")],
            *([said("GA301", "clear"), said("CK105", "found"), said("AT601", "not applicable")] for _ in range(3)),
            [said("GA301", "cannot tell"), said("CK105", "found"), said("AT601", "not applicable")],
        ]
    )
    assert rates == {"AT601": (0, 0), "CK105": (5, 5), "GA301": (1, 4)}
    lines = zoo.rate_lines(rates)
    assert lines[0] == "AT601  never applicable"
    assert lines[1].endswith("by construction")
    assert "25.0 %" in lines[2]
    assert lines[2].endswith("TOO OFTEN")


@pytest.fixture
def small_data(tmp_path: Path) -> Path:
    """Ten crystals of the demo data."""
    dataset = CrystalDataset.from_directory(DEMO_DATA, limit=10, require_target=True)
    folder = tmp_path / "data"
    (folder / "cif").mkdir(parents=True)
    with (folder / "description.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "description", "target"])
        for sample in dataset:
            assert isinstance(sample.structure, Path)
            (folder / "cif" / f"{sample.id}.cif").write_bytes(sample.structure.read_bytes())
            writer.writerow([sample.id, sample.text, sample.target])
    return folder


def run(folder: Path, data: Path, *more: str) -> int:
    arguments = ["--output", str(folder), "--data", str(data), "--encoder", f"random:{WIDTH}", "--epochs", "2"]
    return zoo.main([*arguments, *more])


def test_the_script_makes_judges_and_prints(
    small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["healthy", "partially-loaded"]
    options = ("--select", "CK101", "CK106", "--member", *names, "--healthy", "2")
    assert run(tmp_path / "zoo", small_data, *options) == 0
    printed = capsys.readouterr().out
    rows = [line.split() for line in printed.splitlines()]
    assert rows[:3] == [["CK101", "CK106"], ["healthy", ".", "."], ["partially-loaded", "F", "."]]
    assert "CK101    0 of   2 healthy    0.0 %" in printed
    with (tmp_path / "zoo" / "zoo.csv").open(encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))
    assert {(row["member"], row["code"]) for row in table} == {
        (name, code) for name in ("healthy", "healthy-1", "partially-loaded") for code in ("CK101", "CK106")
    }

    # A second run takes the checkpoints that are there.
    def fail(*arguments: object, **options: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(zoo, "train", fail)
    assert run(tmp_path / "zoo", small_data, *options) == 0
    assert capsys.readouterr().out == printed


def test_a_missed_defect_sets_the_exit_status(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tuple(dataclasses.replace(m, expected="CK106") if m.name == "healthy" else m for m in MEMBERS)
    monkeypatch.setattr(zoo, "MEMBERS", wrong)
    assert run(tmp_path / "zoo", small_data, "--select", "CK106", "--member", "healthy") == 1
    assert "healthy: CK106 missed" in capsys.readouterr().out


@pytest.mark.slow
def test_every_rule_can_be_asked_of_every_member(
    zoo_folder: Path, members: dict[str, CrystalTextNetwork], make_bench: Callable[[], zoo.Bench]
) -> None:
    bench = make_bench()
    for name in members:
        outcomes = bench.judged(BY_NAME[name].file(zoo_folder), partial=bool(BY_NAME[name].lost))
        assert [o.code for o in sorted(outcomes, key=lambda o: o.code)] == list(all_rules())


@pytest.fixture
def make_bench() -> Callable[[], zoo.Bench]:
    dataset = CrystalDataset.from_directory(DEMO_DATA, require_target=True)
    encoder = load_encoder(f"random:{WIDTH}")
    return lambda: zoo.Bench(dataset, encoder, epochs=1, limit=6, rules=select_rules())


def test_what_rules_said_is_told_as_it_comes() -> None:
    said = [Outcome("GA302", "clear", ""), Outcome("CK101", "clear", ""), Outcome("AT601", "cannot tell", "few")]
    assert zoo.summed_up(said) == "cannot tell: AT601; clear: CK101 GA302"
