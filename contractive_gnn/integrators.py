r"""Time-stepping schemes that declare how far a contractive field stays contractive under them.

Let ``h_E`` be the largest step with which explicit Euler is non-expansive on a field in some norm. A scheme of
contractivity radius r is non-expansive in that norm for every step ``h ≤ r h_E``, whatever the field:

* in ℓ2, or any norm of an inner product, "Euler is non-expansive at h_E" says exactly that
  ``⟨X(x) − X(y), x − y⟩ ≤ −(h_E/2)‖X(x) − X(y)‖²``, and r is the *circle contractivity* radius: the largest r with
  ``BA + AᵀB − bbᵀ + B/r ⪰ 0``, ``B = diag(b) > 0`` (Dahlquist and Jeltsch, *Generalized disks of contractivity for
  explicit and implicit Runge–Kutta methods*, 1979; BIT 46, 2006). With ``M = BA + AᵀB − bbᵀ`` and the differences Δk_i
  of the stage slopes, ``‖Δx⁺‖² ≤ ‖Δx‖² − h² Σ (m_ij + δ_ij b_i h_E/h) ⟨Δk_i, Δk_j⟩``;
* in any norm, so in ℓ1 and ℓ∞, r is the radius of absolute monotonicity, or SSP coefficient: the scheme is then made of
  convex combinations of Euler steps of length at most h_E (Kraaijevanger, BIT 31, 1991; Shu and Osher 1988; Gottlieb,
  Ketcheson, Shu, *Strong Stability Preserving Runge–Kutta and Multistep Time Discretizations*, 2011).

========================== ===== ====== =============== ========= ======================================
scheme                     order stages r, ℓ2           r, ℓ1, ℓ∞ evaluations per unit of ``r h_E``, ℓ∞
========================== ===== ====== =============== ========= ======================================
``euler``                  1     1      1               1         1
``heun`` = ``ssprk2``      2     2      1               1         2
``ssprk3``                 3     3      1               1         3
``rk4``                    4     4      1               0         not provably contractive with any step
``implicit-euler``         1     1      ∞               ∞         iterations of a solver
========================== ===== ====== =============== ========= ======================================
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from contractive_gnn.graph import transformed
from contractive_gnn.norms import family, number

Time = Tensor | float
Field = Callable[[Tensor, Time], Tensor]
"""``(x, t) ↦ X(x, t)``, of the shape of ``x``; t is a scalar tensor where the step or the start time is one."""


class ConvergenceError(RuntimeError):
    """The equation of an implicit step was not solved to the tolerance asked for."""


@dataclass(frozen=True)
class Scheme:
    r"""A Runge–Kutta scheme ``y_i = x + h Σ_j a_ij X(y_j, t + c_i h)``, ``x⁺ = x + h Σ_i b_i X(y_i, t + c_i h)``.

    Attributes:
        name: its key in :data:`SOLVERS`.
        order: of convergence.
        a: the rows of A; strictly lower triangular for an explicit scheme.
        b: the weights.
        circle_radius: contractivity radius in ℓ2.
        monotonicity_radius: contractivity radius in every norm.
    """

    name: str
    order: int
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    circle_radius: float
    monotonicity_radius: float

    @property
    def c(self) -> tuple[float, ...]:
        """The abscissae, the row sums of A."""
        return tuple(map(sum, self.a))

    @property
    def explicit(self) -> bool:
        """Whether every stage needs earlier ones only."""
        return all(value == 0 for i, row in enumerate(self.a) for value in row[i:])

    def radius(self, norm: str) -> float:
        """The contractivity radius in ``norm``, a name of :data:`contractive_gnn.norms.NORMS`.

        Raises:
            ValueError: if the norm is unknown.
        """
        return self.circle_radius if family(norm) == "l2" else self.monotonicity_radius

    def stability(self, z: float) -> float:
        """``R(z)``, the factor of one step with ``z = hλ`` on ``ẋ = λx``."""
        if not self.explicit:
            return 1.0 / (1.0 - z)  # implicit Euler is the one implicit scheme here
        slopes: list[float] = []
        for row in self.a:
            slopes.append(z * (1.0 + sum(weight * slope for weight, slope in zip(row, slopes, strict=False))))
        return 1.0 + sum(weight * slope for weight, slope in zip(self.b, slopes, strict=True))


_HEUN = ((0.0, 0.0), (1.0, 0.0))

SOLVERS: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme("euler", 1, ((0.0,),), (1.0,), 1.0, 1.0),
        Scheme("heun", 2, _HEUN, (0.5, 0.5), 1.0, 1.0),
        Scheme("ssprk2", 2, _HEUN, (0.5, 0.5), 1.0, 1.0),
        Scheme("ssprk3", 3, ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.25, 0.25, 0.0)), (1 / 6, 1 / 6, 2 / 3), 1.0, 1.0),
        Scheme(
            "rk4",
            4,
            ((0.0, 0.0, 0.0, 0.0), (0.5, 0.0, 0.0, 0.0), (0.0, 0.5, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0)),
            (1 / 6, 1 / 3, 1 / 3, 1 / 6),
            1.0,
            0.0,
        ),
        Scheme("implicit-euler", 1, ((1.0,),), (1.0,), math.inf, math.inf),
    )
}


def solver(scheme: str | Scheme) -> Scheme:
    """Return a scheme given by name or as an object.

    Raises:
        ValueError: if the name is unknown.
    """
    if isinstance(scheme, Scheme):
        return scheme
    if not isinstance(scheme, str) or scheme not in SOLVERS:
        raise ValueError(f"unknown scheme {scheme!r}; expected one of {', '.join(SOLVERS)}")
    return SOLVERS[scheme]


def num_substeps(total_time: float, max_euler_step: Tensor | float, *, scheme: str | Scheme, norm: str) -> int:
    """The smallest number of equal steps, each at most ``radius(norm) · max_euler_step`` long.

    Args:
        total_time: T > 0.
        max_euler_step: the field's largest non-expansive Euler step, as ``Dynamics.max_step`` returns it.
        scheme: a name of :data:`SOLVERS`, or a :class:`Scheme`.
        norm: the norm of the claim.

    Raises:
        ValueError: where the scheme has radius 0 in this norm, the field has no contractive step, or T is not positive.
    """
    method, limit = solver(scheme), number(max_euler_step)
    if not (total_time > 0 and math.isfinite(total_time)):
        raise ValueError(f"total_time must be a positive finite number, got {total_time!r}")
    if not limit > 0:
        raise ValueError(f"max_euler_step must be positive, got {limit!r}: the field has no contractive Euler step")
    radius = method.radius(norm)
    if radius == 0:
        others = [name for name, row in SOLVERS.items() if row.radius(norm) > 0]
        raise ValueError(
            f"{method.name} has contractivity radius 0 in {norm}: no step is provably contractive; "
            f"use one of {', '.join(others)}"
        )
    longest = radius * limit
    count = max(1, math.ceil(total_time / longest))
    return count if total_time / count <= longest else count + 1  # the quotient may have been rounded down


def contraction_factor(
    step: float, rate: float, *, max_euler_step: float, scheme: str | Scheme = "euler", norm: str
) -> float:
    r"""A proved Lipschitz constant of one step in ``norm``.

    The field is one whose Euler step is ``(1 − hκ)``-Lipschitz at ``h = h_E``; being affine in h, it is so at every
    shorter step too. Explicit schemes with positive monotonicity radius, in any norm: ``R(−hκ)`` for ``h ≤ r h_E``,
    because the scheme is a composition of convex combinations of Euler steps and every one of those contracts by
    ``1 − h'κ``. RK4 in ℓ2: 1 for ``h ≤ r h_E`` (its circle condition gives no rate). Implicit Euler, any norm and any
    h: ``1/(1 + hκ)`` for the exact solution of its equation, which needs ``μ(DX) ≤ −κ`` alone, since then
    ``‖Δy − hΔX‖ ≥ (1 + hκ)‖Δy‖``.

    Args:
        step: h > 0.
        rate: κ; not negative for an explicit scheme.
        max_euler_step: h_E.
        scheme: a name of :data:`SOLVERS`, or a :class:`Scheme`.
        norm: the norm of the claim.

    Raises:
        ValueError: where nothing is proved: the step is beyond ``r h_E``, κ < 0 for an explicit scheme, or
            ``1 + hκ ≤ 0`` for the implicit one.
    """
    method = solver(scheme)
    if not step > 0:
        raise ValueError(f"step must be positive, got {step!r}")
    if not method.explicit:
        if 1.0 + step * rate <= 0:
            raise ValueError(f"an implicit step of {step:g} needs 1 + step·rate > 0, got the rate {rate:g}")
        return method.stability(-step * rate)
    if rate < 0:
        raise ValueError(f"rate must be at least 0 for an explicit scheme, got {rate:g}: the field expands")
    if rate * max_euler_step > 1 + 1e-12:
        raise ValueError(
            f"an Euler step of {max_euler_step:g} cannot contract by 1 − step·rate with the rate {rate:g}: "
            "max_euler_step·rate must be at most 1"
        )
    if step > method.radius(norm) * max_euler_step * (1 + 1e-12):
        raise ValueError(
            f"nothing is proved for {method.name} in {norm} with step {step:g}: the longest step is its radius times "
            f"max_euler_step, {method.radius(norm):g} · {max_euler_step:g}; take num_substeps of them"
        )
    if step > method.monotonicity_radius * max_euler_step * (1 + 1e-12):
        return 1.0
    return method.stability(-step * rate)


def trajectory(
    field: Field,
    x: Tensor,
    *,
    step: Time,
    num_steps: int,
    scheme: str | Scheme = "euler",
    t0: Time = 0.0,
    max_euler_step: float | None = None,
    tolerance: float | None = None,
    max_iterations: int = 1000,
) -> Iterator[Tensor]:
    r"""Yield ``x⁽⁰⁾, x⁽¹⁾, …, x⁽ᴷ⁾``.

    Implicit Euler solves ``y = x + hX(y, t + h)`` by the relaxed fixed-point iteration

    .. math::
        y \leftarrow (1-\theta)\,y + \theta\,(x + hX(y)), \qquad \theta = \frac{h_E}{h + h_E},

    which equals ``(1 − θ)(y + h_E X(y)) + θx``: an Euler step of length h_E, so it converges by ``h/(h + h_E)`` per
    iteration in the norm in which that step is non-expansive, for every h. It stops at a residual
    ``max |y − x − hX(y)| ≤ tolerance · max(1, max |x|)``; for a field with one-sided Lipschitz constant ≤ 0 in a norm
    the error of the step in that norm is at most the residual's, so a step is non-expansive up to twice the tolerance
    (in ℓ∞; times √d in ℓ2 and d in ℓ1, for d entries). Gradients go through the iterations, so their memory grows with
    ``h/h_E``: no cheaper than as many explicit steps, but one step of the model.

    Args:
        field: X.
        x: the start, of any shape.
        step: h, a number or a scalar tensor (differentiable).
        num_steps: K ≥ 0.
        scheme: a name of :data:`SOLVERS`, or a :class:`Scheme`.
        t0: time of the start.
        max_euler_step: h_E, read by implicit Euler only; None for the plain iteration, θ = 1, which converges where
            ``h·Lip(X) < 1``.
        tolerance: of implicit Euler, relative; None for ``100 (1 + h/h_E)`` times the precision of ``x``'s dtype: what
            rounding leaves of θ times the residual.
        max_iterations: of implicit Euler, for each step.

    Raises:
        ValueError: for an unknown scheme, a negative ``num_steps`` or a step that is not positive and finite.
        ConvergenceError: where the implicit equation is not solved within ``max_iterations``.
    """
    method = solver(scheme)
    if num_steps < 0:
        raise ValueError(f"num_steps must be at least 0, got {num_steps!r}")
    if isinstance(step, Tensor) and step.numel() != 1:
        raise ValueError(f"step must be a number or a scalar tensor, got shape {list(step.shape)}")
    if not isinstance(step, Tensor) and not (step > 0 and math.isfinite(step)):
        raise ValueError(f"step must be positive and finite, got {step!r}")
    if max_euler_step is not None and not max_euler_step > 0:
        raise ValueError(f"max_euler_step must be positive, got {max_euler_step!r}")
    if tolerance is None:
        relaxation = 0.0 if max_euler_step is None else number(step) / max_euler_step
        tolerance = 100 * (1 + relaxation) * torch.finfo(x.dtype).eps

    def states() -> Iterator[Tensor]:
        y = x
        yield y
        for k in range(num_steps):
            t = t0 + k * step
            if method.explicit:
                y = _explicit_step(method, field, y, t, step)
            else:
                y = _implicit_euler_step(field, y, t + step, step, max_euler_step, tolerance, max_iterations)
            yield y

    return states()


def integrate(
    field: Field,
    x: Tensor,
    *,
    step: Time,
    num_steps: int,
    scheme: str | Scheme = "euler",
    t0: Time = 0.0,
    max_euler_step: float | None = None,
    tolerance: float | None = None,
    max_iterations: int = 1000,
) -> Tensor:
    """The state after ``num_steps`` steps; arguments and errors are those of :func:`trajectory`."""
    states = trajectory(
        field,
        x,
        step=step,
        num_steps=num_steps,
        scheme=scheme,
        t0=t0,
        max_euler_step=max_euler_step,
        tolerance=tolerance,
        max_iterations=max_iterations,
    )
    for state in states:
        x = state
    return x


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
        ValueError: where f depends on a tensor that asks for a gradient and is not one of ``inputs``.
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


def integrate_continuous(
    field: Field,
    x: Tensor,
    *,
    total_time: float,
    t0: float = 0.0,
    method: str = "dopri5",
    rtol: float = 1e-6,
    atol: float = 1e-6,
) -> Tensor:
    """The state after ``total_time`` of the continuous-time model, by torchdiffeq's ``odeint``.

    The exact flow contracts by ``exp(−κT)``. An adaptive solver keeps that up to its tolerances only, since the
    steps that it picks depend on the state: what is certified is certified for :func:`integrate`.

    Args:
        field: X.
        x: the start.
        total_time: T > 0.
        t0: time of the start.
        method: a solver of torchdiffeq.
        rtol: its relative tolerance.
        atol: its absolute tolerance.

    Raises:
        ImportError: where torchdiffeq is not installed.
        ValueError: if T is not positive.
    """
    if not (total_time > 0 and math.isfinite(total_time)):
        raise ValueError(f"total_time must be a positive finite number, got {total_time!r}")
    try:
        from torchdiffeq import odeint
    except ImportError as error:
        raise ImportError(
            "integrate_continuous needs torchdiffeq, which is not installed: pip install torchdiffeq, "
            "or use integrate, which needs nothing"
        ) from error
    times = torch.tensor([t0, t0 + total_time], dtype=x.dtype, device=x.device)
    end: Tensor = odeint(lambda t, y: field(y, t), x, times, method=method, rtol=rtol, atol=atol)[-1]
    return end


def _explicit_step(method: Scheme, field: Field, x: Tensor, t: Time, h: Time) -> Tensor:
    slopes: list[Tensor] = []
    for row, c in zip(method.a, method.c, strict=True):
        slopes.append(field(_advance(x, h, row, slopes), t + c * h))
    return _advance(x, h, method.b, slopes)


def _advance(x: Tensor, h: Time, weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    """``x + h Σ w_i k_i``."""
    for weight, slope in zip(weights, slopes, strict=False):  # a row of A is longer than the stages so far
        if weight:
            x = x + (h * weight) * slope
    return x


def _implicit_euler_step(
    field: Field, x: Tensor, t: Time, h: Time, max_euler_step: float | None, tolerance: float, max_iterations: int
) -> Tensor:
    theta = 1.0 if max_euler_step is None else max_euler_step / (h + max_euler_step)
    goal = tolerance * max(1.0, float(x.detach().abs().max())) if x.numel() else 0.0
    y, residual = x, math.inf
    for _ in range(max_iterations):
        gap = x + h * field(y, t) - y
        residual = float(gap.detach().abs().max()) if x.numel() else 0.0
        y = y + theta * gap
        if residual <= goal:
            return y
        if not math.isfinite(residual):
            break
    advice = (
        "pass max_euler_step, the field's largest non-expansive Euler step: the relaxed iteration then always converges"
        if max_euler_step is None
        else "raise max_iterations or tolerance, or check max_euler_step: the field may not be contractive with it"
    )
    raise ConvergenceError(
        f"implicit Euler with step {number(h):g} left a residual of {residual:.3g} after {max_iterations} iterations, "
        f"more than {goal:.3g}; {advice}"
    )
