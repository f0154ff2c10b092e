"""The options of a training, each checked where it is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, TypedDict, TypeVar

from torch import nn

from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.names import unknown
from contractive_gnn.partition import Method

Rate = float | Mapping[str, float]
"""One number for all parameters, or one for each of the roles of ``model.parameter_groups()``."""

Select = Literal["accuracy", "loss"]

_LARGEST: Final = 1e30
"""Of a rate: Adam divides it, and torch's own numbers end at 3e38."""


@dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """What every training loop takes.

    Attributes:
        epochs: the most epochs to run, at least 0; with 0 the parameters are drawn, and stay.
        lr: learning rate of Adam, at least 0, one for all or one for each of the roles of ``model.parameter_groups()``.
        weight_decay: of Adam, at least 0, likewise.
        patience: stop after this many epochs without a better one, at least 1; None runs them all.
        teacher: a fitted model, whose answers are learned; None learns from the labels alone.

    Raises:
        TypeError: one is of another type.
        ValueError: one is out of its range.
    """

    epochs: int = 200
    lr: Rate = 0.01
    weight_decay: Rate = 5e-4
    patience: int | None = None
    teacher: nn.Module | None = None

    def __post_init__(self) -> None:
        check_whole("epochs", self.epochs, least=0)
        for name, given in (("lr", self.lr), ("weight_decay", self.weight_decay)):
            for rate in given.values() if isinstance(given, Mapping) else [given]:
                check_real(name, rate, least=0)
                check_real(name, rate, most=_LARGEST)
        if self.patience is not None:
            check_whole("patience", self.patience, least=1)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """What they are called."""
        return tuple(field.name for field in fields(cls))


@dataclass(frozen=True, kw_only=True)
class FitOptions(LoopOptions):
    """The options of :func:`contractive_gnn.training.fit`.

    Attributes:
        select: ``"accuracy"`` keeps the epoch of the best validation accuracy (of equals, the least loss); ``"loss"``
            the one of the least validation loss.
        self_training: the least probability, in [0, 1), at which a prediction of the first fit is taken for a label by
            the second; None fits once.
        order: the order in which the nodes are trained, ``"rcm"`` or ``"metis"`` of
            :func:`contractive_gnn.partition.node_order`: on a large graph the rows of neighbours are then near to each
            other. Dropout draws other numbers than in the given order, which None keeps.

    Raises:
        TypeError: one is of another type.
        ValueError: one is out of its range, or ``self_training`` is given beside a ``teacher``.
    """

    select: Select = "accuracy"
    self_training: float | None = None
    order: Method | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.select not in ("accuracy", "loss"):
            raise ValueError(f"select must be 'accuracy' or 'loss', got {self.select!r}")
        if self.order not in (None, "rcm", "metis"):
            raise ValueError(f"order must be 'rcm', 'metis' or None, got {self.order!r}")
        if self.self_training is not None:
            check_real("self_training", self.self_training, least=0, below=1)
            if self.teacher is not None:
                raise ValueError("give self_training or a teacher, not both: fit the teacher with self_training")


class GivenLoopOptions(TypedDict, total=False):
    """Those of :class:`LoopOptions` by name, any of them."""

    epochs: int
    lr: Rate
    weight_decay: Rate
    patience: int | None
    teacher: nn.Module | None


class GivenOptions(GivenLoopOptions, total=False):
    """Those of :class:`FitOptions` by name, any of them."""

    select: Select
    self_training: float | None
    order: Method | None


_Options = TypeVar("_Options", bound=LoopOptions)


def options_of(kind: type[_Options], options: _Options | None, given: Mapping[str, Any]) -> _Options:
    """The options as they were given: in one piece, or one by one.

    Raises:
        TypeError: one is of another type or unknown, or they were given in both ways.
        ValueError: one is out of its range.
    """
    if options is None:
        if strange := [name for name in given if name not in kind.names()]:
            raise TypeError(unknown("option of the training", strange, kind.names()))
        return kind(**given)
    if type(options) is not kind:  # of a subclass with more options those would not be read
        raise TypeError(
            f"options must be {kind.__name__}, got {options!r}; give options by their names, like epochs=50"
        )
    if given:
        raise TypeError(f"give {', '.join(given)} within {kind.__name__}, or no options beside it")
    return options
