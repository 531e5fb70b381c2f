"""Result tables: collected in shards that survive a kill, written atomically as CSV and parquet."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from model.dataset import Skipped
from model.errors import RecordError

TABLES = ("structures", "atoms", "heads", "layers")
# The column that carries the order of the data set through shards; not written to the final tables.
ORDER = "order"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well, and vanishes when not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; results are as readable as any other file of the user.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: sorted keys, NaN as null so that any reader can read it."""
    write_text(path, json.dumps(plain(value), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_result(path: Path, what: str, schema_version: int, command: str) -> dict[str, Any]:
    """The JSON file of a complete result, as :func:`write_json` wrote it.

    Args:
        path: of the file. what: the result, with its article. command: that writes it.
        schema_version: expected.

    Raises:
        RecordError: the file cannot be read, or is of another schema.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(f"expected {what} in {path.parent}: {path.name} cannot be read ({error})") from error
    if content.get("schema_version") != schema_version:
        raise RecordError(
            f"expected schema version {schema_version} in {path}, got {content.get('schema_version')!r}: "
            f"run {command} again with this version"
        )
    return content


def plain(value: Any) -> Any:
    """Numbers, strings, lists and dicts only; NaN and infinity become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if value is None or isinstance(value, str | int | bool):
        return value
    return str(value)


def write_table(frame: pd.DataFrame, folder: Path, name: str) -> None:
    """``name.csv`` and ``name.parquet``."""
    with atomic_path(folder / f"{name}.csv") as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n")
    with atomic_path(folder / f"{name}.parquet") as temporary:
        frame.to_parquet(temporary, index=False)


class Shards:
    """Rows of a run on disk, a folder for every few structures, so that a killed run goes on where it stopped.

    Args:
        folder: of the shards; emptied where it belongs to another run.
        run: fingerprint of everything the rows depend on.
    """

    def __init__(self, folder: Path, run: str) -> None:
        self.folder = folder
        marker = folder / "run.json"
        known = _read_run(marker)
        if known != run:
            shutil.rmtree(folder, ignore_errors=True)
            write_json(marker, {"run": run})

    def done(self) -> set[int]:
        """Positions in the data set that are finished or were skipped."""
        positions: set[int] = set()
        for shard in self._finished():
            positions |= set(json.loads((shard / "shard.json").read_text(encoding="utf-8"))["positions"])
        return positions

    def _finished(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("shard-*") if (path / "shard.json").is_file())

    def write(
        self,
        positions: list[int],
        rows: Mapping[str, list[dict[str, Any]]],
        skipped: list[tuple[int, Skipped]],
        extra: Any,
    ) -> None:
        """Store the rows of some positions; all of them or none."""
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=self.folder) as name:
            shard = Path(name) / "shard"
            shard.mkdir()
            for table, content in rows.items():
                if content:
                    pd.DataFrame(content).to_parquet(shard / f"{table}.parquet", index=False)
            write_json(
                shard / "shard.json",
                {
                    "positions": positions,
                    "skipped": [[order, s.id, s.row, s.stage, s.reason] for order, s in skipped],
                    "extra": extra,
                },
            )
            shard.rename(self.folder / f"shard-{min(positions):08d}")

    def table(self, name: str) -> pd.DataFrame:
        """All rows of one table in the order of the data set."""
        frames = [pd.read_parquet(path) for shard in self._finished() if (path := shard / f"{name}.parquet").is_file()]
        if not frames:
            return pd.DataFrame()
        # Shards of structures without some tap lack its columns; the union keeps the order of first appearance.
        frame = pd.concat(frames, ignore_index=True)
        return frame.sort_values(ORDER, kind="stable", ignore_index=True).drop(columns=ORDER)

    def skipped(self) -> list[Skipped]:
        """What was skipped, in the order of the data set."""
        found = []
        for shard in self._finished():
            found += json.loads((shard / "shard.json").read_text(encoding="utf-8"))["skipped"]
        return [Skipped(id=s[1], row=s[2], stage=s[3], reason=s[4]) for s in sorted(found, key=lambda s: s[0])]

    def extras(self) -> list[Any]:
        """What each shard stored beside its rows, in order."""
        return [json.loads((shard / "shard.json").read_text(encoding="utf-8"))["extra"] for shard in self._finished()]

    def remove(self) -> None:
        """Delete the shards of a finished run."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _read_run(marker: Path) -> str | None:
    try:
        return str(json.loads(marker.read_text(encoding="utf-8"))["run"])
    except (OSError, ValueError, KeyError):
        return None


def read_table(folder: Path, name: str) -> pd.DataFrame:
    """Read a table back from its parquet file.

    Raises:
        RecordError: it is not there.
    """
    path = folder / f"{name}.parquet"
    if not path.is_file():
        raise RecordError(f"expected {path.name} in {folder}: this is not a folder that diagnose wrote")
    return pd.read_parquet(path)
