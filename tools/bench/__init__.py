"""Benchmarks: each module has a ``main(arguments)`` that prints a table; none asserts a time."""
