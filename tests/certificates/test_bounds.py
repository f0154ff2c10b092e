"""The bounds against every graph within the budget, on graphs small enough to list them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations, product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contractive_gnn.activations import Activation, activation
from contractive_gnn.certificates import Box, FlipBudget, Neighbourhoods, diffusion_bounds, worst_step
from contractive_gnn.certificates import bounds as module
from contractive_gnn.certificates import total as total_module
from contractive_gnn.certificates.total import total_harm
from contractive_gnn.compiled import kernels
from contractive_gnn.dynamics import Diffusion
from contractive_gnn.graph import Graph
from contractive_gnn.nn import FlowConv

Pairs = tuple[tuple[int, int], ...]
#: float64 sums in another order differ by less than this
SLACK = 1e-12


def random_graph(n: int, *, probability: float, seed: int) -> Tensor:
    """A dense symmetric 0/1 adjacency matrix."""
    generator = torch.Generator().manual_seed(seed)
    upper = (torch.rand(n, n, generator=generator) < probability).double().triu(1)
    return upper + upper.t()


def random_state(n: int, channels: int, *, seed: int) -> Tensor:
    return torch.randn(n, channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def matchings(nodes: tuple[int, ...]) -> Iterator[Pairs]:
    """Every set of pairs of these nodes with no node in two of them: all that one flip at every node can be."""
    if len(nodes) < 2:
        yield ()
        return
    first, rest = nodes[0], nodes[1:]
    yield from matchings(rest)
    for partner in rest:
        for more in matchings(tuple(node for node in rest if node != partner)):
            yield ((first, partner), *more)


def flip_sets(per_node: list[int]) -> list[Pairs]:
    """Every set of pairs with at most ``per_node[i]`` of them at node i."""
    found: list[Pairs] = [()]
    for pair in combinations(range(len(per_node)), 2):
        for chosen in list(found):
            counts = [sum(node in flip for flip in (*chosen, pair)) for node in pair]
            if all(count <= per_node[node] for count, node in zip(counts, pair, strict=True)):
                found.append((*chosen, pair))
    return found


def flipped(adjacency: Tensor, choices: list[Pairs]) -> Tensor:
    """The graphs after the flips, ``[g, n, n]``."""
    graphs = adjacency.repeat(len(choices), 1, 1)
    graph = torch.tensor([index for index, choice in enumerate(choices) for _ in choice], dtype=torch.long)
    pairs = torch.tensor([pair for choice in choices for pair in choice], dtype=torch.long).view(-1, 2)
    for i, j in ((0, 1), (1, 0)):
        graphs[graph, pairs[:, i], pairs[:, j]] = 1 - graphs[graph, pairs[:, i], pairs[:, j]]
    return graphs


def run(graphs: Tensor, x: Tensor, diffusion: Diffusion, *, step: float, num_steps: int) -> Tensor:
    """The diffusion on many dense graphs at once: ``[g, n, n]`` and ``[n, c]`` or ``[g, n, c]`` to ``[g, n, c]``."""
    weight = graphs / (1 + graphs.sum(dim=2, keepdim=True))
    start = x.expand(len(graphs), *x.shape[-2:])
    state = start
    for _ in range(num_steps):
        pulls = diffusion.sigma.antisymmetric(state[:, :, None] - state[:, None])
        state = state - step * (torch.einsum("gij,gijc->gic", weight, pulls) + diffusion.mu * (state - start))
    return state


def extremes(choices: list[Pairs], adjacency: Tensor, x: Tensor, diffusion: Diffusion, **how: float) -> Box:
    """The exact entrywise range over all of the graphs."""
    lower, upper = torch.full_like(x, torch.inf), torch.full_like(x, -torch.inf)
    for first in range(0, len(choices), 10_000):
        out = run(flipped(adjacency, choices[first : first + 10_000]), x, diffusion, **how)  # type: ignore[arg-type]
        lower, upper = torch.minimum(lower, out.amin(0)), torch.maximum(upper, out.amax(0))
    return Box(lower, upper)


def laid_out(adjacency: Tensor, flips: int) -> Neighbourhoods:
    return Neighbourhoods.of(adjacency.nonzero().t(), FlipBudget.uniform(flips, len(adjacency)))


def bound(x: Tensor, adjacency: Tensor, budget: FlipBudget, diffusion: Diffusion, **how: float) -> Box:
    graph = Neighbourhoods.of(adjacency.nonzero().t(), budget)
    return diffusion_bounds(
        Box.exact(x), graph, diffusion.sigma, mu=diffusion.mu, **how,  # type: ignore[arg-type]
    )[-1]  # fmt: skip


def holds(outer: Box, inner: Box) -> bool:
    return bool((outer.lower <= inner.lower + SLACK).all() and (inner.upper <= outer.upper + SLACK).all())


def test_the_dense_reference_is_the_layer_itself() -> None:
    adjacency, x = random_graph(12, probability=0.3, seed=0), random_state(12, 3, seed=0)
    diffusion = Diffusion(mu=0.3, threshold=0.4)
    layer = FlowConv(diffusion, num_steps=4)
    expected = layer(x, adjacency.nonzero().t())
    step = float(layer.step_size(Graph.of(x, adjacency.nonzero().t())))
    torch.testing.assert_close(run(adjacency[None], x, diffusion, step=step, num_steps=4)[0], expected)


@pytest.mark.parametrize("sigma", ["huber", "tanh", "identity", "leaky-relu"])
@pytest.mark.parametrize("allowed", ["both", "additions", "deletions"])
def test_one_step_is_the_exact_worst_case_of_every_entry(sigma: str, allowed: str) -> None:
    n, per_node = 7, [0, 1, 2, 3, 1, 2, 6]
    adjacency, z = random_graph(n, probability=0.45, seed=1), random_state(n, 3, seed=1)
    diffusion = Diffusion(activation=sigma, mu=0.2)
    budget = FlipBudget(torch.tensor(per_node), additions=allowed != "deletions", deletions=allowed != "additions")
    anchor, step = random_state(n, 3, seed=2), 0.7
    neighbourhoods = Neighbourhoods.of(adjacency.nonzero().t(), budget)
    worst = worst_step(z, neighbourhoods, diffusion.sigma, anchor=anchor, step=step, mu=0.2)
    for i in range(n):
        others = [
            j
            for j in range(n)
            if j != i and per_node[j] and (allowed == "both" or (adjacency[i, j] == 0) == (allowed == "additions"))
        ]
        rows = []
        for size in range(min(per_node[i], len(others)) + 1):
            for chosen in combinations(others, size):
                row = adjacency[i].clone()
                row[list(chosen)] = 1 - row[list(chosen)]
                rows.append(row)
        row = torch.stack(rows)
        pulls = diffusion.sigma.antisymmetric(z - z[i])
        mean = row @ pulls / (1 + row.sum(dim=1, keepdim=True))
        expected = (1 - step * 0.2) * z[i] + step * 0.2 * anchor[i] + step * mean.amax(dim=0)
        torch.testing.assert_close(worst[i], expected)


@pytest.mark.parametrize("sigma", ["huber", "identity", "leaky-relu"])
@pytest.mark.parametrize("allowed", ["both", "additions", "deletions"])
@pytest.mark.parametrize("probability", [0.1, 0.5, 0.95])
def test_the_compiled_steps_are_those_of_the_tensors(sigma: str, allowed: str, probability: float) -> None:
    pytest.importorskip("numba")
    n = 30
    adjacency, x = random_graph(n, probability=probability, seed=5), random_state(n, 3, seed=5)
    diffusion = Diffusion(activation=sigma, mu=0.2)
    for per_node, total in ((torch.arange(n) % 4, None), (torch.arange(n) % 2, None), (torch.full((n,), 5), 2)):
        budget = FlipBudget(per_node, total=total, additions=allowed != "deletions", deletions=allowed != "additions")
        graph = Neighbourhoods.of(adjacency.nonzero().t(), budget)

        def bounds(graph: Neighbourhoods = graph) -> Box:
            how = {"mu": 0.2, "step": 0.7, "num_steps": 3, "dtype": torch.float32}
            return diffusion_bounds(Box.exact(x), graph, diffusion.sigma, **how)[-1]  # type: ignore[arg-type]

        compiled = bounds()
        with kernels.disabled():
            plain = bounds()
        torch.testing.assert_close(compiled.upper, plain.upper, rtol=0, atol=1e-13)
        torch.testing.assert_close(compiled.lower, plain.lower, rtol=0, atol=1e-13)


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("flips", [1, 3])
def test_one_step_is_exact_on_larger_graphs_too(probability: float, flips: int) -> None:
    # rows of all widths; at 0.9 most nodes know the best partners, and some have fewer than three left
    n = 40
    adjacency, z = random_graph(n, probability=probability, seed=4), random_state(n, 2, seed=4)
    adjacency[0, 1:] = adjacency[1:, 0] = 1.0
    sigma, budget = activation("huber"), FlipBudget.uniform(flips, n)
    graph = Neighbourhoods.of(adjacency.nonzero().t(), budget)
    worst = worst_step(z, graph, sigma, anchor=torch.zeros_like(z), step=1.0, mu=0.0) - z
    for i, channel in product(range(n), range(2)):
        pulls = sigma.antisymmetric(z[:, channel] - z[i, channel])
        others = torch.arange(n) != i
        here = pulls[others & (adjacency[i] == 1)].sort().values
        free = pulls[others & (adjacency[i] == 0)].sort(descending=True).values
        expected = max(
            float((here[b:].sum() + free[:a].sum()) / (1 + len(here) + a - b))
            for a in range(min(flips, len(free)) + 1)
            for b in range(min(flips - a, len(here)) + 1)
        )
        assert float(worst[i, channel]) == pytest.approx(expected, abs=1e-12)


HOW = {"step": 1 / 1.1, "num_steps": 3}


@pytest.fixture(scope="module")
def twelve() -> tuple[Tensor, Tensor, Diffusion, Box]:
    """A graph of twelve nodes and the exact range over all 140,152 graphs with one flip at every node at most."""
    adjacency, x = random_graph(12, probability=0.25, seed=3), random_state(12, 2, seed=3)
    diffusion = Diffusion(mu=0.1, threshold=0.3)
    choices = list(matchings(tuple(range(12))))
    assert len(choices) == 140_152
    return adjacency, x, diffusion, extremes(choices, adjacency, x, diffusion, **HOW)


def test_no_graph_of_twelve_nodes_leaves_the_bounds_and_the_gap_is_small(
    twelve: tuple[Tensor, Tensor, Diffusion, Box],
) -> None:
    adjacency, x, diffusion, exact = twelve
    box = bound(x, adjacency, FlipBudget.uniform(1, 12), diffusion, **HOW)
    assert holds(box, exact)
    # how much of the bound's width is real: all of it would be 1 (docs/certificates.md quotes the mean)
    tight = (exact.upper - exact.lower) / (box.upper - box.lower)
    assert 0.93 < float(tight.mean()) < 1


def test_one_step_from_a_known_state_leaves_no_gap() -> None:
    adjacency, x = random_graph(8, probability=0.3, seed=3), random_state(8, 2, seed=3)
    diffusion, how = Diffusion(mu=0.1, threshold=0.3), {"step": 0.5, "num_steps": 1}
    exact = extremes(list(matchings(tuple(range(8)))), adjacency, x, diffusion, **how)
    box = bound(x, adjacency, FlipBudget.uniform(1, 8), diffusion, **how)
    torch.testing.assert_close(torch.stack([exact.lower, exact.upper]), torch.stack([box.lower, box.upper]))


def test_a_bound_without_the_reweighting_is_broken(
    twelve: tuple[Tensor, Tensor, Diffusion, Box], monkeypatch: pytest.MonkeyPatch
) -> None:
    adjacency, x, diffusion, exact = twelve
    correct = module._block_worst

    def without_reweighting(z: Tensor, own: Tensor, block: Any, partners: Any, sigma: Activation) -> Tensor:
        # the weights 1/(1 + d) stay what they were when an edge comes or goes
        g = sigma.antisymmetric(z[block.neighbours] - own[:, None])
        gained = module.largest_added(z, own, block, partners, sigma)
        best = g.sum(dim=1) + gained.amax(dim=1).clamp(min=0)
        if block.most_deleted:
            best = torch.maximum(best, g.sum(dim=1) - module.smallest_deleted(g, block)[:, 1])
        return best / (1 + block.degree[:, None])

    monkeypatch.setattr(module._Compiled, "serves", lambda *given: False)  # the tensor operations
    monkeypatch.setattr(module, "_block_worst", without_reweighting)
    box = bound(x, adjacency, FlipBudget.uniform(1, 12), diffusion, **HOW)
    assert not holds(box, exact)
    monkeypatch.setattr(module, "_block_worst", correct)
    assert holds(bound(x, adjacency, FlipBudget.uniform(1, 12), diffusion, **HOW), exact)


def test_a_bound_with_half_the_influence_of_an_edge_is_broken(
    twelve: tuple[Tensor, Tensor, Diffusion, Box], monkeypatch: pytest.MonkeyPatch
) -> None:
    adjacency, x, diffusion, exact = twelve
    correct = module.largest_added
    monkeypatch.setattr(module._Compiled, "serves", lambda *given: False)  # the tensor operations
    monkeypatch.setattr(module, "largest_added", lambda *arguments: 0.5 * correct(*arguments))
    assert not holds(bound(x, adjacency, FlipBudget.uniform(1, 12), diffusion, **HOW), exact)


@pytest.mark.parametrize("per_node", [[2, 2, 2, 2, 2, 2], [0, 3, 1, 2, 1, 1], [0, 0, 0, 5, 1, 1]])
@settings(max_examples=5)
@given(seed=st.integers(0, 2**31), sigma=st.sampled_from(["huber", "tanh"]))
def test_other_budgets_hold_for_every_graph(per_node: list[int], seed: int, sigma: str) -> None:
    adjacency, x = random_graph(6, probability=0.4, seed=seed), random_state(6, 3, seed=seed)
    diffusion = Diffusion(activation=sigma, mu=0.3, threshold=0.5)
    how = {"step": 1 / 1.3, "num_steps": 5}
    exact = extremes(flip_sets(per_node), adjacency, x, diffusion, **how)
    assert holds(bound(x, adjacency, FlipBudget(torch.tensor(per_node)), diffusion, **how), exact)


def test_structure_and_start_may_change_together() -> None:
    adjacency, x = random_graph(6, probability=0.4, seed=0), random_state(6, 2, seed=0)
    diffusion, how = Diffusion(mu=0.3, threshold=0.5), {"step": 1 / 1.3, "num_steps": 4}
    start = Box.exact(x).widened(0.2)
    (box,) = diffusion_bounds(
        start, laid_out(adjacency, 1), diffusion.sigma, mu=0.3, **how  # type: ignore[arg-type]
    )  # fmt: skip
    choices = list(matchings(tuple(range(6))))
    generator = torch.Generator().manual_seed(0)
    corners = torch.randint(0, 2, (300, 6, 2), generator=generator).double()
    for corner in (*corners, torch.zeros(6, 2), torch.ones(6, 2)):
        state = start.lower + corner * (start.upper - start.lower)
        assert holds(box, extremes(choices, adjacency, state, diffusion, **how))
    alone = bound(x, adjacency, FlipBudget.uniform(1, 6), diffusion, **how)
    everything = extremes(choices, adjacency, start.upper, diffusion, **how)
    assert not holds(alone, everything)  # the features' part is needed


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_rounding_errors_of_the_model_are_within_the_slack(dtype: torch.dtype) -> None:
    adjacency, x = random_graph(60, probability=0.3, seed=5), 10 * random_state(60, 4, seed=5).to(dtype)
    diffusion = Diffusion(mu=0.1, threshold=0.7)
    with torch.no_grad():
        single = FlowConv(diffusion, num_steps=20)(x, adjacency.nonzero().t())
    (box,) = diffusion_bounds(
        Box.exact(x.double()), laid_out(adjacency, 0), diffusion.sigma, mu=0.1,
        step=1 / 1.1, num_steps=20, dtype=dtype,
    )  # fmt: skip
    assert bool(((box.lower < single) & (single < box.upper)).all())
    assert float((box.upper - box.lower).max()) < 60 * 20 * 200 * torch.finfo(dtype).eps


def test_every_layer_is_kept_on_demand_and_no_flips_give_the_trajectory() -> None:
    adjacency, x = random_graph(10, probability=0.3, seed=1), random_state(10, 2, seed=1)
    diffusion = Diffusion(mu=0.1)
    boxes = diffusion_bounds(
        Box.exact(x), laid_out(adjacency, 0), diffusion.sigma, mu=0.1, step=0.5,
        num_steps=4, keep=True,
    )  # fmt: skip
    assert len(boxes) == 5
    for steps, box in enumerate(boxes):
        expected = run(adjacency[None], x, diffusion, step=0.5, num_steps=steps)[0]
        torch.testing.assert_close(box.lower, expected)
        torch.testing.assert_close(box.upper, expected)


@pytest.mark.parametrize("flips", [1, 2])
def test_the_bound_can_be_differentiated(flips: int) -> None:
    adjacency = random_graph(6, probability=0.4, seed=2)
    diffusion = Diffusion(activation="tanh", mu=0.3)
    x = random_state(6, 1, seed=2).requires_grad_()

    def worst(x: Tensor) -> Tensor:
        box = bound(x, adjacency, FlipBudget.uniform(flips, 6), diffusion, step=1 / 1.3, num_steps=3)
        return torch.cat([box.lower, box.upper])

    assert torch.autograd.gradcheck(worst, (x,))


@pytest.mark.parametrize(("step", "mu"), [(1.0, 0.1), (0.0, 0.1), (0.5, -0.1)])
def test_a_step_that_is_not_monotone_is_refused(step: float, mu: float) -> None:
    adjacency, x = random_graph(6, probability=0.4, seed=2), random_state(6, 2, seed=2)
    with pytest.raises(ValueError, match="needs mu ≥ 0 and 0 < step"):
        diffusion_bounds(
            Box.exact(x), laid_out(adjacency, 1), activation("huber"), mu=mu,
            step=step, num_steps=1,
        )  # fmt: skip


def test_beyond_its_step_the_bound_would_be_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    # three nodes on a path; at h = 1.5 > 1/(1 + mu) a higher state gives a lower next state
    adjacency = torch.tensor([[0, 1, 1], [1, 0, 0], [1, 0, 0]]).double()
    diffusion, x = Diffusion(activation="identity", mu=0.8), torch.tensor([[1.0], [0.0], [0.0]]).double()
    start = Box.exact(x).widened(0.1)
    graph = laid_out(adjacency, 0)
    z = torch.cat([start.upper, -start.lower], dim=1)
    after = worst_step(z, graph, diffusion.sigma, anchor=z, step=1.5, mu=0.8)
    low = x.clone()
    low[0] -= 0.1
    reached = run(adjacency[None], low, diffusion, step=1.5, num_steps=1)[0]
    fixed_anchor = reached + 1.5 * 0.8 * (x - low)
    assert not bool((fixed_anchor <= after[:, :1] + SLACK).all())


@pytest.mark.parametrize("sigma", ["group-huber", "group-mcp"])
def test_group_activations_are_refused(sigma: str) -> None:
    graph = laid_out(torch.zeros(3, 3), 1)
    with pytest.raises(ValueError, match="elementwise"):
        diffusion_bounds(Box.exact(torch.zeros(3, 2)), graph, activation(sigma), mu=0.0, step=1.0, num_steps=1)


@pytest.mark.parametrize(
    ("edges", "complaint"),
    [([[0], [1]], "both orientations"), ([[0, 1, 0], [1, 0, 1]], "twice"), ([[0, 7], [7, 0]], "names node 7")],
)
def test_a_malformed_graph_is_refused(edges: list[list[int]], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Neighbourhoods.of(torch.tensor(edges), FlipBudget.uniform(1, 3))


def placements(per_node: list[int], total: int) -> list[Pairs]:
    """Every set of at most ``total`` pairs with at most ``per_node[i]`` of them at node i."""
    pairs = list(combinations(range(len(per_node)), 2))
    return [
        chosen
        for size in range(total + 1)
        for chosen in combinations(pairs, size)
        if all(sum(i in pair for pair in chosen) <= most for i, most in enumerate(per_node))
    ]


def worst_falls(
    adjacency: Tensor, x: Tensor, choices: list[Pairs], diffusion: Diffusion, classes: Tensor, **how: float
) -> Tensor:
    """The largest fall of ``x_y − x_k`` over all of the graphs, ``[n, c]``."""
    clean = run(adjacency[None], x, diffusion, **how)[0]  # type: ignore[arg-type]
    moved = run(flipped(adjacency, choices), x, diffusion, **how) - clean  # type: ignore[arg-type]
    own = moved.gather(2, classes.expand(len(choices), -1)[..., None])
    return (moved - own).amax(dim=0)


def harm_bound(
    adjacency: Tensor, x: Tensor, budget: FlipBudget, diffusion: Diffusion, classes: Tensor, **how: float
) -> Tensor:
    return total_harm(
        x, adjacency.nonzero().t(), budget, diffusion.sigma,
        classes=classes, mu=diffusion.mu, **how,  # type: ignore[arg-type]
    )  # fmt: skip


CASES = [
    (10, [1] * 10, 1, "huber", 4), (8, [1] * 8, 2, "huber", 8), (7, [3] * 7, 3, "huber", 5),
    (7, [0, 3, 1, 2, 1, 1, 3], 2, "huber", 5), (7, [2] * 7, 2, "tanh", 4), (7, [2] * 7, 2, "identity", 4),
    (7, [2] * 7, 2, "leaky-relu", 4),
]  # fmt: skip


@pytest.mark.parametrize(("n", "per_node", "total", "sigma", "num_steps"), CASES)
@settings(max_examples=3)
@given(seed=st.integers(0, 2**31))
def test_no_placement_of_the_flips_does_more_harm(
    n: int, per_node: list[int], total: int, sigma: str, num_steps: int, seed: int
) -> None:
    adjacency, x = random_graph(n, probability=0.35, seed=seed), random_state(n, 3, seed=seed)
    diffusion = Diffusion(activation=sigma, mu=0.2, **({"threshold": 0.3} if sigma in ("huber", "tanh") else {}))
    how = {"step": 1 / 1.2, "num_steps": num_steps}
    classes = run(adjacency[None], x, diffusion, **how)[0].argmax(dim=1)  # type: ignore[arg-type]
    exact = worst_falls(adjacency, x, placements(per_node, total), diffusion, classes, **how)
    found = harm_bound(adjacency, x, FlipBudget(torch.tensor(per_node), total=total), diffusion, classes, **how)  # type: ignore[arg-type]
    assert bool((exact <= found + SLACK).all())
    capped = harm_bound(adjacency, x, FlipBudget(torch.tensor(per_node), total=n * n), diffusion, classes, **how)
    assert bool((found <= capped + SLACK).all())


def test_one_flip_does_less_harm_than_one_at_every_node() -> None:
    n, how = 10, {"step": 1 / 1.2, "num_steps": 4}
    for seed in range(3):
        adjacency, x = random_graph(n, probability=0.35, seed=seed), random_state(n, 3, seed=seed)
        diffusion = Diffusion(activation="huber", mu=0.2, threshold=0.3)
        classes = run(adjacency[None], x, diffusion, **how)[0].argmax(dim=1)  # type: ignore[arg-type]
        one, capped = (
            harm_bound(adjacency, x, FlipBudget.uniform(1, n, total=total), diffusion, classes, **how)  # type: ignore[arg-type]
            for total in (1, n * n)
        )
        assert float(one.sum()) < 0.999 * float(capped.sum())


@pytest.mark.parametrize(
    "arguments", [{"additions": False}, {"deletions": False}], ids=["deletions only", "additions only"]
)
def test_one_kind_of_flip(arguments: dict[str, bool]) -> None:
    n, how = 8, {"step": 1 / 1.2, "num_steps": 5}
    adjacency, x = random_graph(n, probability=0.4, seed=1), random_state(n, 3, seed=1)
    diffusion, classes = Diffusion(mu=0.2, threshold=0.3), torch.arange(n) % 3
    present = arguments.get("additions", True)
    allowed = [chosen for chosen in placements([2] * n, 2) if all((adjacency[i, j] == 0) == present for i, j in chosen)]
    exact = worst_falls(adjacency, x, allowed, diffusion, classes, **how)
    found = harm_bound(adjacency, x, FlipBudget.uniform(2, n, total=2, **arguments), diffusion, classes, **how)  # type: ignore[arg-type]
    assert bool((exact <= found + SLACK).all())


def _half_the_flips(correct: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda unit, most, budget: correct(unit, most, max(1, budget // 4))


def _smaller_changes(correct: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
    return lambda *given: tuple(0.5 * part for part in correct(*given))  # type: ignore[return-value]


@pytest.mark.parametrize(("name", "wrong"), [("_knapsack", _half_the_flips), ("_largest_changes", _smaller_changes)])
def test_a_wrong_bound_is_broken(
    name: str, wrong: Callable[[Callable[..., object]], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    n, how = 7, {"step": 1 / 1.2, "num_steps": 5}
    diffusion = Diffusion(mu=0.2, threshold=0.3)
    monkeypatch.setattr(total_module, name, wrong(getattr(total_module, name)))
    broken = False
    for seed in range(6):
        adjacency, x = random_graph(n, probability=0.35, seed=seed), random_state(n, 3, seed=seed)
        classes = run(adjacency[None], x, diffusion, **how)[0].argmax(dim=1)  # type: ignore[arg-type]
        exact = worst_falls(adjacency, x, placements([3] * n, 3), diffusion, classes, **how)
        found = harm_bound(adjacency, x, FlipBudget.uniform(3, n, total=3), diffusion, classes, **how)  # type: ignore[arg-type]
        broken |= bool((exact > found + SLACK).any())
    assert broken


def test_a_budget_without_a_total_is_refused() -> None:
    with pytest.raises(ValueError, match="no total"):
        harm_bound(
            random_graph(4, probability=0.5, seed=0), random_state(4, 2, seed=0), FlipBudget.uniform(1, 4),
            Diffusion(), torch.zeros(4, dtype=torch.long), step=0.5, num_steps=1,
        )  # fmt: skip


def test_the_former_argument_says_what_it_is_now() -> None:
    pair = torch.tensor([[0, 1], [1, 0]])
    start, graph = Box.exact(torch.zeros(3, 1, dtype=torch.float64)), Neighbourhoods.of(pair, FlipBudget.uniform(1, 3))
    options: dict[str, Any] = {"sigma": activation("huber"), "mu": 0.3, "step": 0.5, "num_steps": 2}
    (now,) = diffusion_bounds(start, graph, **options, dtype=torch.float32)
    with pytest.warns(FutureWarning, match="unit_roundoff is deprecated: give dtype"):
        (before,) = diffusion_bounds(start, graph, **options, unit_roundoff=torch.finfo(torch.float32).eps)
    assert torch.equal(now.upper, before.upper)
    with pytest.warns(FutureWarning), pytest.raises(ValueError, match="must be the eps of a dtype"):
        diffusion_bounds(start, graph, **options, unit_roundoff=0.1)
