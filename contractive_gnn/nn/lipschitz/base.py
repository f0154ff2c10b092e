"""The one question that is asked of every layer with a known constant."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

from torch import nn

from contractive_gnn.nn.composition import Alternating
from contractive_gnn.nn.flow import Flow
from contractive_gnn.norms import L2, Norm


class LipschitzModule(nn.Module, ABC):
    """A module with a Lipschitz constant in ℓ2, from all entries of one input to all entries of its output.

    Attributes:
        norm: of the constant.
        certified: whether the constant is proved for the arguments that this object was built with, and not estimated
            or claimed by others.
    """

    norm: Norm = L2
    certified: bool = True

    @abstractmethod
    def lipschitz(self) -> float:
        """An upper bound of ``sup ‖f(x) − f(y)‖₂/‖x − y‖₂`` for the present weights; ``inf`` where none is known."""


#: modules of torch that are 1-Lipschitz in ℓ2 in training and in evaluation, whatever their arguments are
NONEXPANSIVE: tuple[type[nn.Module], ...] = (nn.Flatten, nn.Identity, nn.ReLU, nn.Tanh, nn.Unflatten)


def lipschitz(module: nn.Module) -> float:
    """The certified Lipschitz constant of a module in ℓ2, ``inf`` where this library knows none.

    Known are :class:`LipschitzModule`, ``Flow`` and ``Alternating`` of fields in the plain ℓ2 norm, and a few modules
    of torch (:data:`NONEXPANSIVE`).
    """
    if isinstance(module, LipschitzModule):
        return module.lipschitz()
    if isinstance(module, Flow) and module.field.norm == L2:
        return module.lipschitz()
    if isinstance(module, Alternating) and module.contracting.norm == L2:
        return module.lipschitz()
    return 1.0 if type(module) in NONEXPANSIVE else math.inf


def certified(module: nn.Module) -> bool:
    """Whether the constant of :func:`lipschitz` is finite and proved."""
    if isinstance(module, LipschitzModule):
        return module.certified and math.isfinite(module.lipschitz())
    if isinstance(module, Flow):
        return module.field.certified and math.isfinite(lipschitz(module))
    if isinstance(module, Alternating):
        return module.certified and math.isfinite(lipschitz(module))
    return math.isfinite(lipschitz(module))


class Sequential(nn.Sequential, LipschitzModule):
    """Modules one after the other; constants multiply.

    Args:
        modules: any; the constant is ``inf`` where that of one of them is not known.

    Example:
        >>> import torch
        >>> net = Sequential(nn.Flatten(), nn.ReLU())
        >>> net.lipschitz(), net.certified
        (1.0, True)
    """

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__(*modules)

    def lipschitz(self) -> float:
        """The product of the constants."""
        return product(lipschitz(module) for module in self)

    @property
    def certified(self) -> bool:  # type: ignore[override]  # that of its parts
        """Whether the constants of all parts are proved."""
        return all(certified(module) for module in self)


def product(constants: Iterable[float]) -> float:
    """The product of constants, 0 where one of them is 0 whatever the others are, rounded up."""
    factors = list(constants)
    if 0.0 in factors:
        return 0.0
    return math.prod(factors) * (1.0 + len(factors) * 2.0**-52)
