"""Files are whole or not there, and shards keep what was done."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from interpret.tables import ORDER, Shards, atomic_path, plain, write_json
from model.dataset import Skipped


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "table.csv"
    target.write_text("old", encoding="utf-8")

    def write_half() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("ha", encoding="utf-8")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_half()
    assert target.read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_json_has_null_for_what_is_undefined(tmp_path: Path) -> None:
    value = {"b": float("nan"), "a": [np.float64(1.5), np.int64(2), float("inf")], "c": Path("x"), "d": (True, None)}
    write_json(tmp_path / "value.json", value)
    assert json.loads((tmp_path / "value.json").read_text(encoding="utf-8")) == {
        "a": [1.5, 2, None],
        "b": None,
        "c": "x",
        "d": [True, None],
    }
    assert plain({1: {2}}) == {"1": [2]}


def rows(*orders: int) -> dict[str, list[dict[str, object]]]:
    return {"structures": [{ORDER: order, "id": f"s{order}", "value": order / 2} for order in orders], "atoms": []}


def test_shards_come_back_in_the_order_of_the_data(tmp_path: Path) -> None:
    shards = Shards(tmp_path / "work", "run one")
    shards.write([2, 3], rows(3, 2), [], {"n": 2})
    shards.write([0, 1], rows(0), [(1, Skipped("s1", 7, "structure", "broken"))], {"n": 1})
    again = Shards(tmp_path / "work", "run one")
    assert again.done() == {0, 1, 2, 3}
    assert list(again.table("structures")["id"]) == ["s0", "s2", "s3"]
    assert again.table("atoms").empty
    assert again.skipped() == [Skipped("s1", 7, "structure", "broken")]
    assert [extra["n"] for extra in again.extras()] == [1, 2]


def test_shards_of_another_run_are_thrown_away(tmp_path: Path) -> None:
    Shards(tmp_path / "work", "run one").write([0], rows(0), [], None)
    assert Shards(tmp_path / "work", "run two").done() == set()


def test_half_written_shard_does_not_count(tmp_path: Path) -> None:
    shards = Shards(tmp_path / "work", "run")
    shards.write([0], rows(0), [], None)
    broken = tmp_path / "work" / "shard-00000005"
    broken.mkdir()
    pd.DataFrame(rows(5)["structures"]).to_parquet(broken / "structures.parquet")
    assert Shards(tmp_path / "work", "run").done() == {0}
