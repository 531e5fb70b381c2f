"""Run every benchmark: ``python -m tools.bench [NAME]...``."""

from __future__ import annotations

import sys
from importlib import import_module

NAMES = ("graphs", "hooks", "start", "diagnose", "gate_monitor", "training", "attribution")


def main() -> None:
    """Run the benchmarks named on the command line, or all."""
    for name in sys.argv[1:] or NAMES:
        print(f"== {name}")
        import_module(f"tools.bench.{name}").main([])


if __name__ == "__main__":
    main()
