"""A copy of a model whose weights are computed once."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn
from torch.nn.utils import parametrize

from contractive_gnn.nn.composition import Alternating
from contractive_gnn.nn.flow import Flow
from contractive_gnn.nn.parametrizations import fix

Model = TypeVar("Model", bound=nn.Module)


def frozen(model: Model) -> Model:
    """A copy for evaluation: fixed weights, each computed once from its parametrisation, and fixed steps.

    Its outputs are those of ``model.eval()`` to rounding, at the price of a plain network: for the thousands of forward
    passes of an attack. Its constant stays certified, from the weights that it holds: what an almost orthogonal weight
    proves its bound by stays with it (:func:`contractive_gnn.nn.parametrizations.fix`), other norms are computed.

    Args:
        model: any module.

    Returns:
        The copy, in evaluation mode, without gradients for its weights. It is not to be trained.

    Example:
        >>> import torch
        >>> from contractive_gnn.nn.images import ImageClassifier
        >>> model = ImageClassifier(1, 10, size=8)
        >>> copied = frozen(model)
        >>> x = torch.rand(2, 1, 8, 8)
        >>> bool((copied(x) - model(x)).abs().max() < 1e-5), copied.lipschitz() <= 1.0, copied.certified
        (True, True, True)
    """
    result = copy.deepcopy(model).eval()
    for module in result.modules():
        if isinstance(module, Flow | Alternating):
            module.hold()
    for module in list(result.modules()):
        if parametrize.is_parametrized(module):
            fix(module)
    return result.requires_grad_(False)
