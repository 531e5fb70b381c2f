"""Files as data: what is read equals what torch reads, and nothing a file names is imported or called."""

from __future__ import annotations

import argparse
import builtins
import collections
import copyreg
import datetime
import enum
import functools
import importlib
import io
import os
import pathlib
import pickle
import struct
import subprocess
import sys
import types
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.errors import CheckpointError
from model.inert_objects import InertObject, UnsafePickleError
from model.pickle_values import NumpyArray
from model.restricted_reader import read_checkpoint

FORMATS = {"zip": True, "legacy": False}
DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
    torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128,
]  # fmt: skip


def write_zip(path: Path, pickled: bytes, storages: dict[str, bytes] | None = None, **options: Any) -> Path:
    """An archive laid out as torch.save does, around any pickle."""
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("x/data.pkl", pickled)
        archive.writestr("x/byteorder", "little")
        for key, data in (storages or {}).items():
            archive.writestr(f"x/data/{key}", data)
    return path


def same(found: Any, expected: Any) -> bool:
    """Equality in type and value, through containers."""
    if isinstance(expected, torch.Tensor):
        return (
            isinstance(found, torch.Tensor)
            and found.dtype == expected.dtype
            and found.shape == expected.shape
            and torch.equal(found, expected)
        )
    if isinstance(expected, dict):
        return list(found) == list(expected) and all(same(found[key], expected[key]) for key in expected)
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(same, found, expected))
    return type(found) is type(expected) and found == expected


# What is read.


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_tensors_and_containers_come_back_equal(tmp_path: Path, form: str, protocol: int) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    content = {
        "dtypes": {str(dtype): torch.tensor([0, 1, 3], dtype=dtype) for dtype in DTYPES},
        "views": [base, base[1:3, ::2], base.T, base[2, 4], torch.empty(0, 3), torch.tensor(7)],
        "nested": collections.OrderedDict([("a", (1, 2.5, None, True)), ("b", [b"bytes", "text", 2**70])]),
        "kinds": ({"x"}, frozenset({1}), complex(1, 2), bytearray(b"ab"), {3: "int", 2.5: "float"}),
        "size": torch.Size([2, 3]),
    }
    path = tmp_path / "file.pt"
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=FORMATS[form])
    file = read_checkpoint(path)
    assert file.format == form
    assert same(file.content, content)


@pytest.mark.parametrize("form", FORMATS)
def test_views_share_one_storage_as_they_did(tmp_path: Path, form: str) -> None:
    base = torch.zeros(6)
    path = tmp_path / "file.pt"
    torch.save([base, base[2:4]], path, _use_new_zipfile_serialization=FORMATS[form])
    whole, part = read_checkpoint(path).content
    whole[2] = 5
    assert part[0] == 5


def test_parameters_come_as_plain_tensors(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    parameter = torch.nn.Parameter(torch.ones(2))
    torch.save({"p": parameter}, path)
    found = read_checkpoint(path).content["p"]
    assert type(found) is torch.Tensor
    assert not found.requires_grad


def test_big_endian_storages_are_swapped(tmp_path: Path) -> None:
    state = {
        "f": torch.tensor([1.5, -2.0]),
        "c": torch.tensor([1 + 2j]),
        "i": torch.tensor([258], dtype=torch.int16),
    }
    path, swapped = tmp_path / "file.pt", tmp_path / "swapped.pt"
    torch.save(state, path)
    widths = dict(zip("012", (4, 4, 2), strict=True))
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(swapped, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith("byteorder"):
                data = b"big"
            elif "/data/" in name:
                width = widths[name.rsplit("/", 1)[1]]
                data = np.frombuffer(data, f"u{width}").byteswap().tobytes()
            target.writestr(name, data)
    assert same(read_checkpoint(swapped).content, state)


def test_archives_from_before_the_byte_order_record_are_little_endian(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", tensor(0, (2,), (1,)))
        archive.writestr("archive/data/0", struct.pack("<4f", 1, 2, 3, 4))
        archive.writestr("archive/version", "3\n")
    assert read_checkpoint(path).content.tolist() == [1, 2]


def test_safetensors(tmp_path: Path) -> None:
    state = {"a": torch.rand(2, 3), "b": torch.tensor([1, 2])}
    path = tmp_path / "weights.pt"
    safetensors.torch.save_file(state, path)
    file = read_checkpoint(path)
    assert file.format == "safetensors"
    assert same(dict(sorted(file.content.items())), state)


def test_tensors_of_other_devices_come_to_the_cpu(tmp_path: Path) -> None:
    pickled = tensor(0, (2,), (1,)).replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:3")
    path = write_zip(tmp_path / "file.pt", pickled, {"0": bytes(16)})
    assert read_checkpoint(path).content.device.type == "cpu"


@pytest.mark.parametrize("protocol", [2, 5])
def test_numpy_numbers_become_plain_ones(tmp_path: Path, protocol: int) -> None:
    array = np.arange(6, dtype=">i2").reshape(2, 3)
    content = {"mae": np.float64(0.25), "n": np.int32(-3), "ok": np.bool_(True), "name": np.str_("gap")}
    content |= {"array": array, "t": array.T, "names": np.array(["a", "bc"])}
    path = tmp_path / "file.pt"
    torch.save(content, path, pickle_protocol=protocol)
    found = read_checkpoint(path).content
    assert [found[key] for key in ("mae", "n", "ok", "name")] == [0.25, -3, True, "gap"]
    assert [type(found[key]) for key in ("mae", "n", "ok", "name")] == [float, int, bool, str]
    for key in ("array", "t", "names"):
        assert isinstance(found[key], NumpyArray)
        np.testing.assert_array_equal(found[key].array, content[key])


class Fusion(enum.Enum):
    GATED = "gated"


@dataclass
class Settings:
    width: int


class Options(dict):  # type: ignore[type-arg]
    pass


class Slotted:
    __slots__ = ("depth",)


def slotted() -> Slotted:
    made = Slotted()
    made.depth = 4
    return made


@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_other_classes_become_records(tmp_path: Path, protocol: int) -> None:
    for kind in (Fusion, Settings, Options, Slotted):
        kind.__module__ = "nowhere_to_be_found"
    module = types.ModuleType("nowhere_to_be_found")
    vars(module).update(Fusion=Fusion, Settings=Settings, Options=Options, Slotted=Slotted)
    content = {
        "settings": Settings(3),
        "options": Options(a=1),
        "fusion": Fusion.GATED,
        "namespace": argparse.Namespace(layers=2),
        "path": pathlib.PurePosixPath("/data"),
        "day": datetime.date(2024, 1, 2),
        "default": collections.defaultdict(list, {"k": [1]}),
    } | ({"slotted": slotted()} if protocol >= 2 else {})
    path = tmp_path / "file.pt"
    sys.modules["nowhere_to_be_found"] = module
    try:
        torch.save(content, path, pickle_protocol=protocol)
    finally:
        del sys.modules["nowhere_to_be_found"]
    found = read_checkpoint(path).content
    assert isinstance(found["settings"], InertObject)
    assert found["settings"].kind.key == ("nowhere_to_be_found", "Settings")
    assert found["settings"].state == {"width": 3}
    assert found["options"].items == {"a": 1} or found["options"].args[1] == {"a": 1}
    assert found["fusion"].args == ("gated",)
    assert found["namespace"].state == {"layers": 2}
    assert found["path"].kind.name == "PurePosixPath"
    assert found["day"].kind.key == ("datetime", "date")
    assert found["default"] == {"k": [1]}
    if protocol >= 2:
        assert found["slotted"].state == (None, {"depth": 4})
    assert "nowhere_to_be_found" not in sys.modules


@pytest.mark.parametrize("protocol", [2, 4])
def test_annealing_function_of_older_schedulers_is_a_record(tmp_path: Path, protocol: int) -> None:
    # torch < 2.2 pickles OneCycleLR's static method: by getattr below protocol 4, then by its dotted name.
    name = b"ctorch.optim.lr_scheduler\nOneCycleLR\n"
    body = b"c__builtin__\ngetattr\n" + name + b"X\x0e\x00\x00\x00_annealing_cos\x86R"
    if protocol == 4:
        body = b"\x8c\x18torch.optim.lr_scheduler\x8c\x19OneCycleLR._annealing_cos\x93"
    pickled = b"\x80" + bytes([protocol]) + b"}X\x04\x00\x00\x00funcq\x00" + body + b"s."
    found = read_checkpoint(write_zip(tmp_path / "file.pt", pickled)).content["func"]
    assert "OneCycleLR._annealing_cos" in str(found)


# What is refused.

RAN: list[object] = []


def record_a_call(*args: object) -> None:
    RAN.append(args)


class Calls:
    """Pickles as a call of ``function(*args)``."""

    def __init__(self, function: Callable[..., object], *args: object) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.function, self.args


HOSTILE: dict[str, tuple[Callable[..., object], tuple[object, ...], str]] = {
    "system": (os.system, ("touch PWNED",), f"{os.name}.system"),
    "eval": (eval, ("open('PWNED', 'w')",), "builtins.eval"),
    "exec": (exec, ("open('PWNED', 'w')",), "builtins.exec"),
    "open": (open, ("PWNED", "w"), "open"),
    "popen": (subprocess.Popen, (["touch", "PWNED"],), "subprocess.Popen"),
    "import": (importlib.import_module, ("antigravity",), "importlib.import_module"),
    "builtin import": (builtins.__import__, ("antigravity",), "builtins.__import__"),
    "getattr": (getattr, (os, "system"), "builtins.getattr"),
    "partial": (functools.partial, (os.system, "touch PWNED"), "functools.partial"),
    "make a class": (type, ("X", (), {}), "builtins.type"),
    "torch.load": (torch.load, ("PWNED",), "torch.serialization.load"),
    "load from bytes": (torch.storage._load_from_bytes, (b"",), "torch.storage._load_from_bytes"),
    "numpy.load": (np.load, ("PWNED",), "load"),
    "path method": (pathlib.Path.touch, (pathlib.PurePosixPath("PWNED"),), "touch"),
    "rebuild function": (torch._utils._rebuild_sparse_tensor, (), "torch._utils._rebuild_sparse_tensor"),
    "own function": (record_a_call, ("x",), "record_a_call"),
    "add a copyreg hook": (copyreg.pickle, (int, os.system), "copyreg.pickle"),
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("attack", HOSTILE)
def test_a_call_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: str, protocol: int, form: str
) -> None:
    function, args, name = HOSTILE[attack]
    if args and args[0] is os:
        args = ("os", "system")
    monkeypatch.chdir(tmp_path)
    content = {"model": {"w": torch.zeros(2)}, "config": Calls(function, *args)}
    torch.save(content, "file.pt", pickle_protocol=protocol, _use_new_zipfile_serialization=FORMATS[form])
    modules = set(sys.modules)
    with pytest.raises(
        UnsafePickleError, match=r"file\.pt: the file asks to call .*refused, nothing was executed"
    ) as e:
        read_checkpoint("file.pt")
    assert name in str(e.value)
    assert not Path("PWNED").exists()
    assert not RAN
    assert set(sys.modules) == modules


RAW_HOSTILE = {
    "a stored function, never called": (b"cposix\nsystem\n.", "posix.system"),
    "a stored lower-case function of a library": (b"csomelib.tools\nrun\n.", "somelib.tools.run"),
    "INST": (b"(S'touch PWNED'\nios\nsystem\n.", "os.system"),
    "OBJ": (b"(cos\nsystem\nS'touch PWNED'\no.", "os.system"),
    "dotted name": (b"\x80\x04\x8c\x05torch\x8c\x09os.system\x93\x8c\x01x\x85R.", "torch.os.system"),
    "dotted name of a known function": (
        b"\x80\x04\x8c\x0ccollections\x94\x8c\x19OrderedDict.__init__.eval\x93)R.".replace(b"\x0c", b"\x0b"),
        "collections.OrderedDict.__init__.eval",
    ),
    "EXT1": (b"\x80\x02\x82\x01.", "extension registry"),
    "EXT2": (b"\x80\x02\x83\x01\x00.", "extension registry"),
    "EXT4": (b"\x80\x02\x84\x01\x00\x00\x00.", "extension registry"),
    "call of a record": (b"csomelib\nThing\n)\x81X\x01\x00\x00\x00a\x85R.", "somelib.Thing"),
    "reconstructed function": (
        b"ccopy_reg\n_reconstructor\ncposix\nsystem\nc__builtin__\nobject\nN\x87R.",
        "posix.system",
    ),
    "the shell by its Python 2 name": (
        b"\x80\x02ccommands\ngetoutput\nX\x02\x00\x00\x00ls\x85R.",
        "subprocess.getoutput",
    ),
    "eval by its Python 2 name": (b"\x80\x02c__builtin__\neval\nX\x01\x00\x00\x001\x85R.", "builtins.eval"),
    "new object of a stdlib class": (b"csubprocess\nPopen\n)\x81.", "subprocess.Popen"),
    "getattr of a record": (
        b"c__builtin__\ngetattr\nctorch\nTensor\nX\x08\x00\x00\x00__init__\x86R.",
        "builtins.getattr",
    ),
    "getattr itself": (b"c__builtin__\ngetattr\n.", "builtins.getattr"),
    "class of a library called with much": (b"csomelib\nThing\nK\x01K\x02\x86R.", "somelib.Thing"),
    "class of torch called": (
        b"ctorch.package\nPackageImporter\nX\x01\x00\x00\x00a\x85R.",
        "torch.package.PackageImporter",
    ),
    "tensor subclass by a foreign function": (
        b"ctorch._tensor\n_rebuild_from_type_v2\n(cposix\nsystem\nctorch\nTensor\n(X\x01\x00\x00\x00at}tR.",
        "posix.system",
    ),
}  # fmt: skip


@pytest.mark.parametrize("attack", RAW_HOSTILE)
@pytest.mark.parametrize("bare", [False, True])
def test_hand_written_attacks_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: str, bare: bool
) -> None:
    pickled, name = RAW_HOSTILE[attack]
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "file.pt"
    if bare:
        path.write_bytes(pickled)
    else:
        write_zip(path, pickled)
    with pytest.raises(UnsafePickleError) as error:
        read_checkpoint(path)
    assert name in str(error.value)
    assert not (tmp_path / "PWNED").exists()


def storage(key: str = "0", count: int = 4, kind: bytes = b"FloatStorage") -> bytes:
    text = [b"storage", key.encode(), b"cpu"]
    coded = [b"X" + struct.pack("<I", len(part)) + part for part in text]
    return b"(" + coded[0] + b"ctorch\n" + kind + b"\n" + coded[1] + coded[2] + b"J" + struct.pack("<i", count) + b"tQ"


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", value) for value in values) + b"t"


def tensor(offset: int, size: tuple[int, ...], stride: tuple[int, ...], pid: bytes | None = None) -> bytes:
    start = b"\x8a\x08" + struct.pack("<q", offset)
    arguments = b"(" + (pid or storage()) + start + numbers(size) + numbers(stride) + b"\x89Nt"
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R."


def test_the_helper_for_hand_made_tensors_makes_a_readable_one(tmp_path: Path) -> None:
    data = np.arange(4, dtype="<f4").tobytes()
    path = write_zip(tmp_path / "file.pt", tensor(1, (3,), (1,)), {"0": data})
    assert read_checkpoint(path).content.tolist() == [1, 2, 3]


REACHES = "reaches element"
BAD_TENSORS = {
    "past the end": (tensor(0, (5,), (1,)), REACHES),
    "stride past the end": (tensor(0, (2, 2), (3, 1)), REACHES),
    "offset past the end": (tensor(4, (1,), (1,)), REACHES),
    "negative offset": (tensor(-1, (1,), (1,)), "shape, stride or offset"),
    "negative stride": (tensor(3, (2,), (-1,)), "shape, stride or offset"),
    "negative size": (tensor(0, (-2,), (1,)), "shape, stride or offset"),
    "overflowing size": (tensor(0, (2**40, 2**40), (0, 0)), "far larger than their storages"),
    "far larger than its storage": (tensor(0, (2**30,), (0,)), "far larger than their storages"),
    "rank mismatch": (tensor(0, (2, 2), (1,)), "differ in length"),
    "storage larger than its record": (tensor(0, (8,), (1,), storage(count=8)), "16 bytes, expected 32"),
    "huge storage": (tensor(0, (1,), (1,), storage(count=2**31 - 1)), "16 bytes, expected 8589934588"),
    "negative storage": (tensor(0, (1,), (1,), storage(count=-4)), "key or size of a storage"),
    "missing record": (tensor(0, (1,), (1,), storage(key="7")), "record data/7 is missing"),
    "record outside data/": (tensor(0, (1,), (1,), storage(key="../data.pkl")), "is missing"),
    "unknown storage": (tensor(0, (1,), (1,), storage(kind=b"QInt8Storage")), "torch.QInt8Storage"),
    "no storage at all": (tensor(0, (1,), (1,), b"N"), "no storage"),
}


@pytest.mark.parametrize("case", BAD_TENSORS)
def test_tensors_outside_their_bytes_are_refused(tmp_path: Path, case: str) -> None:
    pickled, said = BAD_TENSORS[case]
    path = write_zip(tmp_path / "file.pt", pickled, {"0": bytes(16)})
    with pytest.raises(CheckpointError, match=rf"^file\.pt .*{said}"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("limit", "value", "said"),
    [
        ("model.restricted_reader.MAX_FILE_BYTES", 100, "more than the 100 accepted"),
        ("model.restricted_reader.MAX_PICKLE_BYTES", 10, "more than the 10 accepted"),
        ("model.restricted_reader.MAX_RECORDS", 2, "or too many"),
        ("model.inert_pickle.MAX_OPCODES", 10, "more than 10 instructions"),
    ],
)
def test_limits_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, said: str) -> None:
    path = tmp_path / "file.pt"
    torch.save({"w": torch.zeros(2)}, path)
    monkeypatch.setattr(limit, value)
    with pytest.raises(CheckpointError, match=said):
        read_checkpoint(path)


MALFORMED = {
    "nested tuples as a key": b"}" + b")" + b"\x85" * 200_000 + b"Ns.",
    "long integers as keys": b"}\x8a\x10" + b"\xff" * 15 + b"\x01Ns.",
    "list as a key": b"}]Ns.",
    "append to a number": b"K\x01K\x02a.",
    "items of a number": b"K\x01K\x02K\x03s.",
    "state of a list": b"]}b.",
    "state of a tensor": tensor(0, (1,), (1,))[:-1] + b"}b.",
    "underflow": b"0.",
    "mark left": b"(.",
    "no stop": b"K\x01",
    "text": b"hello",
    "protocol 9": b"\x80\x09N.",
    "unknown memo entry": b"h\x05.",
    "persistent text": b"Px\n.",
    "out-of-band buffer": b"\x80\x05\x97.",
    "call without a tuple": b"ccollections\nOrderedDict\nK\x01R.",
    "call of a number": b"K\x01)R.",
    "not a Python name": b"cos; import\nsystem\n)R.",
    "unending name": b"c" + b"a" * 5000 + b"\nb\n)R.",
    "set of lists": b"c__builtin__\nset\n(](K\x01eltR.",
    "numpy records": b"cnumpy\ndtype\nX\x02\x00\x00\x00V8K\x00K\x01\x87R.",
    "bytes in another codec": b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R.",
    "copied over and over": b"(" + b"K\x01" * 50_000 + b"lq\x00" + b"0c__builtin__\nset\nq\x010h\x010"
    + b"h\x01h\x00\x85R0" * 10_000 + b"N.",
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_pickles_are_one_clear_error(tmp_path: Path, case: str) -> None:
    path = write_zip(tmp_path / "file.pt", MALFORMED[case], {"0": bytes(16)})
    with pytest.raises(CheckpointError, match=r"^file\.pt is damaged or not a checkpoint") as error:
        read_checkpoint(path)
    assert len(str(error.value)) < 400


def test_numpy_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    for element in (1, Calls(os.system, "touch PWNED")):
        torch.save({"a": np.array([element], dtype=object)}, path)
        with pytest.raises(UnsafePickleError, match="numpy array of Python objects"):
            read_checkpoint(path)


def test_numpy_array_larger_than_its_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    good = pickle.dumps({"a": np.zeros(3)}, protocol=2)
    bad = good.replace(b"K\x03\x85", b"K\x09\x85", 1)
    assert bad != good
    with pytest.raises(CheckpointError):
        read_checkpoint(write_zip(path, bad))


# Files that are not what they seem.


def saved(tmp_path: Path, form: str) -> bytes:
    path = tmp_path / "whole.pt"
    content = {"model": {"w": torch.arange(64.0), "b": torch.arange(3)}, "epoch": 2}
    torch.save(content, path, _use_new_zipfile_serialization=FORMATS[form])
    return path.read_bytes()


@pytest.mark.parametrize("form", FORMATS)
def test_truncation_anywhere_is_an_error(tmp_path: Path, form: str) -> None:
    data = saved(tmp_path, form)
    path = tmp_path / "cut.pt"
    for length in [*range(1, 40), *range(40, len(data) - 1, max(1, len(data) // 60)), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match=r"^cut\.pt is (truncated|not a checkpoint)"):
            read_checkpoint(path)


@pytest.mark.parametrize("form", FORMATS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_altered_bytes_never_raise_anything_else(tmp_path: Path, form: str, changes: list[tuple[float, int]]) -> None:
    data = bytearray(saved(tmp_path, form))
    if form == "zip":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            pickled = bytearray(archive.read("whole/data.pkl"))
            storages = {key: archive.read(f"whole/data/{key}") for key in "01"}
        for where, value in changes:
            pickled[int(where * (len(pickled) - 1))] = value
        path = write_zip(tmp_path / "altered.pt", bytes(pickled), storages)
    else:
        for where, value in changes:
            data[int(where * (len(data) - 1))] = value
        path = tmp_path / "altered.pt"
        path.write_bytes(data)
    try:
        read_checkpoint(path)
    except CheckpointError as error:
        assert "altered.pt" in str(error)  # noqa: PT017 - most alterations are errors, some are harmless


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(min_size=1, max_size=60))
def test_arbitrary_pickles_never_raise_anything_else(tmp_path: Path, data: bytes) -> None:
    for path in (tmp_path / "bare.pt", tmp_path / "zip.pt"):
        if path.name == "bare.pt":
            path.write_bytes(data)
        else:
            write_zip(path, data)
        try:
            read_checkpoint(path)
        except CheckpointError as error:
            assert path.name in str(error)  # noqa: PT017


STRANGERS = {
    "text": (b"epoch,loss\n1,0.5\n", "found text"),
    "binary": (bytes(range(1, 256)), "found other data"),
    "web page": (b"<!DOCTYPE html><html>", "web page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "gzip": (b"\x1f\x8b\x08\x00rest", "gzip"),
    "numpy": (b"\x93NUMPY\x01\x00", "numpy"),
    "hdf5": (b"\x89HDF\r\n\x1a\n", "HDF5"),
    "tar": (bytes(257) + b"ustar" + bytes(250), "tar archive"),
    "plain pickle": (pickle.dumps({"a": 1}), "not one that torch.save wrote"),
    "json": (b'{"model": 1}', "found text"),
    "broken safetensors": (struct.pack("<Q", 4) + b"{abc" + bytes(20), "damaged safetensors"),
    "empty zip": (b"PK\x05\x06" + bytes(18), "no data.pkl"),
}


@pytest.mark.parametrize("kind", STRANGERS)
def test_other_files_are_named_for_what_they_are(tmp_path: Path, kind: str) -> None:
    data, said = STRANGERS[kind]
    path = tmp_path / "file.pt"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=said) as error:
        read_checkpoint(path)
    assert "\n" not in str(error.value)


def test_no_file_empty_file_directory_and_device(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no file"):
        read_checkpoint(tmp_path / "none.pt")
    (tmp_path / "empty.pt").touch()
    with pytest.raises(CheckpointError, match=r"empty \(0 bytes\)"):
        read_checkpoint(tmp_path / "empty.pt")
    with pytest.raises(CheckpointError, match="is a directory"):
        read_checkpoint(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.pt")
        with pytest.raises(CheckpointError, match="not a regular file"):
            read_checkpoint(tmp_path / "pipe.pt")


def test_zip_tricks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    write_zip(path, b"N.", {"0": bytes(10**6)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="larger than the file"):
        read_checkpoint(path)
    write_zip(path, b"N." + os.urandom(100), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="compressed"):
        read_checkpoint(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", b"N.")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("x/data.pkl", b"cposix\nsystem\n.")
    with pytest.raises(CheckpointError, match="same name"):
        read_checkpoint(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"N.")
        archive.writestr("b/data.pkl", b"N.")
    with pytest.raises(CheckpointError, match=r"no data\.pkl"):
        read_checkpoint(path)


def test_flipped_bit_in_a_storage_is_seen(tmp_path: Path) -> None:
    data = bytearray(saved(tmp_path, "zip"))
    where = bytes(data).index(struct.pack("<3f", 40, 41, 42))
    data[where] ^= 1
    path = tmp_path / "file.pt"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="CRC"):
        read_checkpoint(path)


def test_torchscript_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    with pytest.raises(CheckpointError, match="TorchScript"):
        read_checkpoint(path)


def test_recorded_hostile_file_leaves_no_trace(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnsafePickleError, match=r"posix\.system"):
        read_checkpoint(shared / "oracle" / "checkpoints" / "formats" / "malicious_zip.pt")
    assert list(tmp_path.iterdir()) == []


def test_recorded_checkpoints_equal_those_of_torch(shared: Path) -> None:
    folder = shared / "oracle" / "checkpoints"
    for path in sorted(folder.glob("*.pt")):
        found = read_checkpoint(path).content
        expected = _read_with_torch(path)
        assert same(found["model"], expected["model"])
        assert (found["epoch"], found["val_mae"]) == (expected["epoch"], expected["val_mae"])
        assert found["config"].state["__dict__"] == vars(expected["config"])


def _read_with_torch(path: Path) -> Any:
    class ALIGNNConfig:
        def __setstate__(self, state: dict[str, Any]) -> None:
            vars(self).update(state["__dict__"])

    ALIGNNConfig.__module__, ALIGNNConfig.__qualname__ = "models.alignn", "ALIGNNConfig"
    with torch.serialization.safe_globals([ALIGNNConfig, set]):
        return torch.load(path, weights_only=True, map_location="cpu")
