"""Batch norm over the crystals of all processes, on any device.

``torch.nn.SyncBatchNorm`` refuses the CPU. With statistics of its own share, each process would train another network
than one process on the whole batch, and the running statistics would depend on the number of processes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.plugins import LayerSync
from torch import Tensor, nn


class _SumOverProcesses(torch.autograd.Function):
    """All-reduce whose gradient is the all-reduce of the gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def sum_over_processes(values: Tensor) -> Tensor:
    """Sum of the values of all processes, of the same shape; differentiable."""
    result: Tensor = _SumOverProcesses.apply(values)  # type: ignore[no-untyped-call]
    return result


class SynchronizedBatchNorm(nn.BatchNorm1d):
    """``BatchNorm1d`` whose statistics, while training, are those of the rows of all processes.

    Processes may have different numbers of rows, as crystals have different numbers of bonds.
    """

    def forward(self, values: Tensor) -> Tensor:
        """[M, d] to [M, d]."""
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(values)
        count = sum_over_processes(values.new_tensor([float(len(values))]))
        mean = sum_over_processes(values.sum(dim=0)) / count
        # In two passes: the mean of squares less the square of the mean loses digits in float32.
        variance = sum_over_processes((values - mean).square().sum(dim=0)) / count
        self._remember(mean.detach(), variance.detach(), float(count))
        scaled = (values - mean) * torch.rsqrt(variance + self.eps)
        return torch.addcmul(self.bias, scaled, self.weight)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: float) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        momentum = 0.1 if self.momentum is None else self.momentum
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * (count / max(count - 1, 1)), momentum)


class SynchronizedNorms(LayerSync):  # type: ignore[misc]
    """Lightning plugin that turns every batch norm of a network into one over all processes, and back."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Synchronise."""
        return _exchange(model, nn.BatchNorm1d, SynchronizedBatchNorm)

    def revert(self, model: nn.Module) -> nn.Module:
        """Undo it."""
        return _exchange(model, SynchronizedBatchNorm, nn.BatchNorm1d)


def _exchange(model: nn.Module, old: type[nn.BatchNorm1d], new: type[nn.BatchNorm1d]) -> nn.Module:
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is old:
                made = new(child.num_features, eps=child.eps, momentum=child.momentum)
                # The same tensors, not copies: an optimiser may hold them already.
                made._parameters, made._buffers = child._parameters, child._buffers
                setattr(parent, name, made.train(child.training))
    return model
