"""L-BFGS that keeps the best weights."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from contractive_gnn.integrators import ConvergenceError


@dataclass(frozen=True)
class Descent:
    """What :func:`descend` came to.

    Attributes:
        loss: the least one of those asked for; ``inf`` where none is a number.
        iterations: that were taken.
        evaluations: of the loss with its gradient.
    """

    loss: float
    iterations: int
    evaluations: int


def descend(
    loss: Callable[[], Tensor],
    learning: Sequence[nn.Parameter],
    *,
    iterations: int,
    evaluations: int | None = None,
    history: int,
    tolerance_grad: float = 0.0,
    tolerance_change: float = 0.0,
) -> Descent:
    """Take iterations of L-BFGS with a strong Wolfe line search, and end with the weights of the least loss seen.

    Those are the ones at the start where no other loss is less. The line search may try weights, and end at them, whose
    loss is worse or not finite, or with which an implicit scheme finds no solution, which ends the descent. Look at the
    loss before: at weights where it is not finite nothing is tried.

    Args:
        loss: a scalar with a gradient.
        learning: the weights.
        iterations: at most, at least 1.
        evaluations: at most; None for 5/4 of the iterations.
        history: how many changes are kept.
        tolerance_grad: the largest entry of the gradient at which it stops.
        tolerance_change: the change of a weight, and of the loss, at which it stops.
    """
    best, least, tried = [parameter.detach().clone() for parameter in learning], math.inf, 0
    optimiser = torch.optim.LBFGS(
        learning,
        max_iter=iterations,
        max_eval=evaluations,
        history_size=history,
        tolerance_grad=tolerance_grad,
        tolerance_change=tolerance_change,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        nonlocal least, tried
        tried += 1
        optimiser.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        if (found := float(value.detach())) < least:
            least = found
            for kept, parameter in zip(best, learning, strict=True):
                kept.copy_(parameter.detach())
        return value

    try:
        with torch.enable_grad(), contextlib.suppress(ConvergenceError):
            optimiser.step(closure)  # type: ignore[no-untyped-call]
    finally:
        with torch.no_grad():
            for kept, parameter in zip(best, learning, strict=True):
                parameter.copy_(kept)
    return Descent(least, int(optimiser.state[learning[0]].get("n_iter", 0)), tried)
