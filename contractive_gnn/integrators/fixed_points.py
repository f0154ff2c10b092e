"""The fixed point of a contraction, as a differentiable function."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from contractive_gnn.graph import transformed
from contractive_gnn.integrators.errors import ConvergenceError


def fixed_point(
    f: Callable[..., Tensor],
    x: Tensor,
    *inputs: Tensor,
    tolerance: float | None = None,
    max_iterations: int = 500,
) -> Tensor:
    r"""The fixed point ``x* = f(x*, *inputs)`` of a contraction, differentiable without storing the iterations.

    The iteration is ``x ← f(x, *inputs)``. With f q-Lipschitz in x, ``‖x − x*‖ ≤ ‖f(x) − x‖/(1 − q)``. The gradient is
    that of the implicit function theorem: for a cotangent g, ``v = g + D_x f(x*)ᵀ v`` is iterated in the same way (it
    contracts in the dual norm), and the gradient by an input u is ``D_u f(x*)ᵀ v``. Where its own graph is asked for, v
    is such a fixed point itself, so it can be taken any number of times. Reverse mode only.

    Args:
        f: a contraction in its first argument, one Euler step of a contracting field, say.
        x: the start, which the fixed point does not depend on.
        *inputs: the further arguments of f: all that is to be differentiated by.
        tolerance: of ``max|f(x) − x|``, relative to ``max(1, max|x|)``; None for 30 times the dtype's precision.
        max_iterations: of either iteration.

    Raises:
        ValueError: where f depends on a tensor that asks for a gradient and is not one of ``inputs``, and where its
            value has another shape than x.
        NotImplementedError: under forward mode, torch.func or a vectorised backward pass.
        ConvergenceError: where the tolerance is not met.
    """
    _only_reverse_mode(x, *inputs)
    settings = _Settings(30 * torch.finfo(x.dtype).eps if tolerance is None else tolerance, max_iterations)
    with torch.no_grad():
        solution = _settle(lambda y: f(y, *inputs), x, settings, "fixed point")
    last = f(solution.detach(), *(tensor.detach() for tensor in inputs))
    if last.requires_grad:
        raise ValueError(
            "f depends on a tensor that asks for a gradient and is not one of its arguments; "
            "hand it to fixed_point as one of the inputs, or detach it"
        )
    solved: Tensor = _FixedPoint.apply(f, last, settings, *inputs)
    return solved


@dataclass(frozen=True)
class _Settings:
    tolerance: float
    max_iterations: int


def _settle(f: Callable[[Tensor], Tensor], x: Tensor, settings: _Settings, what: str) -> Tensor:
    """Iterate ``x ← f(x)`` until it stays."""
    residual = math.inf
    for _ in range(settings.max_iterations):
        new = f(x)
        if new.shape != x.shape:  # a residual that broadcasts is of nothing
            raise ValueError(
                f"the map must give what has the shape of the start, {list(x.shape)}, got {list(new.shape)}"
            )
        if not x.numel():
            return new
        residual = float((new - x).abs().max()) / max(1.0, float(new.abs().max()))
        x = new
        if residual <= settings.tolerance:
            return x
        if not math.isfinite(residual):
            break
    raise ConvergenceError(
        f"the {what} was not reached after {settings.max_iterations} iterations: a relative residual of "
        f"{residual:.3g}, wanted {settings.tolerance:.3g}; raise max_iterations or tolerance, or check that the map "
        "contracts"
    )


class _FixedPoint(torch.autograd.Function):
    """The solution as a function of the inputs."""

    @staticmethod
    def forward(ctx: Any, f: Callable[..., Tensor], solution: Tensor, settings: _Settings, *inputs: Tensor) -> Tensor:
        solution = solution.view_as(solution)
        ctx.f, ctx.settings = f, settings
        ctx.save_for_backward(solution, *inputs)
        return solution

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        _only_reverse_mode(g)
        f, settings, needed = ctx.f, ctx.settings, ctx.needs_input_grad[3:]
        again = torch.is_grad_enabled()
        with torch.enable_grad():
            # by each argument alone: the ways from one to another are others' part of the chain
            solution, *inputs = (
                tensor.view_as(tensor) if again else tensor.detach().requires_grad_(tensor.requires_grad)
                for tensor in ctx.saved_tensors
            )
            image = f(solution, *inputs)
        if again:
            v = fixed_point(_pull(f), g.detach(), g, solution, *inputs, **dataclasses.asdict(settings))
        else:

            def pull(v: Tensor) -> Tensor:
                (turned,) = torch.autograd.grad(image, solution, v, retain_graph=True, materialize_grads=True)
                moved: Tensor = g + turned
                return moved

            v = _settle(pull, g, settings, "gradient of the fixed point")
        wanted = [tensor for tensor, need in zip(inputs, needed, strict=True) if need]
        found = iter(torch.autograd.grad(image, wanted, v, create_graph=again, materialize_grads=True))
        return None, None, None, *(next(found) if need else None for need in needed)


def _pull(f: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``v, g, y, … ↦ g + D_y f(y, …)ᵀ v``."""

    def pull(v: Tensor, g: Tensor, y: Tensor, *inputs: Tensor) -> Tensor:
        again = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (v, g, y, *inputs))
        with torch.enable_grad():
            alone = y.view_as(y) if y.requires_grad else y.detach().requires_grad_()
            image = f(alone, *inputs)
        (turned,) = torch.autograd.grad(image, alone, v, create_graph=again, materialize_grads=True)
        return g + turned

    return pull


def _only_reverse_mode(*tensors: Tensor) -> None:
    if any(transformed(tensor) for tensor in tensors):
        raise NotImplementedError(
            "a fixed point is differentiated in reverse mode, one gradient at a time: use torch.autograd.grad or "
            "torch.autograd.functional (vectorize=False) in the place of torch.func and forward mode"
        )
