"""Checkpoint files as data: PyTorch's zip and older formats and safetensors, read without executing anything.

``torch.load`` is not used: the archive is taken apart here, its pickle goes through
:mod:`model.inert_pickle`, and tensors are built from raw bytes by :mod:`model.tensor_records`. Every size
is checked against the bytes in the file before memory is asked for.
"""

from __future__ import annotations

import hashlib
import io
import stat
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from model.errors import CheckpointError
from model.inert_objects import MalformedPickleError, UnsafePickleError, malformed
from model.inert_pickle import PickleMachine
from model.pickle_policy import NamePolicy
from model.tensor_records import TYPES, TensorRecords

MAX_FILE_BYTES = 16 * 2**30
MAX_PICKLE_BYTES = 256 * 2**20
MAX_RECORDS = 1_000_000

FileFormat = Literal["zip", "legacy", "safetensors"]

# Files that torch.save wrote before version 1.6 begin with three pickles: this number, a version, the system.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001
_LEGACY_HEADER = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the weights: run 'git lfs pull'"),
    (b"\x89HDF", "is an HDF5 file, not a PyTorch checkpoint"),
    (b"\x1f\x8b", "is gzip-compressed: unpack it first"),
    (b"\x93NUMPY", "is a numpy array, not a PyTorch checkpoint"),
    (b"<", "is a web page or XML, not a checkpoint: download the file itself"),
)


@dataclass(frozen=True)
class CheckpointFile:
    """What a file holds.

    Attributes:
        content: containers, numbers, text, CPU tensors, and InertObject for anything else.
        format: how it was written.
        sha256: of exactly the bytes that were read.
    """

    content: object
    format: FileFormat
    sha256: str


def read_checkpoint(path: str | Path) -> CheckpointFile:
    """Read a checkpoint file; nothing that the file names is imported or called.

    Files up to 16 GiB; a pickle inside up to 256 MiB.

    Raises:
        CheckpointError: the file is missing, a directory, empty, truncated, not a checkpoint, or asks for
            something outside the tensor machinery (:class:`model.inert_objects.UnsafePickleError`).
    """
    path = Path(path)
    data = _read_bytes(path)
    try:
        content, form = _parse(data)
    except UnsafePickleError as error:
        raise UnsafePickleError(f"{path.name}: {error}") from error
    except CheckpointError as error:
        raise CheckpointError(f"{path.name} {error}") from error
    return CheckpointFile(content, form, hashlib.sha256(data).hexdigest())


def _read_bytes(path: Path) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise CheckpointError(f"{path} is a directory: give the checkpoint file inside it")
        if not stat.S_ISREG(status.st_mode):
            raise CheckpointError(f"{path} is not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            raise CheckpointError(f"{path.name} has {status.st_size} bytes, more than the {MAX_FILE_BYTES} accepted")
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no file {path}") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not data:
        raise CheckpointError(f"{path.name} is empty (0 bytes): copy or save it again")
    return data


def _parse(data: bytes) -> tuple[object, FileFormat]:
    if data[:4] == b"PK\x03\x04" or data[:4] == b"PK\x05\x06":
        return _read_zip(data), "zip"
    if len(data) > 9 and data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= len(data) - 8:
        return _read_safetensors(data), "safetensors"
    for signature, reason in _SIGNATURES:
        if data.startswith(signature):
            raise CheckpointError(reason)
    if data[257:262] == b"ustar":
        raise CheckpointError("is a tar archive: unpack it first, or save it with a PyTorch of version 0.4 or later")
    return _read_legacy(data), "legacy"


def _read_safetensors(data: bytes) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return dict(load(data))
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"is a damaged safetensors file: {error}") from error


class _Archive:
    """The zip that torch.save writes: NAME/data.pkl, NAME/data/KEY, NAME/byteorder; never compressed."""

    def __init__(self, data: bytes) -> None:
        self._zip = zipfile.ZipFile(io.BytesIO(data))
        entries = self._zip.infolist()
        self._entries = {entry.filename: entry for entry in entries}
        if len(self._entries) != len(entries) or len(entries) > MAX_RECORDS:
            raise CheckpointError("holds two records of the same name, or too many: it was tampered with")
        if sum(entry.file_size for entry in entries) > len(data):
            raise CheckpointError("declares records larger than the file itself: it is damaged or tampered with")
        roots = [name for name in self._entries if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(roots) != 1:
            raise CheckpointError("is a zip archive, but not one that torch.save wrote (it has no data.pkl)")
        self._root = roots[0].removesuffix("data.pkl")
        if f"{self._root}constants.pkl" in self._entries:
            raise CheckpointError("is a TorchScript program: save the model's state_dict() instead")

    def record(self, name: str, default: bytes | None = None) -> bytes:
        """The bytes of one record, its checksum verified."""
        entry = self._entries.get(self._root + name)
        if entry is None:
            if default is not None:
                return default
            raise CheckpointError(f"is damaged: its record {name} is missing")
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise CheckpointError("holds compressed or encrypted records: torch.save writes none")
        return self._zip.read(entry)

    def storage(self, key: str, size: int) -> bytearray:
        """The bytes of one storage of ``size`` bytes."""
        data = self.record(f"data/{key}")
        if len(data) != size:
            raise CheckpointError(f"is damaged: storage {key[:40]} has {len(data)} bytes, expected {size}")
        return bytearray(data)


def _read_zip(data: bytes) -> object:
    try:
        archive = _Archive(data)
        pickled = archive.record("data.pkl")
        if len(pickled) > MAX_PICKLE_BYTES:
            raise CheckpointError(f"holds a pickle of {len(pickled)} bytes, more than the {MAX_PICKLE_BYTES} accepted")
        order = archive.record("byteorder", b"little")
        if order not in (b"little", b"big"):
            raise CheckpointError("is damaged: its byte order is neither little nor big")
        return _run(io.BytesIO(pickled), TensorRecords(archive.storage, swap=order != sys.byteorder.encode()))
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, ValueError, RuntimeError) as error:
        reason = f"({error})" if "CRC" in str(error) else "(the directory at its end is missing or wrong)"
        raise CheckpointError(f"is truncated or damaged {reason}: copy it again") from error
    except MalformedPickleError as error:
        raise CheckpointError(f"is damaged or not a checkpoint: {error}") from error


def _run(stream: io.BytesIO, records: TensorRecords | None = None) -> object:
    if records is None:
        return PickleMachine(stream, NamePolicy({}, {})).load()
    return PickleMachine(stream, NamePolicy(records.functions, TYPES), records.persistent).load()


def _read_legacy(data: bytes) -> object:
    """Files of torch.save before version 1.6: header, the object, the storage keys, then raw storages."""
    stream = io.BytesIO(data)
    try:
        is_legacy = _run(stream) == _LEGACY_MAGIC
    except MalformedPickleError as error:
        raise CheckpointError(_describe_stranger(data)) from error
    if not is_legacy:
        raise CheckpointError("is a pickle, but not one that torch.save wrote: save the state dict with torch.save")
    try:
        if _run(stream) != _LEGACY_VERSION:
            raise CheckpointError("has an unknown version of the old PyTorch format")
        _run(stream)  # sizes of C types on the machine that wrote the file; storages are little-endian on all
        storages = _LegacyStorages(limit=len(data) - stream.tell())
        content = _run(stream, TensorRecords(storages.allocate, swap=sys.byteorder != "little"))
        storages.fill(_run(stream), data, stream.tell())
    except MalformedPickleError as error:
        raise CheckpointError(f"is truncated or damaged ({error}): copy it again") from error
    return content


def _describe_stranger(data: bytes) -> str:
    if data[: len(_LEGACY_HEADER)] == _LEGACY_HEADER[: len(data)]:
        return "is truncated: it ends within the header of a PyTorch checkpoint"
    try:
        is_text = data[:4096].decode("utf-8", "strict").isprintable() or b"\0" not in data[:4096]
    except UnicodeDecodeError:
        is_text = False
    found = "text" if is_text else "other data"
    return f"is not a checkpoint: expected a file of torch.save or safetensors, found {found}"


class _LegacyStorages:
    """Storages that follow the object that refers to them: allocated on first mention, filled at the end."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._buffers: dict[str, bytearray] = {}

    def allocate(self, key: str, size: int) -> bytearray:
        """A zeroed buffer of ``size`` bytes; all of them together fit into the file."""
        known = self._buffers.get(key)
        if known is None:
            self._left -= size
            if self._left < 0:
                malformed("its storages are larger than the file")
            known = self._buffers[key] = bytearray(size)
        if len(known) != size:
            malformed("a storage has two sizes")
        return known

    def fill(self, keys: object, data: bytes, start: int) -> None:
        """Copy the bytes that follow ``start``: for each key in turn, an int64 count and the elements."""
        if not isinstance(keys, list) or len(keys) != len(self._buffers) or set(keys) != self._buffers.keys():
            malformed("the list of storages does not match the tensors")
        view = memoryview(data)
        for key in keys:
            buffer = self._buffers[key]
            count = int.from_bytes(view[start : start + 8], "little")
            start += 8
            if (count == 0) != (not buffer) or (count and len(buffer) % count) or start + len(buffer) > len(data):
                malformed("a storage ends early")
            memoryview(buffer)[:] = view[start : start + len(buffer)]
            start += len(buffer)
