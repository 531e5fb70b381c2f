"""Small labelled data sets, and runs on them that take seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.dataset import CrystalDataset
from model.encoder import TextEncoder, load_encoder
from model.training import PreparedData, TrainConfig, prepare

CATIONS = {"Li": 2.0, "Na": 2.4, "K": 2.8, "Rb": 3.0}
ANIONS = {"F": 0.0, "Cl": 0.5, "Br": 0.65, "I": 0.9}


def rock_salt(cation: str, anion: str, half: float) -> str:
    """A POSCAR; half the cubic cell in angstrom."""
    return (
        f"{cation}{anion}\n1.0\n0 {half} {half}\n{half} 0 {half}\n{half} {half} 0\n{cation} {anion}\n1 1\ndirect\n"
        "0 0 0\n0.5 0.5 0.5\n"
    )


def caesium_chloride(cation: str, anion: str, edge: float) -> str:
    """A POSCAR; the cubic cell in angstrom."""
    return (
        f"{cation}{anion}\n1.0\n{edge} 0 0\n0 {edge} 0\n0 0 {edge}\n{cation} {anion}\n1 1\ndirect\n0 0 0\n0.5 0.5 0.5\n"
    )


def halide_crystals() -> dict[str, tuple[str, str, float]]:
    """Text of a POSCAR, description and target by id: 32 halides in two structures each."""
    found = {}
    for cation, first in CATIONS.items():
        for anion, second in ANIONS.items():
            half = first + second + 0.3
            name = f"{cation}{anion}"
            gap = 12.0 - 2 * first - 4 * second
            found[f"{name}-rs"] = (rock_salt(cation, anion, half), f"{name} is Halite, Rock Salt structured.", gap)
            found[f"{name}-cc"] = (
                caesium_chloride(cation, anion, 1.2 * half),
                f"{name} crystallizes in the cubic Pm-3m space group.",
                gap - 1.0,
            )
    return found


def write_halides(folder: Path, changes: dict[str, tuple[str, str, Any]] | None = None, limit: int = 32) -> Path:
    """The crystals as a data set in a folder; ``changes`` replaces some or adds others."""
    content: dict[str, tuple[str, str, Any]] = dict(list(halide_crystals().items())[:limit])
    content.update(changes or {})
    (folder / "cif").mkdir(parents=True)
    rows = ["id,description,band_gap"]
    for name, (structure, text, target) in content.items():
        if structure:
            (folder / "cif" / f"{name}.vasp").write_text(structure, encoding="utf-8")
        rows.append(f'{name},"{text}",{target}')
    (folder / "description.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def crystals() -> dict[str, tuple[str, str, float]]:
    """Text of a POSCAR, description and target by id."""
    return halide_crystals()


@pytest.fixture(scope="session")
def write_crystals() -> Callable[..., Path]:
    """Writes the crystals, changed, as a data set."""
    return write_halides


@pytest.fixture(scope="session")
def halide_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 crystals on disk."""
    return write_halides(tmp_path_factory.mktemp("halides") / "data")


@pytest.fixture(scope="session")
def halides(halide_folder: Path) -> CrystalDataset:
    """32 crystals with targets."""
    return CrystalDataset.from_directory(halide_folder, require_target=True)


@pytest.fixture(scope="session")
def encoder() -> TextEncoder:
    """An untrained encoder of width 12."""
    return load_encoder("random:12", cache_directory=False)


@pytest.fixture(scope="session")
def prepared(halides: CrystalDataset, encoder: TextEncoder) -> PreparedData:
    """The 32 crystals made ready."""
    return prepare(halides, encoder)


@pytest.fixture(scope="session")
def tiny(make_config: Callable[..., Any]) -> Callable[..., TrainConfig]:
    """Factory of small configurations without loggers; changes by dotted names."""

    def make(**changes: Any) -> TrainConfig:
        training = {"epochs": 4, "batch_size": 8, "learning_rate": 5e-3, "loggers": ()}
        document = {"model": make_config().model_dump(exclude_unset=True), "training": training}
        return TrainConfig.model_validate(document).changed(
            {name.replace("__", "."): value for name, value in changes.items()}
        )

    return make
