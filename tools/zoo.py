"""Make the zoo of checkpoints with one known defect each, ask every rule, and print who speaks of what.

``python -m tools.zoo --output DIR [--healthy N] [--limit 40] [--epochs 12] [--select GA ...] [--modality]
[--attribution 16]``

The healthy checkpoint is trained on the demo data, the others are derived from it (``tools.zoo_members``).
The matrix has a row a member and a column a rule; with ``--healthy N``, networks of N seeds are trained as
well, and the share of them in which each rule speaks is printed: where nothing is planted, that is its rate
of false alarms. Checkpoints that lie in DIR are taken as they are; results are written there as zoo.csv.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from interpret.attribution import AttributionOptions
from interpret.attribution.findings import diagnose_attribution
from interpret.checks.attribution_measures import CLAIMANTS
from interpret.checks.base import Outcome, Rule
from interpret.checks.estimates import FEWEST_STRUCTURES
from interpret.checks.evidence import Evidence
from interpret.checks.registry import run_rules, select_rules
from interpret.diagnose import DiagnoseOptions, diagnose
from interpret.modality.findings import diagnose_modality
from model.checkpoint import load_checkpoint
from model.dataset import CrystalDataset
from model.demo import DEMO_DATA, demo_config, demo_texts, demo_training
from model.encoder import TextEncoder, load_encoder
from model.network import CrystalTextNetwork
from model.training import PreparedData, prepare, train
from tools.zoo_members import ALWAYS, MEMBERS, Member, make

SYMBOLS = {"clear": ".", "cannot tell": "?", "not applicable": "-"}
LEGEND = "F found as planted, M missed, x found and not planted, . clear, ? cannot tell, - not applicable"
# What the rules on attribution read: words alone, and no more draws of the random explainer than tables need.
EXPLAIN = AttributionOptions(
    methods=(*CLAIMANTS, "attention"), kinds=("words",), randomised=FEWEST_STRUCTURES, random_seeds=2
)
# Share of healthy networks in which a rule may speak.
FALSE_ALARMS = 0.05


@dataclass(frozen=True)
class Bench:
    """What every member is trained and judged on."""

    dataset: CrystalDataset
    encoder: TextEncoder
    epochs: int
    limit: int
    rules: Sequence[type[Rule]]
    prepared: PreparedData
    modality: bool = False
    attribution: int = 0

    def trained(self, seed: int) -> CrystalTextNetwork:
        """A network of the demo's configuration."""
        config = demo_training(demo_config(self.encoder.width), epochs=self.epochs, seed=seed)
        with tempfile.TemporaryDirectory() as folder:
            outcome = train(config, self.dataset, self.encoder, Path(folder) / "run", prepared=self.prepared)
        test, mean = outcome.record.metrics.test, outcome.record.baselines.mean.test
        assert test is not None
        assert mean is not None
        say(f"trained seed {seed}: mean absolute error {test.mae:.2f} eV (predicting the mean: {mean.mae:.2f} eV)")
        return outcome.network

    def misplaced(self, **changes: Any) -> CrystalTextNetwork:
        """A network whose configuration names parts that never run: trained without them, they are as they were drawn.

        ``interpret train`` refuses such a configuration; the script it comes from does not.
        """
        config = demo_training(demo_config(self.encoder.width), epochs=self.epochs, seed=0)
        with tempfile.TemporaryDirectory() as folder:
            without = config.changed({"model.use_middle_fusion": False})
            outcome = train(without, self.dataset, self.encoder, Path(folder) / "run", prepared=self.prepared)
        torch.manual_seed(0)
        network = CrystalTextNetwork(outcome.network.config.model_copy(update={"use_middle_fusion": True, **changes}))
        network.load_state_dict({**network.state_dict(), **outcome.network.state_dict()})
        return network.eval()

    def judged(self, path: Path, *, partial: bool = False) -> list[Outcome]:
        """What every rule says of a checkpoint, on structures spread evenly over the data set."""
        step = max(1, len(self.dataset) // self.limit)
        some = replace(self.dataset, samples=self.dataset.samples[::step][: self.limit])
        network = load_checkpoint(path, allow_partial=partial)
        if all(rule.needs <= {"weights"} for rule in self.rules):
            return run_rules(self.rules, Evidence(network))
        result = diagnose(network, some, self.encoder, rules=self.rules, spare_texts=demo_texts())
        options = DiagnoseOptions()
        if self.modality:
            result, _ = diagnose_modality(result, network, some, self.encoder, options=options, rules=self.rules)
        if self.attribution:
            explain = replace(EXPLAIN, limit=self.attribution)
            result, _ = diagnose_attribution(
                result, network, some, self.encoder, options=options, rules=self.rules, attribution=explain
            )
        return list(result.outcomes)


def summed_up(outcomes: Sequence[Outcome]) -> str:
    """What the rules said, by status, in one line: a long run tells what it has so far."""
    by_status: dict[str, list[str]] = {}
    for outcome in sorted(outcomes, key=lambda one: one.code):
        by_status.setdefault(outcome.status, []).append(outcome.code)
    return "; ".join(f"{status}: {' '.join(codes)}" for status, codes in sorted(by_status.items()))


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def healthy_checkpoint(bench: Bench, folder: Path, seed: int) -> Path:
    """A healthy network of a seed, trained where it does not lie in the folder."""
    path = folder / (MEMBERS[0].name if seed == 0 else f"{MEMBERS[0].name}-{seed}")
    if not path.exists():
        bench.trained(seed).save_pretrained(path)
    return path


def make_zoo(bench: Bench, folder: Path, members: Iterable[Member]) -> None:
    """Write the checkpoints that are not there."""
    folder.mkdir(parents=True, exist_ok=True)
    healthy = load_checkpoint(healthy_checkpoint(bench, folder, 0))
    # Each file of the zoo is to be taken for what it is, not for a copy of another.
    healthy.provenance = None
    for member in members:
        if not member.file(folder).exists():
            network = bench.misplaced(**member.config) if member.config else make(member, healthy)
            member.save(network, folder)


def judge_zoo(bench: Bench, folder: Path, members: Iterable[Member]) -> dict[str, list[Outcome]]:
    """Outcomes by member."""
    results = {}
    for member in members:
        say(f"asking the rules of {member.name}")
        results[member.name] = bench.judged(member.file(folder), partial=bool(member.lost))
        say(summed_up(results[member.name]))
    return results


def symbol(outcome: Outcome, expected: frozenset[str]) -> str:
    """One cell of the matrix."""
    planted = outcome.code in expected
    if outcome.status == "found":
        return "F" if planted else "x"
    return "M" if planted else SYMBOLS[outcome.status]


def matrix(results: Mapping[str, Sequence[Outcome]], members: Iterable[Member]) -> list[str]:
    """The confusion matrix as lines: members down, rules across."""
    expected = {member.name: member.codes for member in members}
    codes = sorted({outcome.code for outcomes in results.values() for outcome in outcomes})
    width = max(len(name) for name in results)
    lines = [" " * width + " " + " ".join(codes)]
    for name, outcomes in results.items():
        by_code = {outcome.code: outcome for outcome in outcomes}
        cells = [symbol(by_code[code], expected[name]) if code in by_code else " " for code in codes]
        lines.append(f"{name:{width}} " + " ".join(f"{cell:^5}" for cell in cells).rstrip())
    return [*lines, LEGEND]


def mistakes(results: Mapping[str, Sequence[Outcome]], members: Iterable[Member]) -> list[str]:
    """Defects that were missed and rules that spoke where nothing of theirs was planted, one line each."""
    expected = {member.name: member.codes for member in members}
    what = {"M": "missed", "x": "not planted"}
    return [
        f"{name}: {outcome.code} {what[cell]}"
        for name, outcomes in results.items()
        for outcome in sorted(outcomes, key=lambda one: one.code)
        if (cell := symbol(outcome, expected[name])) in what
    ]


def alarm_rates(results: Sequence[Sequence[Outcome]]) -> dict[str, tuple[int, int]]:
    """By rule, in how many healthy networks it speaks, and of how many it could tell."""
    counts: dict[str, tuple[int, int]] = {}
    for outcomes in results:
        for outcome in outcomes:
            found, told = counts.get(outcome.code, (0, 0))
            told += outcome.status in ("found", "clear")
            counts[outcome.code] = (found + (outcome.status == "found"), told)
    return dict(sorted(counts.items()))


def rate_lines(rates: Mapping[str, tuple[int, int]]) -> list[str]:
    """The rates as lines; a rule that speaks of every network of this architecture is marked."""
    lines = []
    for code, (found, told) in rates.items():
        if not told:
            lines.append(f"{code}  never applicable")
            continue
        too_often = "  TOO OFTEN" if found / told > FALSE_ALARMS else ""
        remark = "  by construction" if code in ALWAYS else too_often
        lines.append(f"{code}  {found:3d} of {told:3d} healthy  {100 * found / told:5.1f} %{remark}")
    return lines


def write_csv(path: Path, results: Mapping[str, Sequence[Outcome]]) -> None:
    """One row a member and rule: what the rule said."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["member", "code", "status", "text"])
        for name, outcomes in results.items():
            writer.writerows([name, o.code, o.status, o.reason] for o in sorted(outcomes, key=lambda o: o.code))


def main(arguments: Sequence[str] | None = None) -> int:
    """Make, judge, print; 1 where the matrix or a rate is not as it should be."""
    parser = argparse.ArgumentParser(description="Make the zoo of defective checkpoints and ask every rule.")
    parser.add_argument("--output", type=Path, required=True, help="folder of the checkpoints and of zoo.csv")
    parser.add_argument("--data", type=Path, default=DEMO_DATA, help="data set to train and judge on")
    parser.add_argument("--encoder", default=None, help="text encoder, the demo's by default")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--limit", type=int, default=40, help="structures the rules are asked on")
    parser.add_argument("--healthy", type=int, default=0, help="number of healthy networks for the rates")
    parser.add_argument("--modality", action="store_true", help="also the rules on graph and text")
    parser.add_argument("--attribution", type=int, default=0, help="structures to explain for the rules on that")
    parser.add_argument("--select", nargs="*", default=[], help="prefixes of codes")
    parser.add_argument("--member", nargs="*", default=[member.name for member in MEMBERS], help="which members")
    options = parser.parse_args(arguments)
    members = [member for member in MEMBERS if member.name in options.member]
    dataset = CrystalDataset.from_directory(options.data, require_target=True)
    encoder = load_encoder(options.encoder)
    prepared = prepare(dataset, encoder)
    rules = select_rules(options.select)
    bench = Bench(
        dataset, encoder, options.epochs, options.limit, rules, prepared, options.modality, options.attribution
    )
    make_zoo(bench, options.output, members)
    results = judge_zoo(bench, options.output, members)
    wrong = mistakes(results, members)
    lines = [*matrix(results, members), *wrong] if results else []
    rates = {}
    if options.healthy:
        healthy = {}
        for seed in range(options.healthy):
            path = healthy_checkpoint(bench, options.output, seed)
            say(f"asking the rules of {path.name}")
            healthy[path.name] = bench.judged(path)
            say(summed_up(healthy[path.name]))
        rates = alarm_rates(list(healthy.values()))
        lines += ["", *rate_lines(rates)]
        results |= healthy
    write_csv(options.output / "zoo.csv", results)
    print("\n".join(lines))
    often = [code for code, (found, told) in rates.items() if code not in ALWAYS and found > FALSE_ALARMS * told]
    return int(bool(wrong or often))


if __name__ == "__main__":
    sys.exit(main())
