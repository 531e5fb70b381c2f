"""A crystal structure as the graph builder needs it, read from files and from objects of other libraries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.cif import read_cif
from model.errors import StructureError
from model.neighbors import LATTICE_DECIMALS
from model.periodic_search import refuse_overlap
from model.structure_formats import RawStructure, from_dictionary, read_json, read_pdb, read_poscar, read_xyz

FloatArray = NDArray[np.float64]

# jarvis-tools knows these; it has no data for the elements after lawrencium.
# fmt: off
ELEMENTS = (
    "H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "Na", "Mg", "Al", "Si", "P", "S", "Cl", "Ar", "K",
    "Ca", "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As", "Se", "Br", "Kr",
    "Rb", "Sr", "Y", "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb", "Te", "I",
    "Xe", "Cs", "Ba", "La", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb",
    "Lu", "Hf", "Ta", "W", "Re", "Os", "Ir", "Pt", "Au", "Hg", "Tl", "Pb", "Bi", "Po", "At", "Rn", "Fr",
    "Ra", "Ac", "Th", "Pa", "U", "Np", "Pu", "Am", "Cm", "Bk", "Cf", "Es", "Fm", "Md", "No", "Lr",
)
# fmt: on
ATOMIC_NUMBERS = {symbol: number for number, symbol in enumerate(ELEMENTS, start=1)}
_ISOTOPES = {"D": "H", "T": "H"}
_MOST_BYTES = 32 * 1024 * 1024
_SMALLEST_VOLUME = 1e-3
# Beyond these no crystal is left, and the neighbour search loses its digits or its end.
_LONGEST_VECTOR = 1e4
_FARTHEST_CELL = 1e4


@dataclass(frozen=True, eq=False)
class Structure:
    """Cell, positions and elements of a crystal.

    Attributes:
        lattice: (3, 3) float64, rows are the cell vectors in angstrom, not rounded.
        fractional_coordinates: (N, 3) float64 as the source gives them (not wrapped into the cell).
        elements: N symbols, hydrogen to lawrencium.
        given_positions: (N, 3) float64 cartesian positions in angstrom where the source is cartesian. They
            decide ties between bond lengths, and a way through fractional coordinates would change their
            last bits.

    Raises:
        StructureError: shapes that do not fit, numbers that are not finite, a flat cell, no atom, an unknown
            element.
    """

    lattice: FloatArray
    fractional_coordinates: FloatArray
    elements: tuple[str, ...]
    given_positions: FloatArray | None = None

    def __post_init__(self) -> None:
        shape = (len(self.elements), 3)
        lattice = _array(self.lattice, "cell vectors", (3, 3), _LONGEST_VECTOR)
        fractional = _array(self.fractional_coordinates, "fractional coordinates", shape, _FARTHEST_CELL)
        if not self.elements:
            raise StructureError("expected at least one atom, got none")
        for symbol in set(self.elements):
            if symbol not in ATOMIC_NUMBERS:
                raise StructureError(
                    f"expected an element from H to Lr (jarvis-tools has data for these), got {symbol!r}"
                )
        volume = abs(float(np.linalg.det(lattice)))
        if not volume > _SMALLEST_VOLUME:
            raise StructureError(
                f"expected three cell vectors that span a volume, got {volume:.3g} cubic angstrom; "
                "give a molecule or a slab a cell with vacuum around it"
            )
        object.__setattr__(self, "lattice", lattice)
        object.__setattr__(self, "fractional_coordinates", fractional)
        object.__setattr__(self, "elements", tuple(self.elements))
        if self.given_positions is not None:
            positions = _array(self.given_positions, "positions", shape, _LONGEST_VECTOR * _FARTHEST_CELL)
            object.__setattr__(self, "given_positions", positions)

    @property
    def number_of_atoms(self) -> int:
        """N."""
        return len(self.elements)

    @property
    def rounded_lattice(self) -> FloatArray:
        """(3, 3) cell in angstrom rounded to 5 decimals, as jarvis-tools places atoms with it."""
        rounded: FloatArray = self.lattice.round(LATTICE_DECIMALS)
        return rounded

    @property
    def positions(self) -> FloatArray:
        """(N, 3) cartesian positions in angstrom: as given, else fractional times the rounded cell."""
        if self.given_positions is not None:
            return self.given_positions
        positions: FloatArray = np.dot(self.fractional_coordinates, self.rounded_lattice)
        return positions

    @property
    def atomic_numbers(self) -> NDArray[np.int64]:
        """(N,) int64 atomic numbers."""
        return np.array([ATOMIC_NUMBERS[symbol] for symbol in self.elements], dtype=np.int64)


def read_structure(source: object) -> Structure:
    """Read a structure from a file or take it from an object of another library.

    Files are told by name: ``.cif``; ``POSCAR*``, ``CONTCAR*``, ``.vasp``, ``.poscar``; ``.xyz`` (plain,
    with the jarvis lattice line, or extended); ``.pdb``; ``.json`` (a jarvis ``Atoms`` dictionary). What
    jarvis-tools reads soundly is returned as jarvis-tools returns it (``Atoms.from_cif(path,
    use_cif2cell=False, get_primitive_atoms=False)`` for CIF), atom order included, and a test holds it to
    that. The files are parsed here because jarvis' own parsers drop atoms, double those on special
    positions, or do not come back on files that are a little out of the ordinary; see :mod:`model.cif`.

    Args:
        source: path, jarvis ``Atoms`` or its dictionary, pymatgen ``Structure``, ase ``Atoms``, or a
            :class:`Structure` (returned as it is).

    Raises:
        StructureError: one sentence that names the file and says what is wrong with it.
    """
    structure = as_structure(source)
    name = f"{source}: " if isinstance(source, (str, Path)) else ""
    try:
        refuse_overlap(structure.lattice, structure.positions)
    except StructureError as error:
        raise StructureError(f"{name}{error}") from None
    return structure


def as_structure(source: object) -> Structure:
    """As :func:`read_structure`, without the search for atoms on top of each other (the bonds find them)."""
    if isinstance(source, Structure):
        return source
    if isinstance(source, (str, Path)):
        return _read_file(Path(source))
    raw = _from_object(source)
    if raw is None:
        raise StructureError(
            "expected a path, a jarvis Atoms, a pymatgen Structure or an ase Atoms, got an object of type "
            f"{type(source).__name__}"
        )
    return _assemble(raw)


def _read_file(path: Path) -> Structure:
    try:
        reader = _reader_for(path)
        return _assemble(reader(_read_text(path)))
    except StructureError as error:
        raise StructureError(f"{path}: {error}") from None
    # A stranger's file can break a parser in ways nobody listed; the user still gets one sentence.
    except Exception as error:
        raise StructureError(f"{path}: expected a crystal structure, could not read it: {error!r}") from error


def _reader_for(path: Path) -> Callable[[str], RawStructure]:
    suffixes: dict[str, Callable[[str], RawStructure]] = {
        ".cif": read_cif, ".mcif": read_cif, ".vasp": read_poscar, ".poscar": read_poscar,
        ".contcar": read_poscar, ".xyz": read_xyz, ".pdb": read_pdb, ".json": read_json,
    }  # fmt: skip
    reader = suffixes.get(path.suffix.lower())
    if reader is None and path.name.upper().startswith(("POSCAR", "CONTCAR")):
        reader = read_poscar
    if reader is None:
        known = ", ".join(suffixes)
        raise StructureError(f"expected a structure file named POSCAR*, CONTCAR* or ending in {known}")
    return reader


def _read_text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise StructureError(f"expected a structure file of at most {_MOST_BYTES >> 20} MiB, got {size >> 20} MiB")
        data = path.read_bytes()
    except OSError as error:
        raise StructureError(f"expected a readable file: {error.strerror or error}") from None
    if b"\0" in data:
        raise StructureError("expected a text file, got binary data")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Older databases write authors' names in Latin-1; what matters to a structure is ASCII in both.
        text = data.decode("latin-1")
    if not text.strip():
        raise StructureError("expected a crystal structure, got an empty file")
    return text


def _from_object(source: Any) -> RawStructure | None:
    """What another library's object says, told by its attributes; None where it is none that is known."""
    if isinstance(source, Mapping):
        return from_dictionary(source)
    if hasattr(source, "lattice_mat") and hasattr(source, "frac_coords"):
        positions = source.cart_coords if getattr(source, "cartesian", False) else None
        return RawStructure(source.lattice_mat, source.frac_coords, list(source.elements), positions)
    if hasattr(source, "frac_coords") and hasattr(source, "is_ordered"):
        if not source.is_ordered:
            raise StructureError("expected every site fully occupied by one element, got a disordered structure")
        symbols = [species.symbol for species in source.species]
        return RawStructure(source.lattice.matrix, source.frac_coords, symbols)
    if hasattr(source, "get_chemical_symbols") and hasattr(source, "get_cell"):
        lattice = np.array(source.get_cell())
        return RawStructure(lattice, None, source.get_chemical_symbols(), source.get_positions())
    return None


def _assemble(raw: RawStructure) -> Structure:
    lattice = _array(raw.lattice, "cell vectors", (3, 3), _LONGEST_VECTOR)
    elements = tuple(_ISOTOPES.get(symbol, symbol) for symbol in map(str, raw.elements))
    fractional = raw.fractional
    if fractional is None:
        assert raw.positions is not None, "a reader gives one kind of coordinates or the other"
        positions = _array(raw.positions, "positions", (len(elements), 3), _LONGEST_VECTOR * _FARTHEST_CELL)
        rounded = np.around(lattice, decimals=LATTICE_DECIMALS)
        if abs(np.linalg.det(rounded)) <= _SMALLEST_VOLUME:
            # The constructor words this error; it needs some coordinates of the right shape.
            fractional = np.zeros_like(positions)
        else:
            fractional = np.dot(positions, np.linalg.inv(rounded))
    return Structure(lattice, np.asarray(fractional), elements, raw.positions)


def _array(values: ArrayLike, what: str, shape: tuple[int, ...], largest: float) -> FloatArray:
    """A read-only float64 copy of the shape asked for, all of it finite and none of it absurdly large."""
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise StructureError(f"expected {what} of shape {shape}, got something that is no table of numbers") from None
    if array.shape != shape:
        raise StructureError(f"expected {what} of shape {shape}, got {array.shape}")
    # Written so that NaN fails too.
    if not np.abs(array).max(initial=0.0) <= largest:
        raise StructureError(f"expected finite {what} up to {largest:.0e}, got {np.abs(array).max()}")
    array.setflags(write=False)
    return array
