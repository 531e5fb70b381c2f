"""How long ``interpret --help`` takes: heavy packages must not be imported for it."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time


def main(arguments: list[str]) -> None:
    """Print the median over runs (default 9)."""
    runs = int(arguments[0]) if arguments else 9
    seconds = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "cli", "--help"], check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    print(f"interpret --help: median {statistics.median(seconds[1:]):.3f} s of {runs} runs")


if __name__ == "__main__":
    main(sys.argv[1:])
