"""A killed modality analysis goes on where it stopped and ends with what it would have ended with."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from interpret.diagnose import DiagnoseOptions, diagnose
from interpret.modality.analysis import ModalityAnalysis, analyze_modality
from interpret.modality.findings import diagnose_modality
from interpret.modality.options import ModalityOptions
from interpret.tables import plain
from model.dataset import CrystalDataset, Sample
from model.demo import DEMO_DATA
from model.encoder import load_encoder

OPTIONS = ModalityOptions(references=3, averaged=4, detailed=4, chunk=2)


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


class Watch:
    """A progress callback that kills after the given number of chunks, and notes how many structures each had."""

    def __init__(self, after: int | None = None) -> None:
        self.after = after
        self.calls: list[int] = []

    def __call__(self, structures: int) -> None:
        # The first call says what an earlier run had done.
        if self.after is not None and len(self.calls) == self.after:
            raise Killed
        self.calls.append(structures)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> CrystalDataset:
    """Nine crystals of which the third and the last cannot be read."""
    samples = list(CrystalDataset.from_directory(DEMO_DATA).samples[::19])
    broken = tmp_path_factory.mktemp("broken") / "broken.cif"
    broken.write_text("data_nothing\n", encoding="utf-8")
    for place in (2, 8):
        samples[place] = replace(samples[place], structure=broken)
    return CrystalDataset(tuple(samples), rows=9)


@pytest.fixture(scope="module")
def spare() -> tuple[Sample, ...]:
    return CrystalDataset.from_directory(DEMO_DATA).samples[1:4]


@pytest.fixture(scope="module")
def run(dataset: CrystalDataset, spare: Any, word_encoder: Any, make_network: Callable[..., Any]) -> Callable[..., Any]:
    network = make_network()

    def analyze(**changes: Any) -> ModalityAnalysis:
        arguments = {"dataset": dataset, "network": network, "options": OPTIONS, "spare": spare} | changes
        return analyze_modality(encoder=word_encoder, **arguments)

    return analyze


@pytest.fixture(scope="module")
def whole(run: Callable[..., Any]) -> ModalityAnalysis:
    return run()


def written(analysis: ModalityAnalysis) -> str:
    return json.dumps(plain(analysis.facts), sort_keys=True)


def assert_same(found: ModalityAnalysis, expected: ModalityAnalysis) -> None:
    """Every table to the last bit, every fact, everything skipped."""
    for name, table in expected.tables.items():
        pd.testing.assert_frame_equal(found.tables[name], table, check_exact=True, obj=name)
    assert written(found) == written(expected)
    assert found.skipped == expected.skipped


@pytest.mark.parametrize("after", [1, 2, 4])
@pytest.mark.parametrize("chunk", [2, 5])
def test_killed_and_run_again(
    after: int, chunk: int, run: Callable[..., Any], whole: ModalityAnalysis, tmp_path: Path
) -> None:
    """Killed after any chunk and run again, with shards of the same size or of another."""
    work = tmp_path / "work"
    with pytest.raises(Killed):
        run(work=work, progress=Watch(after))
    watch = Watch()
    again = run(work=work, progress=watch, options=replace(OPTIONS, chunk=chunk))
    assert_same(again, whole)
    # The progress callback was called and killed after the shard was written.
    assert watch.calls[0] == min(2 * after, 9)
    assert sum(watch.calls) == 9
    assert not work.exists(), "nothing is left of a run that is finished"
    assert [len(whole.skipped), len(whole.leakage), whole.facts["counts"]["structures"]] == [2, 7, 7]
    assert len(whole.text_edits)
    assert len(whole.text_parts)


def test_killed_twice_and_by_an_error_of_the_encoder(
    run: Callable[..., Any], whole: ModalityAnalysis, tmp_path: Path, word_encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    with pytest.raises(Killed):
        run(work=work, progress=Watch(2))
    encode, calls = type(word_encoder).encode, []

    def fails(self: Any, texts: Any) -> Any:
        calls.append(len(texts))
        if len(calls) == 8:
            raise MemoryError
        return encode(self, texts)

    with monkeypatch.context() as patch:
        patch.setattr(type(word_encoder), "encode", fails)
        with pytest.raises(MemoryError):
            run(work=work)
    assert_same(run(work=work), whole)


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_size_of_the_chunks_changes_nothing(chunk: int, run: Callable[..., Any], whole: ModalityAnalysis) -> None:
    assert_same(run(options=replace(OPTIONS, chunk=chunk)), whole)


def other_weights(network: Any, dataset: Any) -> dict[str, Any]:
    with torch.no_grad():
        network.fc.bias += 1.0
    return {"network": network}


CHANGES: dict[str, Callable[..., dict[str, Any]]] = {
    "weights of a network that has no file": other_weights,
    "seed": lambda network, dataset: {"options": replace(OPTIONS, seed=1)},
    "detailed": lambda network, dataset: {"options": replace(OPTIONS, detailed=2)},
    "order": lambda network, dataset: {"dataset": CrystalDataset(dataset.samples[::-1], rows=9)},
    "text": lambda network, dataset: {
        "dataset": CrystalDataset((replace(dataset[0], text="cubic"), *dataset.samples[1:]), rows=9)
    },
    "spare": lambda network, dataset: {"spare": ()},
}


@pytest.mark.parametrize("what", CHANGES)
def test_shards_of_another_run_are_not_used(
    what: str, run: Callable[..., Any], dataset: CrystalDataset, make_network: Callable[..., Any], tmp_path: Path
) -> None:
    work = tmp_path / "work"
    with pytest.raises(Killed):
        run(work=work, progress=Watch(3))
    changes = CHANGES[what](make_network(), dataset)
    watch = Watch()
    again = run(work=work, progress=watch, **changes)
    assert watch.calls[0] == 0
    assert_same(again, run(**changes))


def test_cost_is_by_part_and_not_a_fact(run: Callable[..., Any], whole: ModalityAnalysis, tmp_path: Path) -> None:
    parts = {"texts encoded", "crystals read", "references", "shares", "untrained control", "parts of the text"}
    assert set(whole.cost) == parts | {"edits of the text", "leakage", "figures"}
    assert all(seconds > 0 for seconds in whole.cost.values())
    assert "cost" not in whole.facts
    counts = whole.facts["counts"]
    # References 4 x 4 and the pair that says nothing; of the control 3 x 3 and that pair. Then each structure.
    references = 16 + 1 + 9 + 1
    own = len(whole.text_parts["id"].unique())
    edits = len(whole.text_edits) + len(whole.text_edits["id"].unique())
    kinds = whole.text_parts[whole.text_parts["part"] != "graph"].groupby("id").size()
    shares = counts["structures"] * (1 + 2 * 3 + 2 + 1 + 2 * 2)
    assert counts["passes"] == references + shares + edits + int((2 * 2**kinds).sum())
    assert counts["detailed"] >= own
    whole.save(tmp_path)
    assert "seconds" not in (tmp_path / "modality.json").read_text(encoding="utf-8")
    run().save(tmp_path / "again")
    for file in sorted(path.name for path in tmp_path.glob("*.*")):
        assert (tmp_path / file).read_bytes() == (tmp_path / "again" / file).read_bytes(), file


def test_read_back(whole: ModalityAnalysis, tmp_path: Path) -> None:
    """All but the cost; who was skipped and why is in modality.json."""
    whole.save(tmp_path)
    back = ModalityAnalysis.load(tmp_path)
    assert_same(back, whole)
    assert back.cost == {}
    kept = json.loads((tmp_path / "modality.json").read_text(encoding="utf-8"))["skipped"]
    assert [(one["id"], one["stage"]) for one in kept] == [(s.id, "structure") for s in whole.skipped]
    assert all(one["reason"] for one in kept)


def test_a_diagnosis_skips_the_same_and_resumes(
    dataset: CrystalDataset, make_network: Callable[..., Any], tmp_path: Path
) -> None:
    few = CrystalDataset(dataset.samples[:4], rows=4)
    network, encoder, options = make_network(), load_encoder("random:12", cache_directory=False), DiagnoseOptions()
    result = diagnose(network, few, encoder, options=options, rules=[])
    work = tmp_path / "work"

    def ask(progress: Watch, work: Path | None) -> ModalityAnalysis:
        return diagnose_modality(
            result, network, few, encoder, options=options, rules=[], work=work, progress=progress
        )[1]

    with pytest.raises(Killed):
        ask(Watch(1), work)
    watch = Watch()
    analysis = ask(watch, work)
    assert watch.calls[0] == 4
    assert analysis.skipped == result.skipped
    assert len(analysis.skipped) == 1
    assert_same(analysis, ask(Watch(), None))
