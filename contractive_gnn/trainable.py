"""What a model may declare about its training; :func:`contractive_gnn.training.fit` reads it.

Any module with ``forward(x, edge_index)`` or ``forward(x, edge_index, edge_weight=None)`` can be fitted. One that wants
more of its training inherits what it wants, and ``fit`` asks for nothing that is not inherited:

======================  ===================================  ===========================================================
base class              what the model then has              what ``fit`` does with it
======================  ===================================  ===========================================================
(none)                  ``reset_parameters()``, or parts     draws the parameters anew under the seed (:func:`reset`)
                        that have it
:class:`HasMembers`     ``members``, a ``ModuleList``        fits each by itself, under a seed of its own
:class:`Taught`         ``teacher`` and ``student``          fits the teacher, and then the student on its answers
:class:`TrainsItself`   ``fit_data(data, *, seed)``          calls it, and has no loop of its own
:class:`HasModes`       ``modes`` and ``use(mode)``          fits the model in each mode, and keeps the best
:class:`HasRoles`       ``parameter_groups()``               takes ``lr`` and ``weight_decay`` for each role
:class:`Calibrated`     ``calibrate(data, probability)``     tells it before a self-training what that learns from
:class:`HasCommunities` ``communities(data)``                lets it teach where it knows more than the first fit
======================  ===================================  ===========================================================

A model of parts, or one that trains itself, is fitted as the first of these three rows says, and the rows below are not
read; each part declares its own.
"""

from __future__ import annotations

import copy
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.parameter import is_lazy
from torch_geometric.data import Data


class Trainable(Protocol):
    """A model that draws its own parameters."""

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""


class TrainsItself(ABC):
    """A model with a training loop of its own. It trains on unweighted graphs, without the options of ``fit``."""

    @abstractmethod
    def fit_data(self, data: Data, *, seed: int) -> None:
        """Draw the parameters anew and train on ``data.train_mask``.

        Args:
            data: a graph with x as it was given, ``edge_index``, ``y`` and the masks.
            seed: of everything random in it.
        """


class HasMembers:
    """A model whose members are fitted one by one, each as if it were alone.

    Attributes:
        members: the models.
    """

    members: nn.ModuleList


class Taught:
    """A model of two: a teacher, which is fitted first, and a student, which learns its answers.

    Attributes:
        teacher: a model.
        student: a model.
    """

    teacher: nn.Module
    student: nn.Module


class HasModes(ABC):
    """A model that can work in several ways, of which the validation nodes choose one.

    The mode belongs to the ``state_dict`` (``get_extra_state``): the best one comes back with the best parameters.

    Attributes:
        modes: their names.
    """

    modes: Sequence[str]

    @abstractmethod
    def use(self, mode: str) -> None:
        """Work in one of :attr:`modes` from now on."""


class HasRoles(ABC):
    """A model whose parameters have roles, each with its own learning rate and weight decay."""

    @abstractmethod
    def parameter_groups(self) -> Mapping[str, Sequence[Parameter]]:
        """All parameters, each in one role."""


class Calibrated(ABC):
    """A model that class probabilities tell something about its graph."""

    @abstractmethod
    def calibrate(self, data: Data, probability: Tensor | None) -> None:
        """Learn from class probabilities ``[n, classes]``, at the labelled nodes their labels; None: forget them."""


class HasCommunities(ABC):
    """A model that may know the classes otherwise than by its own fit."""

    @abstractmethod
    def communities(self, data: Data) -> Tensor | None:
        """Class probabilities ``[n, classes]``, or None. Of the labels only those of ``data.train_mask`` are read."""


_NAMES: Final[dict[type, dict[str, Any]]] = {
    HasMembers: {"members": nn.ModuleList},
    Taught: {"teacher": nn.Module, "student": nn.Module},
    TrainsItself: {"fit_data": Callable},
    HasModes: {"settings": Iterable, "use": Callable},
    HasRoles: {"parameter_groups": Callable},
    Calibrated: {"calibrate": Callable},
    HasCommunities: {"communities": Callable},
}
"""By these names alone ``fit`` knew a model before; for one release it still does."""

_Contract = TypeVar("_Contract")


def declared(model: nn.Module, contract: Callable[..., _Contract]) -> _Contract | None:
    """The model, if it declares that; of a compiled one the model in it. None if it does not.

    Args:
        model: to be trained.
        contract: one of the base classes above.
    """
    assert isinstance(contract, type)
    # torch.compile's wrapper has the methods of what it was given, and not its class
    inner = model._modules.get("_orig_mod")
    model = model if inner is None else inner
    if isinstance(model, contract):
        return cast(_Contract, model)
    if _has_names(model, contract):
        return cast(_Contract, _Settings(model) if contract is HasModes else model)
    return None


def inherited(model: nn.Module) -> list[str]:
    """The names of the contracts that the class of a model inherits."""
    return [contract.__name__ for contract in _NAMES if isinstance(model, contract)]


def declares(kind: object, contract: type) -> bool:
    """Whether the models of a class declare that; False for what is no class."""
    return isinstance(kind, type) and (issubclass(kind, contract) or _has_names(kind, contract))


def _has_names(thing: Any, contract: type) -> bool:
    """Whether it has, without the base class, what a model of the contract has; says what to do about it."""
    names = _NAMES[contract]
    if not all(isinstance(getattr(thing, name, None), kind) for name, kind in names.items()):
        return False
    name = thing.__name__ if isinstance(thing, type) else type(thing).__name__
    warnings.warn(
        f"{name} has {' and '.join(names)}, and is trained by that, but does not inherit "
        f"contractive_gnn.trainable.{contract.__name__}; let it, or call them otherwise. From the next release on they "
        "are not looked at",
        DeprecationWarning,
        stacklevel=4,
    )
    return True


class _Settings(HasModes):
    """A model whose modes have the name that they had before."""

    def __init__(self, model: Any) -> None:
        self.model, self.modes = model, tuple(model.settings)

    def use(self, mode: str) -> None:
        self.model.use(mode)


def reset(model: nn.Module) -> None:
    """Draw all parameters anew: by ``reset_parameters()``, or, where a model has none, by that of its parts.

    Parts whose parameters are all frozen (``requires_grad = False``) are left as they are. A model's own method draws
    what it draws, frozen or not: keep what was learned elsewhere in a part of a model without that method.

    Raises:
        ValueError: a parameter that nobody draws, or a part that declares more than this about its training.
    """
    for name, part in drawn(model):
        if name:
            _draw(model, part, name)
        else:
            cast(Trainable, model).reset_parameters()


def _draw(model: nn.Module, part: nn.Module, name: str) -> None:
    """Draw a part, and see whether it draws all that it has: torch's own layers do not, once they are parametrised."""
    before = copy.deepcopy(part.state_dict())
    with torch.no_grad():
        for parameter in filter(_has_values, part.parameters()):
            parameter.fill_(math.nan)
    cast(Trainable, part).reset_parameters()
    if any(bool(parameter.isnan().any()) for parameter in filter(_has_values, part.parameters())):
        part.load_state_dict(before)
        raise ValueError(
            f"reset_parameters() of {name} ({type(part).__name__}) does not draw all its parameters, and fit draws "
            f"them anew under its seed: give {type(model).__name__} a reset_parameters() of its own"
        )


def drawn(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """What draws the parameters of a model: itself, with the name ``""``, or parts of it, with theirs.

    Raises:
        ValueError: see :func:`reset`.
    """
    found: list[tuple[str, nn.Module]] = []
    _look(model, model, "", found)
    if not found:
        raise ValueError(_nobody_draws(model, ""))
    return found


def _look(model: nn.Module, part: nn.Module, path: str, found: list[tuple[str, nn.Module]]) -> None:
    whose = f", nor has its part {path} ({type(part).__name__})" if path else ""
    if path and inherited(part):  # fit would not do what that part asks for
        raise ValueError(_nobody_draws(model, f"; its part {path} ({type(part).__name__}) declares a training"))
    if path and any(True for _ in part.parameters()) and not any(map(_learns, part.parameters())):
        return
    if callable(getattr(part, "reset_parameters", None)):
        found.append((path, part))
        return
    if any(map(_learns, part.parameters(recurse=False))):
        raise ValueError(_nobody_draws(model, whose))
    for name, child in part.named_children():
        _look(model, child, f"{path}.{name}" if path else name, found)


def _learns(parameter: Parameter) -> bool:
    return parameter.requires_grad


def _has_values(parameter: Parameter) -> bool:
    """Whether it is to be drawn now; one without a shape is drawn when it has got one."""
    return parameter.requires_grad and not is_lazy(parameter)


def _nobody_draws(model: nn.Module, more: str) -> str:
    return (
        f"{type(model).__name__} has no reset_parameters(){more}, and fit draws the parameters anew under its seed: "
        "add that method, or give the model itself and not a wrapper of it"
    )
