"""One epoch of training against alignn's own loop: same crystals, same graphs, same batch size, same 256/4/4 backbone.

``python -m tools.bench.training [FOLDER] [--alignn PATH] [--limit 48] [--batch-size 16] [--rounds 3]``. Ours also
encodes nothing and builds no graph in the timed part, as alignn reads its graphs from a cache; it does read the texts'
embeddings, project and fuse them. ``--alignn`` is a folder to import alignn from (an unzipped wheel and what it needs);
where alignn cannot be imported only our figures are printed. The two take turns, so that a busy machine slows both;
the first epoch of each turn is not counted. ``--clock cpu`` counts the time of the process, for a machine that others
use as well.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset

from model.batch import collate, to_dgl
from model.dataset import CrystalDataset
from model.demo import DEMO_DATA
from model.encoder import load_encoder
from model.training import PreparedData, TrainConfig, prepare, train

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
BACKBONE = {"alignn_layers": 4, "gcn_layers": 4, "hidden_features": 256, "embedding_features": 64}
OURS = {
    "default": {"use_middle_fusion": False},
    "all fusions": {"use_middle_fusion": True, "use_fine_grained_attention": True},
}


class Stopwatch(L.Callback):
    """Seconds of the training part of each epoch, validation not counted."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.seconds: list[float] = []
        self._begin = 0.0

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Start."""
        self._begin = self.clock()

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Stop."""
        self.seconds.append(self.clock() - self._begin)


class GraphPairs(Dataset[Any]):
    """Crystals as alignn's data sets give them: graph, line graph, lattice, target."""

    def __init__(self, prepared: PreparedData, ids: Sequence[str]) -> None:
        by_id = {example.id: example for example in prepared.examples}
        self.ids = list(ids)
        self.items = []
        for each in ids:
            example = by_id[each]
            lattice = torch.tensor(example.graph.lattice, dtype=torch.float32)
            pair = to_dgl(collate([example.graph], [example.encoding]))
            self.items.append((*pair, lattice, torch.tensor([example.target], dtype=torch.float32)))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]

    def close(self) -> None:
        """alignn closes its database at the end."""


def join_pairs(items: Sequence[Any]) -> tuple[Any, Any, torch.Tensor, torch.Tensor]:
    """A batch as alignn's collate function makes it."""
    import dgl

    graphs, line_graphs, lattices, targets = map(list, zip(*items, strict=True))
    return dgl.batch(graphs), dgl.batch(line_graphs), torch.stack(lattices), torch.cat(targets)


def our_epochs(
    data: tuple[CrystalDataset, Any, PreparedData],
    changes: dict[str, Any],
    options: argparse.Namespace,
) -> tuple[list[float], Any]:
    """Seconds of each epoch but the first, and the splits."""
    dataset, encoder, prepared = data
    document = {
        "model": {**BACKBONE, **changes},
        "training": {"epochs": options.epochs, "batch_size": options.batch_size, "loss": "l1", "loggers": ["csv"]},
    }
    watch = Stopwatch(CLOCKS[options.clock])
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig.model_validate(document)
        outcome = train(config, dataset, encoder, Path(folder) / "run", callbacks=[watch], prepared=prepared)
    return watch.seconds[1:], outcome.record.splits


def their_epochs(prepared: PreparedData, splits: Any, options: argparse.Namespace) -> list[float]:
    """Seconds of each epoch but the first, as alignn's loop measures them itself."""
    module, settings = importlib.import_module("alignn.train"), importlib.import_module("alignn.config")
    seconds: list[float] = []
    module.time = SimpleNamespace(time=CLOCKS[options.clock])
    # After the epoch and twelve losses comes the time of the training part of the epoch.
    module.print_train_val_loss = lambda *values, **_: seconds.append(values[13])
    loaders = [
        DataLoader(
            GraphPairs(prepared, ids), batch_size=options.batch_size, shuffle=name == "train", collate_fn=join_pairs
        )
        for name, ids in (("train", splits.train), ("val", splits.val), ("test", splits.test))
    ]
    model = {**BACKBONE, "name": "alignn_atomwise", "atom_input_features": 92, "calculate_gradient": False}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        config = settings.TrainingConfig(
            model={**model, "lg_on_fly": False},
            epochs=options.epochs,
            batch_size=options.batch_size,
            learning_rate=1e-3,
            output_dir=folder,
            write_predictions=False,
            target="target",
        )
        module.train_dgl(config, train_val_test_loaders=[*loaders, lambda batch, device: batch])
    return seconds[1:]


def importable(folder: str | None) -> bool:
    """Whether alignn can be imported, from the folder where one is given."""
    sys.path[:0] = [] if folder is None else folder.split(":")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            importlib.import_module("alignn.train")
    except ImportError as error:
        print(f"alignn cannot be imported ({error}): our figures alone", file=sys.stderr)
        return False
    return True


def row(name: str, seconds: Sequence[float], crystals: int, ratios: Sequence[float]) -> str:
    """One line of the table."""
    middle = statistics.median(seconds)
    spread = f"{statistics.median(ratios):8.2f}{min(ratios):8.2f}{max(ratios):8.2f}" if ratios else ""
    return f"{name:24}{middle:10.2f}{crystals / middle:12.2f}{spread}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print seconds an epoch and crystals a second, and the ratio to alignn in the same round."""
    parser = argparse.ArgumentParser(description="Time an epoch of training against alignn's own loop.")
    parser.add_argument("folder", nargs="?", type=Path, default=DEMO_DATA, help="data set")
    parser.add_argument("--alignn", default=None, help="folders to import alignn from, separated by ':'")
    parser.add_argument("--limit", type=int, default=48)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=3, help="of each turn; the first is not counted")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall")
    options = parser.parse_args(arguments)
    dataset = CrystalDataset.from_directory(options.folder, limit=options.limit, require_target=True)
    encoder = load_encoder(None)
    data = (dataset, encoder, prepare(dataset, encoder))
    theirs = importable(options.alignn)
    runs: dict[str, Callable[[Any], tuple[list[float], Any]]] = {
        name: lambda _, changes=changes: our_epochs(data, changes, options) for name, changes in OURS.items()
    }
    if theirs:
        runs["alignn_atomwise"] = lambda splits: (
            their_epochs(data[2], splits, options),
            splits,
        )
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    splits: Any = None
    for _ in range(options.rounds):
        for name, run in runs.items():
            spent, splits = run(splits)
            seconds[name].append(statistics.median(spent))
    print(
        f"{len(splits.train)} crystals an epoch, batches of {options.batch_size}, {torch.get_num_threads()} threads, "
        f"{options.clock} time"
    )
    print(f"{'':24}{'s/epoch':>10}{'crystals/s':>12}{'ratio':>8}{'least':>8}{'most':>8}")
    for name in runs:
        pairs = zip(seconds.get("alignn_atomwise", ()), seconds[name], strict=theirs)
        print(row(name, seconds[name], len(splits.train), [slow / fast for slow, fast in pairs]))


if __name__ == "__main__":
    main()
