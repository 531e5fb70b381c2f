"""The committed rule pages are those the classes give."""

from __future__ import annotations

from pathlib import Path

import pytest

from interpret.checks.base import Measured, Rule, Verdict
from interpret.checks.evidence import Evidence
from interpret.checks.registry import all_rules
from tools import make_rule_pages


def test_committed_pages_are_as_generated(capsys: pytest.CaptureFixture[str]) -> None:
    status = make_rule_pages.main(["--check"])
    assert status == 0, capsys.readouterr().out


def test_every_page_holds_all_that_a_rule_states() -> None:
    texts = make_rule_pages.pages()
    for code, rule in make_rule_pages.own_rules().items():
        text = texts[f"{code}.md"]
        for part in (rule.name, rule.severity, rule.summary, rule.example, rule.remedy, rule.reference):
            assert part in text, (code, part)
        assert f"--ignore {code}" in text
        control = rule.control.__doc__
        assert control, f"{code} does not say what its control is"
        assert control.strip().splitlines()[0] in text
        assert f"[{code}]({code}.md)" in texts[make_rule_pages.INDEX]


def test_check_names_what_differs_is_missing_and_is_left_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make_rule_pages.main(["--folder", str(tmp_path)]) == 0
    assert make_rule_pages.main(["--folder", str(tmp_path), "--check"]) == 0
    first, second = sorted(make_rule_pages.own_rules())[:2]
    (tmp_path / f"{first}.md").unlink()
    (tmp_path / f"{second}.md").write_text("edited by hand", encoding="utf-8")
    (tmp_path / "CK999.md").write_text("# CK999", encoding="utf-8")
    capsys.readouterr()
    assert make_rule_pages.main(["--folder", str(tmp_path), "--check"]) == 1
    said = capsys.readouterr().out
    assert f"{first}.md is missing" in said
    assert f"{second}.md differs" in said
    assert "CK999.md belongs to no rule" in said
    # Writing puts everything right, the page without a rule included.
    make_rule_pages.main(["--folder", str(tmp_path)])
    assert make_rule_pages.main(["--folder", str(tmp_path), "--check"]) == 0


def test_rules_of_other_packages_get_no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere(Rule):
        """A rule of another package."""

        code = "MO999"
        name = "elsewhere"
        severity = "info"
        summary = example = remedy = reference = "none"

        def measure(self, evidence: Evidence) -> Measured:
            raise NotImplementedError

        def control(self, evidence: Evidence) -> Measured:
            raise NotImplementedError

        def verdict(self, effect: Measured, control: Measured) -> Verdict:
            raise NotImplementedError

    rules = {**all_rules(), "MO999": Elsewhere}
    monkeypatch.setattr(make_rule_pages, "all_rules", lambda: rules)
    assert "MO999.md" not in make_rule_pages.pages()
    assert "MO999" not in make_rule_pages.pages()[make_rule_pages.INDEX]
