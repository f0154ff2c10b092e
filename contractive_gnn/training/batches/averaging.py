r"""The exponential moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from contractive_gnn.checks import check_real


def moving_average(model: nn.Module, decay: float) -> AveragedModel:
    r"""A copy of a model whose weights follow it.

    .. math:: \bar w \leftarrow \beta_t \bar w + (1 - \beta_t) w, \qquad \beta_t = \min(\beta, (1 + t)/(10 + t))

    (Polyak averaging; the smaller β at the start forgets the first weights.) After each step of the optimiser call its
    ``update_parameters(model)``. Buffers are those of the model. What is averaged are the parameters as they are
    stored: a constraint that a parametrisation imposes holds for the average as for any other parameters.

    Args:
        model: what is followed.
        decay: β, in [0, 1).

    Returns:
        The average; ``.module`` is the model with its weights.
    """
    check_real("decay", decay, least=0, below=1)

    def follow(averaged: Sequence[Tensor], current: Sequence[Tensor], count: int | Tensor) -> None:
        t = int(count)
        weight = 1.0 - min(decay, (1.0 + t) / (10.0 + t))
        for mean, now in zip(averaged, current, strict=True):
            mean.lerp_(now, weight)

    return AveragedModel(model, multi_avg_fn=follow)
