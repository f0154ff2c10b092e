"""The one question that is asked of every layer with a known constant."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.utils import parametrizations as torch_parametrizations

from contractive_gnn.nn.composition import Alternating
from contractive_gnn.nn.flow import Flow
from contractive_gnn.nn.lipschitz.flows import rounded_flow
from contractive_gnn.nn.lipschitz.rounding import rounded
from contractive_gnn.nn.plain import altered
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
        """An upper bound of ``sup ‖f(x) − f(y)‖₂/‖x − y‖₂`` for the present weights; ``inf`` where none is known.

        It is worked out anew at every call: nothing is kept that could outlive a step of training.
        """

    def rounded_lipschitz(self, dtype: torch.dtype) -> float:
        """A bound of the Jacobian's norm as autograd evaluates it where weights and results are rounded to ``dtype``.

        That is so under ``torch.autocast``; sums are kept in float32 (or in ``dtype``, if that is wider), as oneDNN and
        cuDNN keep them. A map with rounded results has no Lipschitz constant (it jumps): use :meth:`lipschitz` for a
        certificate, and evaluate scores in float32 or float64. Here ``inf``, for a layer that has worked out none.
        """
        return math.inf


#: modules of torch that are 1-Lipschitz in ℓ2 in training and in evaluation, whatever their arguments are
NONEXPANSIVE: tuple[type[nn.Module], ...] = (nn.Flatten, nn.Identity, nn.ReLU, nn.Tanh, nn.Unflatten)


#: modules that have no constant, and why; any other module that is not known has none because nobody proved one
UNBOUNDED: tuple[tuple[type[nn.Module], str], ...] = (
    (
        nn.modules.dropout._DropoutNd,
        "in training it is random and scales what it keeps by 1/(1 - p); in evaluation it does nothing: leave it out",
    ),
    (
        nn.modules.batchnorm._BatchNorm,
        "in training an output depends on the whole batch, and in evaluation it divides by a learned deviation, "
        "however small that is: use Standardise, or leave it out",
    ),
    (nn.LayerNorm, "it divides by the deviation of its input: near a constant input its slope has no bound"),
    (nn.GroupNorm, "it divides by the deviation of its input: near a constant input its slope has no bound"),
    (nn.modules.instancenorm._InstanceNorm, "it divides by the deviation of its input, however small that is"),
    (nn.Linear, "the norm of its weight is free: use SpectralLinear or OrthogonalLinear"),
    (nn.Conv2d, "the norm of its kernel is free: use SpectralConv2d or OrthogonalConv2d"),
    (nn.MaxPool2d, "overlapping windows use an entry several times: use contractive_gnn.nn.lipschitz.MaxPool2d"),
    (nn.AvgPool2d, "it may pad and overlap: use contractive_gnn.nn.lipschitz.AvgPool2d"),
    (nn.MultiheadAttention, "dot products of inputs with each other have no bounded slope"),
)


def why_unknown(module: nn.Module) -> str:
    """Why :func:`lipschitz` knows no constant of a module, and what to use instead; empty where it knows one.

    Args:
        module: any; of a sequence the first part without a constant is named.

    Example:
        >>> why_unknown(nn.Flatten())
        ''
        >>> why_unknown(nn.Linear(2, 2))
        'Linear: the norm of its weight is free: use SpectralLinear or OrthogonalLinear'
    """
    if math.isfinite(lipschitz(module)):
        return ""
    if isinstance(module, nn.Sequential):
        return next(filter(None, map(why_unknown, module)), f"{type(module).__name__}: its constant overflows")
    for kind, reason in UNBOUNDED:
        if isinstance(module, kind) and not isinstance(module, LipschitzModule):
            return f"{type(module).__name__}: {reason}"
    return f"{type(module).__name__}: no constant is known in ℓ2; a LipschitzModule states its own"


def lipschitz(module: nn.Module) -> float:
    """The certified Lipschitz constant of a module in ℓ2, ``inf`` where this library knows none.

    Known are :class:`LipschitzModule`, ``Flow`` and ``Alternating`` of fields in the plain ℓ2 norm, and a few modules
    of torch (:data:`NONEXPANSIVE`). :func:`why_unknown` says why another one, dropout or batch normalisation say, has
    none.
    """
    if isinstance(module, LipschitzModule):
        return module.lipschitz()
    if isinstance(module, Flow) and module.field.norm == L2:
        return module.lipschitz()
    if isinstance(module, Alternating) and module.contracting.norm == L2:
        return module.lipschitz()
    return 1.0 if type(module) in NONEXPANSIVE else math.inf


def rounded_lipschitz(module: nn.Module, dtype: torch.dtype) -> float:
    """What :meth:`LipschitzModule.rounded_lipschitz` says of any module that :func:`lipschitz` knows; else ``inf``."""
    if isinstance(module, LipschitzModule):
        return module.rounded_lipschitz(dtype)
    if isinstance(module, Flow | Alternating):
        return rounded_flow(module, dtype)
    if type(module) in NONEXPANSIVE:
        return rounded(1.0, 1.0, dtype, roundings=0 if type(module) is not nn.Tanh else 4)
    return math.inf


def certified(module: nn.Module) -> bool:
    """Whether the constant of :func:`lipschitz` is finite and proved, of the object as it is.

    A forward hook, or a method that was replaced on the object, may change what it computes: then nothing is proved.
    """
    if altered(module, trusted=_parametrisations_of_torch(module)):
        return False
    if isinstance(module, LipschitzModule):
        return module.certified and math.isfinite(module.lipschitz())
    if isinstance(module, Flow):
        return module.field.certified and math.isfinite(lipschitz(module))
    if isinstance(module, Alternating):
        return module.certified and math.isfinite(lipschitz(module))
    return math.isfinite(lipschitz(module))


def _parametrisations_of_torch(module: nn.Module) -> list[nn.Module]:
    """Parts that make a weight before one of ours does, behind a hook of ours."""
    return [part for part in module.modules() if type(part).__module__ == torch_parametrizations.__name__]


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

    def rounded_lipschitz(self, dtype: torch.dtype) -> float:
        """The product of those of the parts."""
        return product(rounded_lipschitz(module, dtype) for module in self)

    @property
    def certified(self) -> bool:  # type: ignore[override]  # that of its parts
        """Whether the constants of all parts are proved."""
        return all(certified(module) for module in self)


def product(constants: Iterable[float]) -> float:
    """The product of constants, 0 where one of them is 0 whatever the others are, rounded up."""
    factors = [constant for constant in constants if constant != 1.0]  # a product with 1 is exact
    if 0.0 in factors:
        return 0.0
    inexact = len(factors) if len(factors) > 1 else 0
    return math.prod(factors) * (1.0 + inexact * 2.0**-52)
