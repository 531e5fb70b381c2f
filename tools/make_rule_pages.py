"""Write ``docs/rules``: a page for each rule, generated from its class, and a table of all of them.

``python -m tools.make_rule_pages`` writes; ``--check`` writes nothing and fails where a page differs, is
missing or belongs to no rule. Only rules of this package are documented: those of others bring their own
pages.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from interpret.checks.base import FAMILIES, Rule
from interpret.checks.registry import all_rules

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "rules"
OWN_PACKAGE = "interpret.checks."
INDEX = "README.md"


def own_rules() -> dict[str, type[Rule]]:
    """Rules of this package by code."""
    return {code: rule for code, rule in all_rules().items() if rule.__module__.startswith(OWN_PACKAGE)}


def page(rule: type[Rule]) -> str:
    """The page of a rule in Markdown."""
    family = rule.code[:2]
    control = inspect.getdoc(rule.control) or ""
    needs = ", ".join(sorted(rule.needs)) or "nothing"
    sections = [
        f"# {rule.code} {rule.name}",
        f"Severity: **{rule.severity}**. Family: {FAMILIES[family]} ({family}). Needs: {needs}.",
        f"Reported as: {rule.summary}.",
        "## What it does and why it matters",
        inspect.cleandoc(rule.__doc__ or ""),
        "## Example",
        rule.example,
        "## Measure and control",
        f"Measure: {sentence(inspect.getdoc(rule.measure) or '')}",
        f"Control: {sentence(control)}",
        f"Verdict: {sentence(inspect.getdoc(rule.verdict) or '')}",
        "## Remedy",
        rule.remedy,
        "## Reference",
        sentence(rule.reference),
        "## Select or ignore",
        f"    interpret diagnose CHECKPOINT --data DIR --output DIR --select {rule.code}\n"
        f"    interpret diagnose CHECKPOINT --data DIR --output DIR --ignore {rule.code}",
        f"A prefix selects a family: `--select {family}`. `interpret rules {rule.code}` prints this page.",
    ]
    return "\n\n".join(sections) + "\n"


def index(rules: Mapping[str, type[Rule]]) -> str:
    """The table of all rules by family in Markdown."""
    parts = [
        "# Rules",
        "Every finding of `interpret diagnose` has a code, a control it was held against and a remedy. These pages are "
        "generated from the rules by `python -m tools.make_rule_pages`.",
    ]
    for family, title in FAMILIES.items():
        members = [rule for code, rule in rules.items() if code.startswith(family)]
        if not members:
            continue
        rows = [f"| [{r.code}]({r.code}.md) | {r.name} | {r.severity} | {r.summary} |" for r in members]
        table = ["| code | name | severity | what it reports |", "| --- | --- | --- | --- |", *rows]
        parts += [f"## {family} {title}", "\n".join(table)]
    return "\n\n".join(parts) + "\n"


def sentence(text: str) -> str:
    """Text with a full stop at its end."""
    return text if text.endswith((".", "?", "!")) else f"{text}."


def pages() -> dict[str, str]:
    """All files of the folder by name."""
    rules = own_rules()
    return {INDEX: index(rules), **{f"{code}.md": page(rule) for code, rule in rules.items()}}


def differences(folder: Path, wanted: Mapping[str, str]) -> list[str]:
    """What is not as generated, one line each."""
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}
    lines = [f"{name} is missing" for name in wanted if name not in found]
    lines += [f"{name} belongs to no rule" for name in found if name not in wanted]
    lines += [f"{name} differs from its rule" for name in wanted if name in found and found[name] != wanted[name]]
    return sorted(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the pages; 1 where a check finds a difference."""
    parser = argparse.ArgumentParser(description="Write the page of each rule.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail where a page differs")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    options = parser.parse_args(arguments)
    wanted = pages()
    if options.check:
        lines = differences(options.folder, wanted)
        print(
            "\n".join([*lines, "run: python -m tools.make_rule_pages"])
            if lines
            else f"{len(wanted)} pages as generated"
        )
        return 1 if lines else 0
    options.folder.mkdir(parents=True, exist_ok=True)
    for path in options.folder.glob("*.md"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (options.folder / name).write_text(text, encoding="utf-8")
    print(f"{len(wanted)} pages written to {options.folder.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
