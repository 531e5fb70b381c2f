"""One quantity of a page: values over heads, atoms and words, with the controls they are held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from model.errors import RecordError

Axis = Literal["head", "atom", "word"]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Control:
    """What a quantity is held against.

    Attributes:
        name: short, as in columns of files.
        label: in words.
        axes: some of the quantity's, in its order; the control is the same along the others.
        values: along these axes.
    """

    name: str
    label: str
    axes: tuple[Axis, ...]
    values: Array


@dataclass(frozen=True, eq=False)
class Quantity:
    """A quantity to be shown.

    Any analysis can add one: over atoms and words, over words alone or over atoms alone.

    Attributes:
        name: short, as in columns of files.
        label: for people. unit: of the values, in words.
        axes: of the values, in the order head, atom, word.
        values: NaN where undefined.
        heads: label of each head, the summary over heads first; empty without a head axis.
        decimals: the page and the files show the values rounded to so many.
        controls: what the values are held against.
        over_atoms: the quantity of the structure as a whole, without the atom axis; None where there is none.
        signed: whether 0 is in the middle of the colour scale.
        reaches_prediction: False where nothing of it does, which is said wherever it is shown.
        note: what else a reader must know.

    Raises:
        RecordError: shapes and axes do not fit.
    """

    name: str
    label: str
    unit: str
    axes: tuple[Axis, ...]
    values: Array
    heads: tuple[str, ...] = ()
    decimals: int = 6
    controls: tuple[Control, ...] = ()
    over_atoms: Array | None = None
    signed: bool = False
    reaches_prediction: bool = True
    note: str = ""

    def __post_init__(self) -> None:
        order = [axis for axis in ("head", "atom", "word") if axis in self.axes]
        if list(self.axes) != order or self.values.ndim != len(self.axes):
            raise RecordError(
                f"expected axes of {self.name!r} in the order head, atom, word, one a dimension; "
                f"got {self.axes} for shape {self.values.shape}"
            )
        if ("head" in self.axes) != bool(self.heads) or (self.heads and len(self.heads) != self.values.shape[0]):
            raise RecordError(f"expected one label a head of {self.name!r}, got {len(self.heads)}")
        sizes = dict(zip(self.axes, self.values.shape, strict=True))
        for control in self.controls:
            expected = tuple(sizes.get(axis, -1) for axis in control.axes)
            if control.values.shape != expected:
                raise RecordError(
                    f"expected shape {expected} of control {control.name!r} of {self.name!r}, "
                    f"got {control.values.shape}"
                )
        if self.over_atoms is not None and self.over_atoms.shape != tuple(
            sizes[axis] for axis in self.axes if axis != "atom"
        ):
            raise RecordError(f"expected {self.name!r} over atoms along its other axes, got {self.over_atoms.shape}")

    @property
    def is_map(self) -> bool:
        """Whether it has both an atom and a word axis."""
        return "atom" in self.axes and "word" in self.axes

    @property
    def cells(self) -> int:
        """Numbers an atom takes."""
        return self.values.size // max(1, self.values.shape[self.axes.index("atom")]) if "atom" in self.axes else 0

    def at_atoms(self, atoms: Sequence[int]) -> Array:
        """The values of some atoms."""
        return np.take(self.values, list(atoms), axis=self.axes.index("atom"))

    def to_dict(self, atoms: Sequence[int] | None = None) -> dict[str, Any]:
        """JSON: values as whole numbers of the last decimal, row by row, undefined ones as null.

        Args:
            atoms: those whose rows are kept; None keeps all.
        """

        def kept(axes: tuple[Axis, ...], values: Array) -> Array:
            if atoms is None or "atom" not in axes:
                return values
            return np.take(values, list(atoms), axis=axes.index("atom"))

        return {
            "name": self.name,
            "label": self.label,
            "unit": self.unit,
            "axes": list(self.axes),
            "heads": list(self.heads),
            "decimals": self.decimals,
            "signed": self.signed,
            "reaches_prediction": self.reaches_prediction,
            "note": self.note,
            "values": integers(kept(self.axes, self.values), self.decimals),
            "over_atoms": None if self.over_atoms is None else integers(self.over_atoms, self.decimals),
            "controls": [
                {
                    "name": control.name,
                    "label": control.label,
                    "axes": list(control.axes),
                    "values": integers(kept(control.axes, control.values), self.decimals),
                }
                for control in self.controls
            ],
        }


def integers(values: Array, decimals: int) -> list[int | None]:
    """Values times ten to the ``decimals``, rounded, row by row; None where they are not finite."""
    flat = np.asarray(values, dtype=np.float64).reshape(-1)
    finite = np.isfinite(flat)
    rounded = np.rint(np.where(finite, flat, 0.0) * 10.0**decimals).astype(np.int64)
    return [number if known else None for number, known in zip(rounded.tolist(), finite.tolist(), strict=True)]


def written(number: int | None, decimals: int) -> str:
    """A whole number of the last decimal as it is written in files and on pages; empty where it is undefined."""
    return "" if number is None else f"{number / 10**decimals:.{decimals}f}"


def alike_rows(quantities: Sequence[Quantity], labels: npt.NDArray[np.int64]) -> list[list[int]]:
    """Atoms whose rows are the same: atoms of one label, if no number of theirs differs when it is written.

    Args:
        quantities: with atom and word axes.
        labels: [N], atoms that should be alike.

    Returns:
        Groups in the order of their first atoms.
    """
    groups: dict[int, list[int]] = {}
    for atom, label in enumerate(labels.tolist()):
        groups.setdefault(label, []).append(atom)
    result = []
    for atoms in groups.values():
        same = all(
            np.nanmax(np.abs(rows - np.take(rows, [0], axis=axis)), initial=0.0) < 0.5 * 10.0**-quantity.decimals
            for quantity in quantities
            for axis in (quantity.axes.index("atom"),)
            for rows in (quantity.at_atoms(atoms),)
        )
        result += [atoms] if same else [[atom] for atom in atoms]
    return sorted(result)


def most_different(values: Array, count: int) -> list[int]:
    """Rows of [N, W] that differ most from each other: the first one, then always the one farthest from those chosen.

    Distances are total variation. Gonzalez, Theor. Comput. Sci. 38, 293 (1985).
    """
    chosen = [0]
    rows = np.nan_to_num(values)
    distance = np.abs(rows - rows[0]).sum(axis=1)
    distance[0] = -1.0
    while len(chosen) < min(count, len(rows)):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.abs(rows - rows[chosen[-1]]).sum(axis=1))
        distance[chosen[-1]] = -1.0
    return sorted(chosen)
