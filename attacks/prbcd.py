"""PR-BCD and GR-BCD: PyG's own white-box attacks, with their edges mended.

Geisler, Schmidt, Şirin, Zügner, Bojchevski, Günnemann, *Robustness of Graph Neural Networks at Scale* (NeurIPS 2021).
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.attacks.base import (
    AttackError,
    Kind,
    Perturbation,
    check_choice,
    check_count,
    edge_difference,
    register,
    undirected_edges,
)
from contractive_gnn.attacks.whitebox import AdaptiveAttack, EdgeFlips, Found, Objective, check_victim, diagnose, weigh
from contractive_gnn.checks import check_flag, check_real
from contractive_gnn.nn.surrogate import gradient_surrogate

_LOSSES: Final = {
    "tanh-margin": "tanh_margin",
    "prob-margin": "prob_margin",
    "margin": "margin",
    "masked-cross-entropy": "masked",
}


class _LogProbabilities(nn.Module):
    """The victim as PyG's attacks want it.

    They take ``log_softmax`` scores (the masked cross-entropy is wrong on logits), stop at a victim whose output does
    not depend on the edge weights, and let one NaN in the gradient reach every relaxed edge.
    """

    def __init__(self, victim: nn.Module) -> None:
        super().__init__()
        self.victim = victim

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        if edge_weight.requires_grad:
            # on a view of its own: the hook is not left on a tensor of the attack
            edge_weight = edge_weight.view_as(edge_weight)
            edge_weight.register_hook(_without_nan)  # type: ignore[no-untyped-call]
        logits = self.victim(x, edge_index, edge_weight)
        return torch.log_softmax(logits, dim=1) + 0.0 * edge_weight.sum()


def _without_nan(slope: Tensor) -> Tensor:
    return slope.nan_to_num(0.0, 0.0, 0.0)


class _BlockCoordinateDescent(AdaptiveAttack):
    kind: ClassVar[Kind] = "structure"

    def __init__(self, *, block_size: int, epochs: int, loss: str, seed: int, progress: bool) -> None:
        super().__init__(seed=seed)
        check_flag("progress", progress)
        self.progress = progress
        self.block_size = check_count("block_size", block_size)
        self.epochs = check_count("epochs", epochs)
        self.loss = check_choice("loss", loss, tuple(_LOSSES))

    @property
    def params(self) -> dict[str, Any]:
        """Hyperparameters that decide what is found."""
        return {name: value for name, value in super().params.items() if name != "progress"}

    @abstractmethod
    def _attack(self, contrib: Any, model: nn.Module, block_size: int) -> Any:
        """PyG's attack object."""

    def _perturb(self, data: Data, n_flips: int, *, victim: nn.Module | None, targets: Tensor | None) -> Perturbation:
        assert victim is not None  # the base class has checked it
        read = check_victim(self.name, victim, data, kind=self.kind)
        edges = undirected_edges(data.edge_index)
        flips = EdgeFlips(victim, data.x, edges, candidates=max(self.block_size, 4 * n_flips))
        budget = min(n_flips, flips.size)
        clean = flips.done(flips.none() > 0)
        objective = Objective.of(data, clean, targets, "tanh-margin")
        diagnosis = diagnose(flips, objective, clean, budget)

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="'torch_geometric.contrib' contains experimental code")
            from torch_geometric.contrib import nn as contrib
        attack = self._attack(
            contrib, _LogProbabilities(gradient_surrogate(victim)).eval(), max(self.block_size, 4 * n_flips)
        )
        # a copy: PyG updates the table of its class, for every attack to come
        attack.coeffs = dict(attack.coeffs)
        try:
            perturbed, _ = attack.attack(data.x, data.edge_index, data.y, n_flips, objective.nodes)
        except RuntimeError as error:
            if "Sampling random block" not in str(error):
                raise
            raise AttackError(
                f"attack {self.name!r}: the graph has too few pairs of nodes for {n_flips} flips at random places; "
                "lower the budget, or take 'whitebox-pgd', which considers them all"
            ) from error
        # GR-BCD may draw a flip again and so undo it: what counts is the difference of the graphs
        pairs = edge_difference(data.edge_index, perturbed).to(edges.device)
        own = EdgeFlips(victim, data.x, edges, block=pairs)
        chosen = own.among(pairs)
        found = Found(objective.score(own.done(chosen)), own, chosen, self.name)
        found, notes = weigh(found, flips, objective, budget, diagnosis, clean)
        self._tell(read, notes)
        return found.flips.perturbation(found.chosen)


@register
class PRBCD(_BlockCoordinateDescent):
    """PyG's ``PRBCDAttack``: projected gradient ascent on the relaxed flips of a random block of pairs.

    The nodes are the test nodes, or ``targets`` where given. The provenance has the same warnings of gradient masking
    as that of ``whitebox-pgd``.

    Args:
        block_size: pairs of nodes considered at the same time (at least four per flip allowed).
        epochs: gradient steps, with new random pairs in the first four fifths of them.
        loss: "tanh-margin", "prob-margin", "margin" or "masked-cross-entropy".
        lr: PyG's learning rate, which it multiplies by budget / n.
        seed: see :class:`Attack`.
        progress: whether PyG shows its bar over the steps.

    Raises:
        AttackError: (from ``run``) too few pairs of nodes for the budget; logits that are not finite.
    """

    name: ClassVar[str] = "prbcd"

    def __init__(
        self,
        *,
        block_size: int = 20_000,
        epochs: int = 125,
        loss: str = "prob-margin",
        lr: float = 1000.0,
        seed: int = 0,
        progress: bool = False,
    ) -> None:
        super().__init__(block_size=block_size, epochs=epochs, loss=loss, seed=seed, progress=progress)
        check_real("lr", lr, above=0)
        self.lr = float(lr)

    def _attack(self, contrib: Any, model: nn.Module, block_size: int) -> Any:
        return contrib.PRBCDAttack(
            model,
            block_size=block_size,
            epochs=self.epochs,
            epochs_resampling=max(1, self.epochs * 4 // 5),
            loss=_LOSSES[self.loss],
            lr=self.lr,
            log=self.progress,
        )


@register
class GRBCD(_BlockCoordinateDescent):
    """PyG's ``GRBCDAttack``: flips the pairs of a random block with the largest gradients, a few per step, for good.

    Args:
        block_size: pairs of nodes considered at the same time (at least four per flip allowed).
        epochs: steps among which the budget is divided.
        loss: "tanh-margin", "prob-margin", "margin" or "masked-cross-entropy".
        seed: see :class:`Attack`.
        progress: whether PyG shows its bar over the steps.

    Raises:
        AttackError: (from ``run``) too few pairs of nodes for the budget; logits that are not finite.
    """

    name: ClassVar[str] = "grbcd"

    def __init__(
        self,
        *,
        block_size: int = 20_000,
        epochs: int = 125,
        loss: str = "masked-cross-entropy",
        seed: int = 0,
        progress: bool = False,
    ) -> None:
        super().__init__(block_size=block_size, epochs=epochs, loss=loss, seed=seed, progress=progress)

    def _attack(self, contrib: Any, model: nn.Module, block_size: int) -> Any:
        return contrib.GRBCDAttack(
            model, block_size=block_size, epochs=self.epochs, loss=_LOSSES[self.loss], log=self.progress
        )
