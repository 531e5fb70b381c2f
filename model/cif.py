"""CIF files: cell, symmetry operations and sites, expanded to all atoms of the cell.

The reference is ``jarvis.core.atoms.Atoms.from_cif(path, use_cif2cell=False, get_primitive_atoms=False)``:
on files that it reads soundly the cell, the coordinates to the last bit and the order of the atoms are the
same. It is not
called, because on files a little out of the ordinary it silently gives another crystal or never returns: rows
after a blank or over-long line are dropped, capital ``X,Y,Z`` operations are ignored, an operation written
``2 x,-y,z`` is taken for ``2x`` (and the list of atoms then grows without end), atoms on special positions
given to six digits are doubled, and ``_atom_site_aniso`` loops are taken for the sites.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from fractions import Fraction
from functools import lru_cache
from itertools import zip_longest
from typing import cast

import numpy as np
from numpy.typing import NDArray

from model.cif_syntax import CifBlock, parse_cif
from model.errors import StructureError
from model.periodic_search import SAME_ATOM_DISTANCE
from model.structure_formats import RawStructure

FloatArray = NDArray[np.float64]

_OPERATION_TAGS = (
    "_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz", "_space_group_symop.operation_xyz",
)  # fmt: skip
_GROUP_TAGS = (
    "_space_group_it_number", "_symmetry_int_tables_number", "_space_group_name_h-m_alt",
    "_symmetry_space_group_name_h-m", "_space_group.it_number", "_space_group.name_h-m_alt",
)  # fmt: skip
_TERM = re.compile(r"([+-]?)(?:(\d*\.?\d+|\d+\.)(?:/(\d+))?)?\*?([xyz]?)")
_SYMBOL = re.compile(r"([A-Z][a-z]?)(?![A-Za-z])")
_TYPE_SYMBOL = re.compile(r"([A-Za-z]{1,2})(?![A-Za-z])")
# More is no crystal structure but an accident or an attack; the largest structures have some 10^4 atoms.
_MOST_ATOMS = 100_000


def read_cif(text: str) -> RawStructure:
    """The crystal of a CIF: every atom of the cell in fractional coordinates.

    Args:
        text: content of the file, with exactly one block that lists atom sites.

    Raises:
        StructureError: no or several structures, a missing cell value, an incomplete row, a fractional
            occupancy, a site without coordinates, no symmetry operations for a space group other than P1,
            operations that are no group, or fewer atoms than the formula of a P1 file asks for (cut short).
    """
    blocks = [block for block in parse_cif(text) if _site_loop(block)]
    if not blocks:
        raise StructureError("expected a CIF with a loop of atom sites (_atom_site_fract_x ...), got none")
    if len(blocks) > 1:
        names = ", ".join(block.name for block in blocks[:4])
        raise StructureError(f"expected one structure in the file, got {len(blocks)} ({names}); split the file")
    block = blocks[0]
    lattice = _lattice(block)
    elements, coordinates = _sites(block, lattice)
    operations = _operations(block)
    if len(operations) > 1:
        elements, coordinates = _expand(elements, coordinates, operations, lattice)
    else:
        _refuse_cut_short(block, elements)
    return RawStructure(lattice, coordinates, elements)


def _site_loop(block: CifBlock) -> tuple[list[str], list[str]] | None:
    return block.loop_with("_atom_site_fract_x", "_atom_site_cartn_x", "_atom_site.fract_x", "_atom_site.cartn_x")


def _lattice(block: CifBlock) -> FloatArray:
    from jarvis.core.lattice import Lattice

    parameters = []
    for name in ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"):
        value = block.values.get(f"_cell_{name}", block.values.get(f"_cell.{name}"))
        if value is None:
            raise StructureError(f"expected the cell in the CIF, got no _cell_{name}")
        parameters.append(_number(value, f"_cell_{name}"))
    if min(parameters) <= 0 or max(parameters[3:]) >= 180:
        raise StructureError(f"expected a cell of positive lengths and angles under 180 degrees, got {parameters}")
    return np.array(Lattice.from_parameters(*parameters).matrix)


def _sites(block: CifBlock, lattice: FloatArray) -> tuple[list[str], FloatArray]:
    loop = _site_loop(block)
    assert loop is not None, "the caller picked a block with sites"
    tags = [tag.replace("_atom_site.", "_atom_site_") for tag in loop[0]]
    rows, rest = divmod(len(loop[1]), len(tags))
    if rest or not rows:
        raise StructureError(
            f"expected rows of {len(tags)} values in the loop of atom sites, got {len(loop[1])} in all; "
            "the file may be cut short"
        )
    column = {tag: loop[1][index :: len(tags)] for index, tag in enumerate(tags)}
    labels = column.get("_atom_site_label") or column.get("_atom_site_type_symbol")
    if labels is None:
        raise StructureError("expected _atom_site_label or _atom_site_type_symbol in the loop of atom sites")
    kept = [i for i, flag in enumerate(column.get("_atom_site_calc_flag", ["."] * rows)) if flag != "dum"]
    for i in kept:
        occupancy = column.get("_atom_site_occupancy", ["1"] * rows)[i]
        if occupancy not in (".", "?") and _number(occupancy, "an occupancy") != 1:
            raise StructureError(
                f"expected fully occupied sites, got occupancy {occupancy} at {labels[i]}; choose an ordered structure"
            )
    symbols = column.get("_atom_site_type_symbol")
    elements = [_type_symbol(symbols[i]) if symbols else _label_symbol(labels[i]) for i in kept]
    kind = "fract" if "_atom_site_fract_x" in column else "cartn"
    try:
        axes = [column[f"_atom_site_{kind}_{axis}"] for axis in "xyz"]
    except KeyError as error:
        raise StructureError(f"expected x, y and z of the atom sites, got no {error.args[0]}") from None
    rows_kept = [[_number(axis[i], f"a coordinate of {labels[i]}") for axis in axes] for i in kept]
    coordinates = np.array(rows_kept).reshape(-1, 3)
    if kind == "cartn":
        if np.count_nonzero(lattice) != 3:
            raise StructureError("expected fractional coordinates in a cell with oblique angles, got cartesian ones")
        coordinates = np.dot(coordinates, np.linalg.inv(lattice))
    return elements, coordinates


def _operations(block: CifBlock) -> list[FloatArray]:
    """Symmetry operations (4, 4) on fractional coordinates; the identity alone where the file is P1."""
    loop = block.loop_with(*_OPERATION_TAGS)
    texts = [block.values[tag] for tag in _OPERATION_TAGS if tag in block.values]
    if loop is not None:
        index = next(i for i, tag in enumerate(loop[0]) if tag in _OPERATION_TAGS)
        words, width = _rejoined(loop[1]), len(loop[0])
        numbers = words[index - 1 :: width] if index else []
        return [
            _operation(text, int(number) if number.isdecimal() and len(number) < 4 else 0)
            for text, number in zip_longest(words[index::width], numbers, fillvalue="")
        ]
    if texts:
        return [_operation(text) for text in texts]
    group = next((block.values[tag] for tag in _GROUP_TAGS if block.values.get(tag, "?") not in ("?", ".")), "P1")
    if group.replace(" ", "").upper() not in ("P1", "1"):
        raise StructureError(
            f"expected the symmetry operations of space group {group!r}, got its name only; "
            "export the file with its operations or as P1"
        )
    return [np.eye(4)]


def _rejoined(words: list[str]) -> list[str]:
    """Values of a symmetry loop, where unquoted ``x, y, z`` came apart into words."""
    joined: list[str] = []
    for word in words:
        if joined and (joined[-1].endswith(",") or (word.startswith(",") and joined[-1].count(",") < 2)):
            joined[-1] += word
        else:
            joined.append(word)
    return joined


@lru_cache(maxsize=1024)
def _operation(text: str, number: int = 0) -> FloatArray:
    """``-x,y+1/2,z`` as an affine (4, 4) matrix.

    jarvis-tools reads the number of the operation, which stands before it on the line, as a translation along
    x. Whole translations change nothing but the last bit of a coordinate; ties between distances hang on it.
    """
    matrix = np.eye(4)
    parts = text.replace(" ", "").lower().split(",")
    if len(parts) != 3:
        raise StructureError(f"expected a symmetry operation such as '-x,y+1/2,z', got {text!r}")
    for row, part in enumerate(parts):
        matrix[row] = 0
        position = 0
        while position < len(part):
            term = _TERM.match(part, position)
            if term is None or term.end() == position or not (term.group(2) or term.group(4)):
                raise StructureError(f"expected a symmetry operation such as '-x,y+1/2,z', got {text!r}")
            size = Fraction(term.group(2) or 1) / (int(term.group(3) or 1) or 1)
            axis = "xyz".index(term.group(4)) if term.group(4) else 3
            matrix[row, axis] += float(-size if term.group(1) == "-" else size)
            position = term.end()
    if matrix[0, 3] == 0:
        matrix[0, 3] = number
    rotation = matrix[:3, :3]
    if abs(abs(np.linalg.det(rotation)) - 1) > 1e-9 or np.any(rotation != np.round(rotation)):
        raise StructureError(f"expected a symmetry operation that keeps the lattice, got {text!r}")
    matrix.setflags(write=False)
    return matrix


def _expand(
    elements: list[str], coordinates: FloatArray, operations: list[FloatArray], lattice: FloatArray
) -> tuple[list[str], FloatArray]:
    """All atoms of the cell, in the order in which jarvis-tools finds them.

    Each operation is applied to every atom found so far, those it has just made included. An image that
    falls on an atom of its element, to within the distance at which two atoms are one, is that atom.
    """
    most = min(len(elements) * len(operations), _MOST_ATOMS)
    found, symbols = coordinates, list(elements)
    for operation in operations:
        begin = 0
        while begin < len(found):
            parents = found[begin:]
            images = np.array([np.dot(operation, np.append(point, 1.0))[:3] for point in parents])
            images = images - np.floor(images)
            fresh = _fresh(images, symbols[begin:], found, symbols, lattice)
            symbols += [symbols[begin + i] for i in fresh]
            begin = len(found)
            found = np.concatenate((found, images[fresh]))
            if len(found) > most:
                raise StructureError(
                    f"expected symmetry operations that form a group and at most {_MOST_ATOMS} atoms, "
                    f"got more than {most} from {len(elements)} sites and {len(operations)} operations"
                )
    return symbols, found


def _fresh(
    images: FloatArray, image_symbols: list[str], found: FloatArray, symbols: list[str], lattice: FloatArray
) -> list[int]:
    """Indices of the images that are not on an atom already found, nor on an earlier image."""
    from scipy.spatial import cKDTree

    # A ball of this fractional radius holds the ball of that distance, whatever the cell's shape.
    radius = SAME_ATOM_DISTANCE * float(np.linalg.norm(np.linalg.inv(lattice), 2))
    # Remainder twice: that of -1e-17 rounds to 1.0, which is outside the box of the tree.
    images, found = images % 1.0 % 1.0, found % 1.0 % 1.0
    points = np.concatenate((found, images))
    tree = cKDTree(points, boxsize=np.ones(3))
    neighborhoods = cast("list[list[int]]", tree.query_ball_point(images, radius))
    fresh: list[int] = []
    seen = set(range(len(found)))
    for i, near in enumerate(neighborhoods):
        known = [k for k in near if k in seen]
        same = (
            image_symbols[i] == (symbols[k] if k < len(found) else image_symbols[k - len(found)])
            and _distance(images[i] - points[k], lattice) <= SAME_ATOM_DISTANCE
            for k in known
        )
        if not any(same):
            fresh.append(i)
            seen.add(len(found) + i)
    return fresh


def _distance(difference: FloatArray, lattice: FloatArray) -> float:
    """Length in angstrom of a fractional difference, modulo cell vectors."""
    return float(np.linalg.norm((difference - np.round(difference)) @ lattice))


def _refuse_cut_short(block: CifBlock, elements: list[str]) -> None:
    """Raise where a file that lists every atom lists fewer than its own formula, and no other elements."""
    formula = block.values.get("_chemical_formula_sum", "")
    expected = {symbol: float(count or 1) for symbol, count in re.findall(r"([A-Z][a-z]?)(\d+\.?\d*)?", formula)}
    have = Counter(elements)
    if sum(have.values()) < sum(expected.values()) and all(have[e] <= expected.get(e, 0) for e in have):
        raise StructureError(f"expected the atoms of {formula!r}, got {len(elements)} atoms; the file may be cut short")


def _type_symbol(text: str) -> str:
    found = _TYPE_SYMBOL.match(text)
    if found is None:
        raise StructureError(f"expected an element as _atom_site_type_symbol, got {text!r}")
    return found.group(1).capitalize()


def _label_symbol(label: str) -> str:
    found = _SYMBOL.match(label)
    if found is None:
        raise StructureError(
            f"expected a site label that starts with its element (Fe1, O2), got {label!r}; add _atom_site_type_symbol"
        )
    return found.group(1)


def _number(text: str, what: str) -> float:
    """A finite CIF number without its uncertainty, as in ``5.4307(2)``."""
    try:
        number = float(text.split("(")[0])
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise StructureError(f"expected {what} as a number, got {text!r}")
    return number
