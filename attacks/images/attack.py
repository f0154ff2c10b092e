r"""What every attack on a classifier of images promises, and the one place that makes sure of it."""

from __future__ import annotations

import dataclasses
import numbers
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from contractive_gnn.attacks.base import AttackError
from contractive_gnn.attacks.images.ball import Ball, BallNorm
from contractive_gnn.attacks.images.victim import Victim, attacked, margins
from contractive_gnn.checks import check_whole
from contractive_gnn.seeding import seeded

#: a search: images that the model is right about, and their labels, to images that it may be wrong about
Run = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class ImageAttackResult:
    """What became of the images of a batch.

    Attributes:
        images: x̃, of the shape of x. An image that the model was wrong about, or that survived, is that of x.
        right: whether the model is right about the image itself, ``[n]``.
        survived: whether it is right about all that was tried, ``[n]``.
        lost_to: the attack that won, of each image; None where none did, and where the model was wrong at once.
        distance: ``‖x̃ − x‖`` in the attack's norm, ``[n]``, float64.
        forwards: images that went through the model in all.
    """

    images: Tensor
    right: Tensor
    survived: Tensor
    lost_to: tuple[str | None, ...]
    distance: Tensor
    forwards: int


@dataclass(frozen=True, kw_only=True)
class ImageAttack(ABC):
    r"""An attack on a classifier of images ``[n, c, H, W]`` with entries in [0, 1].

    A subclass searches; this class checks. Whatever a search returns is brought into the ball, measured in double
    precision, and shown to the model once more: only what a fresh forward pass gets wrong counts. A tie of two scores
    is no prediction and counts as wrong. Images that the model is wrong about from the start are not moved, and lost
    images are not attacked again. The model is in eval mode meanwhile and is put back; no gradient is left on its
    parameters, and the caller's random state is not touched.

    Args:
        norm: ``"l2"`` or ``"linf"``.
        epsilon: ε > 0 in raw pixel units; the model does its own normalisation.
        seed: of all that is drawn.

    Raises:
        ValueError: for a norm or numbers out of range; (called) for images or labels that do not fit.
        TypeError: for numbers that are none; (called) for a model, images or labels of another type.
        AttackError: (called) for a model whose scores do not fit, are not finite, or differ when asked for again, and
            for images on another device or of another dtype than it takes.
    """

    norm: BallNorm
    epsilon: float
    seed: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _plain(getattr(self, field.name)))
        check_whole("seed", self.seed, least=0, below=2**63)
        _ = self.ball  # checks the rest

    @property
    def ball(self) -> Ball:
        """The ball that may be used."""
        return Ball(self.norm, self.epsilon)

    @property
    @abstractmethod
    def name(self) -> str:
        """What the attack is called in results."""

    @abstractmethod
    def _runs(self, victim: Victim, classes: int) -> Iterator[Run]:
        """One search after the other; each gets what survived the ones before."""

    def stages(self) -> tuple[ImageAttack, ...]:
        """The attacks that this one consists of."""
        return (self,)

    def settings(self) -> dict[str, Any]:
        """All that decides what the attack does, its name included."""
        return {"name": self.name, **dataclasses.asdict(self)}

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> ImageAttackResult:
        """Attack a batch of images.

        Args:
            model: ``[n, c, H, W]`` to scores ``[n, classes]``, each row of its own image alone.
            x: images, float32 or float64, on the model's device.
            y: labels, ``[n]``.
        """
        check_batch(x, y)
        with torch.inference_mode(False):  # where x is of that mode, nothing could be learned of a copy
            x, y = x.detach().clone(), y.long().clone()
            moved = x.clone()
        lost_to: list[str | None] = [None] * len(x)
        if not len(x):
            none = torch.zeros(0, dtype=torch.bool, device=x.device)
            return ImageAttackResult(moved, none, none, (), none.double(), 0)
        with attacked(model, x) as victim:
            scores = victim.scores(x)
            _check_labels(scores, y)
            if not torch.equal(scores, victim.scores(x)):
                raise AttackError(
                    f"{type(model).__name__} gives other scores when it is asked again: these attacks are for models "
                    "without random numbers"
                )
            right = margins(scores, y) > 0
            left = right.nonzero().flatten()
            for stage in self.stages():
                with seeded(stage.seed):
                    for run in stage._runs(victim, scores.size(1)):
                        if not len(left):
                            break
                        found = self.ball.inside(x[left], run(x[left].float(), y[left]).detach())
                        lost = (margins(victim.scores(found), y[left]) <= 0) & self.ball.holds(x[left], found)
                        moved[left[lost]] = found[lost]
                        for index in left[lost].tolist():
                            lost_to[index] = stage.name
                        left = left[~lost]
        survived = torch.zeros_like(right)
        survived[left] = True
        return ImageAttackResult(moved, right, survived, tuple(lost_to), self.ball.distance(x, moved), victim.forwards)


def _plain(value: object) -> object:
    """A number of NumPy's, or a fraction, as Python's own: a line of JSON holds no others."""
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value


def check_batch(x: Tensor, y: Tensor) -> None:
    """Raise unless these are images in [0, 1] and a label for each."""
    for name, value in (("x", x), ("y", y)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if x.dtype not in (torch.float32, torch.float64) or x.dim() != 4:
        raise ValueError(
            f"x must be images [n, channels, height, width] in float32 or float64, got {x.dtype} {list(x.shape)}"
        )
    if y.shape != x.shape[:1] or y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise ValueError(f"y must hold one label for each of the {len(x)} images, got {y.dtype} {list(y.shape)}")
    if not bool(((x >= 0) & (x <= 1)).all()):
        raise ValueError(
            "the entries of x must lie in [0, 1]: give raw images, and let the model normalise them "
            f"(got entries from {float(x.min()):.4g} to {float(x.max()):.4g})"
        )


def _check_labels(scores: Tensor, y: Tensor) -> None:
    if bool(((y < 0) | (y >= scores.size(1))).any()):
        raise ValueError(
            f"y must lie in 0 … {scores.size(1) - 1}, the classes that the model scores, got labels from "
            f"{int(y.min())} to {int(y.max())}"
        )
