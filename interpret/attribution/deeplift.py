"""DeepLift (Shrikumar et al., ICML 2017) where its rules cover the network, and a reason where they do not.

captum's DeepLift has a rule for some activation modules and passes everything else by its gradient, without a word.
An activation called as a function, a normalisation over channels, a product of two activations or a module that runs
twice then gives numbers that look like any others. Everything the network does is watched first.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from interpret.attribution.explanation import COMPLETENESS, AttributionError, Floats

# Operations that are linear in each argument that depends on the input, and of which one argument only may.
_LINEAR = frozenset(
    {
        *("linear", "add", "radd", "sub", "rsub", "neg", "sum", "mean", "cat", "stack", "index_add", "batch_norm"),
        *("reshape", "view", "flatten", "unflatten", "transpose", "permute", "squeeze", "unsqueeze", "expand"),
        *("expand_as", "repeat", "index_select", "getitem", "narrow", "split", "chunk", "select", "gather"),
        *("to", "double", "float", "clone", "contiguous", "masked_fill", "dropout", "requires_grad"),
    }
)
_ONE_DEPENDS = frozenset({"mul", "rmul", "matmul", "rmatmul", "mm", "bmm", "addmm", "einsum", "div", "truediv"})
_RULES = (nn.ReLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softmax)


class _Watch(TorchFunctionMode):
    """Names of the operations on the way from the input that no rule covers."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.inside = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        depends = [value for value in (*args, *(kwargs or {}).values()) if _depends(value)]
        if not self.inside and _depends(result) and depends:
            name = getattr(func, "__name__", str(func)).strip("_")
            one = name in _ONE_DEPENDS and len(depends) == 1
            if name in ("div", "truediv"):
                one = one and _depends(args[0])
            if name not in _LINEAR and not one:
                self.found[name] += 1
        return result


def _depends(value: object) -> bool:
    if isinstance(value, Tensor):
        return value.requires_grad
    return isinstance(value, list | tuple) and any(_depends(item) for item in value)


def why_not(module: nn.Module, function: Callable[[Tensor], Tensor], inputs: Tensor) -> str | None:
    """Why DeepLift does not apply to a function of [K, ...] that runs a module; None where it does."""
    watch, calls = _Watch(), Counter[str]()
    handles = []
    for name, part in module.named_modules():
        if not list(part.children()):
            handles += _watched(watch, calls, name, part)
    try:
        with watch, torch.enable_grad():
            function(inputs.detach().clone().requires_grad_(True))
    finally:
        for handle in handles:
            handle.remove()
    twice = sorted(name for name, count in calls.items() if count > 1)
    if twice:
        return f"these modules run more than once in a pass: {', '.join(twice[:5])}"
    if watch.found:
        return f"it has no rule for what the network does outside activation modules: {', '.join(sorted(watch.found))}"
    return None


def _watched(watch: _Watch, calls: Counter[str], name: str, part: nn.Module) -> list[Any]:
    """Count calls of an activation module, and look away while it runs."""
    if not isinstance(part, _RULES):
        return []

    def enter(*_: object) -> None:
        watch.inside += 1
        calls[name] += 1

    def leave(*_: object) -> None:
        watch.inside -= 1

    return [part.register_forward_pre_hook(enter), part.register_forward_hook(leave)]


class _Rows(nn.Module):
    """A function that runs a module, as a module: captum puts its hooks on everything inside."""

    def __init__(self, module: nn.Module, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.module = module
        self.function = function

    def forward(self, rows: Tensor) -> Tensor:
        """[K, ...] to [K]."""
        return self.function(rows)


def deeplift(module: nn.Module, function: Callable[[Tensor], Tensor], inputs: Tensor, baseline: Tensor) -> Floats:
    """DeepLift's rescale rule, values of the rows of an input [U, C], summed over channels: [U].

    Args:
        module: what ``function`` runs.
        function: [K, U, C] to [K], rows independent of each other.

    Raises:
        AttributionError: DeepLift does not apply, or its values do not sum to the change of the output.
    """
    from captum.attr import DeepLift

    reason = why_not(module, function, torch.stack([inputs, baseline]))
    if reason is not None:
        raise AttributionError(f"DeepLift does not apply to this network: {reason}. Use integrated-gradients")
    method = DeepLift(_Rows(module, function))
    own_input = inputs[None].detach().clone().requires_grad_(True)
    with warnings.catch_warnings():
        # captum announces its hooks on every call.
        warnings.simplefilter("ignore", UserWarning)
        values = method.attribute(own_input, baselines=baseline[None].detach().clone())
    summed: Floats = values[0].detach().double().sum(dim=-1).cpu().numpy()
    with torch.no_grad():
        own, other = function(torch.stack([inputs, baseline])).tolist()
    if abs(math.fsum(summed) - (own - other)) > COMPLETENESS * abs(own - other):
        raise AttributionError(
            f"DeepLift's values sum to {math.fsum(summed):.4g}, the output changes by {own - other:.4g}: it does not "
            "apply to this network. Use integrated-gradients"
        )
    return summed
