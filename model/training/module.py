"""One step of training, one pass of validation: the network as a LightningModule."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from model.network import CrystalTextNetwork
from model.training.config import TrainConfig
from model.training.errors import TrainingError
from model.training.examples import TrainingBatch
from model.training.losses import attention_diversity_loss, contrastive_loss, gate_diversity_loss, prediction_loss
from model.training.optimization import learning_rate_schedule, parameter_groups

# Sums of a validation pass: absolute error, squared error, loss, structures.
_SUMS = 4


class CrystalTextModule(L.LightningModule):  # type: ignore[misc]
    """A network and how it is trained.

    The random numbers of a step (dropout) are drawn from a seed of its own, made of the run's seed, the step and the
    process: what a callback draws, or a restart leaves out, does not change the weights.

    Args:
        network: with target mean and scale set.
        config: of the run.
        scale: of the target, by which errors are divided in the loss.

    Raises:
        TrainingError: a loss needs a part that the network does not have.
    """

    def __init__(self, network: CrystalTextNetwork, config: TrainConfig, scale: float) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.scale = scale
        self.prediction_loss = prediction_loss(config.training.loss, delta=config.training.huber_delta)
        self._watched = _watched(network, config)
        self._outputs: dict[str, Tensor] = {}
        self._sums: Tensor | None = None
        if config.training.dropout is not None:
            for module in network.modules():
                if isinstance(module, nn.Dropout):
                    module.p = config.training.dropout

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """That of the network."""
        return self.network(*args, **kwargs)

    def configure_optimizers(self) -> Any:
        """AdamW (Loshchilov and Hutter, arXiv 1711.05101) and the schedule."""
        training = self.config.training
        optimizer = torch.optim.AdamW(parameter_groups(self.network, training), lr=training.learning_rate)
        schedule = learning_rate_schedule(optimizer, training, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_batch_start(self, batch: TrainingBatch, batch_idx: int) -> None:
        """Seed the step."""
        seed = (self.config.training.seed * 1_000_003 + self.global_step) * 1009 + self.global_rank
        torch.manual_seed(seed % 2**63)

    def training_step(self, batch: TrainingBatch, batch_idx: int) -> Tensor:
        """The loss of a batch, with that of the prediction and each addition logged."""
        with self._watching():
            # Updates of bonds and angles that no layer reads have no gradient either way.
            prediction = self.network(batch.crystals, lean=True)
        each = self.prediction_loss(prediction / self.scale, batch.targets / self.scale)
        parts = {"prediction": each.sum() * self._share(len(each)), **self._additional(batch)}
        loss = torch.stack(list(parts.values())).sum()
        self.log("train_loss", loss.detach(), prog_bar=True, batch_size=len(each))
        if len(parts) > 1:
            self.log_dict({f"loss/{name}": part.detach() for name, part in parts.items()}, batch_size=len(each))
        return loss

    def _share(self, count: int) -> float:
        """What makes a sum over this process' crystals the mean over all, once DDP has averaged the processes."""
        if self.trainer.world_size == 1:
            return 1 / count
        total = self.trainer.strategy.reduce(torch.tensor(float(count), device=self.device), reduce_op="sum")
        share: float = self.trainer.world_size / float(total)
        return share

    def _additional(self, batch: TrainingBatch) -> dict[str, Tensor]:
        training, model, crystals = self.config.training, self.config.model, batch.crystals
        parts: dict[str, Tensor] = {}
        for name, output in self._outputs.items():
            if name.endswith("atom_to_token"):
                value = attention_diversity_loss(output, crystals.atom_mask, crystals.token_mask)
                parts[f"attention_diversity/{name}"] = training.attention_diversity_weight * value
            elif name.endswith("gate"):
                value = gate_diversity_loss(output, crystals.atom_owner, crystals.atoms_per_structure)
                parts[f"gate_diversity/{name}"] = training.gate_diversity_weight * value
        if model.use_contrastive_loss:
            graph, text = self._outputs["graph_projection"], self._outputs["text_projection"]
            parts["contrastive"] = model.contrastive_loss_weight * contrastive_loss(
                graph, text, model.contrastive_temperature
            )
        self._outputs.clear()
        return parts

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Keep the outputs that additional losses are made of, with their gradient."""

        def keep(name: str) -> Any:
            def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
                self._outputs[name] = output

            return hook

        handles = [self.network.get_submodule(name).register_forward_hook(keep(name)) for name in self._watched]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def on_validation_epoch_start(self) -> None:
        """Begin new sums."""
        self._sums = torch.zeros(_SUMS, dtype=torch.float64)

    def validation_step(self, batch: TrainingBatch, batch_idx: int) -> None:
        """Add a batch to the sums."""
        assert self._sums is not None
        # Summed on the CPU: not every accelerator has float64.
        prediction, target = self.network(batch.crystals).float().cpu(), batch.targets.cpu()
        loss = self.prediction_loss(prediction / self.scale, target / self.scale).double()
        error = (prediction - target).double()
        count = torch.tensor(float(len(error)), dtype=torch.float64)
        self._sums += torch.stack([error.abs().sum(), error.square().sum(), loss.sum(), count])

    def on_validation_epoch_end(self) -> None:
        """Log mean absolute and root mean square error in the target's unit, over the crystals of all processes.

        Raises:
            TrainingError: the network no longer predicts numbers.
        """
        assert self._sums is not None
        sums = self._sums
        if self.trainer.world_size > 1:
            sums = self.trainer.strategy.reduce(sums.to(self.device), reduce_op="sum").cpu()
        absolute, square, loss = (sums[:3] / sums[3]).tolist()
        values = {"val_mae": absolute, "val_rmse": square**0.5, "val_loss": loss}
        self.log_dict(values, prog_bar=True, rank_zero_only=False)
        if not all(torch.isfinite(torch.tensor(value)) for value in values.values()):
            raise TrainingError(
                f"the predictions are no longer numbers after step {self.global_step}: use a smaller "
                "training.learning_rate, a longer training.warm_up or training.gradient_clipping"
            )


def _watched(network: CrystalTextNetwork, config: TrainConfig) -> tuple[str, ...]:
    """Paths of the modules whose outputs the additional losses need."""
    names = [name for name, _ in network.named_modules()]
    found: list[str] = []
    if config.training.attention_diversity_weight:
        attentions = [name for name in names if name.endswith(".atom_to_token")]
        if not attentions:
            raise TrainingError(
                "training.attention_diversity_weight needs attention from atoms to tokens: "
                "model.use_fine_grained_attention or model.middle_fusion_type: token-attention"
            )
        found += attentions
    if config.training.gate_diversity_weight:
        gates = [name for name in names if name.startswith("middle_fusion_modules.") and name.endswith(".gate")]
        if not gates:
            raise TrainingError("training.gate_diversity_weight needs a middle fusion with a gate")
        found += gates
    if config.model.use_contrastive_loss:
        found += ["graph_projection", "text_projection"]
    return tuple(found)
