"""The one training loop: Adam, with the best epoch kept."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.heap import kept_memory
from contractive_gnn.nn.caches import forget_graph
from contractive_gnn.trainable import HasRoles, declared, reset
from contractive_gnn.training.options import LoopOptions, Rate
from contractive_gnn.training.prediction import class_scores


class Judgement(NamedTuple):
    """What an epoch is worth.

    Attributes:
        key: by which epochs are compared, the larger the better; −inf twice for one that cannot be kept.
        figures: the two numbers that are reported.
    """

    key: tuple[float, float]
    figures: tuple[float, float]

    @classmethod
    def of(cls, first: float, second: float, figures: tuple[float, float]) -> Judgement:
        """With that key, unless one of the two is no number."""
        key = (-math.inf, -math.inf) if math.isnan(first) or math.isnan(second) else (first, second)
        return cls(key, figures)


class Kept(NamedTuple):
    """The epoch whose parameters the model has now.

    Attributes:
        epoch: from 0; −1 where none was run.
        judgement: of it.
        epochs: how many were run.
    """

    epoch: int
    judgement: Judgement
    epochs: int


def train(
    model: nn.Module,
    data: Data,
    options: LoopOptions,
    *,
    seed: int,
    objective: Callable[[Tensor, int], Tensor],
    judge: Callable[[Tensor], Judgement],
    on_epoch: Callable[[int, float, float], None] | None = None,
    every: int = 1,
) -> Kept:
    """Draw the parameters anew and train them on the whole graph, one step an epoch: see :func:`train_by`.

    Args:
        model: the model.
        data: a checked graph with ``x`` compressed.
        options: of the loop.
        seed: see :func:`train_by`.
        objective: the loss, from the class scores ``[n, classes]`` in training mode and the epoch.
        judge: see :func:`train_by`.
        on_epoch: see :func:`train_by`.
        every: see :func:`train_by`.

    Raises:
        InputError: a graph that does not fit the model.
        FloatingPointError: a loss that is not finite, or a judgement that never is.
        ValueError: there is nothing to train.
    """

    def learn(optimizer: torch.optim.Optimizer, epoch: int) -> Tensor:
        optimizer.zero_grad()
        loss = objective(class_scores(model, data), epoch)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"the training loss is {float(loss.detach())} at epoch {epoch}; {remedy(data, stepped=epoch > 0)}"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    return train_by(learn, model, options, seed=seed, judge=judge, on_epoch=on_epoch, every=every)


@kept_memory()
def train_by(
    learn: Callable[[torch.optim.Optimizer, int], Tensor],
    model: nn.Module,
    options: LoopOptions,
    *,
    seed: int,
    judge: Callable[[Tensor], Judgement],
    on_epoch: Callable[[int, float, float], None] | None = None,
    every: int = 1,
) -> Kept:
    """Draw the parameters anew, train them, and leave the model in evaluation mode with those of the best epoch.

    To be called within :func:`~contractive_gnn.seeding.seeded` and with gradients enabled.

    Args:
        learn: the steps of an epoch, with this optimizer, of the model in training mode; its last loss.
        model: the model.
        options: of the loop.
        seed: of the parameters and of dropout.
        judge: what the model is worth in evaluation mode, without a gradient; it is given the loss of the last step.
        on_epoch: called with an epoch that was judged and its two figures.
        every: judge after this many epochs, and after the last one.

    Raises:
        FloatingPointError: a judgement that never is finite.
        ValueError: there is nothing to train.
    """
    torch.manual_seed(seed)
    reset(model)
    forget_graph(model)
    if options.epochs:
        check_learns(model)
    optimizer = torch.optim.Adam(parameter_groups(model, options.lr, options.weight_decay))
    best = Kept(-1, Judgement((-math.inf, -math.inf), (math.nan, math.nan)), 0)
    state, epoch = copy.deepcopy(model.state_dict()), -1

    def judged(loss: Tensor) -> Judgement:
        model.eval()
        with torch.no_grad():
            return judge(loss)

    for epoch in range(options.epochs):
        model.train()
        loss = learn(optimizer, epoch)
        if epoch % every and epoch < options.epochs - 1:
            continue
        judgement = judged(loss)
        if judgement.key > best.judgement.key:
            best, state = Kept(epoch, judgement, 0), copy.deepcopy(model.state_dict())
        if on_epoch is not None:
            on_epoch(epoch, *judgement.figures)
        if options.patience is not None and epoch - best.epoch >= options.patience:
            break
    if best.epoch < 0 <= epoch:
        raise FloatingPointError(
            f"the validation loss was not finite at any of {epoch + 1} epochs; lower the learning rate or the step"
        )
    model.load_state_dict(state)
    model.eval()
    if epoch < 0:
        best = best._replace(judgement=judged(torch.tensor(math.nan)))
    return best._replace(epochs=epoch + 1)


def check_differentiates(function: str) -> None:
    """Raise RuntimeError where no gradient can be had; the text names the ``function`` that was called."""
    if torch.is_inference_mode_enabled():
        raise RuntimeError(f"{function} needs gradients: call it outside of torch.inference_mode()")


def check_learns(model: nn.Module) -> None:
    """Raise ValueError where all parameters are frozen."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(
            f"{type(model).__name__} has no parameter that learns: all are frozen (requires_grad = False). Let some "
            "learn, or use the model as it is, without fit"
        )


def remedy(data: Data, *, stepped: bool) -> str:
    """What to do about a loss on this graph that is not finite, before the first step or after one."""
    if stepped and data.x.dtype == torch.float16:
        return "float16 ends at 6e-8, and Adam's ε of 1e-8 is 0 in it: train in float32 or bfloat16"
    if stepped:
        return "lower the learning rate or the step"
    largest = float((data.x if data.x.layout == torch.strided else data.x.values()).abs().max())
    return f"the entries of x are as large as {largest:g}: scale the features"


def parameter_groups(model: nn.Module, lr: Rate, weight_decay: Rate) -> list[dict[str, Any]]:
    """What Adam is given: all parameters, or those of each role with its own rates.

    Raises:
        ValueError: rates for roles that the model does not have.
    """
    if not isinstance(lr, Mapping) and not isinstance(weight_decay, Mapping):
        return [{"params": list(model.parameters()), "lr": lr, "weight_decay": weight_decay}]
    roles = declared(model, HasRoles)
    if roles is None:
        raise ValueError(
            f"{type(model).__name__} has no roles of parameters: give lr and weight_decay as one number each"
        )
    groups = roles.parameter_groups()
    for name, values in (("lr", lr), ("weight_decay", weight_decay)):
        if isinstance(values, Mapping) and set(values) != set(groups):
            raise ValueError(f"{name} must name the roles {sorted(groups)}, got {sorted(values)}")

    def of(values: Rate, role: str) -> float:
        return values[role] if isinstance(values, Mapping) else values

    return [
        {"params": list(parameters), "lr": of(lr, role), "weight_decay": of(weight_decay, role)}
        for role, parameters in groups.items()
        if parameters
    ]
