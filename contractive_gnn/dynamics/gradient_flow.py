r"""Gradient flows of an operator and an activation: for vectors, images and graphs alike."""

from __future__ import annotations

import copy
import warnings
from typing import Any, ClassVar

import torch
from torch import Tensor

from contractive_gnn.activations import Activation
from contractive_gnn.checks import check_flag, check_real
from contractive_gnn.dynamics.field import VectorField
from contractive_gnn.dynamics.layer import Layer, check_broadcast
from contractive_gnn.dynamics.spectrum import Spectrum, lowest, smoothness
from contractive_gnn.norms import Norm
from contractive_gnn.operators import Operator


class GradientFlow(VectorField):
    r"""The gradient flow of a potential of ``Ax``, with a fidelity term.

    .. math::
        X(x) = -A^*\sigma(Ax + b) - \mu (x - x^0)

    With ``∇φ = σ`` this is minus the gradient of ``φ(Ax + b) + μ‖x − x⁰‖²/2``. Where A has the norm bound ``‖A‖² ≤ L``
    and the lower bound l, and the slopes of σ lie in ``[s_min, s_max]``, the eigenvalues of −DX lie in ``[κ, ν + μ]``
    with ``ν = max(|s_min|, |s_max|) L`` and ``κ = μ + min(s_min l², s_min L)``: it contracts at the rate κ, and an
    Euler step of length h is ``max(1 − hκ, h(ν + μ) − 1)``-Lipschitz, so it contracts by ``1 − hκ`` for
    ``h ≤ 2/(ν + μ + κ)`` (:mod:`contractive_gnn.dynamics.spectrum` has the proof).

    With ``expansive`` it is the ascent ``A*σ(Ax + b) − μ(x − x⁰)``: the rate is ``μ − ν``, and a step is
    ``1 + h(ν − μ)``-Lipschitz for a monotone σ. Expansion is the sign, and nothing else.

    The norm is that of the inner product in which A* is the adjoint: ℓ2, or, next to a
    :class:`~contractive_gnn.operators.GraphGradient` that is divided by degrees, ℓ2 with the rows weighted by them.

    A group activation acts on the channels of Ax: the last axis after a matrix or a graph's gradient, the third from
    the end after a two-dimensional convolution.

    Args:
        operator: A, learned or fixed.
        activation: σ, an :class:`~contractive_gnn.activations.Activation` or its name.
        bias: b, an ``nn.Parameter`` where it is learned, or a fixed tensor; its shape must broadcast to that of Ax:
            ``[out]`` after a matrix, ``[out, 1, 1]`` after a convolution.
        mu: strength μ ≥ 0 of the pull towards the anchor.
        anchor: x⁰, a tensor whose shape broadcasts to that of x; None for the origin. See :meth:`anchored`.
        expansive: ascend.

    Shapes:
        what the operator takes, with any leading batch axes that it takes.

    Raises:
        TypeError: for an operator that is none, or a bias that is no tensor of real numbers.
        ValueError: for an unknown activation, slopes that are not bounded, a negative μ, and a group activation
            where it is not known which axis holds the channels; (called) for a bias or an anchor that does not fit.

    Example:
        >>> import torch
        >>> from contractive_gnn.dynamics import GradientFlow
        >>> from contractive_gnn.operators import Dense
        >>> flow = GradientFlow(Dense(torch.tensor([[3.0, 4.0]])), "tanh", mu=0.5)
        >>> x, y = torch.randn(2, 7, 2)  # seven points in the plane, twice
        >>> h = flow.max_step()
        >>> step = x + h * flow(x) - y - h * flow(y)
        >>> bool(step.norm() <= (1 - h * flow.rate()) * (x - y).norm() * 1.00001)
        True
    """

    #: GraphGradientFlow, which enters itself: it is built on this one
    _of_channels: ClassVar[Any]

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        """Build the field; ``GradientFlow(channels, …)`` is a graph's, under its old name, for one release."""
        first = arguments[0] if arguments else named.get("channels")
        if cls is not GradientFlow or not isinstance(first, int):
            return super().__new__(cls)
        warnings.warn(
            "GradientFlow(channels, ...) is now GraphGradientFlow(channels, ...); GradientFlow(operator, activation) "
            "is the gradient flow of any operator, and the old call goes with the next release",
            DeprecationWarning,
            stacklevel=2,
        )
        return cls._of_channels(*arguments, **named)

    def __init_subclass__(cls, **options: Any) -> None:
        """Make a flow on a graph of a subclass that was written for one, under the old name, for one release."""
        super().__init_subclass__(**options)
        if GradientFlow in cls.__bases__ and {"message", "field"} & vars(cls).keys():
            warnings.warn(
                f"{cls.__name__} defines messages or a field on a graph: GradientFlow on a graph is now "
                "GraphGradientFlow, subclass that; GradientFlow goes for it with the next release",
                DeprecationWarning,
                stacklevel=3,
            )
            cls.__bases__ = tuple(cls._of_channels if base is GradientFlow else base for base in cls.__bases__)
            cls.__new__ = staticmethod(lambda cls, *_, **__: object.__new__(cls))  # type: ignore[method-assign]

    anchor: Tensor | None

    def __init__(
        self,
        operator: Operator,
        activation: str | Activation = "tanh",
        *,
        bias: Tensor | None = None,
        mu: float = 0.0,
        anchor: Tensor | None = None,
        expansive: bool = False,
    ) -> None:
        super().__init__()
        check_real("mu", mu, least=0)
        check_flag("expansive", expansive)
        self.layer = Layer(operator, activation, bias=bias)
        self.invariant_axes = (-1,) if operator.last_axis else None
        self.mu = float(mu)
        self.expansive = expansive
        if anchor is not None:
            _check_anchor(anchor)
        self.register_buffer("anchor", anchor, persistent=False)  # a state, not something learned

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        """Evaluate X; the field does not depend on time."""
        force = self.operator.adjoint(self.layer(x))
        if not self.expansive:
            force = -force
        return force - self.mu * self._displacement(x) if self.mu else force

    def euler(self, x: Tensor, *, step: Tensor | float, num_steps: int) -> Tensor:
        """The state after K Euler steps, each without passing over the state more than it must."""
        plain = type(self).forward is GradientFlow.forward and x.dtype in (torch.float32, torch.float64)
        if not plain:  # a step that is rounded to half precision may be too long
            return super().euler(x, step=step, num_steps=num_steps)
        h = torch.as_tensor(step, dtype=x.dtype, device=x.device)
        for _ in range(num_steps):
            force = self.operator.adjoint(self.layer(x))
            moved = torch.addcmul(x, force, h, value=1.0 if self.expansive else -1.0)
            x = torch.addcmul(moved, self._displacement(x), h, value=-self.mu) if self.mu else moved
        return x

    def _displacement(self, x: Tensor) -> Tensor:
        if self.anchor is None:
            return x
        check_broadcast("anchor", self.anchor, x, of="the state")
        return x - self.anchor

    @property
    def operator(self) -> Operator:
        """A."""
        return self.layer.operator

    @property
    def sigma(self) -> Activation:
        """σ."""
        return self.layer.sigma

    @property
    def bias(self) -> Tensor | None:
        """B."""
        return self.layer.bias

    @property
    def norm(self) -> Norm:  # type: ignore[override]  # it belongs to the operator
        """That of the inner product in which A* is the adjoint of A."""
        return self.operator.input_norm

    @property
    def certified(self) -> bool:
        """Whether σ and A are this library's own: the slopes and bounds of others are not proved here.

        A subclass whose author has proved them overrides it.
        """
        return self.layer.certified

    def smoothness(self) -> Tensor:
        """``ν``, a Lipschitz constant of ``A*σ(Ax + b)``."""
        return torch.as_tensor(smoothness(self.sigma, self.operator.squared_norm_bound()))

    def spectrum(self) -> Spectrum:
        """The interval that holds the eigenvalues of −DX."""
        square = torch.as_tensor(self.operator.squared_norm_bound())
        least: Tensor | float = 0.0
        if self.sigma.slopes[0] > 0:  # else no lower bound of A helps, and it is not computed
            least = torch.as_tensor(self.operator.lower_bound()).to(square) ** 2
        low = lowest(self.sigma, square, least=least)
        high = torch.as_tensor(smoothness(self.sigma, square))
        if self.expansive:
            return Spectrum(self.mu - high, torch.as_tensor(self.mu - low, dtype=high.dtype, device=high.device))
        return Spectrum(self.mu + low, high + self.mu)

    def rate(self) -> Tensor | float:
        """``κ = μ + min(s_min l², s_min L)``; ``μ − ν`` where it ascends."""
        return self.spectrum().least

    def max_step(self) -> Tensor:
        """``2/(ν + μ + κ)``, 0 where κ is negative."""
        return self.spectrum().max_step()

    def lipschitz(self, step: Tensor | float) -> Tensor:
        """``max(1 − hκ, h(ν + μ) − 1)``, for every h > 0."""
        return self.spectrum().lipschitz(step)

    def longest_step(self, share: Tensor) -> Tensor:
        """The longest step whose constant :meth:`lipschitz` is at most ``share ≥ 1``; it is piecewise affine."""
        return self.spectrum().longest_step(share)

    def field_lipschitz(self) -> Tensor:
        """``ν + μ``; of an ascent, the larger of ``|μ − ν|`` and of what is left of μ at the lowest slope."""
        return self.spectrum().field_lipschitz()

    def anchored(self, anchor: Tensor) -> VectorField:
        """The field that is pulled to ``anchor``, with the same operator and σ; itself where μ = 0.

        Gradients pass through the anchor.
        """
        if not self.mu:
            return self
        if type(self) is GradientFlow:
            return GradientFlow(
                self.operator, self.sigma, bias=self.bias, mu=self.mu, anchor=anchor, expansive=self.expansive
            )
        _check_anchor(anchor)
        field = copy.copy(self)  # of a subclass, whatever its arguments are; no trace takes a copy
        field._buffers = {**self._buffers, "anchor": anchor}
        return field

    @property
    def anchor_lipschitz(self) -> float:
        """``μ``."""
        return self.mu

    def state(self, *, generator: torch.Generator | None = None) -> Tensor:
        """A random state in float64, standard normal, of a shape that the operator takes.

        Raises:
            NotImplementedError: where the operator does not say which.
        """
        state = self.layer.state(generator)
        return super().state(generator=generator) if state is None else state

    def extra_repr(self) -> str:
        """Show the fidelity and the sign."""
        return f"mu={self.mu}, expansive={self.expansive}"


def _check_anchor(anchor: object) -> None:
    if not (isinstance(anchor, Tensor) and anchor.is_floating_point()):
        raise TypeError(f"anchor must be a tensor of real numbers, a state, got {anchor!r}")
