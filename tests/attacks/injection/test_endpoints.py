from __future__ import annotations

import torch

from contractive_gnn.attacks.injection.endpoints import Endpoints

LIKE = torch.zeros(1)


def test_open_candidates_of_a_node_are_distinct_and_the_best_survive() -> None:
    torch.manual_seed(0)
    drawn = Endpoints.draw(4, 30, 50, LIKE)
    for row, there in zip(drawn.old, drawn.open, strict=True):
        assert sorted(set(row.tolist())) == sorted(row[there].tolist())
    slope = torch.rand(4, 30)
    ascended = drawn.moved(slope, 0.5, 5)
    assert bool((ascended.p.sum(dim=1) <= 5 + 1e-5).all())
    assert bool((ascended.p[~ascended.open] == 0).all())
    renewed = ascended.renewed()
    best = [row[p.argmax()].item() for row, p in zip(ascended.old, ascended.p, strict=True)]
    for row, p, there, node, value in zip(
        renewed.old, renewed.p, renewed.open, best, ascended.p.amax(dim=1), strict=True
    ):
        assert float(p[(row == node) & there]) == float(value)
        assert sorted(set(row.tolist())) == sorted(row[there].tolist())


def test_all_old_nodes_are_considered_where_there_are_few() -> None:
    drawn = Endpoints.draw(2, 30, 20, LIKE)
    assert drawn.old.tolist() == [list(range(20))] * 2
    assert drawn.renewed() is drawn
    p = torch.zeros(2, 20)
    p[0, [3, 4, 5]], p[1, 7] = torch.tensor([0.2, 0.9, 0.5]), 0.1
    assert Endpoints(drawn.old, p, drawn.open, 20).largest(2).t().tolist() == [[0, 4], [0, 5], [1, 7]]
