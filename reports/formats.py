"""Findings for machines: SARIF 2.1.0 and GitHub workflow commands."""

from __future__ import annotations

from typing import Any

from interpret.checks.base import Finding, Rule
from interpret.results import Diagnosis

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_SARIF_LEVEL = {"info": "note", "warning": "warning", "error": "error"}
_GITHUB_LEVEL = {"info": "notice", "warning": "warning", "error": "error"}


def to_sarif(result: Diagnosis, rules: dict[str, type[Rule]]) -> dict[str, Any]:
    """The findings as a SARIF 2.1.0 log (OASIS standard), located at the checkpoint file.

    Args:
        rules: those that were asked, by code; all are listed, so that a viewer can tell clear from not asked.
    """
    checkpoint = str(result.provenance["checkpoint"].get("path", "checkpoint"))
    driver = {
        "name": "crystal-interpret",
        "version": result.provenance["versions"]["crystal-interpret"],
        "rules": [
            {
                "id": code,
                "name": rule.name,
                "shortDescription": {"text": rule.summary},
                "fullDescription": {"text": " ".join((rule.__doc__ or rule.summary).split())},
                "help": {"text": f"{rule.remedy}\n\nReference: {rule.reference}"},
                "defaultConfiguration": {"level": _SARIF_LEVEL[rule.severity]},
            }
            for code, rule in rules.items()
        ],
    }
    return {
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": [_sarif_result(f, checkpoint) for f in result.findings]}],
    }


def _sarif_result(finding: Finding, checkpoint: str) -> dict[str, Any]:
    return {
        "ruleId": finding.code,
        "level": _SARIF_LEVEL[finding.severity],
        "message": {"text": f"{finding.text}. Remedy: {finding.remedy}"},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": checkpoint}}}],
        "properties": {"control": finding.control_what, "structures": finding.structures, "units": list(finding.units)},
    }


def to_github(result: Diagnosis) -> list[str]:
    """One workflow command a finding, so that it is annotated in a pull request."""
    return [
        f"::{_GITHUB_LEVEL[f.severity]} title={_escape_property(f'{f.code} {f.name}')}::"
        f"{_escape_message(f'{f.text}. Remedy: {f.remedy}')}"
        for f in result.findings
    ]


def _escape_message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape_message(text).replace(":", "%3A").replace(",", "%2C")
