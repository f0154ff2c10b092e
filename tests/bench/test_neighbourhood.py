from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest
import torch
from torch import Tensor

from contractive_gnn.bench.neighbourhood import neighbourhood, same_class
from contractive_gnn.bench.neighbourhood_svg import ADDED, REMOVED, WRONG, draw, panel

SVG = "{http://www.w3.org/2000/svg}"


def edges(*pairs: tuple[int, int]) -> Tensor:
    return torch.tensor([[u, v] for u, v in pairs] + [[v, u] for u, v in pairs]).t().reshape(2, -1)


#: a path 0 – 1 – 2 – 3 – 4, and 5 by itself
BEFORE = edges((0, 1), (1, 2), (2, 3), (3, 4))
#: 0 – 1 is removed, 0 – 5 added
AFTER = edges((1, 2), (2, 3), (3, 4), (0, 5))
LABELS = [0, 0, 1, 1, 1, 2]


def test_hops_are_in_both_graphs_together() -> None:
    around = neighbourhood(0, BEFORE, AFTER, LABELS, hops=2)
    assert dict(around.hops) == {0: 0, 1: 1, 5: 1, 2: 2}
    assert around.before == {(0, 1), (1, 2)}
    assert around.after == {(1, 2), (0, 5)}
    assert (around.added, around.removed, around.left_out) == ({(0, 5)}, {(0, 1)}, 0)


def test_every_node_has_a_place_of_its_own_in_the_disc() -> None:
    star = edges(*((0, v) for v in range(1, 40)))
    around = neighbourhood(0, star, star, [0] * 40, most=40)
    assert around.place[0] == (0.0, 0.0)
    places = list(around.place.values())
    assert all(math.hypot(*place) <= 1 + 1e-9 for place in places)
    assert min(math.dist(p, q) for i, p in enumerate(places) for q in places[:i]) > 0.1


def test_the_nearest_are_drawn_first_and_those_at_flips() -> None:
    star = edges(*((0, v) for v in range(1, 9)))
    more = edges(*((0, v) for v in range(1, 9)), (7, 8))
    around = neighbourhood(0, star, more, [0] * 9, hops=1, most=4)
    assert list(around.hops) == [0, 7, 8, 1]
    assert around.left_out == 5
    assert (7, 8) in around.added  # both ends on the outer circle: drawn since it is a flip


def test_edges_on_the_outer_circle_are_left_out() -> None:
    triangle = edges((0, 1), (0, 2), (1, 2))
    assert neighbourhood(0, triangle, triangle, [0] * 3, hops=1).before == {(0, 1), (0, 2)}
    assert neighbourhood(0, triangle, triangle, [0] * 3, hops=2).before == {(0, 1), (0, 2), (1, 2)}


def test_a_node_without_neighbours_is_drawn_alone() -> None:
    around = neighbourhood(5, BEFORE, BEFORE, LABELS)
    assert dict(around.place) == {5: (0.0, 0.0)}
    ElementTree.fromstring(draw(around, [[0] * 6], LABELS, [None]))


def test_neighbours_of_its_class() -> None:
    assert same_class(2, BEFORE, LABELS) == (2, 1)
    assert same_class(5, BEFORE, LABELS) == (0, 0)


@pytest.mark.parametrize("after", [False, True])
def test_flips_errors_and_weights_are_drawn(after: bool) -> None:
    around = neighbourhood(0, BEFORE, AFTER, LABELS, hops=2)
    weights = {(0, 1): 0.9, (1, 2): 0.0} if not after else {(1, 2): 0.0, (0, 5): 0.25}
    prediction = [0, 1, 1, 1, 1, 2]  # node 1 is wrong
    root = ElementTree.fromstring(panel(around, prediction, LABELS, weights, after=after))
    lines = {line.find(f"{SVG}title").text: line for line in root.iter(f"{SVG}line")}  # type: ignore[union-attr]
    flipped = "edge 0 – 5, added, weight 0.250" if after else "edge 0 – 1, to be removed, weight 0.900"
    assert set(lines) == {flipped, "edge 1 – 2, weight 0.000"}
    assert lines[flipped].get("stroke") == (ADDED if after else REMOVED)
    assert (lines[flipped].get("stroke-dasharray") is None) == after
    assert float(lines["edge 1 – 2, weight 0.000"].get("stroke-width", "9")) < 0.5
    circled = [c for c in root.iter(f"{SVG}circle") if c.get("stroke") == WRONG]
    assert len(circled) == 1
    assert (
        "1 edges added" in root.get("aria-label", "")
        if after
        else "1 edges to be removed" in root.get("aria-label", "")
    )
