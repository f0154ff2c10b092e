"""Meta-PGD: poisoning by projected gradient ascent over relaxed flips, through the training of a surrogate.

Mujkanovic, Geisler, Günnemann and Bojchevski, *Are Defenses for Graph Neural Networks Robust?* (NeurIPS 2022), for the
gradient of relaxed flips through an unrolled training; Geisler, Schmidt, Şirin, Zügner, Bojchevski and Günnemann,
*Robustness of Graph Neural Networks at Scale* (NeurIPS 2021), for the random blocks of pairs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, cast

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.attacks.base import (
    AttackError,
    Kind,
    Perturbation,
    check_choice,
    check_count,
    register,
    undirected_edges,
)
from contractive_gnn.attacks.factored_matrix import Array, Sparse
from contractive_gnn.attacks.meta_gradient import InnerTraining, LinearTraining, Problem, Weights, normalise
from contractive_gnn.attacks.metattack import MetaGradientAttack, adjacency_of, compact
from contractive_gnn.attacks.whitebox import LOSSES, EdgeFlips, Objective
from contractive_gnn.attacks.whitebox.searching import Searching


class TrainedFlips(EdgeFlips):
    """Flips of edges, whose scores are those of a linear surrogate that is trained on the flipped graph.

    Every training begins with the same weights, so that two sets of flips can be compared. Memory is linear in the
    edges and the block.

    Args:
        problem: what the surrogate learns; its S is that of the clean graph, and is not read.
        initial: weights at first.
        inner: how they are trained.
        x: ``[n, d]``, for its size and dtype.
        edges: int64 ``[2, m]``, every undirected edge once, u < v.
        candidates: how many other pairs to draw; None for all of them.
    """

    def __init__(
        self,
        problem: Problem,
        initial: Weights,
        inner: InnerTraining,
        x: Tensor,
        edges: Tensor,
        *,
        candidates: int | None = None,
    ) -> None:
        super().__init__(nn.Identity(), x, edges, candidates=candidates)
        self._problem, self._initial, self._inner = problem, initial, inner

    def relaxed(self, p: Tensor) -> Tensor:
        """Scores ``[n, c]`` after training with edge weight 1 − p at edges and p elsewhere, differentiable in p."""
        return cast(Tensor, _Trained.apply(p, self))

    def done(self, chosen: Tensor) -> Tensor:
        """Scores ``[n, c]`` after training on the discrete graph."""
        return torch.from_numpy(self.trained(chosen.double())[0].logits).to(self.x)

    def trained(self, p: Tensor) -> tuple[LinearTraining, Sparse, Array]:
        """The surrogate after training on the relaxed graph, its normalised adjacency and its degrees."""
        weight = torch.where(self.present, 1 - p, p).numpy(force=True).astype(np.float64)
        there = np.flatnonzero(weight)
        u, v = self.pairs.numpy(force=True)[:, there]
        ends = np.concatenate([u, v]), np.concatenate([v, u])
        n = self.x.shape[0]
        S, degrees = normalise(sp.csr_array((np.tile(weight[there], 2), ends), shape=(n, n)))
        return LinearTraining(replace(self._problem, S=S), self._initial, self._inner), S, degrees


class _Trained(torch.autograd.Function):
    """From p to the scores after training, and back by the exact meta-gradient."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, flips: TrainedFlips) -> Tensor:
        training, ctx.S, ctx.degrees = flips.trained(p.detach())
        ctx.training, ctx.flips = training, flips
        return torch.from_numpy(training.logits).to(p)

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor, None]:
        (E,) = given
        propagation = ctx.training.reverse(E.numpy(force=True).astype(np.float64))[0]()
        u, v = ctx.flips.pairs.numpy(force=True)
        scale, alpha = ctx.degrees**-0.5, -propagation.marginals(ctx.S) / (2 * ctx.degrees)
        slope = torch.from_numpy(scale[u] * scale[v] * propagation.sum_at(u, v) + alpha[u] + alpha[v]).to(E)
        return torch.where(ctx.flips.present, -slope, slope), None


@register
class MetaPGD(Searching, MetaGradientAttack):
    """Poisoning in memory linear in the edges, for graphs on which :class:`Metattack` takes too long.

    Solve max_p L(logits after training on A(p)) subject to 0 ≤ p ≤ 1 and Σ p ≤ budget, where A(p) has weight 1 − p at
    edges and p at a random block of other pairs, by the search of :class:`~contractive_gnn.attacks.whitebox
    .WhiteboxPGD`. The logits are those of a linear two-layer GCN, S²XWV, trained by gradient descent with momentum, and
    the gradient goes exactly through that training. L is taken over the nodes of ``val_mask`` and ``test_mask`` (or
    ``targets``), and reads self-training labels there: the attacker learns from the labels of ``train_mask``, and from
    those of ``val_mask`` when to stop the surrogate that gives these labels.

    Args:
        seed: of the surrogate, its initial weights and the blocks.
        block_size: pairs without an edge that are considered at a time (at least four per flip allowed).
        loss: "tanh-margin", "prob-margin", "cross-entropy" or "cw".
        epochs: steps with new random pairs.
        fine_epochs: steps without, of decreasing size.
        step: how far the steepest entries of p move in one step.
        samples: random roundings to try.
        swaps: attempts to exchange flips of the result.
        hidden: hidden units of the surrogate.
        train_iters: inner training steps.
        lr: inner learning rate.
        momentum: of the inner training.
        self_training_labels: int64 ``[n]``; None trains the surrogate on the clean graph and takes its predictions.

    Raises:
        ValueError: an argument outside its range; from ``run`` also a graph without training nodes, without nodes to
            attack, or of one class.
        AttackError: (from ``run``) the inner training diverged.

    Example:
        >>> import contractive_gnn as cg
        >>> data = cg.contextual_sbm(60, seed=0)
        >>> cg.attack(None, data, "meta-pgd", flips=3, epochs=5, fine_epochs=2, train_iters=20).n_flips <= 3
        True
    """

    name: ClassVar[str] = "meta-pgd"
    kind: ClassVar[Kind] = "structure"
    reads_features: ClassVar[bool] = True

    def __init__(
        self,
        *,
        seed: int = 0,
        block_size: int = 20_000,
        loss: str = "tanh-margin",
        epochs: int = 60,
        fine_epochs: int = 15,
        step: float = 0.3,
        samples: int = 10,
        swaps: int = 30,
        hidden: int = 16,
        train_iters: int = 100,
        lr: float = 0.1,
        momentum: float = 0.9,
        self_training_labels: Tensor | None = None,
    ) -> None:
        super().__init__(
            seed=seed,
            hidden=hidden,
            train_iters=train_iters,
            lr=lr,
            momentum=momentum,
            self_training_labels=self_training_labels,
        )
        self.block_size = check_count("block_size", block_size)
        self.loss = check_choice("loss", loss, tuple(LOSSES))
        self._set_search(epochs=epochs, fine_epochs=fine_epochs, step=step, samples=samples, swaps=swaps)

    def _perturb(self, data: Data, n_flips: int, *, victim: nn.Module | None, targets: Tensor | None) -> Perturbation:
        if self._classes < 2:
            raise ValueError(f"attack {self.name!r}: every label of the graph is 0; expected at least two classes")
        X = compact(data.x.numpy(force=True))
        flips = TrainedFlips(
            self._problem(normalise(adjacency_of(data))[0], X),
            self._draw(X.shape[1]),
            InnerTraining(steps=self.train_iters, lr=self.lr, momentum=self.momentum),
            data.x,
            undirected_edges(data.edge_index),
            candidates=max(self.block_size, 4 * n_flips),
        )
        clean = flips.done(flips.none() > 0)
        if not bool(torch.isfinite(clean).all()):
            raise AttackError(f"attack {self.name!r}: the inner training diverged; lower lr or momentum")
        guessed = data.clone()
        guessed.y = torch.from_numpy(self._outer_labels).to(data.y.device)
        aims = torch.from_numpy(self._unlabelled) if targets is None else targets
        objective = Objective.of(guessed, clean, aims, self.loss)
        found = self._search_by_settings(flips, objective, min(n_flips, flips.size))
        return found.flips.perturbation(found.chosen)
