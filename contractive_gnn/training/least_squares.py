"""Levenberg's and Marquardt's method for the loss over pieces of trajectories, or of solutions on a grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, jvp, vmap

#: samples that are differentiated at a time, in reverse mode
CHUNK = 512
#: entries of the Jacobian that are held at most: 2 GiB in float64
LARGEST = 2**28


@dataclass(frozen=True)
class Damped:
    """Where the method is.

    Attributes:
        loss: mean square of the residuals.
        damping: λ.
        evaluations: of the residuals, and of their Jacobian, so far.
    """

    loss: float
    damping: float
    evaluations: int


class LeastSquares:
    r"""The residuals ``r(w) = √c_jk (Φ_w^k(x_j) − x_{j+k})`` as a function of the weights, and their Jacobian J.

    J is found row by row in reverse mode where a piece has fewer residuals than there are weights, and else column by
    column in forward mode, in single precision: that is a third of the time, and a step need not be exact, while
    residuals, JᵀJ and the steps are in the precision of the weights.

    A step solves ``(JᵀJ + λ diag JᵀJ) s = −Jᵀr``. Where it lowers the loss, λ is divided by 5; else it is multiplied by
    4, and the step is tried anew (Marquardt 1963; Nocedal and Wright, *Numerical Optimization*, 2006, section 10.3).

    Args:
        model: Φ, whose learned weights are w.
        pieces: ``[m, K + 1, *shape]``.
        counts: c ≥ 0, how much each square counts, ``[m, K]``; None for 1.

    Raises:
        ValueError: the Jacobian would be larger than :data:`LARGEST`, or the model cannot be differentiated with
            ``torch.func``.
    """

    def __init__(self, model: nn.Module, pieces: Tensor, counts: Tensor | None = None) -> None:
        learning = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self._model, self._pieces = model, pieces
        self._roots = torch.ones_like(pieces[:, 1:].flatten(2)[..., 0]) if counts is None else counts.sqrt()
        self._learning = learning
        residuals, columns = pieces[:, 1:].numel(), sum(weight.numel() for weight in learning.values())
        if residuals * columns > LARGEST:
            raise ValueError(
                f"the Jacobian of {residuals} residuals by {columns} weights is too large to be held: take "
                "method='lbfgs', less data or a smaller network"
            )
        by_rows = residuals // max(1, pieces.size(0)) < columns
        self._jacobian: Callable[[Tensor], Tensor] = self._by_rows if by_rows else self._by_columns

    def _named(self, weights: Tensor) -> dict[str, Tensor]:
        parts = torch.split(weights, [weight.numel() for weight in self._learning.values()])
        return {
            name: part.view(weight.shape) for (name, weight), part in zip(self._learning.items(), parts, strict=True)
        }

    def _residuals(
        self, weights: Tensor, pieces: Tensor, roots: Tensor, constants: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """``[m, K · entries of a state]``; with buffers of another precision, where these are given."""
        named, x = {**(constants or {}), **self._named(weights)}, pieces[:, 0]
        gaps = []
        for k in range(1, pieces.size(1)):
            x = functional_call(self._model, named, (x,))
            gaps.append((x - pieces[:, k]).flatten(1) * roots[:, k - 1 : k])
        return torch.cat(gaps, dim=1)

    def _by_rows(self, weights: Tensor) -> Tensor:
        def of_a_piece(weights: Tensor, piece: Tensor, roots: Tensor) -> Tensor:
            return self._residuals(weights, piece[None], roots[None])[0]

        rows = vmap(jacrev(of_a_piece), in_dims=(None, 0, 0), chunk_size=CHUNK)
        found: Tensor = rows(weights, self._pieces, self._roots)
        return found.flatten(0, 1)

    def _by_columns(self, weights: Tensor) -> Tensor:
        pieces, roots = self._pieces.float(), self._roots.float()
        constants = {name: b.float() if b.is_floating_point() else b for name, b in self._model.named_buffers()}

        def residuals(weights: Tensor) -> Tensor:
            return self._residuals(weights, pieces, roots, constants).ravel()

        # one after the other: convolutions with several sets of weights at a time take longer
        columns = weights.new_empty(weights.numel(), pieces[:, 1:].numel())
        for column, direction in zip(columns, torch.eye(weights.numel(), device=weights.device), strict=True):
            column.copy_(jvp(residuals, (weights.float(),), (direction,))[1])
        return columns.T

    @torch.no_grad()
    def weights(self) -> Tensor:
        """Those that the model has, as one vector."""
        return torch.cat([weight.detach().ravel() for weight in self._learning.values()])

    @torch.no_grad()
    def residuals(self, weights: Tensor) -> Tensor:
        """r, one vector."""
        return self._residuals(weights, self._pieces, self._roots).ravel()

    @torch.no_grad()
    def jacobian(self, weights: Tensor) -> Tensor:
        """J, a row for each residual.

        Raises:
            ValueError: see the class's text.
        """
        try:
            return self._jacobian(weights)
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(
                f"{type(self._model).__name__} cannot be differentiated by torch.func ({reason}); take "
                "method='lbfgs', which asks for gradients alone"
            ) from error

    def descend(self, state: Damped, *, iterations: int) -> Damped:
        """So many steps from the weights that the model has, which it then gets; fewer where none lowers the loss."""
        weights = self.weights()
        r = self.residuals(weights)
        loss, damping, evaluations = state.loss, state.damping, state.evaluations
        for _ in range(iterations):
            jacobian = self.jacobian(weights)
            evaluations += 1
            normal, slope = jacobian.T @ jacobian, jacobian.T @ r
            scale = torch.diagonal(normal)
            # a weight on which nothing depends now would make the equations singular
            scale = scale.clamp(min=1e-12 * float(scale.max()) + torch.finfo(scale.dtype).tiny)
            while damping < 1e12:
                step = -torch.linalg.solve(normal + damping * torch.diag(scale), slope)
                tried = self.residuals(weights + step)
                found = float(tried.square().mean())
                evaluations += 1
                if found < loss:
                    break
                damping *= 4
            else:
                break
            weights, r, loss, damping = weights + step, tried, found, max(damping / 5, 1e-15)
        with torch.no_grad():
            for name, value in self._named(weights).items():
                self._learning[name].copy_(value)
        return Damped(loss, min(damping, 1.0), evaluations)
