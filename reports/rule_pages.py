"""Rules for people: the list, and one page each, from the rule classes alone."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from interpret.checks.base import FAMILIES, Rule


def rule_dict(rule: type[Rule]) -> dict[str, Any]:
    """What a rule says of itself."""
    return {
        "code": rule.code,
        "name": rule.name,
        "severity": rule.severity,
        "family": FAMILIES[rule.code[:2]],
        "needs": sorted(rule.needs),
        "summary": rule.summary,
        "description": inspect.cleandoc(rule.__doc__ or ""),
        "measure": _first_line(rule.measure),
        "control": _first_line(rule.control),
        "verdict": _first_line(rule.verdict),
        "example": rule.example,
        "remedy": rule.remedy,
        "reference": rule.reference,
    }


def _first_line(method: Any) -> str:
    return inspect.cleandoc(method.__doc__ or "").split("\n\n")[0].replace("\n", " ")


def rule_table(rules: Mapping[str, type[Rule]]) -> list[str]:
    """One line a rule, grouped by family."""
    lines = []
    family = ""
    for code, rule in rules.items():
        if code[:2] != family:
            family = code[:2]
            lines.append(f"{family} {FAMILIES[family]}")
        lines.append(f"  {code} {rule.severity:7} {rule.summary}")
    return lines


def rule_page(rule: type[Rule]) -> str:
    """The page of a rule in Markdown."""
    content = rule_dict(rule)
    return "\n\n".join(
        (
            f"# {content['code']} {content['name']}",
            f"{content['severity']}, {content['family']}: {content['summary']}.",
            f"## What it does and why it matters\n\n{content['description']}",
            "## How it decides\n\n"
            f"- Measured: {content['measure']}\n- Control: {content['control']}\n- Verdict: {content['verdict']}",
            f"## Example\n\n{content['example']}",
            f"## Remedy\n\n{content['remedy']}",
            f"## Reference\n\n{content['reference']}",
            f"Leave it out with `--ignore {content['code']}`, ask it alone with "
            f"`{' '.join(filter(None, (rule.option, '--select', rule.code)))}`.",
        )
    )
