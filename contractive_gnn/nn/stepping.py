"""K steps of a scheme along a vector field of any domain, with the longest step that is proved and what follows."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from contractive_gnn.checks import check_flag, check_real, check_whole
from contractive_gnn.dynamics.field import VectorField
from contractive_gnn.integrators import Scheme, integrate, solver
from contractive_gnn.norms import number


class Stepping(nn.Module):
    """How a layer follows a field: number and length of its steps, and the scheme. A layer adds the field.

    The methods take the field and its step as arguments: a layer on a graph has another field at each call.

    Args:
        num_steps: K ≥ 1.
        step: h > 0, or None for the longest step that is proved to contract. A larger h than that is cut down to it,
            unless ``constrained`` is False.
        constrained: keep the step within the field's condition: the scheme's contractivity radius in the field's norm
            times the largest contractive Euler step. An implicit scheme whose radius is infinite takes the step as it
            is, on a field that does not expand.
        scheme: a name of :data:`contractive_gnn.integrators.SCHEMES`, or a scheme.

    Raises:
        ValueError: for numbers out of their range, an unknown scheme, and an unconstrained layer without a step.
    """

    def __init__(self, *, num_steps: int, step: float | None, constrained: bool, scheme: str | Scheme) -> None:
        super().__init__()
        check_whole("num_steps", num_steps, least=1)
        if step is not None:
            check_real("step", step, above=0)
        check_flag("constrained", constrained)
        if step is None and not constrained:
            raise ValueError("an unconstrained layer needs a step: give step, or leave constrained=True")
        solver(scheme)
        self.scheme = scheme
        self.num_steps = num_steps
        self.step = step
        self.constrained = constrained

    def _length(self, field: VectorField) -> Tensor | float:
        """The step that is taken along ``field``: a scalar tensor where it depends on weights or on a graph.

        Raises:
            ValueError: where ``constrained`` is True and no step is proved to contract, or every step is and none is
                given.
        """
        if not self.constrained:
            assert self.step is not None
            return self.step
        method = solver(self.scheme)
        radius = method.radius(field.norm)
        if math.isinf(radius):
            limit: Tensor | float = math.inf if number(field.rate()) >= 0 else 0.0
        else:
            limit = radius * field.max_step() if radius else 0.0
        if isinstance(limit, Tensor) and torch.compiler.is_compiling():  # a trace cannot branch on a value
            torch._assert_async(limit > 0, f"the field has no contractive step{field.where}")
        elif limit <= 0:
            raise ValueError(
                f"{field} has no contractive step with {method.name}{field.where} "
                f"(rate {number(field.rate()):.3g}, norm {field.norm}); raise its mu, use a "
                "monotone activation or another scheme, or pass constrained=False with a step"
            )
        if self.step is None:
            if not isinstance(limit, Tensor) and math.isinf(limit):
                raise ValueError(f"every step of {method.name} contracts in {field.norm}: give step")
            return limit
        return limit.clamp(max=self.step) if isinstance(limit, Tensor) else min(limit, self.step)

    def _follow(self, field: VectorField, x: Tensor, step: Tensor | float) -> Tensor:
        """The state after K steps from ``x``."""
        if self.scheme == "euler":
            return field.euler(x, step=step, num_steps=self.num_steps)
        return integrate(field, x, step=step, num_steps=self.num_steps, scheme=self.scheme)

    def _constant(self, field: VectorField, step: Tensor | float) -> float:
        """A Lipschitz constant of K steps in their start where the start is the anchor too; ``inf`` if unknown.

        One step of Euler's scheme is ``q``-Lipschitz for a fixed anchor and passes on at most ``hμ`` of the anchor's
        own change, μ the field's ``anchor_lipschitz``: ``e ← q e + hμ``, from ``e = 1``. Another Runge–Kutta scheme is
        composed of convex combinations of Euler steps, as far as its monotonicity radius allows the step, so e follows
        the scheme applied to ``ė = μ − κe``: ``e ← q e + (1 − q) μ/κ`` with ``q = R(−hκ)``; so it does for the implicit
        ones, since ``‖Δy − hΔX‖ ≥ (1 + hκ)‖Δy‖``. Beyond that radius, for ``"rk4"`` say, and for schemes that are no
        Runge–Kutta schemes only a field without an anchor has a constant, ``q^K``.
        """
        method, h, mu = solver(self.scheme), number(step), field.anchor_lipschitz
        q = method.lipschitz(field, h)
        if math.isinf(q):
            return math.inf
        if self.scheme == "euler":
            gain = h * mu
        elif mu == 0:
            gain = 0.0
        elif h <= method.monotonicity_radius * number(field.max_step()) * (1 + 1e-6):
            rate = number(field.rate())
            gain = mu * (1 - q) / rate if rate else h * mu
        else:
            return math.inf
        constant = 1.0
        for _ in range(self.num_steps):
            constant = q * constant + gain
        return constant

    def extra_repr(self) -> str:
        """Show the integration."""
        return f"num_steps={self.num_steps}, step={self.step}, constrained={self.constrained}, scheme={self.scheme!r}"
