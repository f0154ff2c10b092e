from __future__ import annotations

import itertools
import tracemalloc
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.data import Data
from torch_geometric.utils import degree, to_undirected

from contractive_gnn import datasets
from contractive_gnn.attacks import AttackError, AttackResult, Budget, factored_matrix, get, meta_gradient
from contractive_gnn.attacks.base import edge_difference, flip_edges
from contractive_gnn.attacks.factored_matrix import BLOCK, FactoredMatrix, Term
from contractive_gnn.attacks.likelihood_ratio import DegreeTest
from contractive_gnn.attacks.meta_gradient import normalise
from contractive_gnn.attacks.metattack import FlipReport, best_edge_flip, train_surrogate
from contractive_gnn.deeprobust import import_deeprobust, mended, replaced, to_arrays, train_gcn


@pytest.fixture(params=["compiled", "NumPy"])
def path(request, monkeypatch):
    """Both ways to the same flips: with numba, and without."""
    if request.param == "compiled":
        pytest.importorskip("numba")
    for module in (meta_gradient, factored_matrix):
        monkeypatch.setattr(module, "numba_is_here", lambda: request.param == "compiled")
    return request.param


def hard_graph(
    seed: int, *, n: int = 70, columns: int = 30, leaves: int = 16, twins: int = 3, density: float = 0.07
) -> Data:
    """Random, with many nodes of degree 1; some come as pairs of twins: same neighbour, features, class and mask."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    core = n - leaves
    likely = np.where(y[:, None] == y, 2, 0.5) * density
    u, v = np.triu(rng.random((core, core)) < likely[:core, :core], 1).nonzero()
    edges = {(int(i), int(j)) for i, j in zip(u, v, strict=True)} | {(i, i + 1) for i in range(core - 1)}
    hosts = rng.integers(0, core, leaves)
    x = rng.random((n, columns)) < np.where(np.arange(columns) % 3 == y[:, None], 0.35, 0.1)
    for first in range(0, 2 * twins, 2):
        hosts[first + 1] = hosts[first]
        x[core + first + 1], y[core + first + 1] = x[core + first], y[core + first]
    edges |= {(int(host), core + leaf) for leaf, host in enumerate(hosts)}
    masks = np.zeros((3, n), dtype=bool)
    for mask, part in zip(masks, np.array_split(rng.permutation(n), [n // 6, n // 3]), strict=True):
        mask[part] = True
    for first in range(core, core + 2 * twins, 2):
        masks[:, first + 1] = masks[:, first]
    return Data(
        x=torch.from_numpy(x).float(),
        edge_index=to_undirected(torch.tensor(sorted(edges)).t(), num_nodes=n),
        y=torch.from_numpy(y),
        train_mask=torch.from_numpy(masks[0]),
        val_mask=torch.from_numpy(masks[1]),
        test_mask=torch.from_numpy(masks[2]),
    )


def guesses(data: Data) -> Tensor:
    """Some self-training labels, right at most nodes."""
    generator = torch.Generator().manual_seed(5)
    wrong = torch.rand(data.num_nodes, generator=generator) < 0.2
    return torch.where(wrong, (data.y + 1) % 3, data.y)


def deeprobust_flips(
    data: Data,
    flips: int,
    *,
    surrogate: Any,
    lambda_: float = 0.0,
    with_bias: bool = False,
    features: bool = False,
    train_iters: int = 100,
) -> list[tuple[int, int]]:
    """The entries that DeepRobust's own Metattack flips, in its order."""
    module = import_deeprobust("graph.global_attack.mettack")
    arrays = to_arrays(data)
    entries = []

    def unravel_index(index: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
        row, column = index // shape[1], index % shape[1]
        entries.append((int(row), int(column)))
        return row, column

    with mended(), replaced(module.utils, unravel_index=unravel_index):
        attack = module.Metattack(
            model=surrogate,
            nnodes=arrays.labels.size,
            feature_shape=arrays.features.shape,
            attack_structure=not features,
            attack_features=features,
            lambda_=lambda_,
            with_bias=with_bias,
            train_iters=train_iters,
            device="cpu",
        )
        if features:  # DeepRobust makes a tensor of the two numbers
            attack.feature_changes = torch.nn.Parameter(torch.zeros(arrays.features.shape))
        attack.attack(
            arrays.features.toarray(),
            arrays.adjacency.toarray(),
            arrays.labels,
            arrays.train,
            np.union1d(arrays.val, arrays.test),
            flips,
            ll_constraint=False,
        )
    return entries


def stand_in(data: Data, *, with_relu: bool = False) -> SimpleNamespace:
    """What DeepRobust reads of a surrogate, with :func:`guesses` as its predictions."""
    return SimpleNamespace(
        with_relu=with_relu, hidden_sizes=[16], nfeat=data.x.shape[1], nclass=3, output=F.one_hot(guesses(data)).float()
    )


def our_flips(name: str, data: Data, flips: int, **hyperparameters: Any) -> tuple[list[tuple[int, int]], AttackResult]:
    entries: list[tuple[int, int]] = []
    attack = get(name, on_flip=lambda report: entries.append(report.entry), **hyperparameters)
    return entries, attack.run(data, Budget(flips=flips))


def net(entries: list[tuple[int, int]]) -> set[tuple[int, int]]:
    """What is left where an entry that is flipped twice is as it was."""
    return {entry for entry in entries if entries.count(entry) % 2}


@pytest.mark.parametrize("lambda_", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_flips_the_edges_that_deeprobust_flips_in_its_order(seed, lambda_):
    data = hard_graph(seed)
    torch.manual_seed(seed)
    expected = deeprobust_flips(data, 12, surrogate=stand_in(data), lambda_=lambda_)
    entries, result = our_flips("metattack", data, 12, seed=seed, lambda_=lambda_, self_training_labels=guesses(data))
    assert entries == expected
    assert result.n_flips == 12


def test_flips_the_same_from_the_seed_alone():
    data = hard_graph(2, n=100)
    torch.manual_seed(7)
    expected = deeprobust_flips(data, 10, surrogate=train_gcn(data))
    assert our_flips("metattack", data, 10, seed=7)[0] == expected


def test_flips_the_same_in_weight_space():
    data = hard_graph(3, columns=8)
    data.train_mask[:40] = True
    data.val_mask[:40] = data.test_mask[:40] = False
    assert int(data.train_mask.sum()) > data.x.shape[1]
    torch.manual_seed(3)
    expected = deeprobust_flips(data, 10, surrogate=stand_in(data))
    assert our_flips("metattack", data, 10, seed=3, self_training_labels=guesses(data))[0] == expected


@pytest.mark.parametrize(("with_relu", "with_bias"), [(True, False), (False, True), (True, True)])
def test_flips_the_same_with_relu_and_biases(with_relu, with_bias):
    data = hard_graph(4)
    torch.manual_seed(4)
    surrogate = stand_in(data, with_relu=with_relu)
    expected = deeprobust_flips(data, 8, surrogate=surrogate, with_bias=with_bias)
    entries, _ = our_flips(
        "metattack",
        data,
        8,
        seed=4,
        self_training_labels=guesses(data),
        with_relu=with_relu,
        with_bias=with_bias,
    )
    assert entries == expected


@pytest.mark.parametrize("lambda_", [0.0, 0.5])
def test_flips_the_feature_entries_that_deeprobust_flips(lambda_):
    data = hard_graph(5)
    torch.manual_seed(5)
    expected = deeprobust_flips(data, 12, surrogate=stand_in(data), lambda_=lambda_, features=True)
    entries, result = our_flips(
        "metattack-features", data, 12, seed=5, lambda_=lambda_, self_training_labels=guesses(data)
    )
    assert entries == expected
    assert {*map(tuple, result.feature_flips.t().tolist())} == net(entries)


@pytest.mark.parametrize(("with_relu", "with_bias"), list(itertools.product([False, True], repeat=2)))
def test_self_training_labels_are_those_of_deeprobusts_surrogate(with_relu, with_bias):
    data = hard_graph(6, n=120)
    torch.manual_seed(0)
    expected = train_gcn(data, with_relu=with_relu, with_bias=with_bias).output.argmax(dim=1)
    torch.manual_seed(0)
    actual = train_surrogate(data, with_relu=with_relu, with_bias=with_bias).labels
    assert torch.equal(actual, expected)


def test_surrogate_without_validation_nodes_takes_the_last_epoch():
    data = hard_graph(6)
    data.val_mask[:] = False
    torch.manual_seed(0)
    labels = train_surrogate(data).labels
    assert (labels == data.y)[data.train_mask].all()


def test_undoes_a_flip_as_deeprobust_does_where_nothing_else_helps(path):
    data = hard_graph(7, n=9, leaves=0, twins=0, density=0.3)
    torch.manual_seed(8)
    expected = deeprobust_flips(data, 40, surrogate=stand_in(data), train_iters=30)
    entries, result = our_flips("metattack", data, 40, seed=8, self_training_labels=guesses(data), train_iters=30)
    assert len({*expected}) < 36, "this graph was to run out of flips that help"
    assert entries == expected
    assert {*map(tuple, result.edge_flips.t().tolist())} == net(entries)


def best_on_path(gradient: np.ndarray, *, flipped: set[tuple[int, int]] | None = None) -> tuple[int, int]:
    """What :func:`best_edge_flip` takes on the path 0–1–2–…, where ∂L/∂S is ``gradient``."""
    n = gradient.shape[0]
    adjacency = sp.diags_array([np.ones(n - 1)] * 2, offsets=[-1, 1], shape=(n, n), format="csr")
    S, degrees = normalise(adjacency)
    propagation = FactoredMatrix((Term(np.eye(n), gradient.T),), (n, n))
    best = best_edge_flip(propagation, S, degrees, adjacency, flipped=flipped or set(), test=None)
    assert best is not None
    return best[0]


def test_keeps_the_only_edge_of_a_node(path):
    gradient = np.zeros((5, 5))
    gradient[0, 1] = -10.0  # cutting (0, 1) promises most
    assert best_on_path(gradient) == (0, 2)  # by the degree of node 0, and first of three that tie
    gradient[2, 3] = -100.0
    assert best_on_path(gradient) == (2, 3)  # an edge between nodes of degree 2 is cut


def test_scores_a_flipped_edge_0(path):
    gradient = np.zeros((5, 5))
    gradient[0, 2], gradient[1, 4] = 1.0, 0.1
    assert best_on_path(gradient) == (0, 2)
    assert best_on_path(gradient, flipped={(0, 2)}) == (1, 4)


def test_scores_that_differ_by_rounding_tie(path):
    gradient = np.zeros((6, 6))  # nodes 3 and 4 have the same degree
    gradient[0, 3], gradient[0, 4] = 1.0, 1.0 + 1e-14
    assert best_on_path(gradient) == (0, 3)
    gradient[0, 4] = 1.0 + 1e-6
    assert best_on_path(gradient) == (0, 4)


def test_ties_across_blocks_of_rows_go_to_the_first(path):
    gradient = np.zeros((BLOCK + 50, BLOCK + 50))
    gradient[5, 8], gradient[BLOCK + 9, BLOCK + 12] = 1.0, 1.0 + 1e-14
    assert best_on_path(gradient) == (5, 8)
    gradient[BLOCK + 9, BLOCK + 12] = 1.0 + 1e-6
    assert best_on_path(gradient) == (BLOCK + 9, BLOCK + 12)


@pytest.mark.parametrize("hyperparameters", [{}, {"lambda_": 0.5}, {"ll_constraint": True}], ids=str)
def test_the_compiled_path_flips_the_same_edges(hyperparameters, monkeypatch):
    pytest.importorskip("numba")
    data = hard_graph(21, n=120)
    compiled, _ = our_flips("metattack", data, 25, seed=3, **hyperparameters)
    for module in (meta_gradient, factored_matrix):
        monkeypatch.setattr(module, "numba_is_here", lambda: False)
    assert our_flips("metattack", data, 25, seed=3, **hyperparameters)[0] == compiled


def test_isolates_no_node():
    data = hard_graph(9)
    _, result = our_flips("metattack", data, 100, seed=0, train_iters=20)
    assert int(degree(data.edge_index[0], 70).min()) == 1
    assert int(degree(result.data.edge_index[0], 70).min()) >= 1


def test_takes_the_first_of_two_twins(path):
    data = hard_graph(10)
    entries, _ = our_flips("metattack", data, 40, seed=0, self_training_labels=data.y, train_iters=20)
    twins = {54: 55, 56: 57, 58: 59}
    first_touched = {}
    for entry, (first, second) in itertools.product(entries, twins.items()):
        # as long as neither has been touched they tie in every flip, and the lower index is first in row-major order
        if first in entry or second in entry:
            first_touched.setdefault(first, first in entry)
    assert first_touched
    assert all(first_touched.values())


def test_likelihood_ratio_constraint_holds_after_every_flip(path):
    data = hard_graph(11)
    hyperparameters = {"seed": 0, "train_iters": 20, "self_training_labels": guesses(data)}
    free, _ = our_flips("metattack", data, 25, **hyperparameters)
    entries, _ = our_flips("metattack", data, 25, ll_constraint=True, ll_cutoff=0.02, **hyperparameters)
    assert entries != free

    def may_follow(before: Tensor, u: int, v: int) -> bool:
        test = DegreeTest(degrees(data.edge_index), degrees(before), cutoff=0.02)
        if bool(((before[0] == u) & (before[1] == v)).any()):
            return bool(test.may_remove(np.array([u]), np.array([v])))
        return bool(test.may_add(slice(u, u + 1), slice(v, v + 1)))

    def degrees(edge_index: Tensor) -> np.ndarray:
        return degree(edge_index[0], 70).double().numpy()

    def all_may(flips: list[tuple[int, int]]) -> list[bool]:
        verdicts, edge_index = [], data.edge_index
        for edge in flips:
            verdicts.append(may_follow(edge_index, *edge))
            edge_index = flip_edges(edge_index, torch.tensor([edge]).t(), num_nodes=70)
        return verdicts

    assert all(all_may(entries))
    assert not all(all_may(free))


def test_stops_where_no_flip_is_admissible():
    data = hard_graph(12)
    result = get("metattack", ll_constraint=True, ll_cutoff=1e-300, train_iters=5).run(data, Budget(flips=4))
    assert result.n_flips == 0
    assert torch.equal(result.data.edge_index, data.edge_index)


def test_reports_every_flip_and_keeps_the_callback_out_of_the_provenance(tmp_path):
    data = hard_graph(13)
    reports: list[FlipReport] = []
    attack = get("metattack", seed=4, train_iters=20, self_training_labels=data.y, on_flip=reports.append)
    result = attack.run(data, Budget(flips=6))
    assert [(report.step, report.total) for report in reports] == [(step, 6) for step in range(1, 7)]
    assert {report.entry for report in reports} == {*map(tuple, result.edge_flips.t().tolist())}
    assert all(report.score > 0 for report in reports)
    assert all(report.loss > 0 for report in reports)
    result.save(tmp_path / "attacked.npz")
    params = AttackResult.load(tmp_path / "attacked.npz").provenance["params"]
    assert "on_flip" not in params
    assert params["self_training_labels"] == data.y.tolist()


def test_same_seed_same_flips_and_smaller_budgets_are_prefixes():
    data = hard_graph(14)
    entries, _ = our_flips("metattack", data, 10, seed=1, train_iters=20)
    assert our_flips("metattack", data, 4, seed=1, train_iters=20)[0] == entries[:4]
    assert our_flips("metattack", data, 10, seed=2, train_iters=20)[0] != entries


@pytest.mark.parametrize("with_relu", [False, True])
def test_holds_no_matrix_of_n_by_n(with_relu):
    n = 3000
    generator = torch.Generator().manual_seed(0)
    ring = torch.arange(n)
    edges = torch.cat([torch.stack([ring, (ring + 1) % n]), torch.randint(0, n, (2, n), generator=generator)], dim=1)
    edges = edges[:, edges[0] != edges[1]]
    masks = [torch.zeros(n, dtype=torch.bool) for _ in range(3)]
    for mask, part in zip(masks, torch.randperm(n, generator=generator).split([30, 30, n - 60]), strict=True):
        mask[part] = True
    data = Data(
        x=torch.rand(n, 8, generator=generator),
        edge_index=to_undirected(edges, num_nodes=n),
        y=torch.arange(n) % 3,
        train_mask=masks[0],
        val_mask=masks[1],
        test_mask=masks[2],
    )
    attack = get("metattack", with_relu=with_relu, train_iters=10, self_training_labels=data.y)
    tracemalloc.start()
    try:
        attack.run(data, Budget(flips=2))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 0.75 * n * n * 4  # less than one such matrix in float32; NumPy reports to tracemalloc


@pytest.mark.usefixtures("real_data")
def test_first_flips_on_cora_are_deeprobusts():
    entries, _ = our_flips("metattack", datasets.load("cora"), len(DEEPROBUST_ON_CORA), seed=15)
    assert entries == DEEPROBUST_ON_CORA


# what its own Metattack flips after torch.manual_seed(15) with the surrogate of train_gcn, at half a minute a flip
DEEPROBUST_ON_CORA = [
    (206, 1302),
    (1006, 1416),
    (310, 1755),
    (166, 816),
    (1232, 1713),
    (1942, 2336),
    (77, 2259),
    (517, 2167),
    (695, 1422),
    (378, 1366),
    (954, 2168),
    (592, 1367),
    (397, 1081),
    (459, 1711),
    (17, 591),
    (1943, 2336),
    (816, 1083),
    (234, 517),
    (206, 2203),
    (622, 1095),
]


@pytest.mark.parametrize(
    ("hyperparameters", "error", "text"),
    [
        ({"lambda_": 1.5}, ValueError, "lambda_ must be at least 0 and at most 1"),
        ({"momentum": 1.0}, ValueError, "momentum must be at least 0 and below 1"),
        ({"lr": 0.0}, ValueError, "lr must be positive"),
        ({"hidden": 0}, ValueError, "hidden must be at least 1"),
        ({"train_iters": 2.5}, TypeError, "train_iters is a whole number"),
        ({"ll_cutoff": 0.0}, ValueError, "ll_cutoff must be positive"),
        ({"self_training_labels": [0, 1]}, TypeError, "int64 tensor"),
        ({"self_training_labels": torch.zeros(3)}, TypeError, "int64 tensor"),
    ],
)
def test_refuses_hyperparameters(hyperparameters, error, text):
    with pytest.raises(error, match=text):
        get("metattack", **hyperparameters)


def empty(mask: str):
    def alter(data: Data) -> None:
        data[mask][:] = False

    return alter


def continuous(data: Data) -> None:
    data.x *= 0.5


def unlabelled(data: Data) -> None:
    data.val_mask[:] = data.test_mask[:] = False


@pytest.mark.parametrize(
    ("name", "alter", "hyperparameters", "text"),
    [
        ("metattack", empty("train_mask"), {}, "train_mask selects no node"),
        ("metattack", unlabelled, {}, "they select no node"),
        ("metattack", lambda data: None, {"self_training_labels": torch.zeros(3, dtype=torch.int64)}, "has 3 entries"),
        ("metattack-features", continuous, {}, "binarise x first"),
    ],
)
def test_refuses_graphs(name, alter, hyperparameters, text):
    data = hard_graph(15)
    alter(data)
    with pytest.raises(ValueError, match=text):
        get(name, **hyperparameters).run(data, Budget(flips=1))


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
def test_says_so_where_the_inner_training_diverges(path):
    with pytest.raises(AttackError, match="the inner training diverged; lower lr"):
        get("metattack", lr=1e300).run(hard_graph(15), Budget(flips=1))


def test_meta_train_needs_no_unlabelled_nodes():
    data = hard_graph(15)
    unlabelled(data)
    assert get("metattack", lambda_=1.0, train_iters=5).run(data, Budget(flips=1)).n_flips == 1


def test_continuous_features_are_no_obstacle_to_flipping_edges():
    data = hard_graph(16)
    continuous(data)
    result = get("metattack", train_iters=5).run(data, Budget(fraction=0.02))
    assert result.n_flips == edge_difference(data.edge_index, result.data.edge_index).shape[1] > 0
