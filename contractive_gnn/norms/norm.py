"""A norm as an object."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import overload

from torch import Tensor

from contractive_gnn.checks import check_real
from contractive_gnn.norms.lebesgue import (
    Family,
    family_of,
    lebesgue_dual,
    lebesgue_norm,
    lebesgue_pairing,
    require_weight,
)


class Norm(ABC):
    """A norm of a whole state, as an object: what a claim is made in.

    Two are equal where they measure every state alike. ``name`` is that of the package's table, or says how it is made.
    ``2.0 * norm`` is a norm too.
    """

    name: str
    kind: Family | None
    """ℓ1, ℓ2 or ℓ∞, weighted or not; None for another one. Only ``"l2"`` is the norm of an inner product."""

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """``‖x‖``, a scalar tensor."""

    @abstractmethod
    def dual(self, gradient: Tensor) -> Tensor:
        """A maximiser of ``⟨gradient, d⟩`` over a ball of the norm, of any length."""

    def pairing(self, u: Tensor, v: Tensor) -> Tensor:
        """The weak pairing ``⟦u, v⟧``, see :func:`weak_pairing`.

        Raises:
            ValueError: where it is not known.
        """
        raise ValueError(f"no weak pairing is known for {self}")

    def weights(self, x: Tensor) -> Tensor | None:
        """The weights of the entries of ``x``, in a shape that broadcasts to it; None where all count alike.

        Raises:
            ValueError: where they do not fit ``x``.
        """
        return None

    def __mul__(self, factor: float) -> Norm:
        return Scaled(self, factor)

    __rmul__ = __mul__

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False)
class Plain(Norm):
    """ℓ1, ℓ2 or ℓ∞ of all entries, none of them weighted; under one of the names of the package's table.

    Raises:
        ValueError: for an unknown name, and for one that cannot do without weights.
    """

    name: str

    def __post_init__(self) -> None:
        """Refuse other names."""
        family_of(self.name)
        require_weight(self.name, None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain) and self.kind == other.kind

    def __hash__(self) -> int:
        return hash(self.kind)

    @property
    def kind(self) -> Family:  # type: ignore[override]
        """Which of the three."""
        return family_of(self.name)

    def __call__(self, x: Tensor) -> Tensor:
        """``‖x‖``."""
        return lebesgue_norm(x, self.name, None)

    def dual(self, gradient: Tensor) -> Tensor:
        """See :class:`Norm`."""
        return lebesgue_dual(gradient, self.name, None)

    def pairing(self, u: Tensor, v: Tensor) -> Tensor:
        """See :class:`Norm`."""
        return lebesgue_pairing(u, v, self.name, None)


L1, L2, LInf = Plain("l1"), Plain("l2"), Plain("linf")


@dataclass(frozen=True)
class Scaled(Norm):
    """``ω ‖x‖``; Lipschitz constants and log norms are those of the base.

    Attributes:
        base: the norm.
        factor: ω > 0.

    Raises:
        ValueError: if ω is not positive and finite.
        TypeError: if ω is no number.
    """

    base: Norm
    factor: float

    def __post_init__(self) -> None:
        """Refuse what makes no norm."""
        check_real("factor", self.factor, above=0)

    @property
    def name(self) -> str:  # type: ignore[override]
        """``"0.5·l1"``."""
        return f"{self.factor:g}·{self.base}"

    @property
    def kind(self) -> Family | None:  # type: ignore[override]
        """That of the base."""
        return self.base.kind

    def __call__(self, x: Tensor) -> Tensor:
        """``ω ‖x‖``."""
        return self.factor * self.base(x)

    def dual(self, gradient: Tensor) -> Tensor:
        """See :class:`Norm`."""
        return self.base.dual(gradient)

    def pairing(self, u: Tensor, v: Tensor) -> Tensor:
        """``ω² ⟦u, v⟧``."""
        return self.factor**2 * self.base.pairing(u, v)

    def weights(self, x: Tensor) -> Tensor | None:
        """Those of the base."""
        return self.base.weights(x)


@overload
def family(norm: str) -> Family: ...


@overload
def family(norm: Norm) -> Family | None: ...


def family(norm: str | Norm) -> Family | None:
    """Which of ℓ1, ℓ2 and ℓ∞ a norm is, weighted or not.

    Args:
        norm: a name of the package's table, or an object.

    Returns:
        None for an object that is none of these: a sum, say. What holds in every norm holds in it.

    Raises:
        ValueError: if the name is unknown.
    """
    return norm.kind if isinstance(norm, Norm) else family_of(norm)
