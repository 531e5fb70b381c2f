"""Where the time of a diagnosis goes, and which rules ask for it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase

from interpret.checks.base import Outcome

FORWARD = "forward pass"
OTHER_PASSES = "other passes"
# Extra passes by what is changed in them, with the rules that read their columns: these are the expensive rules.
PASSES: Mapping[str, tuple[tuple[str, ...], str]] = {
    "other texts": (("text_empty", "text_shuffled_*"), "GA307 GA308 GA312 TF401 TF403 TF406 TF407"),
    "masked texts": (("text_masked_*",), "TF406"),
    "fusion taken out": (("gate_closed", "fusion_off"), "AT601 GA304 GA305 TF402"),
    "attention changed": (("nodes_standardized", "attention_*"), "AT601 AT604 AT608"),
}
SLOWEST_RULES = 3


class Stopwatch:
    """Seconds by name, added up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time of the block to a name."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start

    def merge(self, other: Stopwatch) -> None:
        """Add the times of another."""
        for name, seconds in other.seconds.items():
            self.seconds[name] += seconds


def pass_name(counterfactual: str) -> str:
    """What the time of a counterfactual is counted under."""
    for name, (patterns, _) in PASSES.items():
        if any(fnmatchcase(counterfactual, pattern) for pattern in patterns):
            return name
    return OTHER_PASSES


def cost_lines(seconds: Mapping[str, float], outcomes: Iterable[Outcome]) -> list[str]:
    """Total, share of each part, the rules behind the extra passes, and the slowest rules themselves."""
    rules = {outcome.code: outcome.seconds for outcome in outcomes}
    total = sum(seconds.values()) + sum(rules.values())
    forward = seconds.get(FORWARD, 0.0)
    times = f", {total / forward:.1f} times the {FORWARD}" if forward > 0 else ""
    lines = [f"cost: {total:.1f} s{times}"]
    for name, value in sorted(seconds.items(), key=lambda item: -item[1]):
        asked = f" (for {PASSES[name][1]})" if name in PASSES else ""
        lines.append(f"    {value:7.2f} s {name}{asked}")
    slowest = sorted(rules.items(), key=lambda item: -item[1])[:SLOWEST_RULES]
    if slowest:
        named = ", ".join(f"{code} {value:.2f} s" for code, value in slowest)
        lines.append(f"    {sum(rules.values()):7.2f} s rules ({named})")
    return lines
