"""``interpret diagnose --attribution`` from the command line to the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

import cli
from interpret.attribution import AttributionTables


@pytest.mark.slow
def test_diagnose_with_attribution(make_network: Any, textbook_data: Path, tmp_path: Path) -> None:
    make_network().save_pretrained(tmp_path / "checkpoint")
    arguments = ["diagnose", str(tmp_path / "checkpoint"), "--data", str(textbook_data), "--limit", "4"]
    arguments += ["--output", str(tmp_path / "out"), "--encoder", "random:12", "--attribution", "--select", "AT"]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    assert "without the words named most important" in result.output
    written = {path.name for path in (tmp_path / "out").iterdir()}
    names = ("attribution", "faithfulness", "randomisation", "head_importance", "attribution_summary")
    assert {f"{name}.{end}" for name in names for end in ("csv", "parquet")} <= written
    tables = AttributionTables.load(tmp_path / "out")
    faithfulness = pd.read_csv(tmp_path / "out" / "faithfulness.csv")
    assert {"random", "uniform", "position", "frequency", "ablation", "attention"} <= set(faithfulness["method"])
    # Salt has an empty text: nothing to attribute to, and it says so.
    assert "words of salt" in tables.notes
    assert "salt" in set(faithfulness[faithfulness["side"] == "graph"]["id"])
    codes = {rule["code"] for rule in json.loads((tmp_path / "out" / "diagnosis.json").read_text())["rules"]}
    assert {"AT620", "AT621", "AT622", "AT623"} <= codes
    assert not (tmp_path / "out" / ".progress-attribution").exists()
