"""A comparison as one HTML page that opens offline: tables, and figures as data: URIs."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from interpret.compare.comparison import Comparison
from interpret.compare.groups import GroupComparison
from interpret.compare.pairing import folder_name
from interpret.pages.names import file_name
from interpret.tables import write_text
from reports.compare_figures import draw_comparison, draw_groups
from reports.html.pair import write_pair_pages

TEMPLATES = Path(__file__).with_name("templates")
MOST_ROWS = 20
PAIR_FOLDER = "pairs"
# Where the per-structure pages of ``interpret report`` are looked for, from the folder of the comparison.
PAGE_FOLDERS = ("structures", "report/structures", "../report/structures")

_STATISTICS = {
    "metric": "metric",
    "mean_a": "a",
    "mean_b": "b",
    "difference": "b - a",
    "ci_low": "CI low",
    "ci_high": "CI high",
    "percent_change": "%",
    "p_value": "p",
    "p_adjusted": "p adjusted",
    "effect_size": "d_z",
    "structures": "structures",
    "undefined": "undefined",
    "gap": "gap",
}


def save_comparisons(results: Sequence[Comparison], output: Path) -> list[Path]:
    """Save, draw and write the page of each; returns their folders.

    One comparison is in ``output`` itself; several are in a folder each, named after the two models, with an index.
    """
    names = [folder_name(f"{own.labels[0]}-vs-{own.labels[1]}") for own in results]
    folders = [output] if len(results) == 1 else [output / f"{i}-{name}" for i, name in enumerate(names, start=1)]
    for result, folder in zip(results, folders, strict=True):
        result.save(folder)
        write_comparison_page(result, folder, draw_comparison(result, folder))
    if len(results) > 1:
        sentences = ("Identical." if own.identical else own.movement.sentence for own in results)
        write_many_page({folder.name: text for folder, text in zip(folders, sentences, strict=True)}, output)
    return folders


def save_group_comparison(result: GroupComparison, output: Path) -> None:
    """Save, draw and write the page of a comparison of groups."""
    result.save(output)
    write_group_page(result, output, draw_groups(result, output))


def write_comparison_page(comparison: Comparison, folder: Path, figures: Sequence[Path]) -> Path:
    """Write index.html for a comparison, with the figures drawn from it; returns the file."""
    statistics = comparison.statistics
    sections: list[dict[str, Any]] = [
        _section(
            str(name),
            _renamed(own, _STATISTICS),
            f"{len(own)} metrics; a is {comparison.labels[0]}, b is "
            f"{comparison.labels[1]}. A value that is undefined is empty.",
        )
        for name, own in statistics.groupby("phenomenon", sort=False)
    ]
    sections += [
        _section("Errors", comparison.errors, "On the labelled structures; mean_predictor is the yardstick."),
        _section(
            "Where the two disagree most", comparison.predictions.head(MOST_ROWS), "b - a in the unit of the target."
        ),
        _section(
            "Attention against error", comparison.attention_error, "Spearman's correlation over structures: no cause."
        ),
        _section(
            "Which head is which",
            comparison.matches,
            "runner_up is the control: a match that is not certain says nothing.",
        ),
        _section(
            "Heads that moved",
            _moved_heads(comparison),
            "Matched heads with an adjusted p-value below 0.05, largest first.",
        ),
        _section(
            "Word rankings",
            _rankings(comparison),
            "By attention over uniform, with what a random ranking gives; all scopes in rankings.csv.",
        ),
        _section(
            "Same stage in both",
            _same_stages(comparison),
            "cka_untrained is the control: the first model against an untrained copy of the second.",
        ),
        _section("Gates by element", comparison.gates.head(60), "Mean alpha over atoms."),
    ]
    page: dict[str, Any] = {
        "title": f"{comparison.labels[0]} against {comparison.labels[1]}",
        "sentence": "Identical." if comparison.identical else comparison.movement.sentence,
        "verdict": comparison.hypothesis,
        "notes": comparison.notes,
        "skipped": comparison.skipped,
        "summary": f"{comparison.structures} structures",
        "sections": [section for section in sections if section["rows"]],
        "figures": _figures(figures),
        "links": _links(folder, comparison.predictions["id"]),
        "pairs": {
            name: f"{PAIR_FOLDER}/{path.name}"
            for name, path in write_pair_pages(
                comparison.heatmaps, comparison.labels, folder / PAIR_FOLDER, back="../index.html"
            ).items()
        },
        "provenance": _provenance({"a": comparison.provenance["a"], "b": comparison.provenance["b"]}),
    }
    return _write(page, folder)


def write_group_page(comparison: GroupComparison, folder: Path, figures: Sequence[Path]) -> Path:
    """Write index.html for a comparison of groups; returns the file."""
    counts = [f"{label}: {', '.join(own)}" for label, own in zip(comparison.labels, comparison.members, strict=True)]
    sections = [
        _section(
            str(name), own.drop(columns="phenomenon"), "in_seed_sds is the difference over the spread between seeds."
        )
        for name, own in comparison.statistics.groupby("phenomenon", sort=False)
    ]
    page: dict[str, Any] = {
        "title": f"{comparison.labels[0]} against {comparison.labels[1]}",
        "sentence": comparison.sentence,
        "verdict": None,
        "notes": (*counts, *comparison.notes),
        "skipped": (),
        "summary": f"{comparison.structures} structures",
        "sections": sections,
        "figures": _figures(figures),
        "links": {},
        "pairs": {},
        "provenance": _provenance(comparison.provenance["models"]),
    }
    return _write(page, folder)


def write_many_page(pages: Mapping[str, str], folder: Path) -> Path:
    """Write index.html that leads to the comparisons in subfolders, from path to sentence; returns the file."""
    template = _environment().get_template("compare_many.html.j2")
    write_text(folder / "index.html", template.render(pages=pages))
    return folder / "index.html"


def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(TEMPLATES)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _write(page: Mapping[str, Any], folder: Path) -> Path:
    write_text(folder / "index.html", _environment().get_template("compare.html.j2").render(page))
    return folder / "index.html"


def _section(title: str, table: pd.DataFrame, note: str) -> dict[str, Any]:
    return {
        "title": title[0].upper() + title[1:],
        "note": note,
        "columns": [str(name) for name in table.columns],
        "rows": [[_cell(value) for value in row] for row in table.itertuples(index=False)],
    }


def _cell(value: Any) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _renamed(table: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    return table[list(names)].rename(columns=dict(names))


def _moved_heads(comparison: Comparison) -> pd.DataFrame:
    table = comparison.heads
    moved = table[table["p_adjusted"] < 0.05]
    order = moved["effect_size"].abs().sort_values(ascending=False, kind="stable").index
    columns = [
        "tap",
        "head_a",
        "head_b",
        "certain",
        "metric",
        "mean_a",
        "mean_b",
        "difference",
        "ci_low",
        "ci_high",
        "p_adjusted",
    ]
    return moved.loc[order, columns].head(MOST_ROWS)


def _rankings(comparison: Comparison) -> pd.DataFrame:
    table = comparison.rankings
    return table[(table["score"] == "ratio") & (table["scope"] != "element")].drop(columns="score")


def _same_stages(comparison: Comparison) -> pd.DataFrame:
    table = comparison.representations
    return table[table["stage_a"] == table["stage_b"]] if len(table) else table


def _figures(paths: Iterable[Path]) -> list[dict[str, str]]:
    return [
        {
            "name": path.stem.replace("_", " "),
            "source": "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii"),
        }
        for path in paths
    ]


def _links(folder: Path, ids: Iterable[str]) -> dict[str, str]:
    """Pages of structures that exist, by id."""
    found = {}
    for own in ids:
        for place in PAGE_FOLDERS:
            # The name that interpret report gives the page: safe whatever the id is.
            page = f"{place}/{file_name(own, {})}.html"
            if (folder / page).is_file():
                found[own] = page
                break
    return found


def _provenance(runs: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    lines = []
    for name, run in runs.items():
        checkpoint, encoder = run.get("checkpoint", {}), run.get("encoder", {})
        source = checkpoint.get("path", checkpoint.get("source", "unknown"))
        digest = str(checkpoint.get("sha256", ""))[:16]
        lines.append((name, f"{source} {digest}; encoder {encoder.get('name')} {str(encoder.get('fingerprint'))[:16]}"))
    return lines
