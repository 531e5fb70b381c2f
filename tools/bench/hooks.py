"""What watching costs: a forward pass with taps reduced in the hook, and with all captured, against a plain one."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from interpret.hooks import Capture, HookRegistry
from model.batch import CrystalBatch, collate
from model.config import ModelConfig
from model.crystal import build_graph
from model.dataset import CrystalDataset
from model.demo import DEMO_DATA
from model.encoder import load_encoder
from model.network import CrystalTextNetwork

STRUCTURES = 16
MODES = ("plain", "reduced", "full")


def reduce_capture(capture: Capture) -> dict[str, Tensor]:
    """Mean, spread and extremes of the last axis: what a monitor keeps of a tap."""
    values = capture.values
    return {
        "mean": values.mean(dim=-1),
        "sd": values.std(dim=-1, correction=0),
        "min": values.amin(dim=-1),
        "max": values.amax(dim=-1),
    }


def setting(folder: Path) -> tuple[CrystalTextNetwork, CrystalBatch]:
    """The published default network and a batch of real crystals."""
    dataset = CrystalDataset.from_directory(folder, limit=STRUCTURES)
    encoder = load_encoder(None)
    config = ModelConfig(token_features=encoder.width, use_middle_fusion=True, use_fine_grained_attention=True)
    torch.manual_seed(0)
    network = CrystalTextNetwork(config).eval()
    graphs = [build_graph(sample.structure) for sample in dataset]
    return network, collate(graphs, encoder.encode([sample.text for sample in dataset]))


def runner(mode: str, network: CrystalTextNetwork, batch: CrystalBatch) -> Callable[[], None]:
    """One forward pass in the given mode."""

    def run() -> None:
        with torch.no_grad():
            if mode == "plain":
                network(batch)
                return
            registry = HookRegistry(network).capture("*", reduce=reduce_capture if mode == "reduced" else None)
            with registry:
                network(batch)

    return run


def resident(name: str) -> int:
    """A line of /proc/self/status, KiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def peak_memory(mode: str, folder: Path) -> float:
    """Growth of the peak resident set by one forward pass in a fresh process, MiB."""
    command = [sys.executable, "-m", "tools.bench.hooks", str(folder), "--memory", mode]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(json.loads(output.splitlines()[-1]))


def main(arguments: list[str]) -> None:
    """``[FOLDER] [--memory MODE]``: print the table, or one figure for a child process."""
    folder = Path(arguments[0]) if arguments else DEMO_DATA
    network, batch = setting(folder)
    if "--memory" in arguments:
        run = runner(arguments[-1], network, batch)
        # Loading the encoder has its own peak, so the kernel's high-water mark is set back first (Linux).
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = resident("VmRSS")
        run()
        print((resident("VmHWM") - before) / 1024)
        return
    runs = {mode: runner(mode, network, batch) for mode in MODES}
    seconds: dict[str, list[float]] = {mode: [] for mode in MODES}
    for repeat in range(8):
        for mode in MODES:
            start = time.perf_counter()
            runs[mode]()
            if repeat:
                seconds[mode].append(time.perf_counter() - start)
    memory = {mode: statistics.median(peak_memory(mode, folder) for _ in range(3)) for mode in MODES}
    print(f"default network, {len(batch)} crystals, {len(batch.atom_features)} atoms, {len(batch.angle_source)} angles")
    print(f"{'mode':8} {'seconds':>8} {'ratio':>6} {'MiB':>7} {'ratio':>6}")
    for mode in MODES:
        ratios = [a / b for a, b in zip(seconds[mode], seconds["plain"], strict=True)]
        print(
            f"{mode:8} {statistics.median(seconds[mode]):8.3f} {statistics.median(ratios):6.2f} "
            f"{memory[mode]:7.0f} {memory[mode] / memory['plain']:6.2f}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
