"""Fixtures every test package shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from model.batch import CrystalBatch
from model.config import ModelConfig
from model.network import CrystalTextNetwork


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recorded reference runs beside the checkout; users do not have it, so tests on it skip."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "oracle").is_dir():
        pytest.skip("the recorded reference runs (../shared/oracle) are not here")
    return folder


def small_config(**changes: object) -> ModelConfig:
    """A network of the family small enough for unit tests, every branch on."""
    fields: dict[str, object] = {
        "alignn_layers": 2,
        "gcn_layers": 1,
        "embedding_features": 6,
        "hidden_features": 16,
        "token_features": 12,
        "projection_features": 10,
        "use_middle_fusion": True,
        "middle_fusion_layers": (1,),
        "middle_fusion_hidden_dim": 8,
        "use_fine_grained_attention": True,
        "fine_grained_hidden_dim": 16,
        "fine_grained_num_heads": 4,
        "cross_modal_hidden_dim": 8,
        "cross_modal_num_heads": 2,
        "cross_modal_gate_hidden_dim": 8,
        "late_fusion_rank": 3,
        "late_fusion_output_dim": 7,
    }
    return ModelConfig.model_validate(fields | changes)


def random_network(config: ModelConfig, seed: int = 0) -> CrystalTextNetwork:
    """A network with random weights and random batch-norm statistics, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    network = CrystalTextNetwork(config)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.copy_(0.1 * torch.randn(module.num_features, generator=generator))
            module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=generator))
    return network.eval()


def random_batch(
    atoms: Sequence[int] = (1, 3, 2), tokens: Sequence[int] = (4, 7, 5), *, width: int = 12, seed: int = 0
) -> CrystalBatch:
    """Random crystals with ``4`` bonds an atom and their true line graph, and random texts."""
    generator = torch.Generator().manual_seed(seed)
    sources, targets, angle_sources, angle_targets = [], [], [], []
    first_atom = first_bond = 0
    for count in atoms:
        source = torch.randint(count, (4 * count,), generator=generator)
        target = torch.randint(count, (4 * count,), generator=generator)
        meets = (target[:, None] == source[None, :]) & ~torch.eye(4 * count, dtype=torch.bool)
        pairs = meets.nonzero()
        sources.append(source + first_atom)
        targets.append(target + first_atom)
        angle_sources.append(pairs[:, 0] + first_bond)
        angle_targets.append(pairs[:, 1] + first_bond)
        first_atom += count
        first_bond += 4 * count
    mask = torch.arange(max(tokens)) < torch.tensor(tokens)[:, None]
    return CrystalBatch(
        atom_features=torch.rand(first_atom, 92, generator=generator),
        bond_source=torch.cat(sources),
        bond_target=torch.cat(targets),
        bond_vectors=2.0 * torch.randn(first_bond, 3, generator=generator),
        angle_source=torch.cat(angle_sources),
        angle_target=torch.cat(angle_targets),
        angle_cosines=2 * torch.rand(sum(map(len, angle_sources)), generator=generator) - 1,
        atoms_per_structure=torch.tensor(list(atoms)),
        token_embeddings=torch.randn(len(atoms), max(tokens), width, generator=generator) * mask[..., None],
        token_mask=mask,
        atomic_numbers=torch.randint(1, 90, (first_atom,), generator=generator),
    )


@pytest.fixture(scope="session")
def make_config() -> Callable[..., ModelConfig]:
    """Factory of small configurations."""
    return small_config


@pytest.fixture(scope="session")
def make_network() -> Callable[..., CrystalTextNetwork]:
    """Factory of small random networks from configuration changes."""
    return lambda seed=0, **changes: random_network(small_config(**changes), seed)


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., CrystalBatch]:
    """Factory of random batches."""
    return random_batch


POSCARS = {
    "copper": "Cu\n1.0\n0 1.807 1.807\n1.807 0 1.807\n1.807 1.807 0\nCu\n1\ndirect\n0 0 0\n",
    "silicon": "Si\n1.0\n0 2.715 2.715\n2.715 0 2.715\n2.715 2.715 0\nSi\n2\ndirect\n0 0 0\n0.25 0.25 0.25\n",
    "salt": "NaCl\n1.0\n0 2.82 2.82\n2.82 0 2.82\n2.82 2.82 0\nNa Cl\n1 1\ndirect\n0 0 0\n0.5 0.5 0.5\n",
    "rutile": (
        "TiO2\n1.0\n4.594 0 0\n0 4.594 0\n0 0 2.959\nTi O\n2 4\ndirect\n0 0 0\n0.5 0.5 0.5\n"
        "0.305 0.305 0\n0.695 0.695 0\n0.195 0.805 0.5\n0.805 0.195 0.5\n"
    ),
    "perovskite": (
        "SrTiO3\n1.0\n3.905 0 0\n0 3.905 0\n0 0 3.905\nSr Ti O\n1 1 3\ndirect\n0 0 0\n0.5 0.5 0.5\n"
        "0.5 0.5 0\n0.5 0 0.5\n0 0.5 0.5\n"
    ),
}
TEXTS = {
    "copper": "Cu is Copper structured and crystallizes in the cubic Fm-3m space group.",
    "silicon": "Si is diamond structured. Si(1) is bonded to four equivalent Si(1) atoms at 2.35 Å.",
    "salt": "",
    "rutile": "TiO2 is Rutile structured and crystallizes in the tetragonal P4_2/mnm space group. " * 60,
    "perovskite": "SrTiO3",
}
TARGETS = {"copper": 0.0, "silicon": 1.12, "salt": 8.5, "rutile": 3.0, "perovskite": 3.2}


def write_data(folder: Path, names: Sequence[str] = tuple(POSCARS), extra_rows: Sequence[str] = ()) -> Path:
    """A data set of textbook crystals: one atom, one class, an empty text, a text too long, a one-word text."""
    (folder / "cif").mkdir(parents=True)
    rows = ["Id,Composition,band_gap,Description,File_Name"]
    for name in names:
        (folder / "cif" / f"{name}.vasp").write_text(POSCARS[name], encoding="utf-8")
        rows.append(f'{name},{name},{TARGETS[name]},"{TEXTS[name]}",{name}.vasp')
    (folder / "description.csv").write_text("\n".join([*rows, *extra_rows]) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def textbook_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set of :func:`write_data`, made once."""
    return write_data(tmp_path_factory.mktemp("textbook") / "data")
