"""Pages on disk: JSON and CSV of each structure, a line each in a ledger, so that a killed run goes on."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interpret.pages.names import file_name
from interpret.pages.page import SCHEMA_VERSION
from interpret.pages.quantity import written
from interpret.tables import write_json, write_text
from model.errors import RecordError

LEDGER, MANIFEST, MAPPING = "pages.jsonl", "report.json", "mapping.csv"


@dataclass
class PageStore:
    """The folder of a report.

    ``report.json``: where the numbers come from and what the rules found; ``data/NAME.json`` and ``.pairs.csv``,
    ``.words.csv``, ``.atoms.csv``: one structure's; ``data/pages.jsonl``: one line a structure, appended when it is
    complete; ``mapping.csv``: id to name.

    Attributes:
        folder: of the report.
        rows: what the ledger says of each id, in the order in which they were first written.
    """

    folder: Path
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rows |= _read_ledger(self.data / LEDGER)
        self._taken = {row["name"].lower(): name for name, row in self.rows.items()}

    @property
    def data(self) -> Path:
        """Where the numbers are."""
        return self.folder / "data"

    def has(self, identifier: str, digest: str) -> bool:
        """Whether the page is complete and of the same network, data and options."""
        row = self.rows.get(identifier)
        return row is not None and row["digest"] == digest and (self.data / f"{row['name']}.json").is_file()

    def add(self, page: Mapping[str, Any], digest: str) -> dict[str, Any]:
        """Write the files of one structure, then its line; returns the line."""
        identifier = page["id"]
        name = file_name(identifier, self._taken)
        self._taken[name.lower()] = identifier
        write_text(self.data / f"{name}.json", compact(page) + "\n")
        for kind, content in (("pairs", pair_rows(page)), ("words", word_rows(page)), ("atoms", atom_rows(page))):
            write_text(self.data / f"{name}.{kind}.csv", as_csv(content))
        row = {"id": identifier, "name": name, "digest": digest} | index_row(page)
        self.rows[identifier] = row
        # Begins with an end of line: what a kill cut off stays a line of its own, which reading passes over.
        with (self.data / LEDGER).open("a", encoding="utf-8") as ledger:
            ledger.write("\n" + compact(row))
        return row

    def read(self, identifier: str) -> dict[str, Any]:
        """The page of a structure.

        Raises:
            RecordError: there is none, it cannot be read, or another version wrote it.
        """
        if identifier not in self.rows:
            raise RecordError(
                f"no structure {identifier!r} in the report {self.folder}: it has {len(self.rows)} others"
            )
        return read_page(self.data / f"{self.rows[identifier]['name']}.json")

    def write_manifest(self, content: Mapping[str, Any]) -> None:
        """report.json, and mapping.csv of every structure the folder has."""
        write_json(self.folder / MANIFEST, {"schema_version": SCHEMA_VERSION, **content})
        self.write_mapping()

    def write_mapping(self) -> None:
        """mapping.csv: which file belongs to which id."""
        write_text(self.folder / MAPPING, as_csv(self.rows.values(), ("id", "name")))

    def manifest(self) -> dict[str, Any]:
        """report.json.

        Raises:
            RecordError: the folder does not hold a report, or one of another version.
        """
        return _checked(self.folder / MANIFEST)


def read_page(path: Path) -> dict[str, Any]:
    """A page's JSON.

    Raises:
        RecordError: it cannot be read, or another version wrote it.
    """
    return _checked(path)


def _checked(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content.get("schema_version")
    except (OSError, ValueError, AttributeError) as error:
        raise RecordError(f"expected a report of this program in {path.parent}: {path.name}: {error}") from error
    if version != SCHEMA_VERSION:
        raise RecordError(
            f"expected schema version {SCHEMA_VERSION} in {path}, got {version!r}: run report again with this version"
        )
    result: dict[str, Any] = content
    return result


def compact(value: Any) -> str:
    """JSON on one line; characters that no file can hold are escaped."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text


def index_row(page: Mapping[str, Any]) -> dict[str, Any]:
    """What the index shows of a page."""
    structure, outcome, read = page["structure"], page["outcome"], page["reading"]
    return {
        "formula": structure["formula"],
        "elements": sorted(set(page["atoms"]["element"])),
        "atoms": structure["atoms"],
        "words": len(page["words"]["text"]),
        "space_group": structure["space_group"],
        "prediction": outcome["prediction"],
        "target": outcome["target"],
        "error": outcome["error"],
        "reading": None if read is None else read["mode"],
        "top_words": [] if read is None else [word["word"] for word in read["top_words"]],
        "text": "".join(text for _, text in page["segments"])[:200],
    }


def pair_rows(page: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row an (atom row, word) pair, a column a quantity and head, the controls beside them."""
    labels, words = page["atoms"]["label"], page["words"]["text"]
    maps = [quantity for quantity in page["quantities"] if {"atom", "word"} <= set(quantity["axes"])]
    if not maps:
        return []
    found = []
    for number, atoms in enumerate(page["rows"]):
        for column, word in enumerate(words):
            row: dict[str, Any] = {
                "atoms": " ".join(labels[atom] for atom in atoms),
                "word_index": column,
                "word": word,
            }
            for quantity in maps:
                row |= _cells(quantity, {"atom": number, "word": column}, (len(page["rows"]), len(words)))
            found.append(row)
    return found


def word_rows(page: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a word: what it is, and the quantities of the structure as a whole."""
    words = page["words"]
    found = []
    for column in range(len(words["text"])):
        row = {"word_index": column, **{name: values[column] for name, values in words.items()}}
        for quantity in page["quantities"]:
            if quantity["axes"] == ["word"]:
                row[quantity["name"]] = written(quantity["values"][column], quantity["decimals"])
            elif quantity["over_atoms"] is not None:
                over = quantity | {
                    "values": quantity["over_atoms"],
                    "axes": [axis for axis in quantity["axes"] if axis != "atom"],
                }
                row |= _cells(over, {"word": column}, (0, len(words["text"])))
        found.append(row)
    return found


def atom_rows(page: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row an atom: what and where it is, and its own quantities."""
    atoms, crystal = page["atoms"], page["crystal"]
    own = [quantity for quantity in page["quantities"] if quantity["axes"] == ["atom"]]
    return [
        {"atom": number}
        | {name: values[number] for name, values in atoms.items()}
        | dict(zip(("x", "y", "z"), crystal["positions"][number], strict=True))
        | {quantity["name"]: written(quantity["values"][number], quantity["decimals"]) for quantity in own}
        for number in range(len(atoms["label"]))
    ]


def _cells(quantity: Mapping[str, Any], at: Mapping[str, int], sizes: tuple[int, int]) -> dict[str, str]:
    """The columns of a quantity and its controls at an atom row and a word."""
    cells = {}
    heads = len(quantity["heads"])
    for head in range(max(1, heads)):
        name = quantity["name"] + ("" if not heads else ".all" if head == 0 else f".head_{head - 1}")
        for suffix, source in (("", quantity), *((f".{c['name']}", c) for c in quantity["controls"])):
            place = 0
            for axis in source["axes"]:
                size = {"head": heads, "atom": sizes[0], "word": sizes[1]}[axis]
                place = place * size + (head if axis == "head" else at[axis])
            cells[name + suffix] = written(source["values"][place], quantity["decimals"])
    return cells


def as_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Rows as CSV, with the columns of the first one unless they are named."""
    rows = list(rows)
    output = io.StringIO()
    if rows or columns:
        writer = csv.DictWriter(output, fieldnames=columns or list(rows[0]), lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    # A lone surrogate, which a text read from JSON can hold, has no encoding.
    return output.getvalue().encode("utf-8", "backslashreplace").decode("utf-8")


def _read_ledger(path: Path) -> dict[str, dict[str, Any]]:
    """The last line of each id; a line that was cut off by a kill is passed over."""
    rows: dict[str, dict[str, Any]] = {}
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return rows
    # Not splitlines: ids and texts may hold other line separators.
    for line in text.split("\n"):
        try:
            row = json.loads(line)
            rows[row["id"]] = row
        except (ValueError, KeyError, TypeError):
            continue
    return rows
