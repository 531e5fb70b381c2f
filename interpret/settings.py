"""Settings of a project: ``interpret.toml``, or ``[tool.crystal-interpret]`` in pyproject.toml."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from model.errors import InterpretError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FailOn = Literal["info", "warning", "error", "never"]
FILE_NAME = "interpret.toml"
TABLE_NAME = "crystal-interpret"


class Settings(BaseModel):
    """What a project can set once for all runs; options of the command line go before them.

    Attributes:
        select: rule codes or prefixes to ask; empty asks all.
        ignore: rule codes or prefixes to leave out.
        fail_on: least severity of a finding that makes the exit status 1.
        encoder: text encoder, as for ``--encoder``.
        batch_size: structures a forward pass.
        stop_words, punctuation: keep them in word rankings.
        symmetry_tolerance: angstrom.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    fail_on: FailOn = "never"
    encoder: str | None = None
    batch_size: int = 16
    stop_words: bool = False
    punctuation: bool = False
    symmetry_tolerance: float = 0.01


def read_settings(folder: Path) -> Settings:
    """Settings of the nearest folder, from the given one upwards, that has them; the defaults where none has.

    Raises:
        InterpretError: a file is not TOML, or holds a key or a value that does not exist; with its name.
    """
    for place in (folder, *folder.parents):
        own, project = place / FILE_NAME, place / "pyproject.toml"
        if own.is_file():
            return _parse(own, _load(own))
        if project.is_file():
            table = _load(project).get("tool", {}).get(TABLE_NAME)
            if table is not None:
                return _parse(project, table)
    return Settings()


def _load(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InterpretError(f"{path.name} cannot be read: {error}") from error


def _parse(path: Path, table: dict[str, Any]) -> Settings:
    try:
        return Settings.model_validate({key.replace("-", "_"): value for key, value in table.items()})
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise InterpretError(f"{path.name}: {problems}; known keys: {', '.join(Settings.model_fields)}") from error
