"""Whatever an injection returns, the limits are kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.attacks import AttackError, AttackResult, Budget, get
from contractive_gnn.attacks.injection import FeatureRange, Injection, InjectionAttack, check_injection
from contractive_gnn.nn import GCNClassifier
from contractive_gnn.training import evaluate


class Given(InjectionAttack):
    """Returns what it was given."""

    name = "given"
    knowledge = "random"

    def __init__(self, x: Tensor, edges: list[tuple[int, int]], *, features: str = "range") -> None:
        super().__init__(features=features)
        self.x, self.edges = x, torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).t()

    def _inject(
        self,
        data: Data,
        nodes: int,
        edges: int,
        allowed: FeatureRange,
        *,
        victim: nn.Module | None,
        targets: Tensor | None,
    ) -> Injection:
        return Injection(self.x, self.edges)


BUDGET = Budget(nodes=2, edges=3)


def test_old_nodes_come_first_and_new_ones_are_unknown(graph: Data) -> None:
    x = graph.x[[5, 8]]
    result = Given(x, [(0, 4), (0, 7), (1, 4)]).run(graph, BUDGET)
    n, after = 90, result.data
    assert after.num_nodes == n + 2
    assert torch.equal(after.x, torch.cat([graph.x, x]))
    assert torch.equal(after.y, torch.cat([graph.y, torch.tensor([-1, -1])]))
    for key in ("train_mask", "val_mask", "test_mask"):
        assert torch.equal(after[key], torch.cat([graph[key], torch.tensor([False, False])]))
    assert result.edge_flips.t().tolist() == [[4, 90], [4, 91], [7, 90]]
    assert (result.n_flips, result.feature_flips.shape[1]) == (3, 0)
    assert graph.num_nodes == n
    old = (after.edge_index < n).all(dim=0)
    assert torch.equal(after.edge_index[:, old], graph.edge_index)


@pytest.mark.parametrize(
    ("x", "edges", "says"),
    [
        (torch.zeros(3, 40), [(0, 1)], "where 2 new nodes are allowed"),
        (torch.zeros(2, 39), [(0, 1)], r"new features \[2, 39\]"),
        (torch.zeros(2, 40), [(0, 1), (0, 2), (0, 3), (0, 4)], "gave new node 0 4 edges, where 3 are allowed"),
        (torch.zeros(2, 40), [(0, 1), (0, 1)], "duplicates"),
        (torch.zeros(2, 40), [(2, 1)], "outside of"),
        (torch.zeros(2, 40), [(-3, 1)], "outside of|between old nodes"),
        (torch.zeros(2, 40), [(0, 90)], "outside of"),
        (torch.full((2, 40), 1.5), [(0, 1)], "the feature 1.5 in column 0, where the old nodes have 0 to 1"),
        (torch.full((2, 40), float("nan")), [(0, 1)], "not finite"),
    ],
)
def test_what_an_injection_breaks_is_named(graph: Data, x: Tensor, edges: list[tuple[int, int]], says: str) -> None:
    with pytest.raises(AttackError, match=f"attack 'given' .*({says})"):
        Given(x, edges).run(graph, BUDGET)


def test_words_are_ones_and_no_more_than_an_old_node_has(graph: Data) -> None:
    most = int(graph.x.sum(dim=1).max())
    Given(graph.x[:2], [(0, 1)], features="words").run(graph, BUDGET)
    with pytest.raises(AttackError, match=f"a new node 40 words, where no old node has more than {most}"):
        Given(torch.ones(1, 40), [(0, 1)], features="words").run(graph, BUDGET)
    with pytest.raises(AttackError, match="features other than 0 and 1"):
        Given(torch.full((1, 40), 0.5), [(0, 1)], features="words").run(graph, BUDGET)
    graph.x = graph.x * 0.5
    with pytest.raises(ValueError, match="'words' is for features of 0 and 1"):
        Given(graph.x[:2], [(0, 1)], features="words").run(graph, BUDGET)


@pytest.mark.parametrize("budget", [Budget(flips=3), Budget(fraction=0.1), Budget(nodes=3)])
def test_a_budget_of_another_form_is_refused(graph: Data, budget: Budget) -> None:
    with pytest.raises(ValueError, match=r"Budget\(nodes=60, edges=20\)"):
        get("random-injection").run(graph, budget)


@pytest.mark.parametrize("name", ["random", "whitebox-pgd", "flip-features"])
def test_attacks_that_flip_refuse_a_number_of_nodes(graph: Data, name: str) -> None:
    with pytest.raises(ValueError, match="this one flips"):
        get(name).run(graph, Budget(nodes=3), victim=GCNClassifier(40, 3))


def test_no_new_nodes_change_nothing(graph: Data) -> None:
    result = get("random-injection").run(graph, Budget(nodes=0, edges=3))
    assert (result.n_flips, result.data.num_nodes) == (0, 90)


def test_more_edges_than_old_nodes_are_refused(graph: Data) -> None:
    with pytest.raises(ValueError, match="cannot have 91 edges in a graph of 90 nodes"):
        get("random-injection").run(graph, Budget(nodes=1, edges=91))


def test_a_field_of_nodes_that_new_ones_lack_is_refused(graph: Data) -> None:
    graph.n_id = torch.arange(90)
    with pytest.raises(ValueError, match=r"del data\.n_id"):
        get("random-injection").run(graph, BUDGET)


def test_the_result_is_read_again(graph: Data, tmp_path: Any) -> None:
    result = get("random-injection").run(graph, BUDGET)
    result.save(tmp_path / "attacked.npz")
    read = AttackResult.load(tmp_path / "attacked.npz")
    assert read.budget == BUDGET
    assert torch.equal(read.data.x, result.data.x)
    check_injection(graph, read.data, nodes=2, edges=3)


def test_accuracy_is_that_of_the_old_test_nodes(graph: Data) -> None:
    result = get("random-injection").run(graph, BUDGET)
    model = GCNClassifier(40, 3).eval()
    right = model(result.data.x, result.data.edge_index).argmax(dim=1)[:90] == graph.y
    expected = 100 * float(right[graph.test_mask].float().mean())
    assert evaluate(model, result.data, result.data.test_mask) == pytest.approx(expected)


class TestCheck:
    """A graph from elsewhere is held to the same limits."""

    @pytest.fixture
    def attacked(self, graph: Data) -> Data:
        return get("random-injection").run(graph, BUDGET).data

    def check(self, graph: Data, attacked: Data, says: str) -> None:
        with pytest.raises(AttackError, match=says):
            check_injection(graph, attacked, nodes=2, edges=3)

    def test_an_old_feature(self, graph: Data, attacked: Data) -> None:
        attacked.x[7, 3] = 1 - attacked.x[7, 3]
        self.check(graph, attacked, "changed x of the old node 7")

    def test_an_old_label(self, graph: Data, attacked: Data) -> None:
        attacked.y[4] = (attacked.y[4] + 1) % 3
        self.check(graph, attacked, "changed y of the old node 4")

    def test_a_mask(self, graph: Data, attacked: Data) -> None:
        attacked.test_mask[91] = True
        self.check(graph, attacked, "put a new node into test_mask")

    def test_a_label_of_a_new_node(self, graph: Data, attacked: Data) -> None:
        attacked.y[90] = 0
        self.check(graph, attacked, "gave a new node a label")

    def test_an_old_edge(self, graph: Data, attacked: Data) -> None:
        u, v = graph.edge_index[:, 0].tolist()
        same = (attacked.edge_index == torch.tensor([[u], [v]])).all(dim=0)
        back = (attacked.edge_index == torch.tensor([[v], [u]])).all(dim=0)
        attacked.edge_index = attacked.edge_index[:, ~(same | back)]
        self.check(graph, attacked, rf"flipped the edge \({min(u, v)}, {max(u, v)}\) between old nodes")

    def test_edges_between_new_nodes_count_for_both(self, graph: Data, attacked: Data) -> None:
        both = torch.tensor([[90, 91], [91, 90]])
        attacked.edge_index = torch.cat([attacked.edge_index, both], dim=1)
        self.check(graph, attacked, "gave new node 0 4 edges")


class NeverAsked(Given):
    """Fails where a search would begin."""

    name = "never-asked"

    def _inject(self, *given: Any, **more: Any) -> Injection:
        raise AssertionError("the search began")


def test_a_field_that_new_nodes_lack_is_refused_before_the_search(graph: Data) -> None:
    graph.n_id = torch.arange(90)
    with pytest.raises(ValueError, match=r"del data\.n_id"):
        NeverAsked(graph.x[:1], [(0, 1)]).run(graph, BUDGET)
