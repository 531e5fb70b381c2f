"""What a pickle machine that calls nothing leaves behind: names and records for classes and objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol, runtime_checkable

from model.errors import CheckpointError

MAX_KEY_LENGTH = 16


class UnsafePickleError(CheckpointError):
    """The pickle asks for something that only running code could give."""


class MalformedPickleError(CheckpointError):
    """The bytes are not a well-formed pickle, or one that no tensor file contains."""


@dataclass(frozen=True)
class ClassName:
    """A class or function that the file names. Text only: it is never looked up."""

    module: str
    name: str

    @property
    def key(self) -> tuple[str, str]:
        """Module and qualified name, the key of the tables of replacements."""
        return self.module, self.name

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False, repr=False)
class InertObject:
    """What a file says about an object of a class that is not imported.

    Attributes:
        kind: the class named.
        args: arguments its constructor would have been given.
        state: what its ``__setstate__`` would have been given.
        items, elements: contents, where the class derives from dict, or from list or set.
    """

    kind: ClassName
    args: tuple[object, ...] = ()
    state: object = None
    items: dict[object, object] = field(default_factory=dict)
    elements: list[object] = field(default_factory=list)

    def build(self, state: object) -> None:
        """Keep the state, as text and numbers; nothing interprets it here."""
        self.state = state

    def __repr__(self) -> str:
        return f"<inert {self.kind}>"


@runtime_checkable
class Buildable(Protocol):
    """An object of ours that accepts the argument of a BUILD opcode."""

    def build(self, state: object) -> None:
        """Take the state over, or raise MalformedPickleError."""


class Policy(Protocol):
    """What names may mean; see :mod:`model.pickle_policy`."""

    def name(self, module: str, name: str, *, python2: bool) -> object:
        """A ClassName, a constant of ours such as a dtype, or UnsafePickleError."""

    def call(self, function: ClassName, args: tuple[object, ...]) -> object:
        """The result of our replacement of a function, or UnsafePickleError."""

    def new(self, kind: ClassName, args: tuple[object, ...]) -> object:
        """A container of ours or a record of an instance, made without its constructor."""

    def mention(self, names: set[ClassName]) -> None:
        """Vet names that the file keeps as values without making anything of them."""


_PLAIN_KEYS = (str, bytes, int, float, complex, bool, type(None), ClassName, InertObject)


def malformed(reason: str) -> NoReturn:
    """Stop: the pickle is not one that a tensor file contains."""
    raise MalformedPickleError(f"not a well-formed tensor pickle: {reason}")


def hashable(key: object) -> Any:
    """The key itself, if plain: deep tuples could exhaust the C stack, chosen long integers all collide."""
    parts = key if isinstance(key, tuple) and len(key) <= MAX_KEY_LENGTH else (key,)
    for part in parts:
        if not isinstance(part, _PLAIN_KEYS) or (isinstance(part, int) and part.bit_length() > 64):
            malformed(f"a {type(part).__name__} as a key")
    return key
