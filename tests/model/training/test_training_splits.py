"""Splits: reproducible, complete, and without leaks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from model.equality import signature
from model.structure import Structure
from model.training import PreparedData, Splits, TrainingError
from model.training.splits import check_leaks, read_splits, split_by_share

IDS = tuple(f"crystal-{number}" for number in range(50))


def test_shares_are_met_and_reproducible() -> None:
    splits = split_by_share(IDS, IDS, (0.8, 0.1, 0.1), 3)
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [40, 5, 5]
    assert split_by_share(IDS, IDS, (0.8, 0.1, 0.1), 3) == splits
    assert split_by_share(IDS, IDS, (0.8, 0.1, 0.1), 4) != splits
    assert sorted((*splits.train, *splits.val, *splits.test)) == sorted(IDS)


def test_order_of_the_table_does_not_matter() -> None:
    one = split_by_share(IDS, IDS, (0.8, 0.1, 0.1), 0)
    other = split_by_share(IDS[::-1], IDS[::-1], (0.8, 0.1, 0.1), 0)
    assert set(one.test) == set(other.test)
    assert set(one.val) == set(other.val)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=20, max_size=60), st.integers(0, 1000))
def test_groups_are_never_divided(labels: list[int], seed: int) -> None:
    ids = [f"{number}" for number in range(len(labels))]
    # Groups as large as a split can leave one empty, which is refused and tested elsewhere.
    assume(max(labels.count(label) for label in labels) <= 0.2 * len(labels))
    splits = split_by_share(ids, labels, (0.6, 0.2, 0.2), seed)
    of = splits.of()
    for label in set(labels):
        assert len({of[each] for each, other in zip(ids, labels, strict=True) if other == label and each in of}) <= 1


def test_shares_below_one_leave_samples_out() -> None:
    splits = split_by_share(IDS, IDS, (0.2, 0.1, 0.1), 0)
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [10, 5, 5]


def test_no_test_split_on_request() -> None:
    assert split_by_share(IDS, IDS, (0.9, 0.1, 0.0), 0).test == ()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_too_few(count: int) -> None:
    with pytest.raises(TrainingError, match=f"at least 4 usable samples .*, got {count}"):
        split_by_share(IDS[:count], IDS[:count], (0.8, 0.1, 0.1), 0)


def test_all_of_one_structure_leaves_a_split_empty() -> None:
    with pytest.raises(TrainingError, match="expected samples in every split, got none for"):
        split_by_share(IDS, ["same"] * len(IDS), (0.8, 0.1, 0.1), 0)


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"train": ["a", "b"], "val": ["c"], "test": ["d"], "source": "x"}),
        json.dumps({"id_train": ["a", "b"], "id_val": ["c"], "id_test": ["d"]}),
        "id,split\na,train\nb,training\nc,valid\nd,test\n",
        "\ufeffsplit,extra,id\ntrain,1,a\ntrain,2,b\nval,3,c\ntest,4,d\n\n",
    ],
)
def test_files_of_ids(content: str, tmp_path: Path) -> None:
    (tmp_path / "splits").write_text(content, encoding="utf-8")
    splits = read_splits(tmp_path / "splits", "abcd", ())
    assert (splits.train, splits.val, splits.test) == (("a", "b"), ("c",), ("d",))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (json.dumps({"train": ["a"], "val": ["a"], "test": []}), "expected each id once .*: a"),
        (json.dumps({"train": ["a", "x"], "val": ["b"]}), "does not have: x"),
        (json.dumps({"train": ["a"], "val": ["z"]}), "'val' of .* is empty: none of the 1 ids"),
        (json.dumps({"train": ["a"]}), "'val' of .* is empty: it lists no id"),
        (json.dumps([1, 2]), "expected lists of ids"),
        (json.dumps({"a": 1}), "expected lists of ids"),
        ("{", "not JSON"),
        ("id,split\na,foo\n", "expected train, val or test in row 1 .*, got 'foo'"),
        ("a,b\n1,2\n", "columns id and split"),
    ],
)
def test_files_that_cannot_be_used(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "splits").write_text(content, encoding="utf-8")
    with pytest.raises(TrainingError, match=words):
        read_splits(tmp_path / "splits", "abcd", {"z"})


def test_samples_that_cannot_be_used_are_left_out_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "splits").write_text(json.dumps({"train": ["a", "z"], "val": ["b"]}), encoding="utf-8")
    splits = read_splits(tmp_path / "splits", "ab", {"z"})
    assert splits.train == ("a",)
    assert "1 of its samples cannot be used" in splits.source


def test_identical_structure_in_two_splits_is_refused(prepared: PreparedData) -> None:
    first, second, third = prepared.examples[:3]
    signatures = {
        first.id: first.signature,
        "copy": first.signature,
        second.id: second.signature,
        third.id: third.signature,
    }
    with pytest.raises(TrainingError, match=r"one structure is in the splits test and train under the ids .*copy"):
        check_leaks(Splits(train=(first.id, second.id), val=(third.id,), test=("copy",)), signatures)
    found = check_leaks(Splits(train=(first.id, "copy"), val=(third.id,), test=(second.id,)), signatures)
    assert (found.identical, found.equivalent) == (2, 0)


def test_id_in_two_splits_is_refused(prepared: PreparedData) -> None:
    a, b = prepared.examples[:2]
    with pytest.raises(TrainingError, match="expected each id in one split"):
        check_leaks(Splits(train=(a.id, b.id), val=(a.id,), test=()), {a.id: a.signature, b.id: b.signature})


def test_equivalent_structures_across_splits_are_counted(prepared: PreparedData) -> None:
    first, second, third = prepared.examples[:3]
    graph = first.graph
    double = Structure(
        np.diag([2.0, 1.0, 1.0]) @ graph.lattice,
        np.concatenate([(graph.fractional_coordinates + np.array([shift, 0, 0])) / [2, 1, 1] for shift in (0, 1)]),
        graph.elements * 2,
    )
    signatures = {each.id: each.signature for each in (first, second, third)} | {"double": signature(double)}
    found = check_leaks(Splits(train=(first.id, second.id), val=(third.id,), test=("double",)), signatures)
    assert (found.identical, found.equivalent) == (0, 1)
    assert found.examples == (("double", first.id),)


def test_copies_are_kept_together_by_shares(prepared: PreparedData) -> None:
    copies = [replace(example, id=f"{example.id}-copy") for example in prepared.examples]
    examples = [*prepared.examples, *copies]
    ids = [example.id for example in examples]
    for seed in range(5):
        splits = split_by_share(ids, [each.signature.identical for each in examples], (0.8, 0.1, 0.1), seed)
        assert check_leaks(splits, {each.id: each.signature for each in examples}).equivalent == 0
