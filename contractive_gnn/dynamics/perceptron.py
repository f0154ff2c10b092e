r"""The field of a residual block, ``A*σ(Bx + b)``: no more is known of it than how fast it can change."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from contractive_gnn.activations import Activation
from contractive_gnn.dynamics.field import VectorField
from contractive_gnn.dynamics.layer import Layer, own_operator
from contractive_gnn.dynamics.spectrum import smoothness
from contractive_gnn.norms import L2
from contractive_gnn.operators import Operator


class PerceptronField(VectorField):
    r"""A perceptron with one hidden layer, or none, as a vector field: the residual block in continuous time.

    .. math::
        X(x) = A^*\sigma(Bx + b) \qquad\text{or}\qquad X(x) = \sigma(Bx + b)

    (E, *A proposal on machine learning via dynamical systems*, 2017; Celledoni et al., *Dynamical systems-based neural
    networks*, SISC 2023, section 3, for the expansive steps ``x + hσ(Bx + b)``.) It is ``L = s ‖A‖‖B‖``-Lipschitz in
    ℓ2, s the largest slope of σ in size, and no sign of DX is known: the rate is ``−L``, a step is
    ``1 + hL``-Lipschitz, and none is known to contract. A step with ``hL < 1`` is invertible. Where the slopes of σ are
    not bounded (:class:`~contractive_gnn.activations.RectifiedPower`), no constant is known: L = ∞.

    Where ``A = B`` take :class:`~contractive_gnn.dynamics.GradientFlow`, of which more is known.

    Args:
        inner: B.
        activation: σ, an :class:`~contractive_gnn.activations.Activation` or its name.
        outer: A, whose *adjoint* is applied, from the space of Bx to that of x; None for no second operator: B must
            map its space to itself then.
        bias: b, an ``nn.Parameter`` where it is learned, or a fixed tensor; its shape must broadcast to that of Bx.

    Shapes:
        what the operators take, with any leading batch axes that they take.

    Raises:
        TypeError: for an operator that is none, or a bias that is no tensor of real numbers.
        ValueError: for an unknown activation, slopes that are no interval, and operators whose adjoint belongs to a
            weighted inner product; (called) where the result has not the shape of the state.
    """

    norm = L2

    def __init__(
        self,
        inner: Operator,
        activation: str | Activation = "tanh",
        *,
        outer: Operator | None = None,
        bias: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.layer = Layer(inner, activation, bias=bias, steep=True)
        if outer is not None and not isinstance(outer, Operator):
            raise TypeError(
                f"outer must be an operator of contractive_gnn.operators or None, got {type(outer).__name__}"
            )
        for operator in (inner, outer):
            if operator is not None and operator.input_norm != L2:
                raise ValueError(
                    f"the constants here are in l2, and the adjoint of {operator} belongs to {operator.input_norm}: "
                    "take its normalization 'sym' or 'none'"
                )
        self.outer = outer
        alone = all(operator is None or operator.last_axis for operator in (inner, outer))
        self.invariant_axes = (-1,) if alone else None

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        """Evaluate X; the field does not depend on time."""
        z: Tensor = self.layer(x)
        value = z if self.outer is None else self.outer.adjoint(z)
        if value.shape != x.shape:
            raise ValueError(
                f"a field has the shape of its state, {list(x.shape)}, and this one {list(value.shape)}: without "
                "outer, inner must map its space to itself; else both must map it to the same one"
            )
        return value

    def field_lipschitz(self) -> Tensor | float:
        """``L = max(|s_min|, |s_max|) ‖A‖ ‖B‖``; ``inf`` where a slope is."""
        if not all(map(math.isfinite, self.layer.sigma.slopes)):
            return math.inf
        factors = [part.norm_bound() for part in (self.outer, self.layer.operator) if part is not None]
        return smoothness(self.layer.sigma, *factors)

    def rate(self) -> Tensor | float:
        """``−L``."""
        return -self.field_lipschitz()

    def lipschitz(self, step: Tensor | float) -> Tensor | float:
        """``1 + hL``, for every h > 0."""
        return 1.0 + step * self.field_lipschitz()

    @property
    def certified(self) -> bool:
        """Whether σ and the operators are this library's own: the slopes and bounds of others are not proved here.

        A subclass whose author has proved them overrides it.
        """
        return self.layer.certified and (self.outer is None or own_operator(self.outer))

    def state(self, *, generator: torch.Generator | None = None) -> Tensor:
        """A random state in float64, standard normal, of a shape that the operator takes.

        Raises:
            NotImplementedError: where the operator does not say which.
        """
        state = self.layer.state(generator)
        return super().state(generator=generator) if state is None else state
