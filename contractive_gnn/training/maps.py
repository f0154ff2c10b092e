"""Fit a network to a map, of which there are points and their images: a smooth problem without noise."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from contractive_gnn.checks import check_real, check_whole
from contractive_gnn.training.lbfgs import descend


@dataclass(frozen=True, kw_only=True)
class MapFitOptions:
    """The options of :func:`fit_map`.

    Attributes:
        adam_steps: of Adam on all points, with one cycle of the learning rate.
        lr: the largest learning rate of Adam.
        lbfgs_steps: of L-BFGS with a line search after it, at most.
        history: how many changes L-BFGS keeps.

    Raises:
        TypeError: one is of another type.
        ValueError: one is out of its range, or there is no step at all.
    """

    adam_steps: int = 1000
    lr: float = 0.02
    lbfgs_steps: int = 500
    history: int = 50

    def __post_init__(self) -> None:
        check_whole("adam_steps", self.adam_steps, least=0)
        check_whole("lbfgs_steps", self.lbfgs_steps, least=0)
        check_whole("history", self.history, least=1)
        check_real("lr", self.lr, above=0)
        if self.adam_steps + self.lbfgs_steps == 0:
            raise ValueError("give a step of Adam or of L-BFGS at least, got none of either")


@dataclass(frozen=True)
class MapFit:
    """What a fit came to.

    Attributes:
        start: root mean square of ``‖f(x) − y‖`` over the points before it.
        adam: after Adam.
        final: at the end.
        lbfgs_steps: that were taken.
        seconds: wall time.
    """

    start: float
    adam: float
    final: float
    lbfgs_steps: int
    seconds: float


@dataclass(frozen=True)
class MapError:
    """How far a network is from a map.

    Attributes:
        l2: root mean square of ``‖f(x) − y‖`` over the points: the L² error where they are uniform.
        largest: over the points: a lower bound of the error in the sup norm.
        least_determinant: of the network's Jacobian over the points: positive at all of them where it keeps the
            orientation.
    """

    l2: float
    largest: float
    least_determinant: float


def fit_map(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    options: MapFitOptions | None = None,
) -> MapFit:
    """Fit all parameters so that ``model(x)`` is near ``y`` in the mean square, from those that the model has.

    Adam first, which finds the way, then L-BFGS, which goes to its end: with Adam alone the error that is left is that
    of the optimiser, and says little of what the network can do. All points are one batch. The model is left with the
    best parameters that L-BFGS has seen. The same model and points give the same fit, with the same number of threads.

    Args:
        model: takes ``[n, d]`` to ``[n, d]``; float64 for errors below 1e-3.
        x: the points, ``[n, d]``.
        y: their images, of the same shape and dtype.
        options: see there.

    Raises:
        TypeError: for options that are none.
        ValueError: for points and images of different shapes or dtypes, no points, a model without parameters, and one
            whose answers are of another shape than the images.
        FloatingPointError: the loss is not finite at the start, or under Adam.
    """
    options = MapFitOptions() if options is None else options
    if not isinstance(options, MapFitOptions):
        raise TypeError(f"options must be MapFitOptions, got {type(options).__name__}")
    if x.shape != y.shape or x.dtype != y.dtype or x.dim() != 2 or not len(x):
        raise ValueError(
            f"points and images must be two tensors [n, d] of one dtype, got {list(x.shape)} {x.dtype} and "
            f"{list(y.shape)} {y.dtype}"
        )
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not learning:
        raise ValueError(f"{type(model).__name__} has no parameter that learns: use it as it is, without training")
    begun = time.perf_counter()
    model.train()
    # a loss of order 1, whatever the size of the map: the stopping rule of L-BFGS has an absolute tolerance
    scale = float((y - x).square().sum(dim=1).mean()) or 1.0

    def loss() -> Tensor:
        answers: Tensor = model(x)
        if answers.shape != y.shape:
            raise ValueError(
                f"{type(model).__name__} takes points {list(x.shape)} to {list(answers.shape)}, and their images are "
                f"{list(y.shape)}: give a model that takes [n, d] to [n, d]"
            )
        return (answers - y).square().sum(dim=1).mean() / scale

    def error() -> float:
        with torch.no_grad():
            return math.sqrt(float(loss()) * scale)

    start = error()
    if not math.isfinite(start):
        raise FloatingPointError(f"the loss is {start} at the start; give finite points and images, or smaller weights")
    with torch.enable_grad():
        _adam(loss, learning, options)
    after_adam = error()
    if not math.isfinite(after_adam):
        raise FloatingPointError(f"the loss is {after_adam} after Adam; lower lr, or the steps")
    taken = 0
    if options.lbfgs_steps:
        taken = descend(
            loss,
            learning,
            iterations=options.lbfgs_steps,
            history=options.history,
            tolerance_grad=1e-12,
            tolerance_change=1e-15,
        ).iterations
    model.eval()
    return MapFit(start, after_adam, error(), taken, time.perf_counter() - begun)


def map_error(model: nn.Module, x: Tensor, y: Tensor) -> MapError:
    """The error of a network at the points x whose images are y, ``[n, d]``.

    Args:
        model: takes ``[n, d]`` to ``[n, d]``, each point by itself.
        x: the points.
        y: their images.

    Raises:
        ValueError: for answers of another shape than the images or the points, or no points.
    """
    with torch.enable_grad():
        points = x.detach().requires_grad_()
        answers: Tensor = model(points)
        if answers.shape != y.shape or answers.shape != x.shape or not len(y):
            raise ValueError(
                f"points, answers and images must have one shape [n, d], got {list(x.shape)}, {list(answers.shape)} "
                f"and {list(y.shape)}"
            )
        rows = [torch.autograd.grad(entry.sum(), points, retain_graph=True)[0] for entry in answers.unbind(dim=-1)]
    distance = (answers.detach() - y).norm(dim=-1)
    determinants = torch.linalg.det(torch.stack(rows, dim=-2))
    return MapError(float(distance.square().mean().sqrt()), float(distance.max()), float(determinants.min()))


def _adam(loss: Callable[[], Tensor], learning: list[nn.Parameter], options: MapFitOptions) -> None:
    if not options.adam_steps:
        return
    optimiser = torch.optim.Adam(learning, lr=options.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, options.lr, total_steps=options.adam_steps)
    for step in range(options.adam_steps):
        value = loss()
        if not math.isfinite(float(value.detach())):
            raise FloatingPointError(
                f"the loss is {float(value.detach())} at step {step} of Adam; lower lr, or the steps"
            )
        optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
