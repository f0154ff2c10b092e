r"""The sum of vector fields."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from contractive_gnn.dynamics.field import VectorField
from contractive_gnn.integrators import Invariant
from contractive_gnn.integrators.scheme import velocity
from contractive_gnn.norms import Norm, number


class SumField(VectorField):
    r"""``X = X₁ + … + X_k``, fields on the same states, with what follows from theirs.

    Rates and Lipschitz constants add up: the log norm and the norm of DX are at most the sums of theirs. For weights
    ``w_i > 0`` with ``Σ w_i = 1`` an Euler step is a mean of theirs,

    .. math::
        x + hX(x) = \sum_i w_i \bigl(x + \tfrac{h}{w_i} X_i(x)\bigr).

    With ``m_i`` the largest step of each, ``m = 1/Σ 1/m_i`` and ``w_i = m/m_i``, each of these contracts where
    ``h ≤ m``, and the whole by ``1 − hκ``. Where some summand has no such step, it adds ``h`` times its Lipschitz
    constant to the step of the others.

    :meth:`parts` are the summands, for splitting methods.

    Args:
        fields: at least one; all in the same norm.

    Raises:
        TypeError: for something that is no vector field.
        ValueError: without a field, or for norms that differ.

    Example:
        ``SumField(GradientFlow(a, "tanh"), GradientFlow(b, "tanh", expansive=True))``
    """

    def __init__(self, *fields: VectorField) -> None:
        super().__init__()
        if not fields:
            raise ValueError("a sum needs at least one vector field, got none")
        for field in fields:
            if not isinstance(field, VectorField):
                raise TypeError(
                    f"a sum takes vector fields, got {type(field).__name__}; bind a dynamics to its graph, "
                    "dynamics.on(graph)"
                )
        norms = [field.norm for field in fields]
        if any(norm != norms[0] for norm in norms):
            raise ValueError(
                f"the summands must be declared in one norm, got {', '.join(str(norm) for norm in norms)}: constants "
                "in different norms do not add up"
            )
        self.fields = nn.ModuleList(fields)

    def parts(self) -> tuple[VectorField, ...]:
        """The summands."""
        return tuple(self._summands())

    def _summands(self) -> Iterator[VectorField]:
        for field in self.fields:
            assert isinstance(field, VectorField)
            yield field

    def forward(self, x: Tensor, t: Tensor | float = 0.0) -> Tensor:
        """``Σ X_i(x, t)``."""
        first, *others = self._summands()
        value = velocity(first, x, t)
        for field in others:
            value = value + velocity(field, x, t)
        return value

    @property
    def norm(self) -> Norm:  # type: ignore[override]
        """That of the summands."""
        return self.parts()[0].norm

    @property
    def conserves(self) -> frozenset[Invariant]:  # type: ignore[override]
        """What all of them keep, but for the energy: each may have one of its own."""
        return frozenset.intersection(*(field.conserves for field in self._summands())) - {"energy"}

    @property
    def invariant_axes(self) -> tuple[int, ...] | None:  # type: ignore[override]
        """Those of the summands that know theirs; None where they differ, or none does."""
        known = {field.invariant_axes for field in self._summands()} - {None}
        return known.pop() if len(known) == 1 else None

    def rate(self) -> Tensor | float:
        """``Σ κ_i``."""
        return _added([field.rate() for field in self._summands()])

    def max_step(self) -> Tensor | float:
        """``1/Σ 1/m_i``; 0 where one of them is."""
        return _inverse(_added([_inverse(field.max_step()) for field in self._summands()]))

    def lipschitz(self, step: Tensor | float) -> Tensor | float:
        """The least of what the class's text gives: the mean of steps, and ``1 + h Σ L_i``."""
        steps = [number(field.max_step()) for field in self._summands()]
        finite = [m for m in steps if 0 < m < math.inf]
        limit = 1.0 / sum(1.0 / m for m in finite) if finite else math.inf
        mean: list[Tensor | float] = [] if finite else [1.0]
        for field, longest in zip(self._summands(), steps, strict=True):
            if longest == math.inf:  # the weight may be as small as one likes
                mean.append(-step * field.rate())
            elif longest > 0:
                weight = limit / longest
                mean.append(weight * field.lipschitz(step / weight))
            else:
                mean.append(step * field.field_lipschitz())
        whole = 1.0 + step * self.field_lipschitz()
        return min(_added(mean), whole, key=number)

    def field_lipschitz(self) -> Tensor | float:
        """``Σ L_i``."""
        return _added([field.field_lipschitz() for field in self._summands()])

    def anchored(self, anchor: Tensor) -> VectorField:
        """The sum of the anchored summands; itself where none of them has an anchor."""
        fields = self.parts()
        anchored = [field.anchored(anchor) for field in fields]
        if all(new is old for new, old in zip(anchored, fields, strict=True)):
            return self
        if type(self) is SumField:
            return SumField(*anchored)
        field = copy.copy(self)  # of a subclass, with all that it holds beside the summands; no trace takes a copy
        field._modules = {**self._modules, "fields": nn.ModuleList(anchored)}
        return field

    @property
    def anchor_lipschitz(self) -> float:
        """The sum of theirs."""
        return sum(field.anchor_lipschitz for field in self._summands())

    @property
    def certified(self) -> bool:
        """Whether what each of them declares is proved."""
        return all(field.certified for field in self._summands())

    def state(self, *, generator: torch.Generator | None = None) -> Tensor:
        """A random state of the first summand that has one.

        Raises:
            NotImplementedError: where none has.
        """
        for field in self._summands():
            try:
                return field.state(generator=generator)
            except NotImplementedError:
                continue
        return super().state(generator=generator)


def _added(values: list[Tensor | float]) -> Tensor | float:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def _inverse(value: Tensor | float) -> Tensor | float:
    """``1/value``, ``inf`` for 0."""
    if isinstance(value, Tensor):
        return value.reciprocal()
    return 1.0 / value if value else math.inf
