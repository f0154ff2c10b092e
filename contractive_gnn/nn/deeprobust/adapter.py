"""What the adapters of DeepRobust's defences share.

Each class builds DeepRobust's own module (``inner``), lets it train itself with DeepRobust's own loop, and runs its own
layers in ``forward``, after the same preprocessing of whatever graph it is given. What the published code does not have
is added here and nowhere else: prediction on another graph, edge weights, and, where it exists, their gradient.
"""

from __future__ import annotations

import contextlib
import warnings
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.checks import check_real, check_whole, check_widths
from contractive_gnn.deeprobust import Arrays, mended, to_arrays
from contractive_gnn.seeding import seeded
from contractive_gnn.trainable import TrainsItself

#: whether the scores have a gradient by the edge weights
EdgeWeightGradient = Literal["exact", "approximate", "none"]


class DeepRobustModel(nn.Module, TrainsItself):
    """A defence of DeepRobust.

    Shapes:
        ``x`` ``[n, in_channels]`` dense or sparse, ``edge_index`` int64 ``[2, 2m]`` without self-loops, ``edge_weight``
        ``[2m]`` or None for ones; output ``[n, out_channels]``.

    Attributes:
        edge_weight_gradient: whether the output is differentiable in ``edge_weight``: "exact"; "approximate", where a
            step of the model is replaced by its first-order approximation in the backward pass; or "none". An adaptive
            attack by gradients is meaningful for the first, weaker for the second and impossible for the third. First
            derivatives are meant: but for Pro-GNN's, ``create_graph=True`` raises NotImplementedError.
        reads_whole_graph: whether the answer at a node follows what no path of edges joins to it, so that the graphs of
            a batch do not stay apart.
        inner: DeepRobust's module.
    """

    edge_weight_gradient: ClassVar[EdgeWeightGradient]
    reads_whole_graph: ClassVar[bool] = False
    # what DeepRobust's fit leaves on its module: the training graph, and tensors of an autograd graph
    _left_behind: ClassVar[tuple[str, ...]] = ("output", "features", "labels", "adj_norm", "modified_adj")

    inner: Any

    def __init__(self, *, epochs: int) -> None:
        super().__init__()
        check_whole("epochs", epochs, least=1)
        self.epochs = epochs

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        self.inner.initialize()

    @abstractmethod
    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Class scores."""

    def fit_data(self, data: Data, *, seed: int = 0) -> None:
        """Train on ``data.train_mask`` by DeepRobust's own loop, which keeps its best epoch on ``data.val_mask``.

        Args:
            data: graph with dense x, edge_index, y and the masks.
            seed: of everything random in it; the global random states are left as they were.

        Raises:
            DeepRobustMissing: DeepRobust is not installed.
        """
        with _seeded(seed), mended(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.reset_parameters()
            # Pro-GNN's first step takes the mode as it finds it
            self.train()
            self._fit(data, to_arrays(data))
        for name in self._left_behind:
            if hasattr(self.inner, name):
                setattr(self.inner, name, None)
        self.eval()

    @abstractmethod
    def _fit(self, data: Data, arrays: Arrays) -> None:
        """Run DeepRobust's loop."""

    def _fit_inner(self, arrays: Arrays, **settings: Any) -> None:
        """The loop of the modules that take arrays."""
        self.inner.fit(
            arrays.features,
            arrays.adjacency,
            arrays.labels,
            arrays.train,
            arrays.val,
            train_iters=self.epochs,
            verbose=False,
            **settings,
        )


def check_numbers(
    in_channels: int, out_channels: int, hidden_channels: int, dropout: float, lr: float, **reals: float
) -> None:
    """Whether these can be what a model's constructor calls them; ``reals`` are not negative."""
    check_whole("in_channels", in_channels, least=1)  # DeepRobust infers none
    check_widths(in_channels, out_channels=out_channels, hidden_channels=hidden_channels)
    check_real("dropout", dropout, least=0, most=1)
    check_real("lr", lr, above=0)
    for name, value in reals.items():
        check_real(name, value, least=0)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch and NumPy, from which DeepRobust draws; put their states back afterwards."""
    with seeded(seed):
        state = np.random.get_state()  # noqa: NPY002
        try:
            np.random.seed(seed)  # noqa: NPY002
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002
