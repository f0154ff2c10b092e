from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given
from hypothesis import strategies as st

from contractive_gnn.attacks.whitebox import (
    project_onto_budget,
)


class TestProjection:
    vectors = st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=40)

    @given(vectors, st.floats(0, 45))
    def test_it_is_feasible_and_leaves_feasible_points_alone(self, values: list[float], budget: float) -> None:
        v = torch.tensor(values, dtype=torch.float64)
        p = project_onto_budget(v, budget)
        assert bool(((p >= 0) & (p <= 1)).all())
        clipped = v.clamp(0, 1)
        if float(clipped.sum()) <= budget:
            assert torch.equal(p, clipped)
        else:
            assert float(p.sum()) == pytest.approx(budget, abs=1e-9)
        assert torch.allclose(project_onto_budget(p, budget), p, atol=1e-9)

    @given(vectors, st.floats(0, 45), st.integers(0, 2**32 - 1))
    def test_no_feasible_point_is_nearer(self, values: list[float], budget: float, seed: int) -> None:
        # p is the projection iff (v − p)·(q − p) ≤ 0 for every q of the convex set
        v = torch.tensor(values, dtype=torch.float64)
        p = project_onto_budget(v, budget)
        generator = torch.Generator().manual_seed(seed)
        q = torch.rand(100, v.numel(), generator=generator, dtype=torch.float64)
        q *= (budget / q.sum(dim=1, keepdim=True)).clamp(max=1)
        assert float(((q - p) @ (v - p)).max()) <= 1e-9

    @pytest.mark.parametrize("seed", range(5))
    def test_it_is_what_a_solver_finds(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        v, budget = rng.normal(0.5, 1.0, size=8), 1.7
        solved = scipy.optimize.minimize(
            lambda p: ((p - v) ** 2).sum(),
            np.full(8, 0.1),
            jac=lambda p: 2 * (p - v),
            bounds=[(0, 1)] * 8,
            constraints={"type": "ineq", "fun": lambda p: budget - p.sum()},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        assert np.abs(project_onto_budget(torch.from_numpy(v), budget).numpy() - solved.x).max() < 1e-6

    @pytest.mark.parametrize("budget", [0, 1, 37, 2_500.5])
    def test_many_entries_go_the_short_way_to_the_same_point(self, budget: float) -> None:
        v = torch.randn(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        p = project_onto_budget(v, budget)
        assert float(p.sum()) == pytest.approx(budget, abs=1e-7)
        inside = (p > 0) & (p < 1)
        if bool(inside.any()):  # one shift for all
            shifts = (v - p)[inside]
            assert float(shifts.max() - shifts.min()) < 1e-9
            assert float(v[p == 0].max()) <= float(shifts.mean()) + 1e-9

    def test_ties_share_the_budget(self) -> None:
        assert torch.allclose(project_onto_budget(torch.full((10,), 7.0), 3), torch.full((10,), 0.3))

    def test_a_negative_budget_is_refused(self) -> None:
        with pytest.raises(ValueError, match="at least 0, given -1"):
            project_onto_budget(torch.zeros(3), -1)
