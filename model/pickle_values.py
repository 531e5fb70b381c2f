"""Containers and numpy numbers out of a pickle: our own functions in place of the constructors it names."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.inert_objects import UnsafePickleError, hashable, malformed

_NUMPY_MODULES = (
    "numpy.core.multiarray",
    "numpy._core.multiarray",
    "numpy.core.numeric",
    "numpy._core.numeric",
)
_NUMPY_KINDS = frozenset(
    ("?", "b", "B", "b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")
)
_NUMPY_TEXT = re.compile(r"[US][0-9]{1,6}")


@dataclass
class NumpyType:
    """A numpy dtype of plain numbers or text, rebuilt from its code."""

    code: str
    order: str = "="

    def build(self, state: object) -> None:
        """Take the byte order, the second entry of numpy's dtype state."""
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "=", "|"):
            malformed("the state of a numpy dtype")
        self.order = state[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype itself."""
        return np.dtype(self.code if self.order == "|" else self.order + self.code)


@dataclass(eq=False)
class NumpyArray:
    """A numpy array of plain numbers or text; ``array`` is None until the file has given its contents."""

    array: np.ndarray[Any, np.dtype[Any]] | None = None

    def build(self, state: object) -> None:
        """Take (version, shape, dtype, Fortran order, bytes)."""
        if not isinstance(state, tuple) or len(state) != 5:
            malformed("the state of a numpy array")
        _, shape, kind, fortran, raw = state
        self.array = _array(raw, kind, shape, "F" if fortran else "C")


def _dictionary(items: object = (), /) -> OrderedDict[object, object]:
    pairs = items.items() if isinstance(items, dict) else items
    if not isinstance(pairs, (list, tuple, type({}.items()))):
        malformed("a dictionary made of something else")
    return OrderedDict((hashable(key), value) for key, value in pairs)


def _default_dictionary(_factory: object = None, items: object = (), /) -> OrderedDict[object, object]:
    return _dictionary(items)


def _sequence(values: object = (), /) -> list[object]:
    if not isinstance(values, (list, tuple, set, frozenset)):
        malformed("a sequence made of something else")
    return list(values)


def _deque(values: object = (), _length: object = None, /) -> list[object]:
    return _sequence(values)


def _set(values: object = (), /) -> set[object]:
    return {hashable(value) for value in _sequence(values)}


def _frozen_set(values: object = (), /) -> frozenset[object]:
    return frozenset(_set(values))


def _tuple(values: object = (), /) -> tuple[object, ...]:
    return tuple(_sequence(values))


def _complex(real: object, imaginary: object, /) -> complex:
    if not isinstance(real, float) or not isinstance(imaginary, float):
        malformed("a complex number made of something else")
    return complex(real, imaginary)


def _byte_array(data: object = b"", encoding: object = "latin-1", /) -> bytearray:
    if isinstance(data, str):
        return bytearray(_encode(data, encoding))
    if not isinstance(data, bytes):
        malformed("a bytearray made of something else")
    return bytearray(data)


def _bytes(data: object = b"", /) -> bytes:
    return bytes(_byte_array(data))


def _encode(text: object, encoding: object = "latin1", /) -> bytes:
    """Protocols 0 to 2 spell bytes as text: ``_codecs.encode(text, "latin1")``."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        malformed("bytes in an encoding other than latin1")
    return text.encode("latin-1")


def _numpy_type(code: object, *_: object) -> NumpyType:
    if not isinstance(code, str):
        malformed("a numpy type without a code")
    if code.startswith("O"):
        # numpy would unpickle such elements itself.
        raise UnsafePickleError("the file asks for a numpy array of Python objects; refused, nothing was executed")
    if code not in _NUMPY_KINDS and not _NUMPY_TEXT.fullmatch(code):
        malformed("a numpy array of something other than numbers and text")
    return NumpyType(code)


def _array(raw: object, kind: object, shape: object, order: object) -> np.ndarray[Any, np.dtype[Any]]:
    if isinstance(raw, str):
        raw = _encode(raw)
    if not isinstance(raw, (bytes, bytearray)) or not isinstance(kind, NumpyType) or order not in ("C", "F"):
        malformed("the contents of a numpy array")
    sizes = shape if isinstance(shape, tuple) else (shape,)
    if not all(isinstance(size, int) and size >= 0 for size in sizes):
        malformed("the shape of a numpy array")
    flat = np.frombuffer(raw, dtype=kind.dtype) if raw else np.empty(0, kind.dtype)
    return flat.reshape(sizes, order="F" if order == "F" else "C")


def _numpy_scalar(kind: object, raw: object = b"", /) -> object:
    value: object = _array(raw, kind, (1,), "C")[0].item()
    return value


def _empty_array(*_: object) -> NumpyArray:
    return NumpyArray()


def _array_from_buffer(raw: object, kind: object, shape: object, order: object, /) -> NumpyArray:
    return NumpyArray(_array(raw, kind, shape, order))


CONTAINERS: Mapping[tuple[str, str], Callable[..., object]] = {
    ("collections", "OrderedDict"): _dictionary,
    ("collections", "defaultdict"): _default_dictionary,
    ("collections", "Counter"): _dictionary,
    ("collections", "deque"): _deque,
    ("builtins", "dict"): _dictionary,
    ("builtins", "list"): _sequence,
    ("builtins", "tuple"): _tuple,
    ("builtins", "set"): _set,
    ("builtins", "frozenset"): _frozen_set,
    ("builtins", "complex"): _complex,
    ("builtins", "bytearray"): _byte_array,
    ("builtins", "bytes"): _bytes,
    ("_codecs", "encode"): _encode,
}
NUMPY_FUNCTIONS: Mapping[tuple[str, str], Callable[..., object]] = {
    ("numpy", "dtype"): _numpy_type,
    ("numpy", "ndarray"): _empty_array,
    **{(module, "scalar"): _numpy_scalar for module in _NUMPY_MODULES},
    **{(module, "_reconstruct"): _empty_array for module in _NUMPY_MODULES},
    **{(module, "_frombuffer"): _array_from_buffer for module in _NUMPY_MODULES},
}
