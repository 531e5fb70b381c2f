"""The rows of one structure of a modality analysis, and what all structures are held against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from interpret.cost import Stopwatch
from interpret.modality.edit_effects import edit_rows
from interpret.modality.items import draw_graphs, draw_items, drawn, read_item
from interpret.modality.options import ModalityOptions
from interpret.modality.part_shares import part_rows
from interpret.modality.passes import FusedPasses
from interpret.modality.share import UNTRAINED, Baselines, mismatched_rows, reference_rows, share_rows
from interpret.runner import DTYPES
from model.dataset import Skipped
from model.errors import DataError

if TYPE_CHECKING:
    from model.dataset import Sample
    from model.encoder import TextEncoder, TextEncoding
    from model.network import CrystalTextNetwork

Rows = dict[str, list[dict[str, Any]]]
# What the seconds of a run are counted under; those of the encoder are apart from all others.
TEXTS, CRYSTALS, REFERENCE_PASSES = "texts encoded", "crystals read", "references"
SHARES, CONTROL, PARTS, EDITS = "shares", "untrained control", "parts of the text", "edits of the text"


class CountingEncoder:
    """An encoder that counts the texts it is given and the time they take."""

    def __init__(self, encoder: TextEncoder, clock: Stopwatch) -> None:
        self._encoder, self._clock = encoder, clock
        self.name, self.fingerprint = encoder.name, encoder.fingerprint
        self.width, self.max_pieces = encoder.width, encoder.max_pieces
        self.texts = 0

    def encode(self, texts: Sequence[str]) -> list[TextEncoding]:
        """As the encoder does."""
        self.texts += len(set(texts))
        with self._clock.measure(TEXTS):
            return self._encoder.encode(texts)


class StructureRows:
    """Rows of structures, each computed alone: figures depend neither on what is computed with it nor on when.

    The references, the mean crystal and the untrained network are drawn and run when this is made.

    Args:
        network: copied, not changed.
        samples: of the data set. spare: others, for references where those are too few.
        encoder: the text encoder the network was trained with.
        options: how to run.
        clock: where the time goes.

    Attributes:
        baselines: what stands in for a crystal or a text that is taken away.

    Raises:
        DataError: no sample can be read.
    """

    def __init__(
        self,
        network: CrystalTextNetwork,
        samples: Sequence[Sample],
        spare: Sequence[Sample],
        encoder: TextEncoder,
        options: ModalityOptions,
        clock: Stopwatch,
    ) -> None:
        self._clock = clock
        self._encoder = CountingEncoder(encoder, clock)
        with self._measure(CRYSTALS):
            averaged = draw_graphs(samples, max(1, options.averaged), options.seed)
            if not averaged:
                raise DataError(f"no structure could be analysed: none of {len(samples)} can be read")
            references = draw_items(samples, spare, self._encoder, options.references + 1, options.seed)
        self._chosen = frozenset((s.id, s.text) for s in drawn(samples, options.seed)[: options.detailed])
        with self._measure(REFERENCE_PASSES):
            blank = self._encoder.encode([""])[0]
            dtype = DTYPES[options.dtype]
            self._passes = FusedPasses(network, blank, device=options.device, dtype=dtype)
            self.baselines = Baselines.of(self._passes, references, averaged, blank, options.references)
        with self._measure(CONTROL):
            few = references[: options.untrained_references + 1]
            self._twin = FusedPasses(untrained(network), blank, device=options.device, dtype=dtype)
            self._twins = Baselines.of(self._twin, few, averaged, blank, options.untrained_references)

    @property
    def counts(self) -> dict[str, int]:
        """Pairs of crystal and text predicted, and texts encoded, so far."""
        return {"passes": self._passes.pairs + self._twin.pairs, "texts_encoded": self._encoder.texts}

    def is_detailed(self, sample: Sample) -> bool:
        """Whether its text is taken apart and edited."""
        return (sample.id, sample.text) in self._chosen

    def pairs(self) -> list[dict[str, Any]]:
        """Rows of the references paired with each other's texts."""
        return mismatched_rows(self.baselines)

    def of(self, sample: Sample) -> Rows | Skipped:
        """Its rows by table; or why it cannot be read."""
        with self._measure(CRYSTALS):
            item = read_item(sample, self._encoder)
        if isinstance(item, Skipped):
            return item
        with self._measure(SHARES):
            (crystal,) = self._passes.crystals([item.graph])
            shares = share_rows(self._passes, [item], [crystal], self.baselines)
        with self._measure(CONTROL):
            twin = self._twin.crystals([item.graph])
            shares += reference_rows(self._twin, [item], twin, self._twins, UNTRAINED)
        rows = {"modality": shares}
        if self.is_detailed(sample):
            with self._measure(PARTS):
                rows["text_parts"] = part_rows(self._passes, item, crystal, self.baselines, self._encoder)
            with self._measure(EDITS):
                rows["text_edits"] = edit_rows(self._passes, item, crystal, self._encoder)
        return rows

    @contextmanager
    def _measure(self, name: str) -> Iterator[None]:
        """Add the time of the block to a name, without that of texts encoded meanwhile."""
        encoding = self._clock.seconds[TEXTS]
        with self._clock.measure(name):
            yield
        self._clock.seconds[name] -= self._clock.seconds[TEXTS] - encoding


def untrained(network: CrystalTextNetwork) -> CrystalTextNetwork:
    """A network of the same architecture with the weights that training starts from, drawn with a fixed seed."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        twin = type(network)(network.config).eval()
    if network.config.element_embedding == "fixed":
        # Read from a file and never trained: without it all elements would be one.
        twin.element_table.copy_(network.element_table)
    return twin
