"""What is proved of an iteration, and why."""

from __future__ import annotations

import math
from dataclasses import dataclass

from contractive_gnn.inverse.averaged import residual_bound


class ConvergenceError(RuntimeError):
    """An iteration did what its certificate excludes; the text names the operator that broke its declaration."""


@dataclass(frozen=True)
class Factor:
    """One operator of an iteration.

    Attributes:
        name: of the operator.
        averagedness: α in [0, 1], 1 where it is non-expansive and no more; None where nothing is proved.
        lipschitz: a proved Lipschitz constant in ℓ2, ``inf`` where none is.
        reason: why, or why not.
    """

    name: str
    averagedness: float | None
    lipschitz: float
    reason: str


@dataclass(frozen=True)
class ConvergenceCertificate:
    r"""Whether ``x_{k+1} = Tx_k`` converges to a fixed point of T from every start, and by which theorem.

    Two theorems are used. *Krasnosel'skii and Mann* (Bauschke and Combettes, Theorem 5.15): an averaged T **that has a
    fixed point** converges to one. *Banach*: a contraction has exactly one fixed point, and converges to it with a
    rate. That an averaged T has a fixed point is not a matter of course: ``x + c`` is averaged and runs away.

    Attributes:
        method: the iteration.
        factors: the operators that T is made of.
        averagedness: α of T; 1 where T is proved to be non-expansive and no more, None where not even that.
        contraction: a proved Lipschitz constant q of T; 1 or more where that is no help, ``inf`` where none is proved.
        step: γ of the data term, None for an iteration without one.
        squared_norm: the bound of ``‖A‖²`` that was used; ``inf`` where none is known, None without a data term.
        fixed_point: why there is one; empty where none is known.
        distance: an upper bound of ``‖x_0 − x*‖`` for a fixed point x*, of every image of the batch; ``inf`` where no
            bound is known, and before a run.
        first: ``‖x_1 − x_0‖``, the largest of the batch; ``inf`` before a run.
        certified: whether convergence to a fixed point is proved.
        reason: why not; empty where it is.
        norm: in which all of this is said.
    """

    method: str
    factors: tuple[Factor, ...]
    averagedness: float | None
    contraction: float
    step: float | None
    squared_norm: float | None
    fixed_point: str
    distance: float = math.inf
    first: float = math.inf
    certified: bool = False
    reason: str = ""
    norm: str = "ℓ2 of all entries of the state of one image"

    @property
    def monotone(self) -> bool:
        """Whether it is proved that ``‖x_{k+1} − x_k‖`` never rises: T is non-expansive."""
        return self.averagedness is not None or self.contraction <= 1.0

    def bound(self, k: int, *, error: float = 0.0) -> float:
        """An upper bound of ``‖x_{k+1} − x_k‖``; ``inf`` where none is known.

        The smaller of ``√(α/((1 − α)(k + 1))) · distance`` (:func:`~contractive_gnn.inverse.residual_bound`) and
        ``q^k · first``.

        Args:
            k: which step, from 0.
            error: of each computed step, in the same norm.
        """
        if not self.certified:
            return math.inf
        best = math.inf
        if self.averagedness is not None:
            best = residual_bound(self.averagedness, self.distance, k, error=error)
        if self.contraction < 1.0 and math.isfinite(self.first):
            # ‖x_{k+2} − x_{k+1}‖ ≤ q‖x_{k+1} − x_k‖ + 2e
            q = self.contraction
            best = min(best, q**k * self.first + 2.0 * error * (1.0 - q**k) / (1.0 - q))
        return best

    def __str__(self) -> str:
        """A few lines for a reader."""
        lines = [f"{self.method}: " + ("converges to a fixed point" if self.certified else "convergence is not proved")]
        lines += [f"  {factor.name}: {factor.reason}" for factor in self.factors]
        if self.averagedness is not None and self.averagedness < 1:
            lines.append(f"  the step as a whole is {self.averagedness:.6g}-averaged")
        elif self.averagedness is not None:
            lines.append("  the step as a whole is non-expansive, not averaged")
        if self.contraction < 1:
            lines.append(f"  the step as a whole contracts by {self.contraction:.9g}")
        lines.append(f"  fixed point: {self.fixed_point or 'none is known to exist'}")
        if self.reason:
            lines.append(f"  not proved because {self.reason}")
        return "\n".join(lines)


def conclude(
    method: str,
    factors: tuple[Factor, ...],
    *,
    averagedness: float | None,
    contraction: float,
    step: float | None,
    squared_norm: float | None,
    existence: str,
) -> ConvergenceCertificate:
    """The certificate that follows from what is known of the factors.

    Args:
        method: as in :class:`ConvergenceCertificate`, like the others.
        factors: the operators.
        averagedness: of T.
        contraction: of T.
        step: γ.
        squared_norm: of A.
        existence: why T has a fixed point, besides contraction; empty where no reason is known.
    """
    doubts = [f"{factor.name}: {factor.reason}" for factor in factors if factor.averagedness is None]
    contracts = contraction < 1.0
    if contracts:
        only = f"T contracts by {contraction:.9g}: there is exactly one (Banach)"
        existence = f"{existence}; {only}" if existence else only
    averaged = averagedness is not None and averagedness < 1.0
    reason = ""
    if not contracts:
        if averagedness is None:
            reason = "; ".join(doubts) or "nothing is proved of the step"
        elif not averaged:
            reason = "the step is non-expansive, not averaged: it may turn around a fixed point for ever"
        elif not existence:
            reason = (
                "no fixed point is known to exist, and without one an averaged iteration runs away: give box=(low, "
                "high), or a measurement with AᵀA ≥ m > 0"
            )
    return ConvergenceCertificate(
        method=method,
        factors=factors,
        averagedness=averagedness,
        contraction=contraction,
        step=step,
        squared_norm=squared_norm,
        fixed_point=existence,
        certified=not reason,
        reason=reason,
    )
