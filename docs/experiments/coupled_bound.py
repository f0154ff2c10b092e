"""Print the coupled bound of trained models beside what perturbations of Cora do: it must never be exceeded.

    python docs/experiments/coupled_bound.py [--random 1000] [--adversarial 100] [--out runs/coupled_bound]

Random perturbations flip 1 to 50 edges and move the features a little, or do one of the two. Adversarial ones flip the
pairs of one node whose gradient moves the output most, in the norm of the bound, and take the features' steepest
direction. Last, 1, 50 and 200 flips at one node, the worst of five nodes.
Each line of OUT/coupled_bound.jsonl is one perturbation with its bound, what the bound would be without saturation
(linear in the flips), and what the perturbation did.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch_geometric.data import Data

from contractive_gnn import datasets, training
from contractive_gnn.attacks.base import flip_edges
from contractive_gnn.bench.results import replacing
from contractive_gnn.nn import CSGNN, build
from contractive_gnn.norms import vector_norm


def models(data: Data) -> Iterator[tuple[str, torch.nn.Module]]:
    """Models for which the bound is proved: both fields in ℓ∞, and a learned W with symmetric normalisation in ℓ2."""
    features, classes = data.num_features, int(data.y.max()) + 1
    yield "csgnn", CSGNN(features, classes)
    yield "csgnn, A kept", CSGNN(features, classes, adjacency="fixed")
    yield "csgnn, sym, W learned", CSGNN(features, classes, normalization="sym", learn_weight=True, num_layers=3)
    yield "linf-diffusion", build("linf-diffusion", features, classes)


def random_pairs(edge_index: Tensor, n: int, count: int, generator: torch.Generator) -> Tensor:
    """Half of them edges, half any pairs; each once."""
    edges = edge_index[:, torch.randint(edge_index.size(1), (count - count // 2,), generator=generator)]
    others = torch.randint(n, (2, count // 2), generator=generator)
    pairs = torch.cat([edges, others], dim=1).sort(dim=0).values
    return pairs[:, pairs[0] != pairs[1]].unique(dim=1)


def pairs_at(node: int, n: int) -> Tensor:
    """Every pair of one node: in ℓ∞ all flips at one node are worse than as many anywhere."""
    others = torch.arange(n)[torch.arange(n) != node]
    return torch.stack([torch.full_like(others, node), others]).sort(dim=0).values


def worst_pairs(goal: Callable[[Tensor, Tensor], Tensor], edge_index: Tensor, candidates: Tensor, count: int) -> Tensor:
    """The candidates whose flip the gradient of ``goal(edge_index, weight)`` likes best."""
    n = int(edge_index.max()) + 1
    present = torch.isin(candidates[0] * n + candidates[1], edge_index[0] * n + edge_index[1])
    rest = flip_edges(edge_index, candidates[:, present], num_nodes=n)
    weight = present.to(torch.float64).requires_grad_()
    edges = torch.cat([rest, candidates, candidates.flip(0)], dim=1)
    value = goal(edges, torch.cat([torch.ones(rest.size(1), dtype=torch.float64), weight, weight]))
    (slope,) = torch.autograd.grad(value, weight)
    gain = torch.where(present, -slope, slope)
    return candidates[:, gain.topk(min(count, len(gain))).indices]


def main() -> None:
    """Train, bound, perturb, compare."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--random", type=int, default=1000)
    parser.add_argument("--adversarial", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("runs/coupled_bound"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    data = datasets.load("cora")
    with replacing(options.out / "coupled_bound.jsonl") as partial, partial.open("w") as file:
        for name, model in models(data):
            torch.manual_seed(0)
            model.reset_parameters()
            training.fit(model, data, patience=50)
            for row in compare(name, model.double().eval(), data, options.random, options.adversarial):
                file.write(json.dumps(row) + "\n")


def compare(
    name: str, model: torch.nn.Module, data: Data, num_random: int, num_adversarial: int
) -> Iterator[dict[str, object]]:
    """One row for each perturbation; a summary is printed."""
    x, edge_index, n = data.x.double(), data.edge_index, data.num_nodes
    bound = model.lipschitz(x, edge_index)
    assert bound.certified, bound.reason
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        clean = model(x, edge_index)

    def moved(edges: Tensor, features: Tensor) -> float:
        with torch.no_grad():
            return float(vector_norm(model(features, edges) - clean, bound.norm))

    def worst_at(node: int, count: int) -> Tensor:
        reference = clean + 1e-3 * torch.randn(clean.shape, generator=generator, dtype=clean.dtype)
        return worst_pairs(
            lambda e, w: vector_norm(model(x, e, w) - reference, bound.norm), edge_index, pairs_at(node, n), count
        )

    def row(adversarial: bool, kind: str, flips: int, size: float, actual: float) -> dict[str, object]:
        allowed = bound.change(features=size, flips=flips)
        assert actual <= allowed * (1 + 1e-9), f"the bound is broken: {actual} > {allowed}"
        linear = bound.features * size + 2 * flips * bound.structure_here
        return {
            "model": name, "norm": bound.norm, "adversarial": adversarial, "kind": kind, "flips": flips,
            "features": size, "bound": allowed, "linear": linear, "actual": actual,
        }  # fmt: skip

    rows = []
    for index in range(num_random + num_adversarial):
        adversarial = index >= num_random
        kind = ("edges", "features", "both")[index % 3]
        flips, size, edges, features = 0, 0.0, edge_index, x
        if kind != "features":
            count = 1 + int(torch.randint(50, (), generator=generator))
            if adversarial:
                pairs = worst_at(int(torch.randint(n, (), generator=generator)), count)
            else:
                pairs = random_pairs(edge_index, n, count, generator)
            flips, edges = pairs.size(1), flip_edges(edge_index, pairs, num_nodes=n)
        if kind != "edges":
            change = torch.randn(x.shape, generator=generator, dtype=x.dtype)
            if adversarial:
                start = (x + 1e-3 * change).requires_grad_()
                value = vector_norm(model(start, edges) - clean, bound.norm)
                (change,) = torch.autograd.grad(value, start)
            if bound.norm == "linf":
                change = change.sign()
            features = x + change * (0.1 / float(vector_norm(change, bound.norm)))
            size = float(vector_norm(features - x, bound.norm))
        actual = moved(edges, features)
        rows.append((adversarial, kind, bound.change(features=size, flips=flips) / max(actual, 1e-300)))
        yield row(adversarial, kind, flips, size, actual)
    for count in (1, 50, 200):
        nodes = torch.randint(n, (5,), generator=generator).tolist()
        pairs = [worst_at(node, count) for node in nodes]
        actual = max(moved(flip_edges(edge_index, chosen, num_nodes=n), x) for chosen in pairs)
        yield row(True, "edges of one node", count, 0.0, actual)
        allowed, linear = bound.change(flips=count), 2 * count * bound.structure_here
        print(f"  {count} flips: {allowed:.3g} (linear {linear:.4g}), found {actual:.3g}", flush=True)
    print(
        f"{name} ({bound.norm}): c_X {bound.features:.3g}, c_A {bound.structure_here:.3g} here, {bound.structure:.3g}"
    )
    for adversarial in (False, True):
        for kind in ("edges", "features", "both"):
            ratios = sorted(ratio for a, k, ratio in rows if (a, k) == (adversarial, kind))
            if ratios:
                who = "adversarial" if adversarial else "random"
                print(
                    f"  {who:11s} {kind:8s} {len(ratios):4d} tries, bound/actual: smallest {ratios[0]:.3g}, median "
                    f"{ratios[len(ratios) // 2]:.3g}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
