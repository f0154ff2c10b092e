"""Certificates against every graph of up to five nodes, and what notices the faults that certificates once had.

    python docs/experiments/certify_enumeration.py --out docs/results/certify_enumeration.jsonl

Small models of every activation, space and precision are certified within budgets of up to 2n + 3 flips a node, and the
model itself is run, in its own precision, on all graphs with that many nodes. Every second model has its bias moved so
that some node is within rounding errors of changing. One line for each activation, space and precision says how many
certified predictions there were and how many of them some allowed graph changes (``broken``: of a sound certificate
none). Then each of four faults is put back into the certificate, and one line says how many certificates the
self-check refused, and how many of the others a graph of the listing broke.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from contractive_gnn.activations import ACTIVATIONS, Huber
from contractive_gnn.bench.results import current_commit, current_versions, replacing
from contractive_gnn.certificates import FlipBudget, bounds, certificate, certify, parts, rounding
from contractive_gnn.compiled import kernels
from contractive_gnn.dynamics import Diffusion
from contractive_gnn.nn import FlowConv, FlowGNN
from contractive_gnn.nn.parametrizations import spectral
from contractive_gnn.nn.sparse import Linear

CLASSES = 3
SIGMAS = [name for name in ACTIVATIONS if not name.startswith("group-")]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
#: certified accuracy is not the point: a redescending σ is refused, and once is enough
REFUSED = ("log-sum", "mcp", "firm", "scad")


@dataclass(frozen=True, eq=False)
class Listing:
    """All graphs on n nodes, one beside the other as a single graph of G n nodes."""

    n: int
    pairs: list[tuple[int, int]]
    chosen: Tensor  # [G, pairs]: which pairs are edges
    edge_index: Tensor  # of all graphs

    @classmethod
    def of(cls, n: int) -> Listing:
        """All of them."""
        pairs = list(combinations(range(n), 2))
        graphs = 2 ** len(pairs)
        chosen = (torch.arange(graphs)[:, None] >> torch.arange(len(pairs))) & 1
        graph, pair = chosen.nonzero().t()
        ends = torch.tensor(pairs)[pair].t() + n * graph
        return cls(n, pairs, chosen.bool(), torch.cat([ends, ends.flip(0)], dim=1))

    def graph(self, index: int) -> Tensor:
        """One of them, ``[2, E]``."""
        ends = torch.tensor(self.pairs)[self.chosen[index]].view(-1, 2).t()
        return torch.cat([ends, ends.flip(0)], dim=1)

    def allowed(self, clean: int, budget: FlipBudget, flips: int) -> Tensor:
        """Which graphs are within the budget of ``flips`` at every node around a clean one, bool ``[G]``."""
        flipped = self.chosen ^ self.chosen[clean]
        ends = torch.zeros(len(self.pairs), self.n, dtype=torch.long)
        for row, pair in enumerate(self.pairs):
            ends[row, list(pair)] = 1
        within = (flipped.long() @ ends <= flips).all(dim=1)
        if not budget.additions:
            within &= ~(flipped & ~self.chosen[clean]).any(dim=1)
        if not budget.deletions:
            within &= ~(flipped & self.chosen[clean]).any(dim=1)
        return within if budget.total is None else within & (flipped.sum(dim=1) <= budget.total)

    def scores(self, model: nn.Module, x: Tensor) -> Tensor:
        """The model's own scores on every graph, ``[G, n, classes]``."""
        graphs = len(self.chosen)
        with torch.no_grad():
            return model(x.repeat(graphs, 1), self.edge_index).view(graphs, self.n, -1)  # type: ignore[no-any-return]


LISTINGS = {n: Listing.of(n) for n in (3, 4, 5)}


def budgets(n: int) -> Iterator[tuple[FlipBudget, int]]:
    """Budgets of up to 2n + 3 flips a node, and one without a limit, with the number of flips asked for."""
    for flips in (*range(2 * n + 4), 10**7):
        yield FlipBudget.uniform(flips, n), flips
    yield FlipBudget.uniform(1, n, deletions=False), 1
    yield FlipBudget.uniform(2, n, additions=False), 2
    yield FlipBudget.uniform(2, n, total=2), 2


@dataclass(frozen=True, eq=False)
class Case:
    """A model with a graph of its own."""

    model: nn.Module
    x: Tensor
    listing: Listing
    clean: int
    compiled: bool  # whether the kernels may be used


def case(sigma: str, space: str, dtype: torch.dtype, seed: int) -> Case:
    """One model, drawn under a seed; every third with a parametrised encoder, every second moved to the edge."""
    generator = torch.Generator().manual_seed(seed)

    def pick(values: list[Any]) -> Any:
        return values[int(torch.randint(0, len(values), (), generator=generator))]

    listing, d = LISTINGS[pick([3, 4, 5, 5])], pick([4, 9])
    mu, steps, spread = pick([0.05, 0.5, 2.0, 9.0]), pick([1, 2, 5]), pick([0.3, 1.0, 30.0])
    torch.manual_seed(seed)
    threshold = {} if sigma in ("identity", "leaky-relu") else {"threshold": pick([0.03, 0.3, 1.0])}
    dynamics = Diffusion(activation=sigma, mu=2.5 if sigma in REFUSED else mu, **threshold)
    flow = FlowConv(dynamics, num_steps=steps)
    model = FlowGNN(d, CLASSES, flow, hidden_channels=8, space=space).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        model.decoder.weight.mul_(spread)
    model = model.to(dtype)
    if seed % 3 == 0 and dtype.itemsize > 2:  # there is no singular value in half precision
        spectral(model.encoder, bound=0.7)
    x = (torch.rand(listing.n, d, generator=generator) < 0.5).to(dtype)
    made = Case(model, x, listing, int(torch.randint(0, len(listing.chosen), (), generator=generator)), seed % 4 != 0)
    if seed % 2:
        to_the_edge(made, generator)
    return made


def to_the_edge(made: Case, generator: torch.Generator) -> None:
    """Move the bias until the least lead of one node's class over another, of few flips, is about zero."""
    listing, model = made.listing, made.model
    scores = listing.scores(model, made.x).double()
    flips = int(torch.randint(0, 3, (), generator=generator))
    within = listing.allowed(made.clean, FlipBudget.uniform(flips, listing.n), flips)
    node = int(torch.randint(0, listing.n, (), generator=generator))
    own, other = scores[made.clean, node].topk(2).indices.tolist()
    least = float((scores[within, node, own] - scores[within, node, other]).min())
    dust = (2 * float(torch.rand((), generator=generator)) - 1) * torch.finfo(made.x.dtype).eps * 8
    with torch.no_grad():
        model.decoder.bias[own] -= least + dust * float(scores.abs().max())  # type: ignore[index, operator]


def judge(made: Case, counts: Counter[str]) -> None:
    """Certify one model within every budget, and look at all graphs that it allows."""
    n, known = made.listing.n, {}
    with nullcontext() if made.compiled else kernels.disabled():
        answers = made.listing.scores(made.model, made.x).argmax(dim=2)
        for budget, flips in budgets(n):
            key = (*budget.per_node.tolist(), budget.additions, budget.deletions, budget.total)
            if key not in known:
                known[key] = certify(made.model, made.x, made.listing.graph(made.clean), flips=budget)
            found = known[key]
            within = made.listing.allowed(made.clean, budget, flips)
            changed = (answers[within] != found.prediction).any(dim=0)
            broken = int((changed & found.certified).sum())
            counts["budgets"] += 1
            counts["refused"] += bool(found.reason)
            counts["predictions"] += n * int(within.sum())
            counts["certified"] += int(found.certified.sum())
            counts["changed"] += int(changed.sum())
            counts["broken"] += broken
            counts["budgets_broken"] += broken > 0


def sound(seeds: int) -> Iterator[dict[str, Any]]:
    """Every activation, space and precision."""
    for sigma in SIGMAS:
        for space in ("class", "hidden"):
            for dtype in DTYPES:
                counts: Counter[str] = Counter()
                for seed in range(1 if sigma in REFUSED else seeds):
                    judge(case(sigma, space, dtype, 1000 * SIGMAS.index(sigma) + seed), counts)
                    counts["models"] += 1
                yield {"sigma": sigma, "space": space, "dtype": str(dtype).removeprefix("torch."), **counts}


def _old_rounding(size: Tensor, graph: bounds.Neighbourhoods, sigma: Any, *, mu: float, dtype: torch.dtype) -> Tensor:
    terms = (graph.degree + graph.budget.per_node + 9).double() * torch.finfo(dtype).eps
    return (terms / (1 - terms) * (torch.minimum(2 * size, size.new_tensor(sigma.bound)) + 6 * size))[:, None]


@contextmanager
def _a_budget_without_an_end() -> Iterator[None]:
    with patch.object(FlipBudget, "__post_init__", lambda self: None), ExitStack() as stack:
        full = {"uniform": lambda flips, n, **more: FlipBudget(torch.full((n,), flips), **more)}
        stack.enter_context(patch.object(FlipBudget, "uniform", full["uniform"]))
        for module in (bounds, certificate):
            stack.enter_context(patch.object(module, "step_rounding", _old_rounding))
        yield


@contextmanager
def _converted_parametrisations() -> Iterator[None]:
    with patch.object(parts, "_converted", lambda layer: copy.deepcopy(layer).double()):
        yield


@contextmanager
def _subclasses_and_hooks() -> Iterator[None]:
    covered = (FlowGNN, FlowConv, Diffusion, Linear, Huber)

    def nearest(module: nn.Module) -> type:
        return next((kind for kind in covered if isinstance(module, kind)), type(module))

    with (
        patch.object(parts, "altered", lambda model, **_: ""),
        patch.object(parts, "plain_type", nearest),
        patch.object(parts, "type_before_parametrizations", nearest),
    ):
        yield


@contextmanager
def _overflow() -> Iterator[None]:
    with patch.object(bounds, "in_range", lambda *_: None), patch.object(rounding, "in_range", lambda *_: None):
        yield


class _ReadsEdges(FlowGNN):
    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Class scores of features that know the degree."""
        degree = torch.bincount(edge_index[1], minlength=len(x)).to(x.dtype)
        return super().forward(x + 3 * torch.sin(7 * degree)[:, None], edge_index, edge_weight)


class _Steep(Huber):
    def forward(self, d: Tensor) -> Tensor:
        """A slope of 3, in spite of what the class declares."""
        return 3 * super().forward(d)


def _beyond_two(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
    degree = torch.bincount(given[1][1], minlength=len(out))
    return torch.where((degree > 2)[:, None], -out, out)


def _any(seed: int) -> Case:
    return case("identity", "class", torch.float32, 2 * seed)


def _parametrised(seed: int) -> Case:
    """Many features: the bound of the encoder's weights is then far from the same in two precisions."""
    made = case("huber", "class", torch.float32, 2 * seed)
    torch.manual_seed(seed)
    model = FlowGNN(1433, CLASSES, made.model.conv, space="class").eval()  # type: ignore[arg-type]
    spectral(model.encoder, bound=0.5)
    with torch.no_grad():
        model.decoder.weight.mul_(5)
    x = (torch.rand(made.listing.n, 1433) < 0.01).float()
    made = Case(model, x, made.listing, made.clean, made.compiled)
    to_the_edge(made, torch.Generator().manual_seed(seed))
    return made


def _altered(seed: int) -> Case:
    made = case("huber", "class", torch.float32, 6 * seed + 2)
    model: Any = made.model
    if seed % 3 == 0:
        model.__class__ = _ReadsEdges
    elif seed % 3 == 1:
        model.conv.register_forward_hook(_beyond_two)
    else:
        model.conv.dynamics.sigma = _Steep(model.conv.dynamics.sigma.threshold)
    return made


def _huge(seed: int) -> Case:
    """Scores of both signs that the precision holds, unlike their differences along an edge that is not there yet."""
    dtype, n = (torch.float16, torch.float32)[seed % 2], 4
    conv = FlowConv(Diffusion(activation="identity", mu=9.0), num_steps=2)
    model = FlowGNN(2 * CLASSES, CLASSES, conv, hidden_channels=2 * CLASSES, space="class").to(dtype).eval()
    with torch.no_grad():
        model.encoder.weight.copy_(torch.eye(2 * CLASSES))
        model.decoder.weight.copy_(torch.cat([torch.eye(CLASSES), -torch.eye(CLASSES)], dim=1))
        model.encoder.bias.zero_()
        model.decoder.bias.zero_()
    drawn = 2 * torch.rand(n, CLASSES, generator=torch.Generator().manual_seed(seed)) - 1
    start = 0.9 * torch.finfo(dtype).max * drawn
    return Case(model, torch.cat([start, -start], dim=1).relu().to(dtype), LISTINGS[n], 0, seed % 4 < 2)


#: a fault, how it is put back, and models on which it shows
MUTATIONS: dict[str, tuple[Callable[[], Any], Callable[[int], Case]]] = {
    "(a) a budget without an end makes slacks negative": (_a_budget_without_an_end, _any),
    "(b) a parametrisation is evaluated in another precision": (_converted_parametrisations, _parametrised),
    "(c) subclasses and hooks pass for the class itself": (_subclasses_and_hooks, _altered),
    "(d) numbers that overflow pass": (_overflow, _huge),
}


def mutated(seeds: int) -> Iterator[dict[str, Any]]:
    """Each fault put back."""
    for name, (fault, make) in MUTATIONS.items():
        counts: Counter[str] = Counter()
        for seed in range(seeds):
            made = make(seed)
            with fault():
                judge(made, counts)
            counts["models"] += 1
        yield {"mutation": name, **counts}


def main() -> None:
    """Write one line for each group of models, and one for each fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=12, help="models of each activation, space and precision")
    parser.add_argument("--mutated-seeds", type=int, default=12, help="models for each fault")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    commit, changes = current_commit()
    common = {"commit": commit, "uncommitted_changes": changes, "versions": current_versions()}
    total: Counter[str] = Counter()
    with replacing(options.out) as partial, partial.open("w", encoding="utf-8") as file:
        for rows in (sound(options.seeds), mutated(options.mutated_seeds)):
            for row in rows:
                file.write(json.dumps({**row, **common}, ensure_ascii=False) + "\n")
                print(row, flush=True)
                if "mutation" not in row:
                    total.update({key: value for key, value in row.items() if isinstance(value, int)})
    print("in all:", dict(total))


if __name__ == "__main__":
    main()
