"""Where the weights and the configuration are inside what people save."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.architecture import ANCHOR
from model.config import ModelConfig
from model.errors import CheckpointError
from model.inert_objects import InertObject

WEIGHT_ENTRIES = ("model", "model_state_dict", "state_dict", "model_state")
BARE = "bare state dict"
_USUAL = ("", *WEIGHT_ENTRIES)
CONFIG_ENTRIES = ("config", "model_config", "args", "hyper_parameters")
CONFIG_FILE = "config.json"
MAX_CONFIG_BYTES = 16 * 2**20

_COMPILED = "_orig_mod."
# Weights by which the prefix that a wrapper put before every name is recognised.
_LANDMARKS = (ANCHOR, "text_projection.projection.weight", "graph_projection.projection.weight")
# Spelling of the published configuration where it differs from ModelConfig's.
LEGACY_FIELDS = frozenset(
    (
        *("name", "mask_stopwords", "remove_stopwords", "stopwords_dir", "zero_inflated"),
        *("use_middle_fusion_attention", "middle_fusion_attention_use_gate"),
        "middle_fusion_attention_use_projection",
    )
)
Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Weights:
    """The state dict of a file and how it was found.

    Attributes:
        state: tensors by upstream parameter name.
        layout: the entry that held them.
        prefix: what wrappers had put before every name.
        outside: names without that prefix.
        unused: other entries that hold weights of the family too.
    """

    state: dict[str, Tensor]
    layout: str
    prefix: str
    outside: tuple[str, ...]
    unused: tuple[str, ...]

    @property
    def is_wrapped(self) -> bool:
        """Whether the weights were an entry among others."""
        return self.layout != BARE


@dataclass(frozen=True)
class FoundConfig:
    """A configuration as plain values: the model's fields, names not known, what stood beside them."""

    source: str
    fields: dict[str, Any]
    unknown: tuple[str, ...] = ()
    training: dict[str, Scalar] = field(default_factory=dict)


def find_weights(content: object) -> Weights:
    """The weights under one of the usual entries, or bare, without the prefixes of wrappers.

    Raises:
        CheckpointError: there are none, or more than one candidate that differ.
    """
    if isinstance(content, InertObject):
        raise CheckpointError(
            f"holds a pickled object of class {content.kind}, not weights: save its state_dict() instead"
        )
    if not isinstance(content, Mapping):
        raise CheckpointError(f"holds a {type(content).__name__}, expected a dictionary of weights")
    candidates = _candidates(content)
    if not candidates:
        raise CheckpointError(_no_weights(content))
    usual = {name: state for name, state in candidates.items() if name in _USUAL} or candidates
    (layout, state), *others = usual.items()
    if not all(_equal(state, other) for _, other in others):
        listed = ", ".join(f"{clean(name) or 'top level'} ({len(each)} tensors)" for name, each in usual.items())
        raise CheckpointError(f"holds more than one set of weights: {listed}; keep one of them and save again")
    renamed, prefix, outside = _strip(state)
    unused = tuple(clean(name) for name in candidates if name not in usual)
    place = f"entry '{clean(layout)}'" if layout else BARE
    return Weights(renamed, place, clean(prefix), outside, unused)


def _candidates(content: Mapping[object, object]) -> dict[str, dict[str, Tensor]]:
    found = {"": _tensors(content)} | {
        key: _tensors(value) for key, value in content.items() if isinstance(key, str) and isinstance(value, Mapping)
    }
    found = {name: state for name, state in found.items() if state}
    familiar = {name: state for name, state in found.items() if _looks_familiar(state)}
    strangers = sorted((name for name in found if name in _USUAL), key=lambda name: -len(found[name]))
    return familiar or {name: found[name] for name in strangers[:1]}


def _tensors(value: Mapping[Any, object]) -> dict[str, Tensor]:
    return {key: item for key, item in value.items() if isinstance(key, str) and isinstance(item, Tensor)}


def _looks_familiar(state: Mapping[str, Tensor]) -> bool:
    return any(name.replace(_COMPILED, "").endswith(_LANDMARKS) for name in state)


def _equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype and torch.equal(first[name], second[name]) for name in first
    )


def _no_weights(content: Mapping[object, object]) -> str:
    for key in WEIGHT_ENTRIES:
        if isinstance(value := content.get(key), InertObject):
            return f"holds a pickled object of class {value.kind} under '{key}': save its state_dict() instead"
    entries = ", ".join(clean(str(key), 40) for key in list(content)[:8]) or "nothing"
    usual = ", ".join(WEIGHT_ENTRIES)
    return f"holds no weights: expected them under one of {usual}, or at the top level; found {entries}"


def _strip(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str, tuple[str, ...]]:
    """Names without the common prefix of a wrapper (DataParallel, torch.compile, Lightning)."""
    compiled = any(_COMPILED in name for name in state)
    plain = {name.replace(_COMPILED, ""): value for name, value in state.items()}
    if len(plain) != len(state):
        raise CheckpointError(f"holds the same weight with and without {_COMPILED}: keep one of them and save again")
    prefixes: list[str] = []
    for landmark in _LANDMARKS:
        prefixes = sorted({n.removesuffix(landmark) for n in plain if n == landmark or n.endswith("." + landmark)})
        if prefixes:
            break
    if len(prefixes) > 1 and "" not in prefixes:
        listed = ", ".join(f"{clean(prefix)}*" for prefix in prefixes[:8])
        raise CheckpointError(f"holds more than one network: {listed}; keep one of them and save again")
    prefix = "" if not prefixes or "" in prefixes else prefixes[0]
    inside = {n.removeprefix(prefix): value for n, value in plain.items() if n.startswith(prefix)}
    outside = tuple(name for name in plain if not name.startswith(prefix))
    return inside, (_COMPILED if compiled else "") + prefix, outside


def find_config(content: object) -> FoundConfig | None:
    """The configuration inside a file, None where it has none of the family."""
    if not isinstance(content, Mapping):
        return None
    for entry in CONFIG_ENTRIES:
        value = content.get(entry)
        kind = f" ({value.kind})" if isinstance(value, InertObject) else ""
        found = _read_config(value, f"entry '{entry}'{kind}")
        if found is not None:
            return found
    return None


def find_config_beside(path: Path) -> FoundConfig | None:
    """The configuration in config.json beside a file, None where there is none of the family.

    Raises:
        CheckpointError: config.json cannot be read.
    """
    beside = path.parent / CONFIG_FILE
    return _read_config(read_json(beside), f"{CONFIG_FILE} beside the file") if beside.is_file() else None


def read_json(path: Path) -> object:
    """The value in a JSON file of at most 16 MiB.

    Raises:
        CheckpointError: it is too large, cannot be read, or is not JSON.
    """
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise CheckpointError(f"has a {path.name} larger than a configuration can be ({MAX_CONFIG_BYTES} bytes)")
        value: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"has a {path.name} that is not JSON ({error}): correct or remove it") from error
    return value


def _read_config(value: object, source: str) -> FoundConfig | None:
    """The mapping that holds the model's fields: this one, or the one under 'model' or 'config' inside it."""
    known = ModelConfig.model_fields.keys() | LEGACY_FIELDS
    levels: list[dict[str, object]] = []
    while (level := _as_mapping(value)) is not None and len(levels) < 3:
        levels.append(level)
        value = next((level[key] for key in ("model", "config") if _as_mapping(level.get(key)) is not None), None)
    best = max(levels, key=lambda level: len(known & level.keys()), default={})
    if len(known & best.keys()) < 2:
        return None
    training: dict[str, Scalar] = {}
    for level in levels[: levels.index(best)]:
        training.update(scalars(level))
    training.update(scalars({key: item for key, item in best.items() if key not in known}))
    fields = {key: _field_value(item) for key, item in best.items() if key in known}
    return FoundConfig(source, fields, tuple(sorted(clean(key) for key in set(best) - known)), training)


def _as_mapping(value: object) -> dict[str, object] | None:
    """A dictionary, or the attributes in the record of an object, or those in JSON text; one level only."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if isinstance(value, InertObject):
        state = value.state
        if isinstance(state, tuple):
            # (dictionary, slots), as objects with __slots__ have it.
            state = next((part for part in state if isinstance(part, Mapping)), None)
        if isinstance(state, Mapping):
            # pydantic keeps its fields one level further down.
            inner = state.get("__dict__")
            value = inner if isinstance(inner, Mapping) else state
        else:
            value = value.items
    if not isinstance(value, Mapping):
        return None
    return {key: item for key, item in value.items() if isinstance(key, str)}


def _field_value(value: object) -> object:
    """A member of an enumeration as its value."""
    if isinstance(value, InertObject) and len(value.args) == 1:
        return value.args[0]
    return value


def scalars(content: Mapping[Any, object]) -> dict[str, Scalar]:
    """The entries that are plain numbers, short text or None: epoch, val_mae and the like."""
    kept: dict[str, Scalar] = {}
    for key, value in content.items():
        if isinstance(value, Tensor) and value.dim() == 0 and not value.is_complex():
            value = value.item()
        if isinstance(key, str) and (value is None or isinstance(value, str | int | float | bool)):
            kept[clean(key)] = clean(value, 500) if isinstance(value, str) else value
    return kept


def clean(text: str, limit: int = 80) -> str:
    """Text out of a file as it may be shown: printable and short."""
    return "".join(c if c.isprintable() else "?" for c in text[:limit]) + ("..." if len(text) > limit else "")
