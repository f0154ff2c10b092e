"""The norm of a composite state."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from contractive_gnn.norms.lebesgue import Family
from contractive_gnn.norms.norm import Norm, Plain


@dataclass(frozen=True)
class Sum(Norm):
    r"""``‖(F | A)‖ = ‖F‖ + ‖A‖`` of a state ``[n, c + k]`` of two blocks of columns: ``Sum(LInf, ω * L1)``, say.

    Attributes:
        first: norm of F.
        second: norm of A.
        columns: c, the columns of F; None where A is square, as in a coupled state ``[n, c + n]`` of features beside
            an adjacency matrix.

    Raises:
        ValueError: (applied) for a state that is no matrix, or has too few columns.
    """

    first: Norm
    second: Norm
    columns: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is no norm."""
        for norm in (self.first, self.second):
            if not isinstance(norm, Norm):
                raise TypeError(f"a sum of norms is made of objects, L1, L2 or LInf say, got {norm!r}")

    @property
    def name(self) -> str:  # type: ignore[override]
        """``"linf + 0.5·l1"``."""
        return f"{self.first} + {self.second}"

    @property
    def kind(self) -> Family | None:  # type: ignore[override]
        """None: it is no ℓp norm."""
        return None

    def __call__(self, x: Tensor) -> Tensor:
        """The norm, a scalar tensor."""
        f, a = self._blocks(x)
        return self.first(f) + self.second(a)

    def dual(self, gradient: Tensor) -> Tensor:
        """A maximiser of ``⟨gradient, d⟩`` over a ball: all of it lies in the block that gains more by its length."""
        blocks, norms = self._blocks(gradient), (self.first, self.second)
        steps = [norm.dual(g) for g, norm in zip(blocks, norms, strict=True)]
        gains = [
            float((g * d).sum() / norm(d).clamp(min=torch.finfo(g.dtype).tiny))
            for g, d, norm in zip(blocks, steps, norms, strict=True)
        ]
        loser = gains.index(min(gains))
        steps[loser] = torch.zeros_like(steps[loser])
        return torch.cat(steps, dim=1)

    def pairing(self, u: Tensor, v: Tensor) -> Tensor:
        """``‖v‖ (D₁ + D₂)`` with the derivative of each block's norm: ``⟦u, v⟧/‖v‖``, or ``‖u‖`` where v is 0."""
        slopes = []
        for norm, du, dv in zip((self.first, self.second), self._blocks(u), self._blocks(v), strict=True):
            length = norm(dv)
            slopes.append(norm.pairing(du, dv) / length if bool(length > 0) else norm(du))
        return self(v) * (slopes[0] + slopes[1])

    def _blocks(self, x: Tensor) -> tuple[Tensor, Tensor]:
        columns = self.columns
        if columns is None and x.dim() == 2:
            columns = x.size(1) - x.size(0)
        if x.dim() != 2 or columns is None or not 0 <= columns <= x.size(1):
            known = self.columns is not None
            wanted = f"[n, {self.columns} + k]" if known else "[n, c + n], features beside a square matrix"
            raise ValueError(f"the norm {self} takes a state {wanted}, got shape {list(x.shape)}")
        return x[:, :columns], x[:, columns:]


class SumNorm(Sum):
    """Deprecated for one release: ``SumNorm("linf", "vec-l1", ω)`` is ``Sum(LInf, ω * L1)``."""

    def __init__(self, first: str, second: str, scale: float) -> None:
        warnings.warn(
            "SumNorm(first, second, scale) is now a sum of objects, Sum(LInf, scale * L1) for the usual one; SumNorm "
            "goes in the next release",
            DeprecationWarning,
            stacklevel=2,
        )
        super().__init__(Plain(first), scale * Plain(second))

    @property
    def scale(self) -> float:
        """ω."""
        scale: float = self.second.factor  # type: ignore[attr-defined]
        return scale
