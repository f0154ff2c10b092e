r"""Runge–Kutta schemes, explicit ones and those with one implicit stage."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from contractive_gnn.integrators.implicit import implicit_stage
from contractive_gnn.integrators.invariants import Invariant
from contractive_gnn.integrators.radii import Table, absolutely_monotonic, circle_contractive
from contractive_gnn.integrators.scheme import Field, Scheme, Solve, StructuredField, Time, register_scheme, velocity
from contractive_gnn.norms import Norm, number


@dataclass(frozen=True)
class RungeKutta(Scheme):
    r"""A Runge–Kutta scheme ``y_i = x + h Σ_j a_ij X(y_j, t + c_i h)``, ``x⁺ = x + h Σ_i b_i X(y_i, t + c_i h)``.

    Every one keeps linear invariants: ``1ᵀX = 0`` at each stage. One keeps quadratic invariants, and the symplectic
    form, iff ``b_i a_ij + b_j a_ji = b_i b_j`` (Cooper 1987; Sanz-Serna 1988): of those here, implicit midpoint alone.

    Attributes:
        name: its key in :data:`SCHEMES`.
        order: of convergence, at least 1; checked against the table up to 4.
        a: the rows of A; strictly lower triangular for an explicit scheme. An implicit one has one stage.
        b: the weights, of sum 1.
        circle_radius: contractivity radius in ℓ2; checked against the table.
        monotonicity_radius: contractivity radius in every norm; checked against the table.

    Raises:
        ValueError: for a table of another shape or with numbers that are not finite, weights of another sum, an
            implicit scheme of several stages, and an order or a radius beyond that of the table.
    """

    name: str
    order: int
    a: Table
    b: tuple[float, ...]
    circle_radius: float
    monotonicity_radius: float

    def __post_init__(self) -> None:
        """Refuse a table that is none, and radii that are not proved."""
        s = len(self.b)
        if s == 0 or len(self.a) != s or any(len(row) != s for row in self.a):
            raise ValueError(f"{self.name}: a must be {s} rows of {s} numbers, one for each of b, got {self.a}")
        if not all(map(math.isfinite, (*self.b, *(value for row in self.a for value in row)))):
            raise ValueError(f"{self.name}: a and b must be finite numbers, got {self.a} and {self.b}")
        if abs(math.fsum(self.b) - 1) > 1e-12:
            raise ValueError(f"{self.name}: the weights b must sum to 1, got {math.fsum(self.b):g}")
        if not self.explicit and s > 1:
            raise ValueError(
                f"{self.name}: an implicit scheme has one stage here, got {s}; write a Scheme of your own with advance"
            )
        if (reached := self._order()) < min(self.order, 4) or self.order < 1:
            raise ValueError(f"{self.name}: its table has order {reached} by the conditions up to 4, got {self.order}")
        if self.circle_radius and not circle_contractive(self.a, self.b, self.circle_radius):
            raise ValueError(f"{self.name}: its table is not contractive in l2 with radius {self.circle_radius:g}")
        if self.monotonicity_radius and not absolutely_monotonic(self.a, self.b, self.monotonicity_radius):
            raise ValueError(
                f"{self.name}: its table is not contractive in every norm with radius {self.monotonicity_radius:g}"
            )

    def _order(self) -> int:
        """The order by the conditions of trees up to four nodes (Hairer, Nørsett, Wanner 1993, table II.2.2)."""
        a, b = np.array(self.a), np.array(self.b)
        c = a.sum(axis=1)
        conditions = (
            (2, (b @ c, 1 / 2)),
            (3, (b @ c**2, 1 / 3), (b @ a @ c, 1 / 6)),
            (4, (b @ c**3, 1 / 4), (b * c @ a @ c, 1 / 8), (b @ a @ c**2, 1 / 12), (b @ a @ a @ c, 1 / 24)),
        )
        reached = 1
        for order, *equations in conditions:
            if any(abs(found - wanted) > 1e-12 for found, wanted in equations):
                break
            reached = order
        return reached

    @property
    def preserves(self) -> frozenset[Invariant]:  # type: ignore[override]
        """The mass, and with ``b_i a_ij + b_j a_ji = b_i b_j`` the norm and the symplectic form."""
        quadratic = all(
            abs(self.b[i] * self.a[i][j] + self.b[j] * self.a[j][i] - self.b[i] * self.b[j]) <= 1e-15
            for i in range(len(self.b))
            for j in range(len(self.b))
        )
        return frozenset({"mass", "norm", "symplectic"}) if quadratic else frozenset({"mass"})

    @property
    def c(self) -> tuple[float, ...]:
        """The abscissae, the row sums of A."""
        return tuple(map(sum, self.a))

    @property
    def explicit(self) -> bool:
        """Whether every stage needs earlier ones only."""
        return all(value == 0 for i, row in enumerate(self.a) for value in row[i:])

    @property
    def _title(self) -> str:
        return self.name.replace("-", " ").replace("euler", "Euler")

    def stability(self, z: float) -> float:
        """``R(z)``, the factor of one step with ``z = hλ`` on ``ẋ = λx``."""
        if not self.explicit:
            (alpha,), beta = self.a[0], self.b[0]
            return (1.0 + z * (beta - alpha)) / (1.0 - z * alpha)
        slopes: list[float] = []
        for row in self.a:
            slopes.append(z * (1.0 + sum(weight * slope for weight, slope in zip(row, slopes, strict=False))))
        return 1.0 + sum(weight * slope for weight, slope in zip(self.b, slopes, strict=True))

    def factor(self, step: float, rate: float, max_euler_step: float, norm: str | Norm) -> float:
        """See :func:`~contractive_gnn.integrators.contraction_factor`, whose checks these are.

        Raises:
            ValueError: where nothing is proved.
        """
        if not step > 0:
            raise ValueError(f"step must be positive, got {step!r}")
        if not self.explicit and math.isinf(self.radius(norm)):
            return self._implicit_factor(step, rate, max_euler_step)
        if rate < 0:
            whom = "an explicit scheme" if self.explicit else f"{self.name} in {norm}"
            raise ValueError(f"rate must be at least 0 for {whom}, got {rate:g}: the field expands")
        if rate * max_euler_step > 1 + 1e-12:
            raise ValueError(
                f"an Euler step of {max_euler_step:g} cannot contract by 1 − step·rate with the rate {rate:g}: "
                "max_euler_step·rate must be at most 1"
            )
        if step > self.radius(norm) * max_euler_step * (1 + 1e-12):
            raise ValueError(
                f"nothing is proved for {self.name} in {norm} with step {step:g}: the longest step is its radius times "
                f"max_euler_step, {self.radius(norm):g} · {max_euler_step:g}; take num_substeps of them"
            )
        if step > self.monotonicity_radius * max_euler_step * (1 + 1e-12):
            return 1.0
        return self.stability(-step * rate)

    def _implicit_factor(self, step: float, rate: float, max_euler_step: float) -> float:
        """One implicit stage of length αh, ``x⁺ = x + hX(y)``, with α = 1, or in ℓ2 with α ≥ ½; any h.

        In ℓ2 let ``ΔX = zΔy`` in the plane of the two: ``‖Δx⁺‖/‖Δx‖ = |R(hz)|``, and z lies in the half plane
        ``Re z ≤ −κ``, and in the disc with the ends ``−κ`` and ``κ − 2/h_E`` where Euler contracts at h_E. R maps
        either to a disc, symmetric about the real axis, whose ends are the images of the ends.
        """
        alpha = self.a[0][0]
        if 1.0 + alpha * step * rate <= 0:
            raise ValueError(f"an implicit step of {step:g} needs 1 + step·rate > 0, got the rate {rate:g}")
        factor = self.stability(-step * rate)
        if alpha == 1.0 or rate < 0:
            return factor
        if not max_euler_step > 0:
            return 1.0  # the half plane alone: R(−∞) = −1
        return max(abs(factor), abs(self.stability(-step * max(2.0 / max_euler_step - rate, rate))))

    def lipschitz(self, field: StructuredField, step: float) -> float:
        """That of one step: by the field's rate and largest step, or where it has none, by its Lipschitz constant L.

        Euler's by the former is the field's own, for every h that it answers for. By the latter an explicit scheme has
        the slopes ``‖Δk_i‖ ≤ L (‖Δx‖ + h Σ_j |a_ij| ‖Δk_j‖)``, whether the field contracts or not.
        """
        if number(field.max_step()) > 0:
            return self._by_rate(field, step)
        return min(self._by_rate(field, step), self._by_slope(number(field.field_lipschitz()), step))

    def _by_slope(self, constant: float, step: float) -> float:
        if not self.explicit or math.isinf(constant):
            return math.inf
        slopes: list[float] = []
        for row in self.a:
            grown = sum(abs(weight) * slope for weight, slope in zip(row, slopes, strict=False))
            slopes.append(constant * (1.0 + step * grown))
        return 1.0 + step * sum(abs(weight) * slope for weight, slope in zip(self.b, slopes, strict=True))

    def _by_rate(self, field: StructuredField, step: float) -> float:
        if self.explicit and len(self.b) == 1:
            return number(field.lipschitz(step))
        rate, limit = number(field.rate()), number(field.max_step())
        if not math.isfinite(rate):
            return math.inf
        if 1 < rate * limit <= 1 + 1e-6:
            limit = 1 / rate  # both were rounded, in single precision say
        try:
            # a step that was computed from max_step may have been rounded up
            longest = self.radius(field.norm) * limit
            short = min(step, longest) if step <= longest * (1 + 1e-6) else step
            return self.factor(short, rate, limit, field.norm)
        except ValueError:
            return math.inf

    def advance(self, field: Field, x: Tensor, t: Time, h: Time, solve: Solve) -> Tensor:
        """One step; implicit where A has a diagonal."""
        if self.explicit:
            slopes: list[Tensor] = []
            for row, c in zip(self.a, self.c, strict=True):
                slopes.append(velocity(field, _moved(x, h, row, slopes), t + c * h))
            return _moved(x, h, self.b, slopes)
        alpha = self.a[0][0]
        y = implicit_stage(field, x, t + alpha * h, alpha * h, solve, what=self._title)
        return y if alpha == 1.0 else x + (y - x) / alpha


def _moved(x: Tensor, h: Time, weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    """``x + h Σ w_i k_i``."""
    for weight, slope in zip(weights, slopes, strict=False):  # a row of A is longer than the stages so far
        if weight:
            x = x + (h * weight) * slope
    return x


_HEUN = ((0.0, 0.0), (1.0, 0.0))

for _scheme in (
    RungeKutta("euler", 1, ((0.0,),), (1.0,), 1.0, 1.0),
    RungeKutta("heun", 2, _HEUN, (0.5, 0.5), 1.0, 1.0),
    RungeKutta("ssprk2", 2, _HEUN, (0.5, 0.5), 1.0, 1.0),
    RungeKutta("ssprk3", 3, ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.25, 0.25, 0.0)), (1 / 6, 1 / 6, 2 / 3), 1.0, 1.0),
    RungeKutta(
        "rk4",
        4,
        ((0.0, 0.0, 0.0, 0.0), (0.5, 0.0, 0.0, 0.0), (0.0, 0.5, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0)),
        (1 / 6, 1 / 3, 1 / 3, 1 / 6),
        1.0,
        0.0,
    ),
    RungeKutta("implicit-euler", 1, ((1.0,),), (1.0,), math.inf, math.inf),
    RungeKutta("implicit-midpoint", 2, ((0.5,),), (1.0,), math.inf, 2.0),
):
    register_scheme(_scheme)


Scheme._of_a_table = RungeKutta
