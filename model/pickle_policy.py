"""Which names a checkpoint's pickle may use and what each means: our own functions, never the named ones."""

from __future__ import annotations

import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Mapping

from model.inert_objects import ClassName, InertObject, UnsafePickleError, malformed
from model.pickle_values import CONTAINERS, NUMPY_FUNCTIONS

MAX_NAME_LENGTH = 300

# Classes of the standard library that configurations hold: records of them are harmless.
_RECORDS = frozenset(
    {
        ("argparse", "Namespace"),
        ("types", "SimpleNamespace"),
        ("uuid", "UUID"),
        ("decimal", "Decimal"),
        ("fractions", "Fraction"),
        *(("datetime", name) for name in ("datetime", "date", "time", "timedelta", "timezone")),
        *(
            (module, f"{flavour}{kind}Path")
            for module in ("pathlib", "pathlib._local")
            for flavour in ("", "Pure")
            for kind in ("", "Posix", "Windows")
        ),
    }
)
# Built-in classes that a file may mention, as the type of a field or as the base of a reconstructed object.
_BUILTIN_CLASSES = frozenset(
    {
        ("typing", "Any"),
        *(("builtins", name) for name in ("object", "int", "float", "str", "bool", "range", "slice")),
    }
)
_RECONSTRUCTORS = frozenset(("copyreg", name) for name in ("_reconstructor", "__newobj__", "__newobj_ex__"))
_GETATTR = ("builtins", "getattr")
# torch < 2.2 keeps the annealing function of a one-cycle schedule in the scheduler's state.
_ANNEALING_CLASS = ("torch.optim.lr_scheduler", "OneCycleLR")
_ANNEALING_FUNCTIONS = ("_annealing_cos", "_annealing_linear")
_ANNEALING_NAMES = frozenset((_ANNEALING_CLASS[0], f"{_ANNEALING_CLASS[1]}.{f}") for f in _ANNEALING_FUNCTIONS)
_NUMPY_CLASSES = frozenset(
    (
        *("bool", "bool_", "float16", "float32", "float64", "complex64", "complex128"),
        *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    )
)
_LIBRARIES = frozenset({"torch", "numpy"})


class NamePolicy:
    """Containers, numpy numbers and what ``functions`` holds have a meaning; the rest is inert or refused."""

    def __init__(self, functions: Mapping[tuple[str, str], Callable[..., object]], types: Mapping[str, object]) -> None:
        """Take replacements of tensor functions by (module, name), and what ``torch.NAME`` stands for."""
        self._functions = {**CONTAINERS, **NUMPY_FUNCTIONS, **functions}
        self._types = types

    def name(self, module: str, name: str, *, python2: bool) -> object:
        """Vet a name the file mentions: text that cannot be called, or a constant of ours such as a dtype.

        Raises:
            UnsafePickleError: a function or class of the standard library that no configuration needs.
        """
        if python2:
            # Protocols 0 to 2 spell the standard library as Python 2 did: commands.Popen is subprocess.Popen.
            module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        parts = f"{module}.{name}".split(".")
        if len(module) + len(name) > MAX_NAME_LENGTH or not all(part.isidentifier() for part in parts):
            malformed("a name that no Python object has")
        if module == "torch" and name in self._types:
            return self._types[name]
        known = ClassName(module, name)
        if self._is_known(known) or parts[0] not in sys.stdlib_module_names:
            return known
        raise refusal(known)

    def _is_known(self, name: ClassName) -> bool:
        tables = (self._functions, _RECORDS, _BUILTIN_CLASSES, _RECONSTRUCTORS, _ANNEALING_NAMES)
        return any(name.key in table for table in tables) or name.key == _GETATTR

    def call(self, function: ClassName, args: tuple[object, ...]) -> object:
        """Our replacement of a call; a record where the call could only make a plain object.

        Raises:
            UnsafePickleError: anything else.
        """
        if function.key in self._functions:
            return self._functions[function.key](*args)
        if function.key in _RECONSTRUCTORS:
            return self._reconstruct(args)
        if function.key == _GETATTR:
            return _annealing_function(function, args)
        if function.key in _RECORDS or _looks_like_enum(function, args):
            return InertObject(function, args)
        raise refusal(function)

    def new(self, kind: ClassName, args: tuple[object, ...]) -> object:
        """An instance made without a constructor: a container of ours, or a record."""
        if kind.key in CONTAINERS:
            return CONTAINERS[kind.key](*args)
        return InertObject(kind, args)

    def _reconstruct(self, args: tuple[object, ...]) -> object:
        kind, *rest = args
        if not isinstance(kind, ClassName):
            malformed("a reconstructed object has no class")
        return self.new(kind, tuple(rest))

    def mention(self, names: set[ClassName]) -> None:
        """Refuse names that are kept as values and that, by Python's naming convention, are functions.

        Raises:
            UnsafePickleError: there is one.
        """
        for name in sorted(names, key=str):
            last = name.name.rsplit(".", 1)[-1]
            if not self._is_known(name) and not last.lstrip("_")[:1].isupper() and not _is_numpy_type(name):
                raise refusal(name)
            if name.key == _GETATTR:
                raise refusal(name)


def refusal(name: ClassName) -> UnsafePickleError:
    """The error for a name that only running code could serve."""
    return UnsafePickleError(f"the file asks to call {name}; refused, nothing was executed")


def _is_numpy_type(name: ClassName) -> bool:
    return name.module == "numpy" and name.name in _NUMPY_CLASSES


def _looks_like_enum(name: ClassName, args: tuple[object, ...]) -> bool:
    """A member of a user's enumeration: its class called with its value."""
    root = name.module.split(".")[0]
    return (
        root not in _LIBRARIES
        and root not in sys.stdlib_module_names
        and name.name.rsplit(".", 1)[-1][:1].isupper()
        and len(args) == 1
        and isinstance(args[0], (str, int, float, bool))
    )


def _annealing_function(function: ClassName, args: tuple[object, ...]) -> object:
    owner, attribute = args
    kind = owner.kind if isinstance(owner, InertObject) else owner
    if isinstance(kind, ClassName) and kind.key == _ANNEALING_CLASS and attribute in _ANNEALING_FUNCTIONS:
        return InertObject(ClassName(kind.module, f"{kind.name}.{attribute}"))
    described = f"({kind}, {attribute!r})" if isinstance(attribute, str) and len(attribute) < 100 else ""
    raise UnsafePickleError(f"the file asks to call {function}{described}; refused, nothing was executed")
