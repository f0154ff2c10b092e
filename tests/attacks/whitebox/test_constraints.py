from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from contractive_gnn.attacks.whitebox import EdgeFlips, FeatureFlips, GlobalBudget, LocalBudget, project_onto_budget

N = 6
PAIRS = torch.triu_indices(N, N, 1)
FLIPS = EdgeFlips(nn.Identity(), torch.ones(N, 1), PAIRS[:, :4])
ENDS = FLIPS.pairs

values = st.lists(st.floats(-1, 2, width=32), min_size=15, max_size=15).map(torch.tensor)
budgets = st.tuples(st.integers(0, 8), st.lists(st.integers(0, 4), min_size=N, max_size=N).map(torch.tensor))


def at_nodes(p: Tensor) -> Tensor:
    return torch.zeros(N, dtype=p.dtype).index_add(0, ENDS.flatten(), torch.cat([p, p]))


def feasible(budget: int, per_node: Tensor) -> list[Tensor]:
    """Every set of flips within the budgets, by enumeration."""
    sets = []
    for size in range(budget + 1):
        for places in itertools.combinations(range(FLIPS.size), size):
            chosen = torch.zeros(FLIPS.size, dtype=torch.bool)
            chosen[list(places)] = True
            if bool((at_nodes(chosen.long()) <= per_node).all()):
                sets.append(chosen)
    return sets


class TestLocalBudget:
    @given(values, budgets)
    def test_the_projection_keeps_all_budgets_and_leaves_feasible_points_alone(
        self, v: Tensor, given: tuple[int, Tensor]
    ) -> None:
        budget = LocalBudget(*given)
        p = budget.project(v, FLIPS)
        assert bool(((p >= 0) & (p <= 1)).all())
        assert float(p.sum()) <= given[0] + 1e-5
        assert bool((at_nodes(p) <= given[1] + 1e-5).all())
        assert torch.allclose(budget.project(p, FLIPS), p, atol=1e-5)

    @given(values, st.integers(0, 8))
    def test_without_a_limit_at_the_nodes_it_is_the_nearest_point(self, v: Tensor, b: int) -> None:
        budget = LocalBudget(b, torch.full((N,), N))
        assert torch.allclose(budget.project(v, FLIPS), project_onto_budget(v, b), atol=1e-6)
        assert torch.equal(budget.largest(v, FLIPS), GlobalBudget(b).largest(v, FLIPS)) or v.unique().numel() < 15

    @given(values, budgets, st.integers(0, 2**32 - 1))
    def test_what_is_chosen_keeps_all_budgets_and_leaves_no_room(
        self, v: Tensor, given: tuple[int, Tensor], seed: int
    ) -> None:
        budget = LocalBudget(*given)
        torch.manual_seed(seed)
        kept = budget.draw(FLIPS)
        for chosen, start in ((budget.largest(v, FLIPS), None), (budget.complete(kept, v, FLIPS), kept), (kept, None)):
            assert budget.holds(chosen, FLIPS)
            assert start is None or bool((chosen | ~start).all())
        full = budget.complete(kept, v, FLIPS)
        for place in (~full & (v > 0)).nonzero().flatten().tolist():
            more = full.clone()
            more[place] = True
            assert not budget.holds(more, FLIPS)

    @pytest.mark.parametrize("seed", range(6))
    def test_at_least_half_of_the_best_that_enumeration_finds(self, seed: int) -> None:
        # a greedy matching is within a factor of two of the heaviest one, and so is one with several edges at a node
        generator = torch.Generator().manual_seed(seed)
        v = torch.rand(FLIPS.size, generator=generator)
        per_node = torch.randint(0, 3, (N,), generator=generator)
        sets = feasible(4, per_node)
        chosen = LocalBudget(4, per_node).largest(v, FLIPS)
        assert any(torch.equal(chosen, one) for one in sets)
        best = max(float(v[one].sum()) for one in sets)
        assert best / 2 <= float(v[chosen].sum()) <= best + 1e-6

    @pytest.mark.parametrize(("b", "per_node"), [(2, [1, 1, 1, 1, 1, 1]), (3, [2, 1, 0, 1, 1, 3]), (1, [0] * 6)])
    def test_it_holds_exactly_where_enumeration_says_so(self, b: int, per_node: list[int]) -> None:
        budget = LocalBudget(b, torch.tensor(per_node))
        allowed = {tuple(one.tolist()) for one in feasible(b, torch.tensor(per_node))}
        for size in range(b + 2):
            for places in itertools.combinations(range(FLIPS.size), size):
                chosen = torch.zeros(FLIPS.size, dtype=torch.bool)
                chosen[list(places)] = True
                assert budget.holds(chosen, FLIPS) == (tuple(chosen.tolist()) in allowed)

    @pytest.mark.parametrize("per_node", [torch.tensor([1.0]), torch.tensor([[1]]), torch.tensor([-1])])
    def test_other_budgets_are_refused(self, per_node: Tensor) -> None:
        with pytest.raises(ValueError, match="one whole number of flips ≥ 0 for every node"):
            LocalBudget(1, per_node)

    def test_it_is_for_edges(self) -> None:
        features = FeatureFlips(nn.Identity(), torch.zeros(2, 2), torch.empty(2, 0, dtype=torch.long))
        with pytest.raises(TypeError, match="is for flips of edges, given FeatureFlips"):
            LocalBudget(1, torch.tensor([1, 1])).largest(torch.ones(4), features)
