"""What a diagnosis with all rules costs against the plain forward pass over the same data: time and peak memory."""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch

from interpret.cost import cost_lines
from interpret.diagnose import DiagnoseOptions, diagnose
from interpret.runner import DTYPES
from model.batch import CrystalBatch, collate
from model.checkpoint import load_checkpoint
from model.config import ModelConfig
from model.crystal import build_graph
from model.dataset import CrystalDataset
from model.demo import DEMO_DATA, demo_texts
from model.encoder import TextEncoder, load_encoder
from model.network import CrystalTextNetwork
from tools.bench.hooks import resident

STRUCTURES = 50
BATCH_SIZE = 16
REPEATS = 3


def default_network(width: int) -> CrystalTextNetwork:
    """The published default with middle fusion and attention, freshly initialised."""
    torch.manual_seed(0)
    config = ModelConfig(token_features=width, use_middle_fusion=True, use_fine_grained_attention=True)
    return CrystalTextNetwork(config).eval()


def batches(dataset: CrystalDataset, encoder: TextEncoder, dtype: torch.dtype) -> list[CrystalBatch]:
    """The data set as the runner batches it."""
    graphs = [build_graph(sample.structure) for sample in dataset]
    encodings = encoder.encode([sample.text for sample in dataset])
    return [
        collate(graphs[i : i + BATCH_SIZE], encodings[i : i + BATCH_SIZE]).to(dtype=dtype)
        for i in range(0, len(graphs), BATCH_SIZE)
    ]


def plain_seconds(network: CrystalTextNetwork, data: list[CrystalBatch]) -> float:
    """One forward pass over all batches without gradients."""
    start = time.perf_counter()
    with torch.no_grad():
        for batch in data:
            network(batch)
    return time.perf_counter() - start


def measure(options: argparse.Namespace) -> None:
    """Both in turn, in this process; the peak of the plain passes is read before the first diagnosis."""
    encoder = load_encoder(None)
    dataset = CrystalDataset.from_directory(options.data, limit=options.limit)
    network = load_checkpoint(options.checkpoint) if options.checkpoint else default_network(encoder.width)
    dtype = DTYPES[options.dtype]
    data = batches(dataset, encoder, dtype)
    twin = default_network(encoder.width) if not options.checkpoint else load_checkpoint(options.checkpoint)
    twin = twin.to(dtype=dtype).eval()
    plain_seconds(twin, data)
    before = resident("VmHWM")
    ratios, result = [], None
    for _ in range(REPEATS):
        plain = plain_seconds(twin, data)
        start = time.perf_counter()
        chosen = DiagnoseOptions(dtype=options.dtype, batch_size=BATCH_SIZE)
        result = diagnose(network, dataset, encoder, options=chosen, spare_texts=demo_texts())
        whole = time.perf_counter() - start
        ratios.append(whole / plain)
        print(f"plain {plain:6.1f} s  diagnose {whole:6.1f} s  ratio {whole / plain:.2f}", flush=True)
    assert result is not None
    print(f"{len(result.structures)} structures, {options.dtype}, {len(result.outcomes)} rules asked")
    print(f"median ratio {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})")
    print(f"peak memory {before / 1024:.0f} MiB plain, {resident('VmHWM') / 1024:.0f} MiB with diagnosis")
    print("\n".join(cost_lines(result.cost, result.outcomes)))


def main(arguments: list[str] | None = None) -> None:
    """``python -m tools.bench.diagnose [--data DIR] [--checkpoint FILE] [--dtype float64]``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DEMO_DATA)
    parser.add_argument("--checkpoint", type=Path, default=None)
    parser.add_argument("--limit", type=int, default=STRUCTURES)
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="float64")
    measure(parser.parse_args(arguments))


if __name__ == "__main__":
    main()
