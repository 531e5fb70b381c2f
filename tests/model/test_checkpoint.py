"""Checkpoints as people have them: each layout loads to the same network, and what does not fit is said."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import sys
import types
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from model.batch import CrystalBatch
from model.checkpoint import load_checkpoint
from model.checkpoint_layout import find_weights
from model.config import ModelConfig
from model.errors import CheckpointError
from model.inert_objects import UnsafePickleError
from model.network import CrystalTextNetwork
from model.provenance import by_module

CONFIG = ModelConfig(
    alignn_layers=2,
    gcn_layers=1,
    hidden_features=8,
    embedding_features=6,
    token_features=10,
    projection_features=4,
    use_middle_fusion=True,
    middle_fusion_layers=(1,),
    middle_fusion_hidden_dim=12,
    use_fine_grained_attention=True,
    fine_grained_hidden_dim=16,
    fine_grained_num_heads=2,
    cross_modal_hidden_dim=8,
    cross_modal_num_heads=2,
)
State = dict[str, Tensor]


def trained(config: ModelConfig = CONFIG, seed: int = 1) -> CrystalTextNetwork:
    """A network whose weights and running statistics are all unlike their initial values."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = CrystalTextNetwork(config)
        with torch.no_grad():
            for name, value in network.state_dict().items():
                if value.is_floating_point() and not name.endswith(("centers", "text_scale")):
                    value.add_(0.1 * torch.rand_like(value))
    return network.eval()


def small_batch(width: int = 10) -> CrystalBatch:
    """Two structures of two and one atoms with every atom bonded to every atom of its own structure."""
    random = torch.Generator().manual_seed(3)
    source, target = torch.tensor([0, 1, 0, 1, 2, 2]), torch.tensor([1, 0, 0, 1, 2, 2])
    pairs = [(a, b) for a in range(6) for b in range(6) if a != b and target[a] == source[b]]
    first, second = (torch.tensor(column) for column in zip(*pairs, strict=True))
    return CrystalBatch(
        atom_features=torch.rand(3, 92, generator=random),
        bond_source=source,
        bond_target=target,
        bond_vectors=torch.rand(6, 3, generator=random) * 3,
        angle_source=first,
        angle_target=second,
        angle_cosines=torch.rand(len(pairs), generator=random) * 2 - 1,
        atoms_per_structure=torch.tensor([2, 1]),
        token_embeddings=torch.randn(2, 5, width, generator=random),
        token_mask=torch.tensor([[True] * 5, [True] * 3 + [False] * 2]),
        atomic_numbers=torch.tensor([3, 8, 14]),
    )


@torch.no_grad()
def predict(network: CrystalTextNetwork) -> Tensor:
    result: Tensor = network(small_batch())
    return result


def plain_config(**changes: Any) -> dict[str, Any]:
    """The configuration as the published script writes it."""
    fields = CONFIG.model_dump()
    return {"name": "alignn", **fields, "middle_fusion_layers": "1", "mask_stopwords": False, **changes}


def pickled_config(fields: dict[str, Any], module: str = "models.alignn", name: str = "ALIGNNConfig") -> Any:
    """A pydantic v1 object of a class that cannot be imported once this function's caller has saved it."""

    class Config:
        def __getstate__(self) -> dict[str, Any]:
            return {"__dict__": fields, "__fields_set__": set(), "__private_attribute_values__": {}}

    Config.__module__, Config.__qualname__, Config.__name__ = module, name, name
    return Config()


def save(path: Path, content: Any, **options: Any) -> Path:
    """torch.save, with the modules of foreign classes present only while it runs."""
    made: dict[str, types.ModuleType] = {}
    for value in [content, *(content.values() if isinstance(content, dict) else ())]:
        kind, parts = type(value), type(value).__module__.split(".")
        if kind.__module__ not in sys.modules:
            made |= {name: types.ModuleType(name) for name in (".".join(parts[:d]) for d in (1, len(parts)))}
            setattr(made[kind.__module__], kind.__name__, kind)
    sys.modules.update(made)
    try:
        torch.save(content, path, **options)
    finally:
        for name in made:
            del sys.modules[name]
    return path


def prefixed(state: State, prefix: str) -> State:
    return OrderedDict((prefix + name, value) for name, value in state.items())


LAYOUTS: dict[str, Callable[[State], Any]] = {
    "model": lambda s: {"model": s, "config": plain_config(), "epoch": 3, "val_mae": np.float64(0.5)},
    "model_state_dict": lambda s: {"model_state_dict": s, "config": plain_config()},
    "state_dict": lambda s: {"state_dict": s, "config": plain_config()},
    "model_state": lambda s: {"model_state": s, "config": plain_config()},
    "pickled config": lambda s: {"model": s, "config": pickled_config(plain_config())},
    "pickled training config": lambda s: {
        "model": s,
        "config": pickled_config({"epochs": 5, "model": plain_config()}, "config", "TrainingConfig"),
    },
    "config around model": lambda s: {"model": s, "config": {"epochs": 5, "model": plain_config()}},
    "config as text": lambda s: {"model": s, "config": json.dumps(plain_config())},
    "args": lambda s: {"model": s, "args": types.SimpleNamespace(**plain_config(), batch_size=4)},
    "lightning": lambda s: {
        "state_dict": prefixed(s, "model."),
        "hyper_parameters": {"config": plain_config()},
    },
    "data parallel": lambda s: {"model": prefixed(s, "module."), "config": plain_config()},
    "compiled": lambda s: {"model": prefixed(s, "_orig_mod."), "config": plain_config()},
    "compiled data parallel": lambda s: {
        "model": prefixed(s, "_orig_mod.module."),
        "config": plain_config(),
    },
    "compiled layer": lambda s: {
        "model": {n.replace("gcn_layers.0.", "gcn_layers.0._orig_mod."): v for n, v in s.items()},
        "config": plain_config(),
    },
    "same weights twice": lambda s: {"model": s, "state_dict": dict(s), "config": plain_config()},
    "averaged weights beside": lambda s: {
        "model": s,
        "ema": {n: v + 1 for n, v in s.items()},
        "config": plain_config(),
    },
    "unusual entry": lambda s: {"network": s, "config": plain_config(), "epoch": torch.tensor(4)},
    "parameters": lambda s: {
        "model": {n: torch.nn.Parameter(v, v.is_floating_point()) for n, v in s.items()},
        "config": plain_config(),
    },
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_loads_to_the_same_network(tmp_path: Path, layout: str, zipped: bool) -> None:
    source = trained()
    content = LAYOUTS[layout](source.state_dict())
    path = save(tmp_path / "file.pt", content, _use_new_zipfile_serialization=zipped)
    network = load_checkpoint(path)
    assert not network.training
    assert network.config == CONFIG
    assert torch.equal(predict(network), predict(source))
    assert network.provenance is not None
    assert not network.provenance.partial
    assert network.provenance.format == ("zip" if zipped else "legacy")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickled_config_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    content = {"model": trained().state_dict(), "config": pickled_config(plain_config())}
    network = load_checkpoint(save(tmp_path / "file.pt", content, pickle_protocol=protocol))
    assert network.config == CONFIG
    assert network.provenance is not None
    assert network.provenance.config_source == "entry 'config' (models.alignn.ALIGNNConfig)"
    assert "models.alignn" not in sys.modules


def test_provenance_says_what_was_found(tmp_path: Path) -> None:
    content = LAYOUTS["pickled training config"](prefixed(trained().state_dict(), "module."))
    path = save(tmp_path / "file.pt", {**content, "epoch": 3, "val_mae": np.float64(0.5), "note": "x" * 900})
    provenance = load_checkpoint(path).provenance
    assert provenance is not None
    assert provenance.path == "file.pt"
    assert provenance.layout == "entry 'model'"
    assert provenance.prefix == "module."
    assert provenance.entries == {"epoch": 3, "val_mae": 0.5, "note": "x" * 500 + "..."}
    assert provenance.training == {"epochs": 5}
    assert provenance.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert type(provenance).model_validate_json(provenance.model_dump_json()) == provenance


def test_text_out_of_a_file_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    state = trained().state_dict() | {"evil\x1b[31m\nname": torch.zeros(1)}
    content = {"model": state, "config": plain_config(), "\x1bkey": "a\x07b"}
    path = save(tmp_path / "file.pt", content)
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(path)
    assert str(error.value).isprintable()
    provenance = load_checkpoint(path, allow_partial=True).provenance
    assert provenance is not None
    assert provenance.entries == {"?key": "a?b"}
    assert provenance.unexpected == {"evil?[31m?name": ("evil?[31m?name",)}


def test_configuration_that_contains_itself_ends(tmp_path: Path) -> None:
    loop: dict[str, Any] = {"epochs": 3}
    loop.update({"model": loop, "config": loop})
    network = load_checkpoint(save(tmp_path / "file.pt", {"model": trained().state_dict(), "config": loop}))
    assert network.provenance is not None
    assert network.provenance.config_source == "inferred from the weights"
    assert any("entry 'config' is not a configuration" in text for text in network.provenance.assumptions)


def test_weights_not_used_are_mentioned(tmp_path: Path) -> None:
    content = LAYOUTS["averaged weights beside"](trained().state_dict())
    provenance = load_checkpoint(save(tmp_path / "file.pt", content)).provenance
    assert provenance is not None
    assert "weights under ema are not used" in provenance.assumptions


# Configuration absent, beside, silent or wrong.


@pytest.mark.parametrize("content", [lambda s: s, lambda s: {"model": s, "config": None}, lambda s: {"model": s}])
def test_no_config_is_inferred_with_its_assumptions(tmp_path: Path, content: Callable[[State], Any]) -> None:
    # Head counts are in no shape: the source has the default that inference assumes.
    config = CONFIG.model_copy(update={"fine_grained_num_heads": 8, "cross_modal_num_heads": 4})
    source = trained(config)
    network = load_checkpoint(save(tmp_path / "file.pt", content(source.state_dict())))
    assert torch.equal(predict(network), predict(source))
    assert network.config == config
    provenance = network.provenance
    assert provenance is not None
    assert provenance.config_source == "inferred from the weights"
    assert "8 heads assumed for fine_grained_attention: the file does not say" in provenance.assumptions


@pytest.mark.parametrize("wrap", [lambda c: c, lambda c: {"version": "x", "model": c}])
def test_config_json_beside_the_file_is_read(tmp_path: Path, wrap: Callable[[Any], Any]) -> None:
    source = trained()
    path = save(tmp_path / "file.pt", source.state_dict())
    (tmp_path / "config.json").write_text(json.dumps(wrap(plain_config())))
    network = load_checkpoint(path)
    assert network.config == CONFIG
    assert torch.equal(predict(network), predict(source))
    assert network.provenance is not None
    assert network.provenance.config_source == "config.json beside the file"


def test_config_in_the_file_wins_over_the_one_beside(tmp_path: Path) -> None:
    path = save(tmp_path / "file.pt", LAYOUTS["model"](trained().state_dict()))
    (tmp_path / "config.json").write_text(json.dumps(plain_config(hidden_features=99)))
    assert load_checkpoint(path).config == CONFIG


def test_config_json_of_another_program_is_passed_over(tmp_path: Path) -> None:
    path = save(tmp_path / "file.pt", trained().state_dict())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_size": 768}))
    network = load_checkpoint(path)
    assert network.provenance is not None
    assert network.provenance.config_source == "inferred from the weights"


def test_unreadable_config_json_is_an_error(tmp_path: Path) -> None:
    path = save(tmp_path / "file.pt", trained().state_dict())
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"file\.pt has a config\.json that is not JSON"):
        load_checkpoint(path)


def test_silent_config_is_completed_from_the_weights(tmp_path: Path) -> None:
    source = trained()
    few = {"name": "alignn", "alignn_layers": 2, "fine_grained_num_heads": 2, "cross_modal_num_heads": 2}
    network = load_checkpoint(save(tmp_path / "file.pt", {"model": source.state_dict(), "config": few}))
    assert network.config == CONFIG
    assert network.provenance is not None
    assert "link 'identity' assumed: the file does not say" in network.provenance.assumptions


def test_older_release_averages_only_where_the_weights_do(tmp_path: Path) -> None:
    older = {k: v for k, v in plain_config().items() if not k.startswith("late_fusion")}
    for late in ("average", "concat"):
        source = trained(CONFIG.model_copy(update={"late_fusion_type": late}))
        state = {k: v for k, v in source.state_dict().items() if not k.endswith("text_scale")}
        network = load_checkpoint(save(tmp_path / "file.pt", {"model": state, "config": older}))
        assert network.config.late_fusion_type == late
        assert torch.equal(predict(network), predict(source))
        assert network.provenance is not None
        assert network.provenance.tolerated == ("middle_fusion_modules.layer_1.text_scale",)


def test_unknown_fields_are_named(tmp_path: Path) -> None:
    content = {"model": trained().state_dict(), "config": plain_config(residual_scaling=2.0)}
    provenance = load_checkpoint(save(tmp_path / "file.pt", content)).provenance
    assert provenance is not None
    assert any("ignored: residual_scaling" in sentence for sentence in provenance.assumptions)
    assert provenance.training == {"residual_scaling": 2.0}


def test_size_that_contradicts_the_weights_names_field_value_and_shape(tmp_path: Path) -> None:
    source = trained()
    path = save(tmp_path / "f.pt", {"model": source.state_dict(), "config": plain_config(hidden_features=64)})
    expected = r"hidden_features is 64 but atom_embedding\.layer\.0\.weight has shape \(8, 92\)"
    with pytest.raises(CheckpointError, match=expected):
        load_checkpoint(path)
    network = load_checkpoint(path, allow_partial=True)
    assert network.config == CONFIG
    assert torch.equal(predict(network), predict(source))
    assert network.provenance is not None
    assert any("hidden_features is 64" in sentence for sentence in network.provenance.assumptions)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_features": "wide"}, "hidden_features"),
        ({"fine_grained_num_heads": 3}, "fine_grained_num_heads"),
        ({"late_fusion_type": "magic"}, "late_fusion_type"),
        ({"middle_fusion_layers": "one"}, "middle_fusion_layers"),
        ({"alignn_layers": 10**9}, "more than 1000 layers"),
    ],
)
def test_impossible_config_is_one_clear_error(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = save(tmp_path / "f.pt", {"model": trained().state_dict(), "config": plain_config(**changes)})
    with pytest.raises(CheckpointError, match=said) as error:
        load_checkpoint(path)
    assert str(error.value).startswith("f.pt ")


# Keys that do not fit.


def test_missing_unexpected_and_misshapen_keys_stop_the_load_by_module(tmp_path: Path) -> None:
    state = trained().state_dict()
    for name in [name for name in state if name.startswith(("middle_fusion_modules.", "gcn_layers.0.bn_nodes."))]:
        del state[name]
    state["extra_head.weight"] = torch.zeros(3)
    state["fc1.weight"] = torch.zeros(9, 8)
    path = save(tmp_path / "f.pt", {"model": state, "config": plain_config()})
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(path)
    message = str(error.value)
    assert "13 keys missing: gcn_layers.0 (4: bn_nodes.weight, bn_nodes.bias, bn_nodes.running_mean, ...)" in message
    assert "middle_fusion_modules.layer_1 (9: " in message
    assert "1 key unexpected: extra_head (1: weight)" in message
    assert "1 key of another shape: fc1 (1: weight (file (9, 8), network (4, 8)))" in message
    assert "allow_partial" in message
    assert "\n" not in message

    network = load_checkpoint(path, allow_partial=True)
    provenance = network.provenance
    assert provenance is not None
    assert provenance.partial
    assert len(provenance.missing["middle_fusion_modules.layer_1"]) == 9
    assert provenance.unexpected == {"extra_head": ("weight",)}
    assert provenance.mismatched == {"fc1": ("weight: file (9, 8), network (4, 8)",)}
    assert torch.isfinite(predict(network)).all()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1234)
        again = load_checkpoint(path, allow_partial=True)
    assert torch.equal(predict(again), predict(network))


def test_loading_leaves_the_random_state_alone(tmp_path: Path) -> None:
    path = save(tmp_path / "f.pt", LAYOUTS["model"](trained().state_dict()))
    before = torch.random.get_rng_state()
    load_checkpoint(path)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_counters_and_centres_are_not_needed(tmp_path: Path) -> None:
    source = trained()
    state = {
        name: value
        for name, value in source.state_dict().items()
        if not name.endswith(("num_batches_tracked", "centers"))
    }
    network = load_checkpoint(save(tmp_path / "f.pt", {"model": state, "config": plain_config()}))
    assert torch.equal(predict(network), predict(source))
    assert network.provenance is not None
    assert not network.provenance.partial
    assert "edge_embedding.0.centers" in network.provenance.tolerated


def test_another_radial_basis_is_refused(tmp_path: Path) -> None:
    state = trained().state_dict()
    state["edge_embedding.0.centers"] = torch.linspace(0, 10, 80)
    path = save(tmp_path / "f.pt", {"model": state, "config": plain_config()})
    with pytest.raises(CheckpointError, match=r"centers from 0 to 10, expected evenly spaced centres from 0 to 8"):
        load_checkpoint(path)


def test_scalar_bias_of_the_log_link_loads(tmp_path: Path) -> None:
    source = trained(CONFIG.model_copy(update={"link": "log"}))
    state = source.state_dict()
    state["fc.bias"] = state["fc.bias"][0]
    network = load_checkpoint(save(tmp_path / "f.pt", {"model": state, "config": plain_config(link="log")}))
    assert torch.equal(predict(network), predict(source))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32_with_a_note(tmp_path: Path, dtype: torch.dtype) -> None:
    source = trained()
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in source.state_dict().items()}
    network = load_checkpoint(save(tmp_path / "f.pt", {"model": state, "config": plain_config()}))
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert network.provenance is not None
    assert str(dtype) in (network.provenance.dtype_note or "")
    rounded = trained()
    rounded.load_state_dict(
        {k: rounded.state_dict()[k] if k.endswith("centers") else v.float() for k, v in state.items()}
    )
    assert torch.equal(predict(network), predict(rounded))


def test_float32_has_no_note(tmp_path: Path) -> None:
    provenance = load_checkpoint(save(tmp_path / "f.pt", LAYOUTS["model"](trained().state_dict()))).provenance
    assert provenance is not None
    assert provenance.dtype_note is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_weights_load_and_are_named(tmp_path: Path, value: float) -> None:
    state = trained().state_dict()
    state["fc1.bias"][2] = value
    network = load_checkpoint(save(tmp_path / "f.pt", {"model": state, "config": plain_config()}))
    assert network.provenance is not None
    assert network.provenance.non_finite == ("fc1.bias",)
    assert not torch.isfinite(network.state_dict()["fc1.bias"]).all()


# Files that hold something else.


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda s: {"model": s, "state_dict": {n: v + 1 for n, v in s.items()}}, r"model \(\d+ tensors\), "),
        (lambda s: {"teacher": s, "student": {n: v + 1 for n, v in s.items()}}, "teacher .* student"),
        (lambda s: prefixed(s, "a.") | prefixed(s, "b."), r"more than one network: a\.\*, b\.\*"),
        (lambda s: s | prefixed({"fc.weight": s["fc.weight"]}, "_orig_mod."), "with and without"),
        (lambda s: {"epoch": 3, "optimizer": {}}, "holds no weights: .* found epoch, optimizer"),
        (lambda s: {}, "found nothing"),
        (lambda s: [1, 2], "holds a list"),
        (lambda s: torch.zeros(2), "holds a Tensor"),
        (lambda s: {"model": torch.nn.Linear(2, 2).state_dict()}, "not hold a network of this family"),
        (lambda s: {"model": pickled_config({}, "models.net", "Net")}, r"class models\.net\.Net under"),
        (lambda s: pickled_config({}, "models.net", "Net"), r"object of class models\.net\.Net, not weights"),
    ],
)  # fmt: skip
def test_what_is_not_one_network_is_said(tmp_path: Path, content: Callable[[State], Any], said: str) -> None:
    path = save(tmp_path / "f.pt", content(dict(trained().state_dict())))
    with pytest.raises(CheckpointError, match=said) as error:
        load_checkpoint(path)
    assert str(error.value).startswith("f.pt ")
    assert "\n" not in str(error.value)


def test_one_odd_tensor_does_not_put_the_config_in_the_wrong(tmp_path: Path) -> None:
    state = trained().state_dict()
    state["atom_embedding.layer.0.weight"] = torch.zeros(9, 92)
    path = save(tmp_path / "f.pt", {"model": state, "config": plain_config()})
    with pytest.raises(CheckpointError, match=r"1 key of another shape: atom_embedding .*file \(9, 92\)"):
        load_checkpoint(path)


def test_misnamed_weight_outside_the_prefix_stops_the_load(tmp_path: Path) -> None:
    state = prefixed(trained().state_dict(), "module.")
    state["fc.weight"] = state["module.fc.weight"] + 1
    path = save(tmp_path / "f.pt", {"model": state, "config": plain_config()})
    with pytest.raises(CheckpointError, match="1 key unexpected: fc"):
        load_checkpoint(path)


def test_weights_rounded_to_half_and_back_load(tmp_path: Path) -> None:
    state = {k: v.half().float() if v.is_floating_point() else v for k, v in trained().state_dict().items()}
    network = load_checkpoint(save(tmp_path / "f.pt", {"model": state, "config": plain_config()}))
    name = "edge_embedding.0.centers"
    assert torch.equal(network.state_dict()[name], state[name])


def test_keys_outside_the_prefix_are_unexpected() -> None:
    state = prefixed(dict(trained().state_dict()), "model.") | {"criterion.weight": torch.ones(1)}
    weights = find_weights({"state_dict": state})
    assert weights.prefix == "model."
    assert weights.outside == ("criterion.weight",)


def test_by_module_groups_layers() -> None:
    names = ["gcn_layers.0.bn.bias", "gcn_layers.1.bn.bias", "fc.bias", "alone"]
    assert by_module(names) == {
        "gcn_layers.0": ("bn.bias",),
        "gcn_layers.1": ("bn.bias",),
        "fc": ("bias",),
        "alone": ("alone",),
    }


# The native format.


def test_saved_network_comes_back_equal(tmp_path: Path) -> None:
    source = load_checkpoint(save(tmp_path / "file.pt", LAYOUTS["model"](trained().state_dict())))
    source.save_pretrained(tmp_path / "saved")
    document = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert document["format_version"] == 1
    for path in (tmp_path / "saved", str(tmp_path / "saved")):
        for network in (load_checkpoint(path), CrystalTextNetwork.from_pretrained(path)):
            assert network.config == CONFIG
            assert torch.equal(predict(network), predict(source))
            assert network.provenance is not None
            assert network.provenance.format == "pretrained"
            assert network.provenance.origin == source.provenance
    by_file = load_checkpoint(tmp_path / "saved" / "model.safetensors")
    assert by_file.config == CONFIG
    weights = safetensors.torch.load_file(tmp_path / "saved" / "model.safetensors")
    assert weights.keys() == source.state_dict().keys()


@pytest.mark.parametrize(
    "changes",
    [
        {"link": "log", "classification": True, "graph_norm": "pair", "graph_initial_residual": 0.25},
        {"late_fusion_type": "tucker", "late_fusion_rank": 3},
        {"cross_modal_gate": "balanced", "cross_modal_gate_use_norm": True},
        {"middle_fusion_type": "token-attention", "middle_fusion_num_heads": 4},
    ],
)
def test_every_field_survives_saving(tmp_path: Path, changes: dict[str, Any]) -> None:
    source = trained(ModelConfig(**{**CONFIG.model_dump(), **changes}))
    source.save_pretrained(tmp_path)
    network = load_checkpoint(tmp_path)
    assert network.config == source.config
    assert torch.equal(predict(network), predict(source))
    assert network.provenance is not None
    assert network.provenance.assumptions == ()


def test_partial_load_is_remembered_through_saving(tmp_path: Path) -> None:
    state = trained().state_dict()
    del state["fc1.bias"]
    path = save(tmp_path / "f.pt", {"model": state, "config": plain_config()})
    load_checkpoint(path, allow_partial=True).save_pretrained(tmp_path / "saved")
    provenance = load_checkpoint(tmp_path / "saved").provenance
    assert provenance is not None
    assert provenance.partial
    assert provenance.missing == {}
    assert provenance.origin is not None
    assert provenance.origin.missing == {"fc1": ("bias",)}


def test_saving_twice_replaces_and_a_failure_leaves_no_mixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = trained(seed=1), trained(seed=2)
    first.save_pretrained(tmp_path)
    second.save_pretrained(tmp_path)
    assert torch.equal(predict(load_checkpoint(tmp_path)), predict(second))

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("model.pretrained.save_file", fail)
    with pytest.raises(CheckpointError, match="No space left"):
        first.save_pretrained(tmp_path)
    assert torch.equal(predict(load_checkpoint(tmp_path)), predict(second))
    assert not list(tmp_path.glob(".saving-*"))


def test_saving_that_stops_between_its_files_leaves_no_mixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(seed=1).save_pretrained(tmp_path)
    move = Path.replace

    def stop(self: Path, target: Path) -> Path:
        if target.name == "config.json":
            raise OSError(5, "Input/output error")
        return move(self, target)

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(CheckpointError, match="Input/output error"):
        trained(CONFIG.model_copy(update={"link": "log"})).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="not a saved network"):
        load_checkpoint(tmp_path)


def test_directories_that_are_not_saved_networks(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="it holds no checkpoint"):
        load_checkpoint(tmp_path)
    save(tmp_path / "best.pt", {})
    with pytest.raises(CheckpointError, match=r"give one of the files in it: best\.pt"):
        load_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="there is no directory"):
        CrystalTextNetwork.from_pretrained(tmp_path / "none")
    with pytest.raises(CheckpointError, match="there is no file"):
        load_checkpoint(tmp_path / "none.pt")


def test_model_that_is_not_in_the_cache_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nobody/nothing is no directory here") as error:
        CrystalTextNetwork.from_pretrained("nobody/nothing", local_files_only=True, cache_dir=tmp_path)
    assert "\n" not in str(error.value)


def test_pushing_uploads_what_saving_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    uploaded: dict[str, Any] = {}

    class Hub:
        def __init__(self, **_: Any) -> None:
            pass

        def create_repo(self, repo_id: str, **_: Any) -> Any:
            return types.SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, *, repo_id: str, folder_path: Path, **_: Any) -> str:
            uploaded[repo_id] = predict(load_checkpoint(folder_path))
            return "commit"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Hub)
    source = trained()
    assert source.push_to_hub("me/network") == "commit"
    assert torch.equal(uploaded["me/network"], predict(source))


def test_copies_of_a_network_are_networks() -> None:
    source = trained()
    twin = copy.deepcopy(source)
    assert twin.config == source.config
    assert torch.equal(predict(twin), predict(source))


def test_saved_config_of_a_later_version_is_refused(tmp_path: Path) -> None:
    trained().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "format_version": 2}))
    with pytest.raises(CheckpointError, match="format version 2, expected 1"):
        load_checkpoint(tmp_path)
    path.write_text(json.dumps({**document, "hiden_features": 8}))
    with pytest.raises(CheckpointError, match="hiden_features"):
        load_checkpoint(tmp_path)
    path.write_text(json.dumps({**document, "provenance": {"path": 3}}))
    with pytest.raises(CheckpointError, match="damaged provenance"):
        load_checkpoint(tmp_path)


# The recorded files.

SAME_NETWORK = [
    "bare_state_dict", "state_dict_key", "dataparallel", "config_dict", "config_trainingconfig",
    "config_absent",
]  # fmt: skip


@pytest.mark.parametrize("name", SAME_NETWORK)
def test_recorded_layouts_give_the_recorded_predictions(
    shared: Path, name: str, recorded_batch: Callable[[str], CrystalBatch]
) -> None:
    network = load_checkpoint(shared / "oracle" / "checkpoints" / "formats" / f"{name}.pt")
    with np.load(shared / "oracle" / "outputs" / "formats_tiny.npz") as recorded, torch.no_grad():
        expected = recorded["batch/predictions"]
    found = network(recorded_batch("batch")).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.fixture
def recorded_batch(shared: Path) -> Callable[[str], CrystalBatch]:
    def read(prefix: str) -> CrystalBatch:
        with np.load(shared / "oracle" / "inputs6.npz") as data:
            get = {k.split("/", 1)[1]: torch.from_numpy(data[k]) for k in data.files if k.startswith(prefix + "/")}
        return CrystalBatch(
            atom_features=get["atom_features"],
            bond_source=get["src"].long(),
            bond_target=get["dst"].long(),
            bond_vectors=get["r"],
            angle_source=get["lg_src"].long(),
            angle_target=get["lg_dst"].long(),
            angle_cosines=get["lg_h"],
            atoms_per_structure=get["batch_num_nodes"].long(),
            token_embeddings=get["last_hidden_state"],
            token_mask=get["attention_mask"].bool(),
        )

    return read


def test_recorded_file_without_config_says_what_it_assumes(shared: Path, tmp_path: Path) -> None:
    shutil.copy(shared / "oracle" / "checkpoints" / "formats" / "config_absent.pt", tmp_path)
    network = load_checkpoint(tmp_path / "config_absent.pt")
    told = load_checkpoint(shared / "oracle" / "checkpoints" / "formats" / "config_dict.pt").config
    heads = ("fine_grained_num_heads", "cross_modal_num_heads")
    assert network.config.model_dump(exclude=set(heads)) == told.model_dump(exclude=set(heads))
    assert network.provenance is not None
    assert sum("assumed for" in sentence for sentence in network.provenance.assumptions) == 2


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("malicious_zip", UnsafePickleError, r"posix\.system"),
        ("not_torch", CheckpointError, "found text"),
        ("truncated", CheckpointError, "truncated"),
        ("missing_keys_middle", CheckpointError, r"9 keys missing: middle_fusion_modules\.layer_1"),
        ("unexpected_keys", CheckpointError, r"2 keys unexpected: extra_head \(2: weight, bias\)"),
    ],
)
def test_recorded_failures(shared: Path, name: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        load_checkpoint(shared / "oracle" / "checkpoints" / "formats" / f"{name}.pt")


@pytest.mark.parametrize("name", ["missing_keys_middle", "unexpected_keys"])
def test_recorded_partial_loads_say_so(shared: Path, name: str) -> None:
    path = shared / "oracle" / "checkpoints" / "formats" / f"{name}.pt"
    provenance = load_checkpoint(path, allow_partial=True).provenance
    assert provenance is not None
    assert provenance.partial
