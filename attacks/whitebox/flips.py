"""A set of flips that a search considers at the same time."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from contractive_gnn.attacks.base import Perturbation


class Flips(ABC):
    """A set of flips that are considered at the same time, in a fixed order.

    Attributes:
        size: how many there are.
        x: the clean features ``[n, d]``, whose dtype and device p has.
    """

    size: int
    x: Tensor

    @abstractmethod
    def relaxed(self, p: Tensor) -> Tensor:
        """The victim's logits where each flip is done to the degree p, differentiable in p ``[size]``."""

    @abstractmethod
    def done(self, chosen: Tensor) -> Tensor:
        """The victim's logits on the discrete graph in which the chosen flips (bool ``[size]``) are done."""

    @abstractmethod
    def perturbation(self, chosen: Tensor) -> Perturbation:
        """The chosen flips, for the base class."""

    @abstractmethod
    def draw(self, k: int) -> Tensor:
        """A random choice of at most k flips, half of them removals where there are as many; bool ``[size]``."""

    def renew(self, p: Tensor) -> tuple[Flips, Tensor]:
        """Exchange flips with p = 0 for others, where these are not all that there are."""
        return self, p

    def none(self) -> Tensor:
        """The p ``[size]`` that flips nothing."""
        return self.x.new_zeros(self.size)
