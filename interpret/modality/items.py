"""Samples as the analysis reads them, and the draw of those that stand for the data set."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from model.crystal import build_graph
from model.dataset import Sample, Skipped
from model.embedding_cache import EmbeddingCache
from model.encoder import TransformersEncoder
from model.errors import InterpretError
from model.structure import read_structure

if TYPE_CHECKING:
    from model.crystal import CrystalGraph
    from model.encoder import TextEncoder, TextEncoding


@dataclass(frozen=True)
class Item:
    """A sample with its graph and encoded text."""

    sample: Sample
    graph: CrystalGraph
    encoding: TextEncoding


def read_item(sample: Sample, encoder: TextEncoder) -> Item | Skipped:
    """Read, build and encode a sample; where that fails, why."""
    stage: Literal["structure", "text"] = "structure"
    try:
        graph = build_graph(read_structure(sample.structure))
        stage = "text"
        return Item(sample, graph, encoder.encode([sample.text])[0])
    except InterpretError as error:
        return Skipped(sample.id, sample.row, stage, str(error))


def drawn(samples: Iterable[Sample], seed: int) -> list[Sample]:
    """Samples in an order drawn by a hash of id and text: that of the data set does not matter."""

    def key(sample: Sample) -> str:
        content = f"{seed}:{sample.id}:{sample.text}"
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()

    return sorted(samples, key=key)


def draw_items(
    samples: Sequence[Sample], spare: Iterable[Sample], encoder: TextEncoder, count: int, seed: int
) -> list[Item]:
    """Up to ``count`` readable samples, drawn by hash; those of ``spare`` fill up what a small data set lacks."""
    known = {(sample.id, sample.text) for sample in samples}
    others = [sample for sample in spare if (sample.id, sample.text) not in known]
    read = (read_item(sample, encoder) for sample in (*drawn(samples, seed), *drawn(others, seed)))
    return list(islice((item for item in read if isinstance(item, Item)), count))


def draw_graphs(samples: Sequence[Sample], count: int, seed: int) -> list[CrystalGraph]:
    """Graphs of up to ``count`` samples that can be read, drawn as :func:`draw_items` does."""
    found: list[CrystalGraph] = []
    for sample in drawn(samples, seed):
        if len(found) == count:
            break
        with suppress(InterpretError):
            found.append(build_graph(read_structure(sample.structure)))
    return found


class _ReadOnlyCache(EmbeddingCache):
    """Gives what another cache has and adds nothing to it."""

    def write(self, key: str, piece_ids: npt.NDArray[np.int64], embeddings: npt.NDArray[np.float32]) -> None:
        """Nothing is kept."""


@contextmanager
def nothing_cached(encoder: TextEncoder) -> Iterator[None]:
    """No embeddings are written to disk meanwhile: texts that are edited or cut are many and read once."""
    if not isinstance(encoder, TransformersEncoder):
        yield
        return
    cache = encoder.cache
    encoder.cache = _ReadOnlyCache(False if cache.directory is None else cache.directory)
    try:
        yield
    finally:
        encoder.cache = cache
