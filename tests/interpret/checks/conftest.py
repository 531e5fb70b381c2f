"""Runs of diagnose on ten small crystals, for rules about gates and text flow."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from interpret.checks.base import Outcome
from interpret.checks.registry import select_rules
from interpret.diagnose import diagnose
from model.dataset import CrystalDataset
from model.encoder import TransformersEncoder, load_encoder

ROCKSALT = "{0}{1}\n1.0\n0 {2} {2}\n{2} 0 {2}\n{2} {2} 0\n{0} {1}\n1 1\ndirect\n0 0 0\n0.5 0.5 0.5\n"
PEROVSKITE = (
    "{0}{1}{2}3\n1.0\n{3} 0 0\n0 {3} 0\n0 0 {3}\n{0} {1} {2}\n1 1 3\ndirect\n0 0 0\n0.5 0.5 0.5\n"
    "0.5 0.5 0\n0.5 0 0.5\n0 0.5 0.5\n"
)
RUTILE = (
    "{0}{1}2\n1.0\n{2} 0 0\n0 {2} 0\n0 0 {3}\n{0} {1}\n2 4\ndirect\n0 0 0\n0.5 0.5 0.5\n"
    "0.305 0.305 0\n0.695 0.695 0\n0.195 0.805 0.5\n0.805 0.195 0.5\n"
)
CRYSTALS = {
    "NaCl": (ROCKSALT.format("Na", "Cl", 2.82), "NaCl is Halite structured. Na is bonded to six Cl atoms.", 8.97),
    "MgO": (ROCKSALT.format("Mg", "O", 2.106), "MgO crystallizes in the cubic Fm-3m space group.", 7.77),
    "KBr": (
        ROCKSALT.format("K", "Br", 3.3),
        "KBr forms edge-sharing KBr6 octahedra; all K-Br lengths are 3.30 Å.",
        7.6,
    ),
    "TiN": (ROCKSALT.format("Ti", "N", 2.12), "TiN is a metallic nitride of octahedra without tilt.", 0.0),
    "SrTiO3": (PEROVSKITE.format("Sr", "Ti", "O", 3.905), "SrTiO3 is (Cubic) Perovskite structured.", 3.25),
    "KTaO3": (PEROVSKITE.format("K", "Ta", "O", 3.989), "Ta is bonded in an octahedral geometry to six O atoms.", 3.64),
    "SrVO3": (PEROVSKITE.format("Sr", "V", "O", 3.843), "Sr is 12-coordinate, V is not, the compound conducts.", 0.0),
    "TiO2": (RUTILE.format("Ti", "O", 4.594, 2.959), "TiO2 is Rutile structured, tetragonal, P4_2/mnm.", 3.0),
    "SnO2": (RUTILE.format("Sn", "O", 4.737, 3.186), "There are four shorter and two longer Sn-O bond lengths.", 3.6),
    "MgF2": (RUTILE.format("Mg", "F", 4.621, 3.052), "F is bonded in a trigonal planar geometry to three Mg.", 12.4),
}


@dataclass(frozen=True)
class FlowBench:
    """Ten crystals of two or three classes of atoms, a trained text encoder, and a small network to change."""

    network: Any
    dataset: CrystalDataset
    encoder: TransformersEncoder

    def changed(self, change: Callable[[Any], None]) -> Any:
        """A copy whose middle fusion was changed."""
        network = copy.deepcopy(self.network)
        with torch.no_grad():
            change(network)
        return network

    def outcomes(self, network: Any, prefixes: Iterable[str]) -> list[Outcome]:
        """What the rules say of a network."""
        return list(diagnose(network, self.dataset, self.encoder, rules=select_rules(prefixes)).outcomes)


@pytest.fixture(scope="session")
def flow_bench(tmp_path_factory: pytest.TempPathFactory, make_network: Callable[..., Any]) -> FlowBench:
    """A random network whose text is tamed to change the atoms by about a fifth, as training does."""
    folder = tmp_path_factory.mktemp("flow")
    (folder / "cif").mkdir()
    rows = ["Id,target,description"]
    for name, (poscar, text, target) in CRYSTALS.items():
        (folder / "cif" / f"{name}.vasp").write_text(poscar, encoding="utf-8")
        rows.append(f'{name},{target},"{text}"')
    (folder / "description.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    network = make_network(token_features=384)
    with torch.no_grad():
        network.middle_fusion_modules["layer_1"].text_transform[3].weight.mul_(0.5)
        network.middle_fusion_modules["layer_1"].text_transform[3].bias.mul_(0.5)
    return FlowBench(network, CrystalDataset.from_directory(Path(folder)), load_encoder(None, cache_directory=False))
