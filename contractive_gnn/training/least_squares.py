"""Levenberg's and Marquardt's method for the loss over pieces of trajectories, or of solutions on a grid."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, jvp, vmap

from contractive_gnn.training.rollout import rollout

#: pieces that are differentiated at a time in reverse mode, and weights in forward mode
CHUNK, TOGETHER = 512, 5
#: entries of the states of pieces that stay in cache while so many weights are differentiated
CACHED = 10**5
#: entries of the Jacobian that are held at most: 512 MiB in float64
LARGEST = 2**26


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
    column in forward mode. It is never held as a whole: JᵀJ and Jᵀr are summed up over the pieces.

    A step solves ``(JᵀJ + λ diag JᵀJ) s = −Jᵀr``. Where it lowers the loss, λ is divided by 5; else it is multiplied by
    4, and the step is tried anew (Marquardt 1963; Nocedal and Wright, *Numerical Optimization*, 2006, section 10.3).

    Args:
        model: Φ, whose learned weights are w.
        pieces: ``[m, K + 1, *shape]``.
        counts: c ≥ 0, how much each square counts, ``[m, K]``; None for 1.

    Raises:
        ValueError: the Jacobian of one piece would be larger than :data:`LARGEST`, or the model cannot be
            differentiated with ``torch.func``.
    """

    def __init__(self, model: nn.Module, pieces: Tensor, counts: Tensor | None = None) -> None:
        learning = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self._model, self._pieces = model, pieces
        self._roots = torch.ones_like(pieces[:, 1:].flatten(2)[..., 0]) if counts is None else counts.sqrt()
        self._learning = learning
        residuals, columns = pieces[:1, 1:].numel(), sum(weight.numel() for weight in learning.values())
        if residuals * columns > LARGEST:
            raise ValueError(
                f"the Jacobian of {residuals} residuals of a piece by {columns} weights is too large to be held: take "
                "method='lbfgs', shorter pieces or a smaller network"
            )
        self._backward = residuals < columns
        together = LARGEST // max(1, residuals * columns)
        if not self._backward:
            together = min(together, CACHED // (TOGETHER * max(1, pieces[0, 0].numel())))
        self._together = max(1, together)

    def _named(self, weights: Tensor) -> dict[str, Tensor]:
        parts = torch.split(weights, [weight.numel() for weight in self._learning.values()])
        return {
            name: part.view(weight.shape) for (name, weight), part in zip(self._learning.items(), parts, strict=True)
        }

    def _residuals(self, weights: Tensor, pieces: Tensor, roots: Tensor) -> Tensor:
        """``[m, K · entries of a state]``."""
        named = self._named(weights)
        predicted = rollout(lambda x: functional_call(self._model, named, (x,)), pieces[:, 0], pieces.size(1) - 1)
        gaps = (predicted - pieces)[:, 1:].flatten(2) * roots.unsqueeze(2)
        return gaps.flatten(1)

    def _by_rows(self, weights: Tensor, pieces: Tensor, roots: Tensor) -> Tensor:
        def of_a_piece(weights: Tensor, piece: Tensor, roots: Tensor) -> Tensor:
            return self._residuals(weights, piece[None], roots[None])[0]

        rows = vmap(jacrev(of_a_piece), in_dims=(None, 0, 0), chunk_size=CHUNK)
        found: Tensor = rows(weights, pieces, roots)
        return found.flatten(0, 1)

    def _by_columns(self, weights: Tensor, pieces: Tensor, roots: Tensor) -> Tensor:
        def column(direction: Tensor) -> Tensor:
            change: Tensor = jvp(lambda w: self._residuals(w, pieces, roots).ravel(), (weights,), (direction,))[1]
            return change

        every = torch.eye(weights.numel(), dtype=weights.dtype, device=weights.device)
        # the primal values are those of all directions, and are computed once
        return torch.cat([vmap(column)(some) for some in torch.split(every, TOGETHER)]).T

    @torch.no_grad()
    def weights(self) -> Tensor:
        """Those that the model has, as one vector."""
        return torch.cat([weight.detach().ravel() for weight in self._learning.values()])

    @torch.no_grad()
    def residuals(self, weights: Tensor) -> Tensor:
        """r, one vector."""
        return self._residuals(weights, self._pieces, self._roots).ravel()

    @torch.no_grad()
    def normal_equations(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """JᵀJ and Jᵀr.

        Raises:
            ValueError: see the class's text.
        """
        normal, slope = weights.new_zeros(weights.numel(), weights.numel()), torch.zeros_like(weights)
        parts = (torch.split(one, self._together) for one in (self._pieces, self._roots))
        for pieces, roots in zip(*parts, strict=True):
            jacobian = self.jacobian(weights, pieces, roots)
            normal += jacobian.T @ jacobian
            slope += jacobian.T @ self._residuals(weights, pieces, roots).ravel()
        return normal, slope

    @torch.no_grad()
    def jacobian(self, weights: Tensor, pieces: Tensor, roots: Tensor) -> Tensor:
        """J of some pieces, a row for each residual.

        Args:
            weights: where.
            pieces: ``[k, K + 1, *shape]``.
            roots: √c, ``[k, K]``.

        Raises:
            ValueError: see the class's text.
        """
        try:
            return (self._by_rows if self._backward else self._by_columns)(weights, pieces, roots)
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(
                f"{type(self._model).__name__} cannot be differentiated by torch.func ({reason}); take "
                "method='lbfgs', which asks for gradients alone"
            ) from error

    def descend(self, state: Damped, *, iterations: int) -> Damped:
        """So many steps from the weights that the model has, which it then gets; fewer where none lowers the loss."""
        weights = self.weights()
        loss, damping, evaluations = state.loss, state.damping, state.evaluations
        for _ in range(iterations):
            normal, slope = self.normal_equations(weights)
            evaluations += 1
            scale = torch.diagonal(normal)
            # a weight on which nothing depends now would make the equations singular
            scale = scale.clamp(min=1e-12 * float(scale.max()) + torch.finfo(scale.dtype).tiny)
            while damping < 1e12:
                step = -torch.linalg.solve(normal + damping * torch.diag(scale), slope)
                found = float(self.residuals(weights + step).square().mean())
                evaluations += 1
                if found < loss:
                    break
                damping *= 4
            else:
                break
            weights, loss, damping = weights + step, found, max(damping / 5, 1e-15)
        with torch.no_grad():
            for name, value in self._named(weights).items():
                self._learning[name].copy_(value)
        return Damped(loss, min(damping, 1.0), evaluations)
