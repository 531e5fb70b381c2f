"""Two runs that may be held against each other: the same structures, texts, encoder and ways of measuring."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from interpret.tables import TABLES
from model.dataset import Skipped
from model.errors import DataError

if TYPE_CHECKING:
    from interpret.results import Diagnosis

Values = npt.NDArray[np.float64]

# Options that change what a figure is, not how fast it is computed.
_MEANING = ("dtype", "symmetry_tolerance", "stop_words", "punctuation")


@dataclass(frozen=True)
class Resolution:
    """Below which a difference is rounding of the computation and not a difference of two models.

    The same network on the same structures gives figures that agree to rounding however they are batched, ordered and
    spread over threads, for sums are added up in another order. Two figures count as equal when they differ by no more
    than ``absolute + relative * max(|a|, |b|)``, an order of magnitude or more above that.

    Attributes:
        relative, absolute: of a figure.
    """

    relative: float
    absolute: float

    def snap(self, first: Values, second: Values) -> Values:
        """``second``, with the value of ``first`` wherever the two cannot be told apart."""
        limit = self.absolute + self.relative * np.fmax(np.abs(first), np.abs(second))
        return np.where(np.abs(second - first) <= limit, first, second)


# Measured on the recorded networks: in float64 figures of batches of 1 and of 12 differ by up to 6e-14 and by 1e-12 of
# their value (a divergence of next to nothing), in float32 by 2e-7 and by 8e-6.
RESOLUTIONS = {"float64": Resolution(1e-10, 1e-11), "float32": Resolution(1e-4, 2e-6)}


@dataclass(frozen=True)
class Run:
    """What one model does on a data set: one row a structure, atom, head and stage, sorted by id.

    Attributes:
        label: how reports call the model.
        structures, atoms, heads, layers: tables of :mod:`interpret.measure`.
        provenance: of :func:`interpret.provenance.describe_run`.
        texts: digest of the normalised text and its pieces by id; empty for a run read back from a diagnosis.
        weights: digest of the weights; empty for a run read back.
        skipped: what could not be analysed.
    """

    label: str
    structures: pd.DataFrame
    atoms: pd.DataFrame
    heads: pd.DataFrame
    layers: pd.DataFrame
    provenance: Mapping[str, Any]
    texts: Mapping[str, str]
    weights: str = ""
    skipped: tuple[Skipped, ...] = ()

    def __post_init__(self) -> None:
        for name in TABLES:
            frame = getattr(self, name)
            if len(frame):
                object.__setattr__(self, name, frame.sort_values("id", kind="stable", ignore_index=True))
        repeated = self.structures["id"][self.structures["id"].duplicated()]
        if len(repeated):
            raise DataError(f"expected each id once in {self.label!r}, got {repeated.iloc[0]!r} several times")

    @classmethod
    def of_diagnosis(cls, diagnosis: Diagnosis, label: str) -> Run:
        """The run behind a saved diagnosis; it has no attention maps, so its heads cannot be matched by their maps."""
        tables = {name: getattr(diagnosis, name) for name in TABLES}
        return cls(label=label, provenance=diagnosis.provenance, texts={}, skipped=diagnosis.skipped, **tables)

    @property
    def ids(self) -> tuple[str, ...]:
        """Of the structures, sorted."""
        return tuple(self.structures["id"])

    @property
    def resolution(self) -> Resolution:
        """Of the arithmetic the run used."""
        return RESOLUTIONS[str(self.provenance.get("options", {}).get("dtype", "float64"))]

    def merge(self, other: Run) -> Run:
        """The run of the structures of both: of shards that were computed apart.

        Raises:
            DataError: a structure is in both.
        """
        tables = {name: pd.concat([getattr(self, name), getattr(other, name)], ignore_index=True) for name in TABLES}
        return Run(
            label=self.label,
            provenance=self.provenance,
            texts={**self.texts, **other.texts},
            weights=self.weights,
            skipped=self.skipped + other.skipped,
            **tables,
        )


def check_pair(first: Run, second: Run) -> None:
    """Make sure that two runs are of the same inputs.

    Raises:
        DataError: they differ in encoder, normalisation, options, ids, texts, structures or targets; with what differs.
    """
    _check_encoder(first, second)
    _check_options(first, second)
    _check_ids(first, second)
    _check_texts(first, second)
    names = (f"{first.label!r}", f"{second.label!r}")
    for column, what in (("atoms", "number of atoms"), ("formula", "formula"), ("target", "target")):
        left, right = first.structures[column], second.structures[column]
        differ = ~((left == right) | (left.isna() & right.isna()))
        if differ.any():
            row = int(np.flatnonzero(differ.to_numpy())[0])
            raise DataError(
                f"expected the same structures in both runs; {first.ids[row]!r} has the {what} {left[row]} in "
                f"{names[0]} and {right[row]} in {names[1]}: run both on the same data"
            )


def _check_encoder(first: Run, second: Run) -> None:
    left, right = first.provenance.get("encoder", {}), second.provenance.get("encoder", {})
    if left.get("fingerprint") == right.get("fingerprint"):
        return
    same = left.get("name") == right.get("name")
    why = "the same encoder, but another normalisation, weights or length limit" if same else "other pieces of the text"
    raise DataError(
        f"expected one text encoder and normalisation for both runs, got {left.get('name')!r} for {first.label!r} and "
        f"{right.get('name')!r} for {second.label!r} ({why}): attention over different tokens cannot be paired; run "
        "both with one --encoder and one --mappings"
    )


def _check_options(first: Run, second: Run) -> None:
    left, right = first.provenance.get("options", {}), second.provenance.get("options", {})
    for name in _MEANING:
        if left.get(name) != right.get(name):
            raise DataError(
                f"expected both runs to be measured alike, got {name} {left.get(name)!r} for {first.label!r} and "
                f"{right.get(name)!r} for {second.label!r}: run both with the same options"
            )


def _check_ids(first: Run, second: Run) -> None:
    left, right = set(first.ids), set(second.ids)
    if left == right:
        return
    parts = [
        f"{len(only)} only in {run.label!r} ({', '.join(sorted(only)[:3])}{', ...' if len(only) > 3 else ''})"
        for run, only in ((first, left - right), (second, right - left))
        if only
    ]
    raise DataError(
        f"expected the same structures in both runs, {len(left & right)} ids are in both, {' and '.join(parts)}: run "
        "both on the same data, or take the others out of it"
    )


def _check_texts(first: Run, second: Run) -> None:
    if first.texts and second.texts:
        for key in first.ids:
            if first.texts.get(key) != second.texts.get(key):
                raise DataError(
                    f"expected the same text of {key!r} in both runs, after normalisation it is another one in "
                    f"{second.label!r}: run both on the same descriptions, with the same encoder and --mappings"
                )
        return
    left, right = (run.provenance.get("data", {}).get("fingerprint") for run in (first, second))
    if left != right:
        raise DataError(
            f"expected the same data in both runs, ids, texts, targets and structures of {first.label!r} and "
            f"{second.label!r} have different fingerprints: run both on the same data"
        )


def check_labels(labels: Sequence[str], count: int) -> tuple[str, ...]:
    """Labels of the models, one each and all different.

    Raises:
        DataError: there are too few or too many, an empty one, or one twice.
    """
    cleaned = tuple(label.strip() for label in labels)
    if len(cleaned) != count:
        raise DataError(f"expected {count} labels, one a checkpoint, got {len(cleaned)}: {', '.join(cleaned)}")
    if len(set(cleaned)) != count or not all(cleaned):
        raise DataError(f"expected {count} different labels, none of them empty, got: {', '.join(cleaned)}")
    return cleaned


def labels_of(checkpoints: Sequence[Path], given: Sequence[str] = ()) -> tuple[str, ...]:
    """The labels given, or the names of the checkpoints: as many of their last folders as tell them apart.

    Raises:
        DataError: the labels given do not fit.
    """
    if given:
        return check_labels(given, len(checkpoints))
    parts = [(*path.parent.resolve().parts[1:], path.stem if path.is_file() else path.name) for path in checkpoints]
    for depth in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(own[-depth:]) for own in parts]
        if len(set(names)) == len(names):
            return tuple(names)
    # The same checkpoint several times: numbered.
    names = [own[-1] for own in parts]
    return tuple(
        name if names.count(name) == 1 else f"{name} ({names[: i + 1].count(name)})" for i, name in enumerate(names)
    )


def read_group(text: str) -> tuple[str, tuple[Path, ...]]:
    """``LABEL=PATH,PATH,...`` to the label and the checkpoints; a path may be a pattern such as ``runs/full-*``.

    Raises:
        DataError: it has another form, or a path does not exist.
    """
    label, separator, rest = text.partition("=")
    entries = [entry.strip() for entry in rest.split(",") if entry.strip()]
    if not separator or not label.strip() or not entries:
        raise DataError(f"expected --group LABEL=PATH,PATH,..., got {text!r}")
    paths: list[Path] = []
    for entry in entries:
        found = [Path(entry)] if Path(entry).exists() else _matching(entry)
        if not found:
            raise DataError(f"there is no checkpoint {entry!r} (of the group {label.strip()!r})")
        paths += found
    return label.strip(), tuple(dict.fromkeys(paths))


def _matching(pattern: str) -> list[Path]:
    path = Path(pattern)
    return (
        sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor)))) if any(c in pattern for c in "*?[") else []
    )


def folder_name(label: str) -> str:
    """A label as the name of a folder."""
    return re.sub(r"[^\w.+-]+", "-", label).strip("-.") or "model"
