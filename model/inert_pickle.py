"""A pickle machine that imports nothing and calls nothing that a pickle names.

A pickle is a program for a small stack machine. This one walks the opcodes as the standard library's
``pickletools.genops`` decodes them (which executes nothing) and knows names only as text: a class becomes
a record that holds its state, a function is looked up in a table of our own replacements, and a function
that is not in the table stops the reading. There is no import and no attribute access by a name out of
the file.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from model.inert_objects import (
    Buildable,
    ClassName,
    InertObject,
    MalformedPickleError,
    Policy,
    UnsafePickleError,
    hashable,
    malformed,
)

# Bounds on what a file can make us do; a default checkpoint with its optimizer has about 60,000 opcodes.
MAX_OPCODES = 10_000_000
MAX_COPIED_ITEMS = 5_000_000
MAX_INTEGER_BITS = 512


_MARK = object()
_CONSTANTS = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *(
            "STRING",
            "BINSTRING",
            "SHORT_BINSTRING",
            "UNICODE",
            "SHORT_BINUNICODE",
            "BINUNICODE",
            "BINUNICODE8",
        ),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    )
)
_LITERALS: Mapping[str, object] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_NO_EFFECT = frozenset({"FRAME"})
_CONTAINERS = (list, tuple, dict, set, frozenset)
_STRINGS = (str, bytes, bytearray)


# What a program that is no pickle of tensors runs into, here, in pickletools or in a constructor of ours.
_WRONG = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, MemoryError)


class PickleMachine:
    """Runs one pickle from a stream, up to and including its STOP."""

    def __init__(
        self, stream: io.BytesIO, policy: Policy, persistent: Callable[[object], object] | None = None
    ) -> None:
        self._stream = stream
        self._policy = policy
        self._persistent = persistent
        self._stack: list[Any] = []
        self._memo: dict[int, object] = {}
        self._mentioned: set[ClassName] = set()
        self._copied = 0
        self._version = 0

    def load(self) -> object:
        """The value that the pickle describes; the stream is left right after it.

        Raises:
            UnsafePickleError: it asks for a function or class outside the tensor machinery.
            MalformedPickleError: it is truncated or not a pickle at all.
        """
        try:
            for count, (opcode, argument, _) in enumerate(pickletools.genops(self._stream)):
                if count >= MAX_OPCODES:
                    malformed(f"it has more than {MAX_OPCODES} instructions")
                if opcode.name == "STOP":
                    break
                self._step(opcode.name, argument)
            result: object = self._pop()
        except _WRONG as error:
            raise MalformedPickleError(f"not a well-formed pickle ({type(error).__name__})") from error
        self._policy.mention(self._mentioned)
        return result

    def _step(self, name: str, argument: Any) -> None:
        if name in _CONSTANTS:
            if isinstance(argument, int) and argument.bit_length() > MAX_INTEGER_BITS:
                malformed(f"an integer of more than {MAX_INTEGER_BITS} bits")
            self._stack.append(argument)
        elif name in _LITERALS:
            self._stack.append(_LITERALS[name])
        elif name in _HANDLERS:
            _HANDLERS[name](self, argument)
        elif name not in _NO_EFFECT:
            malformed(f"the instruction {name} has no place in a tensor file")

    def _protocol(self, argument: int) -> None:
        if argument > 5:
            malformed(f"pickle protocol {argument}, expected 5 or less")
        self._version = argument

    # Stack and memo.

    def _pop_to_mark(self) -> list[Any]:
        depth = len(self._stack) - 1
        while self._stack[depth] is not _MARK:
            depth -= 1
            if depth < 0:
                malformed("a list of arguments has no beginning")
        values = self._stack[depth + 1 :]
        del self._stack[depth:]
        return values

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            malformed("an argument is missing")
        return value

    def _remember(self, index: int | None) -> None:
        value = self._stack[-1]
        if value is _MARK:
            malformed("an argument is missing")
        self._memo[len(self._memo) if index is None else index] = value

    def _recall(self, index: int) -> None:
        self._stack.append(self._memo[index])

    # Containers.

    def _tuple(self, size: int) -> None:
        values = tuple(self._pop() for _ in range(size))[::-1]
        self._stack.append(values)

    def _append(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, InertObject):
            target.elements.extend(values)
        elif isinstance(target, set):
            target.update(hashable(value) for value in values)
        elif isinstance(target, list):
            target.extend(values)
        else:
            malformed("it appends to something that is not a list")

    def _set_items(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if len(values) % 2:
            malformed("a key has no value")
        items = target.items if isinstance(target, InertObject) else target
        if not isinstance(items, dict):
            malformed("it sets items of something that is not a dictionary")
        for key, value in zip(values[::2], values[1::2], strict=True):
            items[hashable(key)] = value

    def _dict(self) -> None:
        values = self._pop_to_mark()
        self._stack.append({})
        self._set_items(values)

    # Names and objects.

    def _name(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            malformed("a name is not text")
        known = self._policy.name(module, name, python2=self._version < 3)
        if isinstance(known, ClassName):
            self._mentioned.add(known)
        self._stack.append(known)

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        self._name(module, name)

    def _spend(self, args: tuple[object, ...]) -> None:
        self._copied += sum(len(value) for value in args if isinstance(value, _CONTAINERS))
        # Characters and bytes are copied at a small fraction of the cost of objects.
        self._copied += sum(len(value) // 32 for value in args if isinstance(value, _STRINGS))
        if self._copied > MAX_COPIED_ITEMS:
            malformed("it copies its contents over and over")

    def _make(self, kind: object, args: object, *, call: bool) -> None:
        if not isinstance(args, tuple):
            malformed("the arguments of a call are not a tuple")
        if isinstance(kind, InertObject):
            raise UnsafePickleError(f"the file asks to call an object of {kind.kind}; refused, nothing was executed")
        if not isinstance(kind, ClassName):
            malformed("it calls something that has no name")
        self._spend(args)
        self._mentioned.discard(kind)
        self._stack.append(self._policy.call(kind, args) if call else self._policy.new(kind, args))

    def _reduce(self) -> None:
        args, kind = self._pop(), self._pop()
        self._make(kind, args, call=True)

    def _new(self, *, with_keywords: bool) -> None:
        keywords = self._pop() if with_keywords else {}
        args, kind = self._pop(), self._pop()
        if keywords:
            args = (*args, *keywords.values())
        self._make(kind, args, call=False)

    def _instance(self, argument: str) -> None:
        args = tuple(self._pop_to_mark())
        module, _, name = argument.partition(" ")
        self._name(module, name)
        self._make(self._pop(), args, call=True)

    def _object(self) -> None:
        kind, *args = self._pop_to_mark()
        self._make(kind, tuple(args), call=True)

    def _build(self) -> None:
        state = self._pop()
        target = self._stack[-1]
        self._spend(state if isinstance(state, tuple) else (state,))
        if isinstance(target, Buildable):
            target.build(state)
        elif not isinstance(target, dict):
            malformed(f"it sets the state of a {type(target).__name__}")
        # A dictionary's own attributes (a state dict's _metadata) hold no weight: they are left out.

    def _persistent_id(self, identifier: object) -> None:
        if self._persistent is None:
            malformed("it refers to data outside itself")
        self._stack.append(self._persistent(identifier))

    def _extension(self, code: int) -> NoReturn:
        raise UnsafePickleError(
            f"the file asks for entry {code} of the pickle extension registry; refused, nothing was executed"
        )


_HANDLERS: Mapping[str, Callable[[PickleMachine, Any], None]] = {
    "PROTO": PickleMachine._protocol,
    "MARK": lambda m, _: m._stack.append(_MARK),
    "POP": lambda m, _: m._stack.__delitem__(-1),
    "POP_MARK": lambda m, _: m._pop_to_mark().clear(),
    "DUP": lambda m, _: m._stack.append(m._stack[-1]),
    "PUT": PickleMachine._remember,
    "BINPUT": PickleMachine._remember,
    "LONG_BINPUT": PickleMachine._remember,
    "MEMOIZE": lambda m, _: m._remember(None),
    "GET": PickleMachine._recall,
    "BINGET": PickleMachine._recall,
    "LONG_BINGET": PickleMachine._recall,
    "EMPTY_LIST": lambda m, _: m._stack.append([]),
    "EMPTY_DICT": lambda m, _: m._stack.append({}),
    "EMPTY_SET": lambda m, _: m._stack.append(set()),
    "TUPLE": lambda m, _: m._stack.append(tuple(m._pop_to_mark())),
    "TUPLE1": lambda m, _: m._tuple(1),
    "TUPLE2": lambda m, _: m._tuple(2),
    "TUPLE3": lambda m, _: m._tuple(3),
    "LIST": lambda m, _: m._stack.append(m._pop_to_mark()),
    "DICT": lambda m, _: m._dict(),
    "FROZENSET": lambda m, _: m._stack.append(frozenset(hashable(v) for v in m._pop_to_mark())),
    "APPEND": lambda m, _: m._append([m._pop()]),
    "APPENDS": lambda m, _: m._append(m._pop_to_mark()),
    "ADDITEMS": lambda m, _: m._append(m._pop_to_mark()),
    "SETITEM": lambda m, _: m._set_items([m._pop(), m._pop()][::-1]),
    "SETITEMS": lambda m, _: m._set_items(m._pop_to_mark()),
    "GLOBAL": lambda m, names: m._name(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m._stack_global(),
    "REDUCE": lambda m, _: m._reduce(),
    "NEWOBJ": lambda m, _: m._new(with_keywords=False),
    "NEWOBJ_EX": lambda m, _: m._new(with_keywords=True),
    "INST": PickleMachine._instance,
    "OBJ": lambda m, _: m._object(),
    "BUILD": lambda m, _: m._build(),
    "BINPERSID": lambda m, _: m._persistent_id(m._pop()),
    "EXT1": PickleMachine._extension,
    "EXT2": PickleMachine._extension,
    "EXT4": PickleMachine._extension,
}
