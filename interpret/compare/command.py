"""From what a user names to networks, encoder and data, and the two kinds of comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from interpret.compare.comparison import Comparison
from interpret.compare.differences import Inference
from interpret.compare.groups import GroupComparison, compare_groups
from interpret.compare.hypothesis import Hypothesis
from interpret.compare.models import common_width, compare_all
from interpret.compare.observe import observe
from interpret.compare.pairing import labels_of, read_group
from interpret.compare.trained import check_trained_encoders, restrict, split_of
from interpret.diagnose import DiagnoseOptions
from model.checkpoint import load_checkpoint
from model.demo import demo_texts
from model.encoder import load_encoder
from model.errors import DataError
from model.text import read_mappings

if TYPE_CHECKING:
    from model.dataset import CrystalDataset
    from model.encoder import TextEncoder
    from model.network import CrystalTextNetwork


@dataclass(frozen=True)
class Request:
    """Checkpoints to compare.

    Attributes:
        paths, labels, networks: one each.
        encoder: of all of them.
        groups: label and number of models of each group; empty where checkpoints are compared one by one.
    """

    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    networks: tuple[CrystalTextNetwork, ...]
    encoder: TextEncoder
    groups: tuple[tuple[str, int], ...] = ()

    @classmethod
    def read(
        cls,
        checkpoints: Sequence[Path],
        groups: Sequence[str],
        labels: Sequence[str] = (),
        encoder: str | None = None,
        mappings: Path | None = None,
        *,
        device: str = "cpu",
        allow_partial: bool = False,
    ) -> Request:
        """Load what is named.

        Args:
            checkpoints: two or more. groups: ``LABEL=PATH,...`` twice, in their place.
            labels: of the checkpoints. encoder, mappings, device: as for ``interpret diagnose``.

        Raises:
            DataError: too few checkpoints or groups, both of them, or checkpoints that one encoder cannot serve.
        """
        parsed = [read_group(text) for text in groups]
        if bool(parsed) == bool(checkpoints) or (parsed and len(parsed) != 2) or (not parsed and len(checkpoints) < 2):
            raise DataError(
                "expected two or more checkpoints, or --group LABEL=PATH,PATH,... twice in their place; got "
                f"{len(checkpoints)} of the first and {len(parsed)} of the second"
            )
        paths = tuple(checkpoints) or tuple(path for _, own in parsed for path in own)
        names = labels_of(paths, labels)
        loaded = [load_checkpoint(path, allow_partial=allow_partial) for path in paths]
        mapped = None if mappings is None else read_mappings(mappings)
        text_encoder = load_encoder(encoder, width=common_width(loaded, names), device=device, mappings=mapped)
        check_trained_encoders(paths, text_encoder)
        counts = tuple((label, len(own)) for label, own in parsed)
        return cls(paths, names, tuple(loaded), text_encoder, counts)

    def restrict(self, dataset: CrystalDataset, split: str | None, limit: int | None) -> CrystalDataset:
        """The data of a split on which all checkpoints agree; all of it for None."""
        return dataset if split is None else restrict(dataset, split_of(self.paths, split), limit)


def run_comparison(
    request: Request,
    dataset: CrystalDataset,
    options: DiagnoseOptions,
    inference: Inference,
    hypothesis: Hypothesis,
    progress: Callable[[int], None],
) -> list[Comparison]:
    """The first checkpoint against each of the others."""
    return compare_all(
        request.networks,
        dataset,
        request.encoder,
        labels=request.labels,
        options=options,
        inference=inference,
        hypothesis=hypothesis,
        spare_texts=demo_texts(),
        progress=progress,
    )


def run_group_comparison(
    request: Request,
    dataset: CrystalDataset,
    options: DiagnoseOptions,
    inference: Inference,
    progress: Callable[[int], None],
) -> GroupComparison:
    """The models of the first group against those of the second."""
    observed = observe(
        request.networks,
        request.labels,
        dataset,
        request.encoder,
        options=options,
        spare_texts=demo_texts(),
        pairs=False,
        progress=progress,
    )
    (first, count), (second, _) = request.groups
    return compare_groups(observed.runs[:count], observed.runs[count:], (first, second), inference)
