"""What an attack on a classifier raises: losses of logits and labels.

Geisler et al., *Robustness of Graph Neural Networks at Scale* (NeurIPS 2021), for the tanh margin.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from contractive_gnn.attacks.base import check_choice

#: a loss of scores ``[k, classes]`` and labels ``[k]``: one number, or one for each node, ``[k]``
Loss = Callable[[Tensor, Tensor], Tensor]


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """The largest other logit minus that of the label, ``[k]``: positive where the prediction is wrong.

    Args:
        logits: ``[k, classes]`` with at least two classes.
        labels: int64 ``[k]``.
    """
    own = logits.gather(1, labels[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], -math.inf)
    return others.amax(dim=1) - own


def tanh_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of tanh(margin / 2): counts errors smoothly, and nodes far on either side hardly matter."""
    return torch.tanh(margin(logits, labels) / 2).mean()


def prob_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean margin of the softmax probabilities."""
    return margin(logits.softmax(dim=1), labels).mean()


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy; spends its budget on nodes that are wrong already."""
    return functional.cross_entropy(logits, labels)


def carlini_wagner(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of min(margin, 0): nodes that are wrong already count no more."""
    return margin(logits, labels).clamp(max=0).mean()


#: the losses by name
LOSSES: Final[dict[str, Loss]] = {
    "tanh-margin": tanh_margin,
    "prob-margin": prob_margin,
    "cross-entropy": cross_entropy,
    "cw": carlini_wagner,
}


def loss_of(loss: str | Loss) -> Loss:
    """The loss of this name, or the loss itself.

    Raises:
        TypeError: neither a name nor a callable.
        ValueError: an unknown name.

    Example:
        >>> loss_of("cw").__name__
        'carlini_wagner'
    """
    if isinstance(loss, str):
        return LOSSES[check_choice("loss", loss, tuple(LOSSES))]
    if not callable(loss):
        raise TypeError(
            f"loss is one of {', '.join(map(repr, LOSSES))} or a callable of scores [k, classes] and labels [k], given "
            f"{loss!r} ({type(loss).__name__})"
        )
    return loss
