"""Runs over a data set that go on where they were killed: their shards, and what tells one run from another."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interpret.provenance import describe_run
from interpret.tables import Shards

if TYPE_CHECKING:
    from model.dataset import CrystalDataset
    from model.encoder import TextEncoder
    from model.network import CrystalTextNetwork


@contextmanager
def resumable(work: Path | None, fingerprint: Callable[[], str]) -> Iterator[Shards]:
    """Shards in a folder, deleted when the block ends well; in a temporary one where none is given.

    Args:
        work: the folder; shards of another run in it are deleted first.
        fingerprint: of the run, see :func:`run_fingerprint`; asked for only where there is a folder to find.
    """
    if work is None:
        with tempfile.TemporaryDirectory() as temporary:
            yield Shards(Path(temporary), "")
    else:
        shards = Shards(work, fingerprint())
        yield shards
        shards.remove()


def run_fingerprint(
    network: CrystalTextNetwork, dataset: CrystalDataset, encoder: TextEncoder, options: Mapping[str, Any]
) -> str:
    """SHA-256 of what the rows of a run and their positions depend on.

    That is checkpoint, data, encoder, options and versions as :func:`interpret.provenance.describe_run` has them, the
    weights themselves, for a network made in memory has no file, and the order of the samples: shards name a structure
    by its position.

    Args:
        options: of the run, with a mark of the analysis.

    Raises:
        DataError: a structure file is gone.
    """
    import torch

    described = describe_run(network, dataset, encoder, dict(options))
    described["order"] = [(sample.id, sample.row) for sample in dataset]
    digest = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
