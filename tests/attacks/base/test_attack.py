from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.attacks import Attack, AttackError, Budget, Perturbation
from contractive_gnn.attacks.base import undirected_edges
from contractive_gnn.bench.speed import measure


def flips(*pairs: tuple[int, int]) -> Tensor:
    return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).t()


class Proposes(Attack):
    """Returns whatever it was built with."""

    name, kind, scope, knowledge = "proposes", "both", "global", "random"
    allowed_radius: float | None = None

    def __init__(self, *, proposal: Any = None, seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.proposal = proposal

    @property
    def radius(self) -> float | None:
        return self.allowed_radius

    def _perturb(self, data: Data, n_flips: int, *, victim: nn.Module | None, targets: Tensor | None) -> Perturbation:
        return self.proposal(data) if callable(self.proposal) else self.proposal


class ProposesEdges(Proposes):
    name, kind = "proposes-edges", "structure"


class ProposesFeatures(Proposes):
    name, kind = "proposes-features", "features"


class ProposesContinuous(Proposes):
    name, kind, allowed_radius = "proposes-continuous", "features", 0.5


class Draws(Attack):
    """Connects its target (or node 0) with nodes drawn from all three global random generators."""

    name, kind, scope, knowledge = "draws", "structure", "global", "random"

    def _perturb(self, data: Data, n_flips: int, *, victim: nn.Module | None, targets: Tensor | None) -> Perturbation:
        drawn = {int(np.random.randint(1, 30)), random.randrange(30, 60), int(torch.randint(60, 90, ()))}  # noqa: NPY002
        return Perturbation(edge_flips=flips(*((0, node) for node in sorted(drawn)[:n_flips])))


class Targeted(Attack):
    """Flips the edges from its target to the next nodes, and notes what it was given."""

    name, kind, scope, knowledge = "targeted", "structure", "targeted", "random"

    def __init__(self, *, seen: list[Any], seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.seen = seen

    def _perturb(self, data: Data, n_flips: int, *, victim: nn.Module | None, targets: Tensor | None) -> Perturbation:
        assert targets is not None
        self.seen.append((targets.tolist(), undirected_edges(data.edge_index).shape[1], victim))
        target, n = int(targets), data.num_nodes
        ends = [(target, (target + step) % n) for step in range(1, n_flips + 1)]
        return Perturbation(edge_flips=flips(*((min(pair), max(pair)) for pair in ends)))


class Adaptive(Attack):
    """Tries to change the victim, and notes the state it found it in."""

    name, kind, scope, knowledge = "adaptive", "structure", "global", "adaptive"

    def __init__(self, *, seen: list[Any], seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.seen = seen

    def _perturb(self, data: Data, n_flips: int, *, victim: nn.Module | None, targets: Tensor | None) -> Perturbation:
        assert victim is not None
        self.seen.append((victim, victim.training, any(p.requires_grad for p in victim.parameters())))
        with torch.no_grad():
            for parameter in victim.parameters():
                parameter.fill_(7.0)
        victim.train()
        data.x.zero_()
        data.y.zero_()
        return Perturbation()


def test_the_base_class_applies_the_flips(graph: Data) -> None:
    before = graph.clone()
    present = tuple(undirected_edges(graph.edge_index)[:, 0].tolist())
    result = Proposes(proposal=Perturbation(edge_flips=flips(present, (0, 1)), feature_flips=flips((5, 2)))).run(
        graph, Budget(flips=3)
    )
    assert {*map(tuple, result.edge_flips.t().tolist())} == {present, (0, 1)}
    assert result.feature_flips.tolist() == [[5], [2]]
    assert result.n_flips == 3
    edges = {*map(tuple, result.data.edge_index.t().tolist())}
    assert present not in edges
    assert {(0, 1), (1, 0)} <= edges
    assert result.data.x[5, 2] == 1 - before.x[5, 2]
    for key in before.keys():  # noqa: SIM118  (a Data iterates over pairs)
        assert_same(graph[key], before[key])
        if key not in ("x", "edge_index"):
            assert_same(result.data[key], before[key])
    assert result.provenance["allowed_flips"] == 3
    assert result.provenance["versions"]["torch"] == torch.__version__.split("+")[0]


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


@pytest.mark.parametrize(
    ("attack", "proposal", "says"),
    [
        (Proposes, Perturbation(edge_flips=flips((0, 1), (0, 2), (0, 4))), "made 3 flips where 2 are allowed"),
        (
            Proposes,
            Perturbation(edge_flips=flips((0, 1), (0, 2)), feature_flips=flips((0, 0))),
            "made 3 flips where 2 are allowed",
        ),
        (Proposes, Perturbation(edge_flips=flips((4, 4))), "made 1 self-loops"),
        (Proposes, Perturbation(edge_flips=flips((0, 1), (0, 1))), "duplicates in edge_flips"),
        (Proposes, Perturbation(feature_flips=flips((0, 1), (0, 1))), "duplicates in feature_flips"),
        (Proposes, Perturbation(edge_flips=flips((1, 0))), "u < v"),
        (Proposes, Perturbation(edge_flips=flips((0, 90))), "outside of"),
        (Proposes, Perturbation(edge_flips=flips((-1, 3))), "outside of"),
        (Proposes, Perturbation(feature_flips=flips((0, 40))), "outside of"),
        (Proposes, Perturbation(edge_flips=flips((0, 1)).float()), "int64"),
        (Proposes, Perturbation(edge_flips=flips((0, 1)).t()[:1, :1]), "int64 tensor"),
        (Proposes, None, "not a Perturbation"),
        (ProposesEdges, Perturbation(feature_flips=flips((0, 1))), "attacks the structure, but changed features"),
        (Proposes, Perturbation(new_x=torch.zeros(1, 40)), "added or deleted nodes"),
        (Proposes, Perturbation(deleted=torch.tensor([3])), "added or deleted nodes"),
        (ProposesFeatures, Perturbation(edge_flips=flips((0, 1))), "attacks the features, but flipped 1 edges"),
        (ProposesFeatures, lambda data: Perturbation(x=data.x + 1.0), "without declaring a radius"),
        (ProposesContinuous, lambda data: Perturbation(x=data.x[:5]), "of shape"),
        (ProposesContinuous, lambda data: Perturbation(x=data.x * torch.nan), "not finite"),
        (ProposesContinuous, lambda data: Perturbation(x=bumped(data, 2, 0.51)), "where 0.5 is allowed"),
        (ProposesContinuous, lambda data: Perturbation(x=bumped(data, 3, 0.5)), "made 3 flips where 2 are allowed"),
        (
            ProposesContinuous,
            lambda data: Perturbation(x=bumped(data, 1, 0.5), feature_flips=flips((0, 1))),
            "both feature_flips and x",
        ),
    ],
)
def test_a_cheating_attack_is_caught(graph: Data, attack: type[Proposes], proposal: Any, says: str) -> None:
    with pytest.raises(AttackError, match=says) as caught:
        attack(proposal=proposal).run(graph, Budget(flips=2))
    assert repr(attack.name) in str(caught.value)


def bumped(data: Data, entries: int, amount: float) -> Tensor:
    x: Tensor = data.x.clone()
    x[0, :entries] += amount
    return x


def test_continuous_features_count_by_entry(graph: Data) -> None:
    graph.x = graph.x + 0.25
    result = ProposesContinuous(proposal=lambda data: Perturbation(x=bumped(data, 2, -0.5))).run(graph, Budget(flips=2))
    assert result.feature_flips.tolist() == [[0, 0], [0, 1]]
    assert torch.allclose(result.data.x[0, :2], graph.x[0, :2] - 0.5)
    assert result.n_flips == 2


def test_flips_of_features_that_are_not_binary_are_refused(graph: Data) -> None:
    graph.x = graph.x + 0.25
    with pytest.raises(ValueError, match="binarise x first"):
        ProposesFeatures(proposal=Perturbation()).run(graph, Budget(flips=2))
    with pytest.raises(AttackError, match="binarise x first"):
        Proposes(proposal=Perturbation(feature_flips=flips((0, 0)))).run(graph, Budget(flips=2))


def directed(data: Data) -> None:
    data.edge_index = data.edge_index[:, 1:]


def looped(data: Data) -> None:
    data.edge_index = torch.cat([data.edge_index, flips((3, 3))], dim=1)


def doubled(data: Data) -> None:
    data.edge_index = torch.cat([data.edge_index, data.edge_index[:, :1]], dim=1)


def outside(data: Data) -> None:
    data.edge_index = torch.cat([data.edge_index, flips((0, 90), (90, 0))], dim=1)


def weighted(data: Data) -> None:
    data.edge_weight = torch.ones(data.edge_index.shape[1])


def stale(data: Data) -> None:
    data.adj_t = torch.eye(90).to_sparse()


def half(data: Data) -> None:
    data.x = data.x.half()


def unlabelled(data: Data) -> None:
    data.y[data.train_mask.nonzero()[0]] = -1


def unmasked(data: Data) -> None:
    del data.val_mask


def sparse(data: Data) -> None:
    data.x = data.x.to_sparse_csr()


def infinite(data: Data) -> None:
    data.x[-1, -1] = -torch.inf


def not_finite(data: Data) -> None:
    data.x[0, 0] = torch.nan


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (directed, "the graph is directed; add both directions"),
        (looped, "node 3 has a self-loop"),
        (doubled, "is there twice"),
        (outside, "nodes from 0 to 90; expected 0 to 89"),
        (weighted, "has edge_weight"),
        (stale, "has adj_t"),
        (unmasked, "lacks val_mask"),
        (sparse, "expected a dense tensor"),
        (half, "attacks need float32 or float64"),
        (not_finite, "not finite"),
        (infinite, "not finite"),
        (unlabelled, r"data\.train_mask selects 1 nodes without a label"),
    ],
)
def test_graphs_that_cannot_be_attacked_are_refused(graph: Data, spoil: Callable[[Data], None], says: str) -> None:
    spoil(graph)
    with pytest.raises(ValueError, match=says):
        Draws().run(graph, Budget(flips=1))


def test_a_split_of_indices_is_attacked_like_its_masks(graph: Data) -> None:
    listed = graph.clone()
    for key in ("train_mask", "val_mask", "test_mask"):
        listed[key] = graph[key].nonzero().flatten()
    listed.y = graph.y.unsqueeze(1)
    one, other = (Draws(seed=1).run(data, Budget(flips=3)) for data in (graph, listed))
    assert torch.equal(one.edge_flips, other.edge_flips)
    assert torch.equal(one.data.test_mask, other.data.test_mask)
    assert torch.equal(one.data.y, other.data.y)
    assert listed.y.shape == (90, 1)  # the caller's own stays as it is


@pytest.mark.parametrize(
    ("targets", "error", "says"),
    [
        (None, ValueError, "is targeted: give the nodes"),
        ([1, 2], TypeError, "given list"),
        (torch.zeros(90, dtype=torch.bool), TypeError, "bool mask"),
        (torch.tensor([1.0]), TypeError, "float32"),
        (torch.tensor([[1]]), TypeError, r"shape \[1, 1\]"),
        (torch.tensor([], dtype=torch.int64), ValueError, "empty"),
        (torch.tensor([3, 3]), ValueError, "distinct"),
        (torch.tensor([3, 90]), ValueError, "0…89"),
        (torch.tensor([-1]), ValueError, "0…89"),
    ],
)
def test_targets_that_make_no_sense_are_refused(graph: Data, targets: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        Targeted(seen=[]).run(graph, Budget(flips=1), targets=targets)


def test_other_arguments_that_make_no_sense_are_refused(graph: Data) -> None:
    with pytest.raises(TypeError, match="the budget is a Budget"):
        Draws().run(graph, 0.05)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="number of flips per target"):
        Targeted(seen=[]).run(graph, Budget(fraction=0.1), targets=torch.tensor([1]))
    with pytest.raises(ValueError, match="needs the model that it attacks"):
        Adaptive(seen=[]).run(graph, Budget(flips=1))
    with pytest.raises(TypeError, match=r"torch\.nn\.Module"):
        Adaptive(seen=[]).run(graph, Budget(flips=1), victim=lambda x: x)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="given dict"):
        Draws().run({}, Budget(flips=1))
    for seed, error in ((1.0, TypeError), (True, TypeError), (-1, ValueError), (2**32, ValueError)):
        with pytest.raises(error, match="seed"):
            Draws(seed=seed)  # type: ignore[arg-type]


def test_a_budget_for_a_target_beyond_all_pairs_is_refused(graph: Data) -> None:
    with pytest.raises(ValueError, match="is more than the 4005 that there are to flip in a graph of 90 nodes"):
        Targeted(seen=[]).run(graph, Budget(flips=10**30), targets=torch.tensor([0]))


def test_a_victim_that_cannot_be_copied_is_named(graph: Data) -> None:
    victim = nn.Linear(40, 3)
    victim.kept = victim.weight * 2
    with pytest.raises(AttackError, match="Linear cannot be copied"):
        Adaptive(seen=[]).run(graph, Budget(flips=1), victim=victim)


def test_random_state_is_put_back(graph: Data) -> None:
    def state() -> tuple[Any, ...]:
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002

    before = state()
    first = Draws(seed=3).run(graph, Budget(flips=3))
    assert state() == before
    with pytest.raises(AttackError):
        Proposes(proposal=lambda _: random.random() + np.random.rand() + float(torch.rand(()))).run(  # noqa: NPY002
            graph, Budget(flips=3)
        )
    assert state() == before
    random.seed(99)
    torch.manual_seed(99)
    assert torch.equal(first.edge_flips, Draws(seed=3).run(graph, Budget(flips=3)).edge_flips)
    assert not torch.equal(first.edge_flips, Draws(seed=4).run(graph, Budget(flips=3)).edge_flips)


def test_the_victim_is_a_frozen_copy(graph: Data) -> None:
    victim = nn.Sequential(nn.Linear(40, 3), nn.Dropout())
    weights = {key: value.clone() for key, value in victim.state_dict().items()}
    seen: list[Any] = []
    result = Adaptive(seen=seen).run(graph, Budget(flips=1), victim=victim)
    ((copy, training, requires_grad),) = seen
    assert copy is not victim
    assert not training
    assert not requires_grad
    assert victim.training
    assert all(parameter.requires_grad for parameter in victim.parameters())
    assert all(torch.equal(value, weights[key]) for key, value in victim.state_dict().items())
    assert torch.equal(result.data.x, graph.x)  # what it does to its copy of the graph is lost too
    assert graph.y.any()


def test_an_attack_that_is_not_adaptive_never_sees_the_victim(graph: Data) -> None:
    seen: list[Any] = []
    Targeted(seen=seen).run(graph, Budget(flips=1), victim=nn.Linear(40, 3), targets=torch.tensor([0]))
    assert seen[0][2] is None


def test_targets_are_attacked_one_after_another(graph: Data) -> None:
    graph.edge_index = flips((0, 50), (50, 0))
    seen: list[Any] = []
    result = Targeted(seen=seen).run(graph, Budget(flips=2), targets=torch.tensor([10, 20]))
    assert [(target, edges) for target, edges, _ in seen] == [([10], 1), ([20], 3)]
    assert result.edge_flips.tolist() == [[10, 10, 20, 20], [11, 12, 21, 22]]
    assert result.data.targets.tolist() == [10, 20]
    assert result.provenance["allowed_flips"] == 2
    assert result.provenance["targets"] == [10, 20]


def test_what_a_later_target_undoes_is_gone(graph: Data) -> None:
    class BackAndForth(Targeted):
        def _perturb(self, data: Data, n_flips: int, **_: Any) -> Perturbation:
            return Perturbation(edge_flips=flips((0, 1)))

    result = BackAndForth(seen=[]).run(graph, Budget(flips=1), targets=torch.tensor([0, 1]))
    assert result.n_flips == 0
    assert torch.equal(result.data.edge_index, graph.edge_index)


def test_a_budget_of_nothing_changes_nothing(graph: Data) -> None:
    for budget in (Budget(flips=0), Budget(fraction=0.0), Budget(fraction=0.001)):
        result = Draws().run(graph, budget)
        assert result.n_flips == 0
        assert torch.equal(result.data.edge_index, graph.edge_index)


@pytest.mark.parametrize("budget", [Budget(flips=0), Budget(flips=2)], ids=str)
def test_the_result_shares_nothing_with_the_graph(graph: Data, budget: Budget) -> None:
    given: list[Data] = []

    def spoil(data: Data) -> Perturbation:
        given.append(data)
        data.x.zero_()
        data.y.zero_()
        return Perturbation(edge_flips=flips((0, 1)))

    before = graph.clone()
    result = Proposes(proposal=spoil).run(graph, budget)
    assert torch.equal(result.data.x, before.x)
    assert torch.equal(graph.x, before.x)
    assert torch.equal(graph.y, before.y)
    for key in before.keys():  # noqa: SIM118  (a Data iterates over pairs)
        if isinstance(graph[key], Tensor):
            owners = {data[key].data_ptr() for data in (graph, result.data, *given)}
            assert len(owners) == 2 + len(given), key


def test_features_that_are_only_read_are_not_copied_for_the_attack(graph: Data) -> None:
    given: list[Data] = []

    class Reads(Proposes):
        name, kind, reads_features = "reads", "structure", True

    def look(data: Data) -> Perturbation:
        given.append(data)
        return Perturbation(edge_flips=flips((0, 1)))

    before = graph.clone()
    result = Reads(proposal=look).run(graph, Budget(flips=2))
    assert given[0].x is graph.x
    assert given[0].edge_index.data_ptr() != graph.edge_index.data_ptr()
    assert result.data.x.data_ptr() != graph.x.data_ptr()
    assert torch.equal(graph.x, before.x)

    class Inherits(Reads):
        name = "inherits"

    Inherits(proposal=look).run(graph, Budget(flips=2))
    assert given[1].x is not graph.x  # the promise of another class


def test_a_run_holds_one_copy_of_the_features(graph: Data) -> None:
    megabytes = 100
    graph.x = torch.ones(90, megabytes * 2**18 // 90)
    cost = measure(lambda: ProposesEdges(proposal=Perturbation(edge_flips=flips((0, 1)))).run(graph, Budget(flips=2)))
    if cost.megabytes is None:
        pytest.skip("this system does not tell a process its peak memory")
    assert megabytes < cost.megabytes < 1.6 * megabytes  # and bits that tell which entries differ


def test_an_attack_takes_one_graph(graph: Data) -> None:
    graph.batch = torch.arange(90) // 45
    with pytest.raises(ValueError, match=r"data is a batch of graphs, which an attack would join; attack one"):
        Draws().run(graph, Budget(flips=1))
    graph.batch = torch.zeros(90, dtype=torch.int64)
    assert Draws().run(graph, Budget(flips=1)).n_flips == 1
