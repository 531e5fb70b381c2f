"""What holds for the package as a whole: examples run, tables are complete, errors are the user's."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import interpret.metrics
from interpret.metrics import MetricError
from interpret.metrics._arrays import Undefined
from model.errors import InterpretError

MODULES = sorted(module.name for module in pkgutil.iter_modules(interpret.metrics.__path__))


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name):
    module = importlib.import_module(f"interpret.metrics.{name}")
    assert doctest.testmod(module).failed == 0


def test_table_of_contents_lists_every_public_module():
    public = {name for name in MODULES if not name.startswith("_")}
    assert public <= set(interpret.metrics.__all__)
    for name in public:
        assert f"\n{name} " in interpret.metrics.__doc__


def test_every_reason_has_a_sentence():
    assert [code for code in Undefined if code.sentence is None] == [Undefined.DEFINED]


def test_errors_are_shown_to_the_user_without_a_traceback():
    assert issubclass(MetricError, InterpretError)
