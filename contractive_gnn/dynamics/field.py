"""What a layer and an integrator know of a vector field: nothing of the space that it lives on."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch_geometric.nn.inits import reset

from contractive_gnn.integrators import Invariant, StructuredField, integrate
from contractive_gnn.norms import L2, Norm, number


class VectorField(nn.Module, ABC):
    r"""A vector field ``ẋ = X(x, t)`` with what is proved of it; x is a tensor of any shape.

    Whatever X depends on beside x and t (a graph, an operator, an anchor) is bound to it: an integrator, a layer and a
    falsifier see this class alone. A subclass defines :meth:`forward`, and overrides what it can prove. The defaults
    claim nothing.

    Attributes:
        norm: of every claim. Leading batch axes of x are part of the state: in ℓ1, ℓ2 and ℓ∞ a constant that holds for
            each sample holds for the batch, and the other way round.
        conserves: what the exact flow keeps.
        invariant_axes: what mass and norm sum over, each entry of the other axes having its own: here the last one, so
            that every sample of ``[..., d]`` has. None where it depends on the state's meaning, and a projection is
            to be told.
        shear: whether ``DX·X = 0``, so that one Euler step of any length is the exact flow: q moves by a function of p
            alone, say.
        where: what an error adds to the field's name to say what it is bound to, after a space; empty for nothing.
    """

    norm: Norm = L2
    conserves: frozenset[Invariant] = frozenset()
    invariant_axes: tuple[int, ...] | None = (-1,)
    shear: bool = False
    where: str = ""

    @abstractmethod
    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        """Evaluate X; the result has the shape of x."""

    def rate(self) -> Tensor | float:
        """Contraction rate κ: the log norm of DX is at most −κ (0: non-expansive; negative: expansive; −∞: unknown)."""
        return -math.inf

    def max_step(self) -> Tensor | float:
        """The largest Euler step h that contracts by ``1 − hκ``; 0 where the field expands, or nothing is known.

        ``inf`` where every step is non-expansive, as for a constant field: a layer must be given its step then.
        """
        return 0.0

    def lipschitz(self, step: Tensor | float) -> Tensor | float:
        """A Lipschitz constant of the Euler step ``x ↦ x + hX(x)``, ``inf`` where none is known.

        By default ``1 − hκ`` up to :meth:`max_step`, and nothing beyond.

        Args:
            step: h > 0.
        """
        # A step that was computed from max_step may have been rounded up.
        if number(step) <= number(self.max_step()) * (1 + 1e-6):
            return 1.0 - step * self.rate()
        return math.inf

    def longest_step(self, share: Tensor) -> Tensor | None:
        """The longest Euler step whose constant is at most ``share``, in closed form; None where it is searched for.

        Args:
            share: at least 1, a scalar tensor; gradients pass through it.
        """
        return None

    def field_lipschitz(self) -> Tensor | float:
        """A Lipschitz constant L of X itself, ``inf`` where none is known: a step with ``hL < 1`` is invertible.

        By default ``(1 + q)/h`` with q the constant of the Euler step E of the largest contractive length h, since
        ``hX(x) = E(x) − x``; ``inf`` where no step contracts, and ``−κ`` where every step does, its limit.
        """
        step = self.max_step()
        if number(step) == math.inf:
            return 0.0 - self.rate()
        return (1.0 + self.lipschitz(step)) / step if number(step) > 0 else math.inf

    def anchored(self, anchor: Tensor) -> VectorField:
        """The field whose fidelity term pulls to ``anchor``, of the shape of the state; itself where it has none.

        Hold the anchor as a buffer, ``persistent=False``: then a layer that differentiates by all tensors of a field
        (:class:`~contractive_gnn.nn.Equilibrium`) finds it.
        """
        return self

    @property
    def anchor_lipschitz(self) -> float:
        """Lipschitz constant of X in its anchor, in :attr:`norm`; 0 where it has none."""
        return 0.0

    def parts(self) -> tuple[VectorField, ...]:
        """Fields whose sum this one is, for splitting methods; one alone where it cannot be split."""
        return (self,)

    def energy(self, x: Tensor) -> Tensor:
        """H, which the flow keeps where :attr:`conserves` names the energy: one value a sample, ``[...]``.

        Raises:
            NotImplementedError: where the field has none, or does not say which.
        """
        raise NotImplementedError(f"{type(self).__name__} must define energy(x), what its flow keeps")

    def euler(self, x: Tensor, *, step: Tensor | float, num_steps: int) -> Tensor:
        """The state after K Euler steps ``x ← x + h X(x)``; a subclass may have a faster way to it.

        Args:
            x: the state.
            step: h.
            num_steps: K ≥ 1.
        """
        return integrate(self, x, step=step, num_steps=num_steps)

    @property
    def certified(self) -> bool:
        """Whether everything that is declared is proved, for the arguments this object was built with."""
        return True

    def reset_parameters(self) -> None:
        """Draw what is learned anew: here that of the parts, a threshold say; a field with weights extends it."""
        for part in self.children():
            reset(part)

    def state(self, *, generator: torch.Generator | None = None) -> Tensor:
        """A random state of the field's domain in float64, for those who try to break its claims.

        Raises:
            NotImplementedError: where the field does not say what its states look like.
        """
        raise NotImplementedError(f"{type(self).__name__} must define state(), a random state in float64")

    def project(self, x: Tensor) -> Tensor:
        """The nearest state of the field's domain; here every state is one."""
        return x


StructuredField.register(VectorField)  # type: ignore[type-abstract]  # said so, torch.compile sees it too
