"""The data set and the network that ``interpret demo`` uses."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from model.config import ModelConfig

if TYPE_CHECKING:
    from model.training import TrainConfig

DEMO_DATA = Path(__file__).resolve().parent / "demo_data"


def demo_config(token_features: int) -> ModelConfig:
    """A network of the family with every branch, small enough to train in a minute on two cores."""
    return ModelConfig(
        alignn_layers=2,
        gcn_layers=2,
        embedding_features=32,
        hidden_features=64,
        token_features=token_features,
        use_middle_fusion=True,
        middle_fusion_layers=(1,),
        middle_fusion_hidden_dim=64,
        use_fine_grained_attention=True,
        fine_grained_hidden_dim=64,
        cross_modal_hidden_dim=64,
    )


def demo_training(model: ModelConfig, *, epochs: int, seed: int) -> TrainConfig:
    """How the demo trains a network: small batches and a high rate, for few epochs on few crystals."""
    from model.training import TrainConfig, TrainingConfig

    training = TrainingConfig(
        seed=seed,
        epochs=epochs,
        batch_size=16,
        learning_rate=2e-3,
        weight_decay=1e-4,
        loss="l1",
        gradient_clipping=1.0,
        loggers=("csv",),
    )
    return TrainConfig(model=model, training=training)


@lru_cache(maxsize=1)
def demo_texts() -> tuple[str, ...]:
    """Descriptions of the shipped crystals: texts of other structures, where a data set has too few of its own."""
    from model.dataset import CrystalDataset

    return tuple(sample.text for sample in CrystalDataset.from_directory(DEMO_DATA))
