"""The structure files of a data folder, found by name or by id and never outside the folder."""

from __future__ import annotations

from pathlib import Path

from model.errors import DataError

TABLE_NAME = "description.csv"
STRUCTURE_FOLDER = "cif"
STRUCTURE_SUFFIXES = (".cif", ".vasp", ".poscar", ".contcar")
_PREFIXES = ("POSCAR-", "POSCAR_", "POSCAR.", "CONTCAR-", "CONTCAR_", "CONTCAR.")


class StructureFiles:
    """The files in ``root/cif`` by name and by id.

    Fields of the table are only ever looked up in this list and never made into paths, so no id can point
    anywhere else.

    Args:
        root: the data folder.

    Raises:
        DataError: the folder has another layout or cannot be read.
    """

    def __init__(self, root: Path) -> None:
        folder = root / STRUCTURE_FOLDER
        if not folder.is_dir() or not (root / TABLE_NAME).is_file():
            found = sorted(path.name for path in root.iterdir())[:8] if root.is_dir() else "no such folder"
            raise DataError(
                f"Expected the folder {root} to hold {TABLE_NAME} and a folder {STRUCTURE_FOLDER} with the "
                f"structure files, got {found}."
            )
        self._root = root.resolve()
        try:
            self._by_name = {path.name: path for path in sorted(folder.iterdir()) if path.is_file()}
        except OSError as error:
            raise DataError(f"The folder {folder} cannot be read: {error.strerror or error}.") from error
        self._by_id: dict[str, str] = {}
        structures = [name for name in self._by_name if _is_structure_name(name)]
        for name in sorted(structures, key=lambda name: (_suffix_rank(name), name)):
            self._by_id.setdefault(id_of(name), name)
        self._unused = set(structures)

    def has(self, value: str) -> bool:
        """Whether a field is the name or the id of a file."""
        return value in self._by_name or value in self._by_id

    def find(self, identifier: str, file_name: str) -> Path:
        """The file of a row, by its file name where it gives one, else by its id.

        Raises:
            DataError: there is none that may be used.
        """
        wanted = file_name or identifier
        if "/" in wanted or "\\" in wanted or wanted in (".", "..") or "\0" in wanted:
            raise DataError(f"{wanted[:80]!r} is not a plain file name")
        name = wanted if wanted in self._by_name else self._by_id.get(wanted)
        if name is None:
            raise DataError(f"no structure file {wanted[:80]!r} in the folder {STRUCTURE_FOLDER}")
        self._unused.discard(name)
        path = self._by_name[name]
        if not path.resolve().is_relative_to(self._root):
            raise DataError(f"the structure file {name!r} is a link to a place outside the data folder")
        return path

    def unused(self) -> list[str]:
        """Names of structure files that no row asked for."""
        return sorted(self._unused)


def id_of(name: str) -> str:
    """Id that a file name stands for: ``POSCAR-JVASP-1002.vasp`` and ``JVASP-1002.cif`` are JVASP-1002."""
    suffix = next((suffix for suffix in STRUCTURE_SUFFIXES if name.lower().endswith(suffix)), "")
    stem = name[: len(name) - len(suffix)]
    prefix = next((prefix for prefix in _PREFIXES if stem.startswith(prefix)), "")
    return stem[len(prefix) :]


def _is_structure_name(name: str) -> bool:
    return name.lower().endswith(STRUCTURE_SUFFIXES) or name.startswith((*_PREFIXES, "POSCAR", "CONTCAR"))


def _suffix_rank(name: str) -> int:
    ranks = (rank for rank, suffix in enumerate(STRUCTURE_SUFFIXES) if name.lower().endswith(suffix))
    return next(ranks, len(STRUCTURE_SUFFIXES))
