"""Which samples are trained on, which choose the epoch, and which are kept for the test; and that none leaks."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from model.equality import Signature, equal_groups
from model.training.errors import TrainingError

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
FEWEST_SAMPLES = 4
# The names that splits have in files of other programs.
_ALIASES = {
    "train": "train",
    "training": "train",
    "id_train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "id_val": "val",
    "test": "test",
    "id_test": "test",
}


class Splits(BaseModel):
    """Ids of each split.

    Attributes:
        train, val, test: ids, in the order of the data set.
        source: how they came about.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    source: str = ""

    def ids(self, split: str) -> tuple[str, ...]:
        """The ids of one split.

        Raises:
            TrainingError: there is no such split.
        """
        if split not in SPLITS:
            raise TrainingError(f"expected one of the splits {', '.join(SPLITS)}, got {split!r}")
        ids: tuple[str, ...] = getattr(self, split)
        return ids

    def of(self) -> dict[str, str]:
        """The split of each id."""
        return {identifier: split for split in SPLITS for identifier in self.ids(split)}


class Duplicates(BaseModel):
    """Structures that occur more than once.

    Attributes:
        identical: structures that another id of the same split has as well, cell and atoms the same.
        equivalent: structures of val or test whose crystal is in the training split too, in another cell or under
            another id; their errors are those of memory.
        examples: pairs of ids of the latter, ten at most.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    identical: int = 0
    equivalent: int = 0
    examples: tuple[tuple[str, str], ...] = ()


def split_by_share(
    ids: Sequence[str], groups: Sequence[object], shares: tuple[float, float, float], seed: int
) -> Splits:
    """Divide at random; the order of the ids does not matter.

    Args:
        ids: of all samples.
        groups: a label for each; samples of one label stay together.
        shares: of train, val and test; what they leave of 1 is not used.
        seed: of the division.

    Raises:
        TrainingError: too few samples, or a split would be empty.
    """
    if len(ids) < FEWEST_SAMPLES:
        raise TrainingError(
            f"expected at least {FEWEST_SAMPLES} usable samples to train, validate and test on, got {len(ids)}"
        )
    members: dict[object, list[str]] = {}
    for identifier, group in sorted(zip(ids, groups, strict=True), key=lambda pair: pair[0]):
        members.setdefault(group, []).append(identifier)
    blocks = list(members.values())
    order = np.random.default_rng(seed).permutation(len(blocks))
    room = {
        "test": max(1, round(shares[2] * len(ids))) if shares[2] else 0,
        "val": max(1, round(shares[1] * len(ids))),
    }
    # What is left is for training, but not more of it than asked for.
    room["train"] = max(1, round(shares[0] * len(ids))) if sum(shares) < 1 - 1e-9 else len(ids)
    chosen: dict[str, str] = {}
    for block in (blocks[number] for number in order):
        split = next((name for name in ("test", "val", "train") if room[name] >= len(block)), None)
        if split is not None:
            room[split] -= len(block)
            chosen.update(dict.fromkeys(block, split))
    source = f"shares {shares[0]:g}/{shares[1]:g}/{shares[2]:g}, seed {seed}"
    found = {split: tuple(each for each in ids if chosen.get(each) == split) for split in SPLITS}
    empty = [split for split in SPLITS if not found[split] and not (split == "test" and not shares[2])]
    if empty:
        raise TrainingError(
            f"expected samples in every split, got none for {' and '.join(empty)} from {len(ids)} samples "
            f"in {len(blocks)} groups of equal structures: give more samples or a file of ids (data.splits)"
        )
    return Splits(**found, source=source)


def read_splits(path: str | Path, known: Iterable[str], left_out: Collection[str]) -> Splits:
    """Splits from a file of ids; those of samples that cannot be used are left out.

    Args:
        path: JSON with lists under train, val and test (also id_train, id_val, id_test), or a table with a header
            and the columns id and split.
        known: ids of the usable samples.
        left_out: ids of the data set that cannot be used.

    Raises:
        TrainingError: the file cannot be read, an id is in two splits or in none of the data set, or a split is empty.
    """
    path = Path(path).expanduser()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"the splits {path} cannot be read: {error}") from error
    listed = _from_json(text, path) if text.lstrip().startswith(("{", "[")) else _from_table(text, path)
    twice = [each for each, count in Counter(i for ids in listed.values() for i in ids).items() if count > 1]
    if twice:
        raise TrainingError(f"expected each id once in {path}, got more than once: {_some(twice)}")
    usable = set(known)
    strange = [each for ids in listed.values() for each in ids if each not in usable and each not in left_out]
    if strange:
        raise TrainingError(f"{path} names ids that the data set does not have: {_some(strange)}")
    found = {split: tuple(each for each in listed.get(split, ()) if each in usable) for split in SPLITS}
    for split in SPLITS:
        if not found[split] and (split != "test" or listed.get("test")):
            of = f"none of the {len(listed[split])} ids it lists can be used" if listed.get(split) else "it lists no id"
            raise TrainingError(f"the split {split!r} of {path} is empty: {of}")
    lost = sum(map(len, listed.values())) - sum(map(len, found.values()))
    return Splits(**found, source=path.name + (f", {lost} of its samples cannot be used" if lost else ""))


def check_leaks(splits: Splits, signatures: Mapping[str, Signature]) -> Duplicates:
    """Refuse splits that share an id or a structure; count the crystals they share under another description.

    Raises:
        TrainingError: an id or an identical structure is in two splits.
    """
    of = splits.of()
    if len(of) < sum(len(splits.ids(split)) for split in SPLITS):
        twice = [each for each, n in Counter(i for split in SPLITS for i in splits.ids(split)).items() if n > 1]
        raise TrainingError(f"expected each id in one split, got in several: {_some(twice)}")
    ids = list(of)
    same: dict[str, list[str]] = {}
    for each in ids:
        same.setdefault(signatures[each].identical, []).append(each)
    for alike in same.values():
        where = {of[each] for each in alike}
        if len(where) > 1:
            raise TrainingError(
                f"one structure is in the splits {' and '.join(sorted(where))} under the ids {_some(alike)}: a test on "
                "what was trained on says nothing; remove the copies or put them into one split"
            )
    groups = equal_groups([signatures[each] for each in ids])
    trained = {group: each for each, group in zip(ids, groups, strict=True) if of[each] == "train"}
    pairs = [
        (each, trained[group])
        for each, group in zip(ids, groups, strict=True)
        if of[each] != "train" and group in trained
    ]
    return Duplicates(
        identical=sum(len(alike) for alike in same.values() if len(alike) > 1),
        equivalent=len(pairs),
        examples=tuple(pairs[:10]),
    )


def _from_json(text: str, path: Path) -> dict[str, list[str]]:
    try:
        document: Any = json.loads(text)
    except ValueError as error:
        raise TrainingError(f"the splits {path} are not JSON: {error}") from error
    listed: dict[str, list[str]] = {}
    for name, ids in document.items() if isinstance(document, dict) else ():
        split = _ALIASES.get(str(name).lower())
        if split is None or not isinstance(ids, list):
            continue
        if split in listed:
            raise TrainingError(f"expected the split {split!r} once in {path}")
        listed[split] = [str(each) for each in ids]
    if not listed:
        raise TrainingError(f"expected lists of ids under train, val and test in {path}, found none")
    return listed


def _from_table(text: str, path: Path) -> dict[str, list[str]]:
    rows = list(csv.reader(io.StringIO(text)))
    header = [name.strip().lower() for name in rows[0]] if rows else []
    if "id" not in header or "split" not in header:
        raise TrainingError(f"expected JSON or a table with the columns id and split in {path}, got {header[:5]}")
    at_id, at_split = header.index("id"), header.index("split")
    listed: dict[str, list[str]] = {}
    for number, row in enumerate(rows[1:], start=1):
        if not any(row):
            continue
        name = row[at_split].strip() if len(row) > max(at_id, at_split) else ""
        if name.lower() not in _ALIASES:
            raise TrainingError(f"expected train, val or test in row {number} of {path}, got {name!r}")
        listed.setdefault(_ALIASES[name.lower()], []).append(row[at_id].strip())
    return listed


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
