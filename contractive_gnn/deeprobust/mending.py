"""DeepRobust's code, run on today's NumPy and PyTorch."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from contractive_gnn.deeprobust.importing import import_deeprobust


@contextlib.contextmanager
def replaced(owner: Any, **attributes: Any) -> Iterator[None]:
    """Give ``owner`` these attributes inside the block, and take them back afterwards."""
    before = {name: vars(owner)[name] for name in attributes if name in vars(owner)}
    for name, value in attributes.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name in attributes:
            if name in before:
                setattr(owner, name, before[name])
            else:
                delattr(owner, name)


@contextlib.contextmanager
def mended() -> Iterator[None]:
    """Run DeepRobust's code inside this block: quietly, on NumPy 2, and without dense n³ products per normalisation.

    - ``print`` and ``tqdm`` do nothing in its modules (stdout and stderr themselves are left alone);
    - ``numpy.in1d`` and ``numpy.row_stack``, gone from NumPy 2, are there;
    - ``utils.normalize_adj_tensor`` multiplies by the diagonal D^-½ entry by entry instead of as two dense matrices.

    Not for several threads at once: the changes are visible to the whole process while the block lasts.
    """
    utils = import_deeprobust("graph.utils")
    with contextlib.ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith("deeprobust.graph."):
                stack.enter_context(replaced(module, print=_silent))
                if hasattr(module, "tqdm"):
                    stack.enter_context(replaced(module, tqdm=_no_progress))
        for name, function in (("in1d", np.isin), ("row_stack", np.vstack)):
            if name not in vars(np):
                stack.enter_context(replaced(np, **{name: function}))
        sparse_normalisation = utils.normalize_adj_tensor

        def normalize_adj_tensor(adj: Tensor, sparse: bool = False) -> Tensor:
            if sparse:
                normalised: Tensor = sparse_normalisation(adj, sparse=True)
                return normalised
            looped = adj + torch.eye(adj.shape[0], device=adj.device)
            scale = looped.sum(1).pow(-1 / 2)
            scale = scale.masked_fill(torch.isinf(scale), 0.0)
            return scale[:, None] * looped * scale

        stack.enter_context(replaced(utils, normalize_adj_tensor=normalize_adj_tensor))
        yield


def _silent(*_: Any, **__: Any) -> None:
    """In place of ``print``."""


def _no_progress(iterable: Any, *_: Any, **__: Any) -> Any:
    return iterable
