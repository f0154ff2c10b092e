"""What every time-stepping scheme declares, and the registry of those that have a name."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor

from contractive_gnn.integrators.invariants import Invariant
from contractive_gnn.names import same_code
from contractive_gnn.norms import Norm, family
from contractive_gnn.registry import Registry

#: a time, or a step
Time = Tensor | float
#: a vector field ``X(x, t)``
Field = Callable[[Tensor, Time], Tensor]
"""``(x, t) ↦ X(x, t)``, of the shape of ``x``; t is a scalar tensor where the step or the start time is one."""


def velocity(field: Field, x: Tensor, t: Time) -> Tensor:
    """``X(x, t)``, of the shape of x: another shape may broadcast, and a step would be of another field.

    Raises:
        TypeError: for a value that is no tensor.
        ValueError: for a value of another shape than that of the state.
    """
    value: object = field(x, t)
    if not isinstance(value, Tensor):
        raise TypeError(f"a field must give a tensor of the shape of its state, {list(x.shape)}, got {value!r}")
    if value.shape != x.shape:
        raise ValueError(
            f"a field must give a value of the shape of its state, {list(x.shape)}, got {list(value.shape)}: reshape "
            "what it gives, or give the state another shape"
        )
    return value


@runtime_checkable
class StructuredField(Protocol):
    """A field that says what it is made of, as a :class:`~contractive_gnn.dynamics.field.VectorField` does."""

    @property
    def norm(self) -> Norm:
        """The norm of its claims."""

    @property
    def conserves(self) -> frozenset[Invariant]:
        """What the exact flow keeps."""

    @property
    def invariant_axes(self) -> tuple[int, ...] | None:
        """The axes that mass and norm sum over; None where that is not known."""

    @property
    def shear(self) -> bool:
        """Whether one Euler step of any length is the exact flow."""

    def parts(self) -> tuple[StructuredField, ...]:
        """Fields whose sum this one is."""

    def rate(self) -> Tensor | float:
        """Contraction rate κ."""

    def max_step(self) -> Tensor | float:
        """The largest Euler step that contracts by ``1 − hκ``."""

    def lipschitz(self, step: Tensor | float) -> Tensor | float:
        """A Lipschitz constant of the Euler step."""

    def field_lipschitz(self) -> Tensor | float:
        """A Lipschitz constant of X itself."""

    def __call__(self, x: Tensor, t: Time) -> Tensor:
        """``X(x, t)``."""


@dataclass(frozen=True)
class Solve:
    """How the equation of an implicit step is solved.

    Attributes:
        max_euler_step: h_E, the field's largest non-expansive Euler step; None for the plain iteration.
        tolerance: of the residual, relative to ``max(1, max |x|)``.
        max_iterations: for each step.
    """

    max_euler_step: float | None
    tolerance: float
    max_iterations: int


class Scheme:
    """One step of a method for ``ẋ = X(x, t)``, with what is known of it.

    A scheme of one's own subclasses this, defines :meth:`advance`, and is handed to
    :func:`~contractive_gnn.integrators.integrate` or given a name by :func:`register_scheme`.

    Attributes:
        name: its key in :data:`SCHEMES`, and its name in messages.
        order: of convergence.
        preserves: what a step keeps of a field that conserves it; of a splitting, where each part conserves it and has
            its exact flow taken. :meth:`keeps` answers for one field.
        circle_radius: contractivity radius in ℓ2, 0 where no step is proved to be contractive.
        monotonicity_radius: contractivity radius in every norm, likewise.
    """

    name: str
    order: int
    preserves: frozenset[Invariant] = frozenset()
    circle_radius: float = 0.0
    monotonicity_radius: float = 0.0
    _of_a_table: ClassVar[type[Scheme]]
    """RungeKutta, which sets it: a bare ``Scheme(…)`` was one."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Make a Runge–Kutta scheme of a bare ``Scheme(…)``, as releases before 0.2 did."""
        if cls is Scheme:
            warnings.warn("Scheme(…) of a table is now RungeKutta(…)", DeprecationWarning, stacklevel=2)
            return object.__new__(cls._of_a_table)
        return object.__new__(cls)

    @property
    def explicit(self) -> bool:
        """Whether a step solves no equation."""
        return True

    def radius(self, norm: str | Norm) -> float:
        """The contractivity radius in ``norm``, an object or a name of :data:`contractive_gnn.norms.NORMS`.

        Raises:
            ValueError: if the norm is unknown.
        """
        return self.circle_radius if inner_product(norm) else self.monotonicity_radius

    def advance(self, field: Field, x: Tensor, t: Time, h: Time, solve: Solve) -> Tensor:
        """The state at ``t + h``.

        Args:
            field: X.
            x: the state at t.
            t: the time.
            h: the step.
            solve: how an implicit equation is solved.
        """
        raise NotImplementedError(f"{type(self).__name__} must define advance(field, x, t, h, solve)")

    def lacks(self, field: Field) -> str:
        """What the scheme needs and the field has not, as the end of "…needs"; empty where it has all."""
        return ""

    def check(self, field: Field) -> None:
        """Refuse a field without the structure that the scheme needs.

        Raises:
            ValueError: with what is missing and the schemes that would do.
        """
        if missing := self.lacks(field):
            others = [name for name in SCHEMES if not SCHEMES.get(name).lacks(field)]
            raise ValueError(f"{self.name} needs {missing}; schemes that would do: {', '.join(others)}")

    def keeps(self, field: Field) -> frozenset[Invariant]:
        """What a step keeps of this field, to rounding (of an implicit scheme: to its tolerance).

        Empty for a plain function, which declares nothing.
        """
        if not isinstance(field, StructuredField):
            return frozenset()
        return closed(field.conserves & self.preserves)

    def lipschitz(self, field: StructuredField, step: float) -> float:
        """A proved Lipschitz constant of one step on this field, in the field's norm; ``inf`` where none is known.

        Args:
            field: with its rate and its largest step.
            step: h > 0.
        """
        return math.inf


def inner_product(norm: str | Norm) -> bool:
    """Whether a norm is that of an inner product: ℓ2, weighted or not.

    Raises:
        ValueError: if the norm is unknown.
    """
    return (norm.kind if isinstance(norm, Norm) else family(norm)) == "l2"


def closed(kept: frozenset[Invariant]) -> frozenset[Invariant]:
    """A symplectic map keeps the volume too (Liouville)."""
    return kept | {"volume"} if "symplectic" in kept else kept


def title(field: object) -> str:
    """How a message calls a field."""
    return type(field).__name__ if isinstance(field, StructuredField) else "a plain function"


SCHEMES: Registry[Scheme] = Registry("scheme")


def register_scheme(scheme: Scheme) -> Scheme:
    """Give a scheme its name, and return it.

    Raises:
        ValueError: if another scheme has the name, or it has other characters than small letters, digits and hyphens.
        TypeError: for something else than a scheme.
    """
    if not isinstance(scheme, Scheme):
        raise TypeError(f"expected an integrators.Scheme, got {scheme!r}")
    if scheme.name in SCHEMES:
        taken = SCHEMES.get(scheme.name)
        # The same scheme may come again: its file may be imported as a plug-in and as a module.
        if same_code(type(taken), type(scheme)) and vars(taken) == vars(scheme):
            return taken
    return SCHEMES.register(scheme.name)(scheme)


def solver(scheme: str | Scheme) -> Scheme:
    """Return a scheme given by name or as an object.

    Raises:
        ValueError: if the name is unknown, with the closest one.
    """
    return scheme if isinstance(scheme, Scheme) else SCHEMES.get(scheme)
