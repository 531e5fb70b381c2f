"""Findings for machines keep their text whatever it holds."""

from __future__ import annotations

from types import SimpleNamespace

from interpret.checks.base import Finding
from reports.formats import to_github, to_sarif


def result_with(text: str) -> SimpleNamespace:
    finding = Finding(
        code="GA301",
        name="alpha, spread",
        severity="warning",
        text=text,
        remedy="100 % care",
        reference="none",
        effect=1.2,
        effect_what="ratio",
        control=1.0,
        control_what="independent channels",
        interval=(1.1, 1.3),
        structures=50,
        units=("a", "b"),
    )
    provenance = {"checkpoint": {"path": "best.pt"}, "versions": {"crystal-interpret": "0.1.0"}}
    return SimpleNamespace(findings=(finding,), provenance=provenance)


def test_github_command_is_one_line_and_escaped() -> None:
    lines = to_github(result_with("first\nsecond: 5 %"))  # type: ignore[arg-type]
    assert lines == [
        "::warning title=GA301 alpha%2C spread::first%0Asecond: 5 %25. Remedy: 100 %25 care",
    ]


def test_sarif_has_what_the_standard_requires() -> None:
    log = to_sarif(result_with("text <b>"), {})  # type: ignore[arg-type]
    run = log["runs"][0]
    assert log["version"] == "2.1.0"
    assert run["tool"]["driver"]["name"] == "crystal-interpret"
    found = run["results"][0]
    assert found["ruleId"] == "GA301"
    assert found["level"] == "warning"
    assert found["message"]["text"].startswith("text <b>. Remedy")
    assert found["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "best.pt"
