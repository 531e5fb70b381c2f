"""How often does compare find a difference where there is none? Null calibration over models that differ by seed.

    python -m tools.calibrate_compare runs/healthy* --output calibration

Every model runs over the data once. Then pairs of models are drawn, and in each pair the labels "a" and "b" are
exchanged for a random half of the structures: what is left between the two is chance, and the share of tests that are
significant after the correction must not exceed the level. Beside it stands the same without exchanging labels: two
seeds of one variant do differ, structure by structure, which is why a difference between variants has to be held
against the spread between seeds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from interpret.compare import Inference, Run, observe
from interpret.compare.catalogue import figures_of, metrics_of
from interpret.compare.differences import compare_frames
from interpret.compare.pairing import check_pair, labels_of
from interpret.tables import write_json, write_table
from model.checkpoint import load_checkpoint
from model.dataset import CrystalDataset
from model.demo import DEMO_DATA
from model.encoder import load_encoder

LARGEST_SHARE = 0.08


def calibrate(runs: Sequence[Run], pairs: int, inference: Inference, seed: int = 0) -> pd.DataFrame:
    """Draw pairs of runs and compare each with its labels permuted, and as it is.

    Returns:
        One row a pair: ``a``, ``b``, ``tests``, ``significant`` (adjusted, labels permuted), ``smallest_p`` and
        ``significant_as_is``.
    """
    for run in runs[1:]:
        check_pair(runs[0], run)
    generator = np.random.default_rng(seed)
    figures = {run.label: figures_of(run) for run in runs}
    metrics = metrics_of(*runs)
    rows = []
    for _ in range(pairs):
        first, second = (runs[i] for i in generator.choice(len(runs), size=2, replace=False))
        left, right = figures[first.label], figures[second.label]
        kept = pd.Series(generator.random(len(left)) < 0.5, index=left.index)
        a, b = left.where(kept, right, axis=0), right.where(kept, left, axis=0)
        permuted, as_is = (
            compare_frames(frames, (first.label, second.label), metrics, first.resolution, inference)[0]
            for frames in ((a, b), (left, right))
        )
        rows.append(
            {
                "a": first.label,
                "b": second.label,
                "tests": int(permuted["p_adjusted"].notna().sum()),
                "significant": int((permuted["p_adjusted"] < inference.significance).sum()),
                "smallest_p": float(permuted["p_value"].min()),
                "significant_as_is": int((as_is["p_adjusted"] < inference.significance).sum()),
            }
        )
    return pd.DataFrame(rows)


def summarise(table: pd.DataFrame) -> dict[str, float]:
    """Shares over all pairs."""
    tests = table["tests"].sum()
    return {
        "pairs": len(table),
        "tests": int(tests),
        "significant_share": float(table["significant"].sum() / tests),
        "pairs_with_any_significant": float((table["significant"] > 0).mean()),
        "significant_share_as_is": float(table["significant_as_is"].sum() / tests),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; status 1 where the share is above 5 % + 3 %."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoints", nargs="+", type=Path, help="models that differ by their seed only")
    parser.add_argument("--data", type=Path, default=DEMO_DATA)
    parser.add_argument("--encoder", default=None)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--limit", type=int, default=60, help="structures; 60 for 20 models take some minutes")
    parser.add_argument("--resamples", type=int, default=1999)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("calibration"))
    given = parser.parse_args(arguments)
    networks = [load_checkpoint(path) for path in given.checkpoints]
    encoder = load_encoder(given.encoder, width=networks[0].config.token_features)
    dataset = CrystalDataset.from_directory(given.data, limit=given.limit)
    observed = observe(networks, labels_of(given.checkpoints), dataset, encoder, pairs=False)
    table = calibrate(observed.runs, given.pairs, Inference(resamples=given.resamples, seed=given.seed), given.seed)
    summary = summarise(table)
    write_table(table, given.output, "pairs")
    write_json(given.output / "summary.json", summary)
    sys.stdout.write("".join(f"{name}: {value:.4g}\n" for name, value in summary.items()))
    return int(summary["significant_share"] > LARGEST_SHARE)


if __name__ == "__main__":
    sys.exit(main())
