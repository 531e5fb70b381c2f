"""Two attention maps of one structure on one scale with their difference, as a page that opens offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interpret.pages.names import file_name
from interpret.pages.page import MOST_CELLS
from interpret.pages.quantity import integers, most_different
from interpret.tables import write_text
from model.errors import RecordError
from reports.html.render import render

DECIMALS = 6


def write_pair_pages(table: pd.DataFrame, labels: tuple[str, str], folder: Path, back: str = "") -> dict[str, Path]:
    """A page for each structure of a table of map pairs; returns the files by id.

    Args:
        table: rows of :func:`interpret.heatmap.heatmap_rows` of both models, with a column ``model`` of ``a`` and
            ``b``, as ``Comparison.heatmaps`` has them.
        labels: names of the two models.
        folder: for the pages.
        back: relative address of the page that leads here.

    Raises:
        RecordError: the two maps of a structure are not of the same atoms and words.
    """
    written: dict[str, Path] = {}
    taken: dict[str, str] = {}
    for identifier, rows in table.groupby("id", sort=False) if len(table) else ():
        name = file_name(str(identifier), taken)
        taken[name.lower()] = str(identifier)
        path = folder / f"{name}.html"
        write_text(path, pair_page(rows, labels, back))
        written[str(identifier)] = path
    return written


def pair_page(rows: pd.DataFrame, labels: tuple[str, str], back: str = "") -> str:
    """The page of one structure.

    Raises:
        RecordError: the two maps are not of the same atoms and words.
    """
    first, second = (rows[rows["model"] == model].reset_index(drop=True) for model in ("a", "b"))
    keys = ["atom", "word_index", "word"]
    if not len(first) or not first[keys].equals(second[keys]):
        raise RecordError(
            f"expected the maps of both models over the same atoms and words for {rows['id'].iloc[0]!r}, "
            f"got {len(first)} and {len(second)} cells"
        )
    words = first.drop_duplicates("word_index").sort_values("word_index")
    # Row by row of atoms grouped by orbit, as they are drawn.
    order = first.drop_duplicates("atom").sort_values("orbit", kind="stable")
    every = order["atom"].tolist()
    most = max(8, MOST_CELLS // (2 * len(words)))
    kept = most_different(np.hstack([_grid(table, every) for table in (first, second)]), most)
    order = order.iloc[kept]
    atoms = order["atom"].tolist()
    data: dict[str, Any] = {
        "labels": list(labels),
        "decimals": DECIMALS,
        "atoms": atoms,
        "orbits": [int(orbit) for orbit in order["orbit"]],
        "words": words["word"].tolist(),
        "uniform": integers(words["uniform"].to_numpy(dtype=np.float64), DECIMALS),
        "a": integers(_grid(first, atoms), DECIMALS),
        "b": integers(_grid(second, atoms), DECIMALS),
    }
    head = first.iloc[0]
    return render(
        "pair.html.j2",
        scripts=("core.js", "pair.js"),
        data=data,
        key="",
        id=str(head["id"]),
        formula=str(head["formula"]),
        labels=labels,
        tap=str(head["tap"]),
        chosen=str(head.get("chosen", "")),
        back=back,
        cut=f"{len(atoms)} of {len(every)} atoms, chosen to differ most" if len(atoms) < len(every) else "",
    )


def _grid(table: pd.DataFrame, atoms: list[str]) -> Any:
    return table.pivot(index="atom", columns="word_index", values="weight").loc[atoms].to_numpy(dtype=np.float64)
