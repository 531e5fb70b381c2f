"""A report over a data set: pages drawn one structure at a time from saved numbers, and an index."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

from interpret.checks.estimates import FEWEST_STRUCTURES
from interpret.checks.registry import all_rules
from interpret.pages.sentences import isolated
from interpret.pages.store import MANIFEST, PageStore
from interpret.tables import write_text
from reports.html.element_colours import element_colour
from reports.html.render import render, template_digest
from reports.html.whiskers import with_marks
from reports.rule_pages import rule_dict

MOST_IN_NOTEBOOK = 20
MOST_TEXT_IN_INDEX = 60
_VERDICTS = {"error": "poor", "warning": "acceptable"}
INDEX_COLUMNS = (
    "id", "name", "formula", "elements", "atoms", "space_group", "prediction", "target", "error",
    "verdict", "reading", "words", "codes", "text",
)  # fmt: skip


@dataclass(frozen=True)
class Report:
    """The pages of a data set, drawn from saved numbers alone.

    Attributes:
        store: the numbers.
        manifest: report.json: what they come from, what the rules found.
    """

    store: PageStore
    manifest: Mapping[str, Any]

    @classmethod
    def from_results(cls, path: str | Path) -> Report:
        """A report from the folder that ``interpret report`` wrote; neither the model nor the data is needed.

        Raises:
            RecordError: the folder does not hold a report, or one of another version.
        """
        store = PageStore(Path(path))
        return cls(store, store.manifest())

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the structures that have numbers."""
        return tuple(self.store.rows)

    def page(self, identifier: str) -> dict[str, Any]:
        """The numbers of one structure's page.

        Raises:
            RecordError: there are none.
        """
        return self.store.read(identifier)

    def html_path(self, identifier: str) -> Path:
        """Where a structure's page is."""
        return self.store.folder / "structures" / f"{self.store.rows[identifier]['name']}.html"

    def draw(self, identifier: str) -> Path:
        """Write the page of one structure, unless it is there as it would be drawn; returns its path."""
        path = self.html_path(identifier)
        row = self.store.rows[identifier]
        key = hashlib.sha256(f"{self._key}{row['digest']}".encode()).hexdigest()
        if not _drawn_with(path, key):
            write_text(path, self.html(identifier, key))
        return path

    def html(self, identifier: str, key: str = "") -> str:
        """One structure's page."""
        page = self.store.read(identifier)
        findings = self.findings
        own = [finding for finding in findings if identifier in finding["units"]]
        diagnosis = self.manifest["diagnosis"]
        shown = {name: page[name] for name in _SCRIPT_NEEDS} | {
            "structure": {"truncated": page["structure"]["truncated"]},
            "element_colours": {symbol: element_colour(symbol) for symbol in set(page["atoms"]["element"])},
        }
        return render(
            "page.html.j2",
            scripts=("core.js", "crystal.js", "flow.js", "page.js"),
            data=shown,
            key=key,
            page=page,
            name=self.store.rows[identifier]["name"],
            has_maps=any("word" in quantity["axes"] for quantity in page["quantities"]),
            has_atom_quantities=any(quantity["axes"] == ["atom"] for quantity in page["quantities"]),
            diagnosis=diagnosis,
            own=own,
            general=[finding for finding in findings if finding not in own],
            rules=self._rules,
            notes=self.manifest["notes"],
            usual=diagnosis["mean_absolute_error"] if diagnosis else None,
            origin=self.origin,
        )

    def draw_index(self) -> Path:
        """Write the index over all structures that have a page, and mapping.csv; returns its path."""
        self.store.write_mapping()
        path = self.store.folder / "index.html"
        write_text(path, self.index_html([name for name in self.ids if self.html_path(name).is_file()]))
        return path

    def index_html(self, ids: Sequence[str]) -> str:
        """The index over some structures."""
        return render(
            "index.html.j2",
            scripts=("core.js", "index.js"),
            data={"columns": INDEX_COLUMNS, "rows": [self._index_row(self.store.rows[name]) for name in ids]},
            key="",
            count=len(ids),
            diagnosis=self.manifest["diagnosis"],
            notes=self.manifest["notes"],
            skipped=self.manifest["skipped"],
            fewest=FEWEST_STRUCTURES,
            explainers=with_marks(self.manifest.get("explainers") or []),
            origin=self.origin,
        )

    def draw_all(self) -> Iterator[Path]:
        """Write every page, one at a time, then the index."""
        for identifier in self.ids:
            yield self.draw(identifier)
        yield self.draw_index()

    @property
    def findings(self) -> list[dict[str, Any]]:
        """What the rules found, most severe first; empty where none were asked."""
        diagnosis = self.manifest["diagnosis"]
        return list(diagnosis["findings"]) if diagnosis else []

    @property
    def origin(self) -> str:
        """Which checkpoint, encoder and version the numbers are of."""
        checkpoint, encoder = self.manifest["checkpoint"], self.manifest["encoder"]
        versions = self.manifest["versions"]
        trained = "" if encoder["trained"] else " (untrained: nothing that depends on the text can be trusted)"
        return (
            f"Checkpoint “{checkpoint['name']}”, text encoder {encoder['name']}{trained}, "
            f"crystal-interpret {versions['crystal-interpret']}."
        )

    def _index_row(self, row: Mapping[str, Any]) -> list[Any]:
        naming = [finding for finding, units in self._units if row["id"] in units]
        worst = next((_VERDICTS[f["severity"]] for f in naming if f["severity"] in _VERDICTS), "good")
        values = dict(row) | {
            "codes": sorted({finding["code"] for finding in naming}),
            "verdict": worst if self.manifest["diagnosis"] else "",
            "words": ", ".join(map(isolated, row["top_words"])),
            "text": row["text"][:MOST_TEXT_IN_INDEX],
        }
        return [values[name] for name in INDEX_COLUMNS]

    @cached_property
    def _units(self) -> list[tuple[dict[str, Any], frozenset[str]]]:
        return [(finding, frozenset(finding["units"])) for finding in self.findings]

    @cached_property
    def _rules(self) -> dict[str, dict[str, Any]]:
        known = all_rules()
        return {code: rule_dict(known[code]) for code in {f["code"] for f in self.findings} if code in known}

    @cached_property
    def _key(self) -> str:
        """Everything all pages depend on, the numbers aside."""
        content = [template_digest(), self.manifest["diagnosis"], self.manifest["notes"], self.origin]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _repr_html_(self) -> str:
        """The first structures as a table with links, for notebooks."""
        head = ("formula", "id", "prediction", "target", "error", "reading", "stands out")
        lines = []
        for row in list(self.store.rows.values())[:MOST_IN_NOTEBOOK]:
            link = escape(self.html_path(row["id"]).as_posix(), quote=True)
            cells = [
                f'<a href="{link}">{escape(row["formula"])}</a>',
                *(escape("" if row[name] is None else str(row[name])) for name in ("id", *head[2:6])),
                escape(", ".join(row["top_words"])),
            ]
            lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
        more = len(self.store.rows) - len(lines)
        return (
            f"<p>{escape(self.origin)}</p><table><thead><tr>"
            + "".join(f"<th>{name}</th>" for name in head)
            + f"</tr></thead><tbody>{''.join(lines)}</tbody></table>"
            + (f"<p>{more} more in {escape((self.store.folder / MANIFEST).as_posix())}</p>" if more > 0 else "")
        )


_SCRIPT_NEEDS = (
    "words", "segments", "atoms", "rows", "crystal", "gates", "heads", "flow", "quantities", "reading",
)  # fmt: skip


def _drawn_with(path: Path, key: str) -> bool:
    """Whether a page is there that was drawn from the same numbers, findings and templates."""
    try:
        with path.open("rb") as file:
            return f'content="{key}"'.encode() in file.read(2048)
    except OSError:
        return False
