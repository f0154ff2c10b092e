"""Norms with weights on entries or rows."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from contractive_gnn.norms.lebesgue import Family, entry_weights, lebesgue_dual, lebesgue_norm, lebesgue_pairing
from contractive_gnn.norms.norm import Norm, Plain


@dataclass(frozen=True, eq=False)
class Weighted(Norm):
    """A norm whose entries, or rows, are weighted: ``Weighted(L2, degree)`` is ``(Σ_i d_i ‖x_i‖²)^½``.

    Attributes:
        base: the norm without the weights.
        weight: w > 0, of the shape of the state or ``[n]``, one for each row; ``[n, 1]`` for states ``[..., n, c]``
            with a batch.
        name: ``"l2-degree"`` where the weights are degrees.

    Raises:
        ValueError: (applied) for weights that do not fit the state, or are not positive and finite.
    """

    base: Plain
    weight: Tensor
    name: str = ""

    def __post_init__(self) -> None:
        """Name it."""
        if not isinstance(self.base, Plain):
            raise TypeError(f"weights go to l1, l2 or linf (L1, L2, LInf), got {self.base!r}")
        if not isinstance(self.weight, Tensor):
            raise TypeError(f"weight must be a tensor, got {type(self.weight).__name__}")
        if not self.name:
            object.__setattr__(self, "name", f"weighted {self.base}")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Weighted) or self.kind != other.kind or self.weight.shape != other.weight.shape:
            return False
        return self.weight is other.weight or bool((self.weight == other.weight).all())

    def __hash__(self) -> int:
        return hash((self.kind, self.weight.shape))

    @property
    def kind(self) -> Family:  # type: ignore[override]
        """That of the base."""
        return self.base.kind

    def __call__(self, x: Tensor) -> Tensor:
        """``‖x‖``."""
        return lebesgue_norm(x, self.base.name, self.weight)

    def dual(self, gradient: Tensor) -> Tensor:
        """See :class:`Norm`."""
        return lebesgue_dual(gradient, self.base.name, self.weight)

    def pairing(self, u: Tensor, v: Tensor) -> Tensor:
        """See :class:`Norm`."""
        return lebesgue_pairing(u, v, self.base.name, self.weight)

    def weights(self, x: Tensor) -> Tensor | None:
        """See :class:`Norm`."""
        return entry_weights(x, self.base.name, self.weight)
