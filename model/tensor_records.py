"""Tensors out of raw storages, with every index checked against the bytes that are there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.inert_objects import ClassName, malformed

MAX_DIMENSIONS = 32
# A tensor may repeat its storage (stride 0), which costs nothing in the file: up to this many in all.
MAX_REPEATED_ELEMENTS = 2**24

_STORAGE_TYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
    "UntypedStorage": torch.uint8,
}
_STORAGE_MODULES = frozenset({"torch", "torch.cuda", "torch.storage"})
TYPES: Mapping[str, object] = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (*_STORAGE_TYPES.values(), torch.float8_e4m3fn, torch.float8_e5m2)
} | {
    "strided": "strided",
    "double": torch.float64,
    "float": torch.float32,
    "half": torch.float16,
    "long": torch.int64,
}


class TensorRecords:
    """Answers the persistent ids and the tensor functions of one file.

    Args:
        read: raw bytes of the storage with this key, of exactly the size asked for (in bytes).
        swap: the storages have the other byte order than this machine.
    """

    def __init__(self, read: Callable[[str, int], bytearray], *, swap: bool = False) -> None:
        self._read = read
        self._swap = swap
        self._storages: dict[tuple[str, torch.dtype], Tensor] = {}
        self._repeated = 0

    @property
    def functions(self) -> Mapping[tuple[str, str], Callable[..., object]]:
        """Our replacements of torch's reconstruction functions, by (module, name)."""
        tensors: dict[tuple[str, str], Callable[..., object]] = {
            ("torch._utils", "_rebuild_tensor"): self._tensor,
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_tensor_v3"): self._tensor_of_type,
            ("torch._utils", "_rebuild_parameter"): _parameter,
            ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
        }
        return {
            **tensors,
            ("torch._tensor", "_rebuild_from_type_v2"): lambda function, _kind, args, _state: _nested(
                tensors, function, args
            ),
            ("torch", "Size"): _size,
            ("torch", "device"): _device,
        }

    def persistent(self, identifier: object) -> object:
        """The storage of the id ("storage", type, key, location, count), as a flat tensor on the CPU."""
        if not isinstance(identifier, tuple) or len(identifier) not in (5, 6) or identifier[0] != "storage":
            malformed("a reference to something other than a storage")
        _, kind, key, _, count = identifier[:5]
        if len(identifier) == 6 and identifier[5] is not None:
            malformed("a view of a storage, which PyTorch stopped writing before version 1")
        if not isinstance(kind, ClassName) or kind.module not in _STORAGE_MODULES or kind.name not in _STORAGE_TYPES:
            malformed(f"a storage of type {kind}" if isinstance(kind, ClassName) else "a storage without a type")
        if not isinstance(key, str) or type(count) is not int or count < 0:
            malformed("the key or size of a storage")
        return self._storage(key, _STORAGE_TYPES[kind.name], count)

    def _storage(self, key: str, dtype: torch.dtype, count: int) -> Tensor:
        known = self._storages.get((key, dtype))
        if known is not None and len(known) == count:
            return known
        data = self._read(key, count * dtype.itemsize)
        if self._swap and dtype.itemsize > 1:
            width = dtype.itemsize // (2 if dtype.is_complex else 1)
            data = bytearray(np.frombuffer(data, dtype=f"u{width}").byteswap().tobytes())
        flat = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
        self._storages[key, dtype] = flat
        return flat

    def _tensor(
        self,
        storage: object,
        offset: object,
        size: object,
        stride: object,
        _requires_grad: object = False,
        _hooks: object = None,
        metadata: object = None,
        /,
    ) -> Tensor:
        if not isinstance(storage, Tensor):
            malformed("a tensor has no storage")
        if metadata:
            malformed("a tensor with metadata")
        sizes, strides = _indices(size), _indices(stride)
        (start,) = _indices((offset,))
        if len(sizes) != len(strides) or len(sizes) > MAX_DIMENSIONS:
            malformed("the shape and the strides of a tensor differ in length")
        count = 1
        for extent in sizes:
            count *= extent
        if count == 0:
            return torch.empty(0, dtype=storage.dtype).reshape(sizes)
        last = start + sum((extent - 1) * step for extent, step in zip(sizes, strides, strict=True))
        if last >= len(storage):
            malformed(f"a tensor of shape {sizes} reaches element {last} of a storage of {len(storage)}")
        self._repeated += max(0, count - len(storage))
        if self._repeated > MAX_REPEATED_ELEMENTS:
            malformed("tensors far larger than their storages")
        return torch.as_strided(storage, sizes, strides, start)

    def _tensor_of_type(
        self,
        storage: object,
        offset: object,
        size: object,
        stride: object,
        _requires_grad: object,
        _hooks: object,
        dtype: object,
        metadata: object = None,
        /,
    ) -> Tensor:
        if not isinstance(storage, Tensor) or not isinstance(dtype, torch.dtype):
            malformed("a tensor has no storage or no type")
        raw = storage.view(torch.uint8) if len(storage) else storage
        if len(raw) % dtype.itemsize:
            malformed(f"a storage of {len(raw)} bytes holds no whole number of {dtype}")
        typed = raw.view(dtype) if len(raw) else torch.empty(0, dtype=dtype)
        return self._tensor(typed, offset, size, stride, False, None, metadata)


def _indices(values: object) -> tuple[int, ...]:
    if not isinstance(values, tuple):
        malformed("the shape of a tensor")
    for value in values:
        if type(value) is not int or not 0 <= value < 2**48:
            malformed("the shape, stride or offset of a tensor")
    return values


def _parameter(data: object, *_: object) -> Tensor:
    if not isinstance(data, Tensor):
        malformed("a parameter has no tensor")
    return data


def _nested(tensors: Mapping[tuple[str, str], Callable[..., object]], function: object, args: Any) -> object:
    if not isinstance(function, ClassName) or function.key not in tensors or not isinstance(args, tuple):
        malformed("a tensor is rebuilt by something other than a tensor function")
    return tensors[function.key](*args)


def _size(values: object = (), /) -> tuple[int, ...]:
    return _indices(tuple(values) if isinstance(values, list) else values)


def _device(kind: object, index: object = None, /) -> str:
    if not isinstance(kind, str) or not isinstance(index, (int, type(None))):
        malformed("a device")
    return kind if index is None else f"{kind}:{index}"
