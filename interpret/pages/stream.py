"""A data set to saved pages, one structure at a time; what is there already is not computed again."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from interpret.diagnose import one_thread, text_scales, watched_taps
from interpret.pages.other_crystals import OtherCrystals
from interpret.pages.page import SCHEMA_VERSION, PageContext, build_page
from interpret.pages.quantity import Quantity
from interpret.pages.store import PageStore
from interpret.provenance import versions
from interpret.record import StructureRecord
from interpret.runner import Runner
from interpret.taps import taps_of
from interpret.text_references import TextReferences
from model.dataset import CrystalDataset, Sample, Skipped

if TYPE_CHECKING:
    from model.encoder import TextEncoder
    from model.network import CrystalTextNetwork

CHUNK = 16


@dataclass(frozen=True)
class PageOptions:
    """How to run; ``batch_size`` and ``device`` change no number.

    Attributes:
        batch_size: structures a forward pass.
        device: torch device of the network.
        symmetry_tolerance: angstrom, for the orbits of equivalent atoms.
        seed: of every draw.
    """

    batch_size: int = 8
    device: str = "cpu"
    symmetry_tolerance: float = 0.01
    seed: int = 0


@dataclass
class PageStream:
    """Computes the pages of a data set into a store.

    Attributes:
        network, encoder: of the run.
        dataset: the data set, from which the controls are drawn.
        store: where the pages go.
        options: how to run.
        samples: those that get a page; None takes all of the data set.
        spare: samples of another data set, for the controls of a small one.
        counterfactuals: by id, columns ``counterfactual.*`` of a diagnosis of the same data.
        extra: further quantities of a record, of analyses of their own; ``extra_name`` tells them apart.
        skipped: filled while the run goes on.
    """

    network: CrystalTextNetwork
    dataset: CrystalDataset
    encoder: TextEncoder
    store: PageStore
    options: PageOptions = PageOptions()
    samples: Sequence[Sample] | None = None
    spare: Sequence[Sample] = ()
    counterfactuals: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    extra: Callable[[StructureRecord], Sequence[Quantity]] | None = None
    extra_name: str = ""
    skipped: list[Skipped] = field(default_factory=list)

    def run(self) -> Iterator[dict[str, Any]]:
        """The ledger's line of every structure, computed or found, in the order of the data set."""
        pool = list(self.dataset)
        texts = [sample.text for sample in pool]
        spare_texts = [sample.text for sample in self.spare]
        references = TextReferences(self.network, self.encoder, texts, spare_texts, self.options.seed)
        others = OtherCrystals(self.network, self.encoder, pool, self.spare, self.options.seed)
        target = next((column.name for column in self.dataset.columns if column.role == "target"), "")
        context = PageContext(self.network, references, text_scales(self.network), others, target, self.counterfactuals)
        key = self._key(references.texts, others.names)
        samples = pool if self.samples is None else list(self.samples)
        for start in range(0, len(samples), CHUNK):
            chunk = [(sample, _digest(key, sample, self.counterfactuals)) for sample in samples[start : start + CHUNK]]
            todo = {sample.id: digest for sample, digest in chunk if not self.store.has(sample.id, digest)}
            done = self._compute([sample for sample, _ in chunk if sample.id in todo], todo, context)
            for sample, digest in chunk:
                # What cannot be read has no record and is passed over.
                while not self.store.has(sample.id, digest) and next(done, None) is not None:
                    pass
                if self.store.has(sample.id, digest):
                    yield self.store.rows[sample.id]
            for _ in done:
                pass

    def _compute(
        self, samples: Iterable[Sample], digests: Mapping[str, str], context: PageContext
    ) -> Iterator[dict[str, Any]]:
        runner = Runner(
            self.network,
            self.encoder,
            taps=page_taps(self.network),
            batch_size=self.options.batch_size,
            device=self.options.device,
            symmetry_tolerance=self.options.symmetry_tolerance,
        )
        for record in runner.run(samples):
            with one_thread():
                page = build_page(record, context, self.extra(record) if self.extra is not None else ())
            yield self.store.add(page, digests[record.id])
        self.skipped += runner.skipped

    def _key(self, texts: Sequence[str], crystals: Sequence[str]) -> str:
        """Everything that all pages depend on."""
        options = {name: value for name, value in asdict(self.options).items() if name not in ("batch_size", "device")}
        content = [
            SCHEMA_VERSION,
            options,
            versions(),
            weights_digest(self.network),
            self.encoder.fingerprint,
            self.extra_name,
            list(texts),
            list(crystals),
        ]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def page_taps(network: CrystalTextNetwork) -> list[str]:
    """Those of a diagnosis, and the branch that does not reach the prediction."""
    more = [name for name in taps_of(network) if name == "attention.token_to_atom"]
    return [*watched_taps(network), *more]


def weights_digest(network: CrystalTextNetwork) -> str:
    """SHA-256 of the configuration and of every weight, wherever the network came from."""
    digest = hashlib.sha256(network.config.model_dump_json().encode())
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _digest(key: str, sample: Sample, counterfactuals: Mapping[str, Mapping[str, float]]) -> str:
    """SHA-256 of everything one page depends on."""
    digest = hashlib.sha256(key.encode())
    target = None if math.isnan(sample.target) else sample.target
    columns = {name: repr(value) for name, value in counterfactuals.get(sample.id, {}).items()}
    digest.update(json.dumps([sample.id, sample.text, target, columns], sort_keys=True).encode())
    if isinstance(sample.structure, Path) and sample.structure.is_file():
        digest.update(sample.structure.read_bytes())
    else:
        digest.update(repr(sample.structure).encode("utf-8", "backslashreplace"))
    return digest.hexdigest()
