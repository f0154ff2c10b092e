"""What a victim must answer, and what it does not read."""

from __future__ import annotations

import warnings
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.attacks.base import AttackError, Kind, undirected_edges
from contractive_gnn.attacks.whitebox.inference import conduct

_SIGNATURE: Final = (
    "forward(x [n, d], edge_index [2, 2m], edge_weight [2m] or None) -> scores [n, classes]: wrap a model of another "
    "form in a module with this forward"
)


def check_victim(name: str, victim: nn.Module, data: Data, *, kind: Kind, weights: bool = True) -> dict[str, Any]:
    """Call the victim as an attack will, and look for what it does not read.

    Args:
        name: of the attack.
        victim: in evaluation mode.
        data: the graph.
        kind: what the attack changes.
        weights: whether the attack gives the victim weights of edges.

    Returns:
        ``repeats``: whether the scores are the same when asked for again; what :func:`conduct` says; and for an attack
        on the structure ``reads_edges`` and, with ``weights``, ``reads_edge_weight``: whether they change without the
        first half of the edges, and with other weights (always on a graph with fewer than two edges), and
        ``keeps_graph``: whether scores that do not change there still depend on which node is which, so that the victim
        keeps edges that it saw.

    Raises:
        AttackError: a victim that cannot be called so, or returns no tensor.
    """

    def answer(*given: Tensor, seed: int = 0, x: Tensor = data.x) -> Tensor:
        torch.manual_seed(seed)  # noise of the victim's own is no answer to a change
        try:
            logits = victim(x, *given)
        except Exception as error:
            reason = str(error).split("\n", 1)[0]
            raise AttackError(
                f"attack {name!r}: the victim {type(victim).__name__} failed with {type(error).__name__}: {reason}; it "
                f"was called as {_SIGNATURE}"
            ) from error
        if not isinstance(logits, Tensor):
            raise AttackError(
                f"attack {name!r}: the victim {type(victim).__name__} returned a {type(logits).__name__}; expected "
                f"{_SIGNATURE}"
            )
        if logits.dim() == 2 and 1 < logits.shape[1] <= int(data.y.max()):
            raise AttackError(
                f"attack {name!r}: y holds class {int(data.y.max())}, and the victim {type(victim).__name__} scores "
                f"{logits.shape[1]} classes"
            )
        return logits.nan_to_num(0.0, 0.0, 0.0)  # a NaN differs from itself; who needs numbers looks for them

    with torch.no_grad(), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        edge_index = data.edge_index
        clean = answer(edge_index)
        # sums over edges in another order, as on a GPU, differ in the last bits
        repeats = bool((clean - answer(edge_index, seed=1)).abs().max() <= 1e-4 * clean.abs().max())
        own = {"repeats": repeats, **conduct(victim, lambda: answer(edge_index))}
        if kind == "features":
            return own
        u, v = edge_index
        weighted = answer(edge_index, (0.5 + 0.4 * torch.cos((u + v).to(data.x.dtype)))) if weights else None
        edges = undirected_edges(edge_index)
        if edges.shape[1] < 2:
            told = {**own, "reads_edges": True, "keeps_graph": False}
            return {**told, "reads_edge_weight": True} if weights else told
        kept = edges[:, edges.shape[1] // 2 :]
        fewer = answer(torch.cat([kept, kept.flip(0)], dim=1))
        reads = {
            **own,
            "reads_edges": not torch.equal(clean, fewer),
            **({} if weighted is None else {"reads_edge_weight": not torch.equal(clean, weighted)}),
            "keeps_graph": False,
        }
        if not reads["reads_edges"] and len(clean) == len(data.x):
            order = torch.randperm(len(data.x), device=data.x.device)
            elsewhere = answer(edge_index, x=data.x[order])
            reads["keeps_graph"] = repeats and bool((elsewhere - clean[order]).abs().max() > 1e-4 * clean.abs().max())
    if not reads["reads_edges"]:
        warnings.warn(
            f"attack {name!r}: the scores of the victim {type(victim).__name__} are the same on another graph. It "
            + (
                "keeps those that it saw: its accuracy under attack means nothing"
                if reads["keeps_graph"]
                else "reads no edges, as a perceptron"
            ),
            stacklevel=2,
        )
    return reads
