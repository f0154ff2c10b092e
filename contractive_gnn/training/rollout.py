"""A learned map from a state to the next one, applied again and again."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from contractive_gnn.checks import check_whole


def rollout(model: Callable[[Tensor], Tensor], x: Tensor, num_steps: int) -> Tensor:
    """``x, Φ(x), Φ(Φ(x)), …``: the states after 0 to K applications of a model.

    Args:
        model: Φ, which keeps the shape of a state; in the mode that it is in.
        x: ``[n, *shape]``.
        num_steps: K ≥ 0.

    Returns:
        ``[n, K + 1, *shape]``, differentiable.

    Raises:
        ValueError: the model gives another shape.
    """
    check_whole("num_steps", num_steps, least=0)
    states = [x]
    for _ in range(num_steps):
        following = model(states[-1])
        if following.shape != x.shape:
            raise ValueError(
                f"the model takes states {list(x.shape)} to {list(following.shape)}; a step keeps the shape"
            )
        states.append(following)
    return torch.stack(states, dim=1)
