"""The similarity adjacency: the formula, gradients, and what is kept and shared."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch_geometric.data import Data

from contractive_gnn import datasets, nn
from contractive_gnn.graph import Graph, transformed
from contractive_gnn.nn.similarity import Similarity, Source, robust


@pytest.fixture(scope="module")
def data() -> Data:
    data = datasets.contextual_sbm(60, classes=3, features=12, average_degree=6, seed=2)
    data.x = (data.x > 0.4).double()  # a bag of words, with an empty row
    data.x[7] = 0
    return data


def reference(data: Data, *, rank: int, rounds: int, hops: int, mixing: float, power: float) -> np.ndarray:
    """The docstring in dense NumPy, with the full singular value decomposition."""
    x, n = data.x.numpy(), data.num_nodes
    a = np.zeros((n, n))
    a[tuple(data.edge_index.numpy()[::-1])] = 1
    rows = x * (1 + np.log((1 + n) / (1 + (x > 0).sum(axis=0))))
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.maximum(length, 1e-300)
    z = rows @ np.linalg.svd(rows)[2][:rank].T
    known = length > 0
    z = known * (z - z[known[:, 0]].mean(axis=0))

    def unit(h: np.ndarray) -> np.ndarray:
        return h / np.maximum(np.linalg.norm(h, axis=1, keepdims=True), 1e-12)

    z = unit(z)
    w = a * np.maximum(z @ z.T, 0)
    for _ in range(rounds):
        scale = 1 / np.sqrt(w.sum(axis=1, keepdims=True) + 0.1)
        h = z
        for _ in range(hops):
            h = mixing * scale * (w @ (scale * h)) + (1 - mixing) * z
        w = a * np.maximum(unit(h) @ unit(h).T, 0)
    w, steep = w[tuple(data.edge_index.numpy()[::-1])], 1e-3 if power < 1 else 0.0
    return ((w + steep) ** power - steep**power) / ((1 + steep) ** power - steep**power)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_weights_are_those_of_the_docstring(data: Data, power: float) -> None:
    settings = {"rank": 5, "rounds": 2, "hops": 3, "mixing": 0.7, "power": power}
    weights = Similarity(**settings)(data.x, data.edge_index)  # type: ignore[arg-type]
    np.testing.assert_allclose(weights.numpy(), reference(data, **settings), atol=1e-9)  # type: ignore[arg-type]
    sparse = Similarity(**settings)(data.x.to_sparse_csr(), data.edge_index)  # type: ignore[arg-type]
    torch.testing.assert_close(sparse, weights)


def test_calibrated_weights_are_a_curve_of_the_cosine(data: Data) -> None:
    similarity, plain = Similarity(rank=5, power=1.0), Similarity(rank=5)(data.x, data.edge_index)
    probability = torch.nn.functional.one_hot(data.y, 3).double()
    similarity.calibrate(data.x, data.edge_index, probability=probability)
    weights, curve = similarity(data.x, data.edge_index), similarity.calibration
    assert curve is not None
    cosine = similarity._cosines(data.x, Graph.of(data.x, data.edge_index))
    assert float(cosine.min()) < -0.1  # the edges without a positive cosine are not all alike
    torch.testing.assert_close(cosine.clamp(min=0), plain)
    torch.testing.assert_close(weights, curve(cosine))
    # the two equations of its optimum, with the pull of the ridge towards 0
    gap = weights - (data.y[data.edge_index[0]] == data.y[data.edge_index[1]]).double()
    assert float(gap.sum()) == pytest.approx(-curve.intercept, abs=1e-4)
    assert float((gap * cosine).sum()) == pytest.approx(-curve.slope, abs=1e-4)
    file = io.BytesIO()
    torch.save(similarity.state_dict(), file)
    file.seek(0)
    again = Similarity(rank=5, power=1.0)
    again.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(again(data.x, data.edge_index), weights)
    again.forget()
    assert torch.equal(again(data.x, data.edge_index), plain)


def test_self_loops_say_nothing_of_a_cosine(data: Data) -> None:
    loops = torch.arange(data.num_nodes).repeat(2, 1)
    probability = torch.nn.functional.one_hot(data.y, 3).double()
    curves = []
    for edges in (data.edge_index, torch.cat([data.edge_index, loops], dim=1)):
        similarity = Similarity(rank=5, rounds=0)
        similarity.calibrate(data.x, edges, probability=probability)
        curves.append(similarity.calibration)
    assert curves[0] == pytest.approx(curves[1], rel=1e-6)


@pytest.mark.parametrize(
    ("probability", "match"),
    [
        (torch.full((60,), 1.0), r"shape \[60, classes\], got \[60\]"),
        (torch.full((60, 3), torch.nan), "sum to 1"),
        (torch.full((60, 3), 1.0), "sum to 1"),
        (torch.tensor([2.0, -1.0]).repeat(60, 1), "non-negative"),
    ],
)
def test_what_is_no_probability_is_refused(data: Data, probability: Tensor, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Similarity(rank=5).calibrate(data.x, data.edge_index, probability=probability)


def test_an_edge_in_doubt_keeps_more_where_nobody_attacked(real_data: None) -> None:
    kept = []
    for graph in (datasets.load("cora"), datasets.load_attacked("cora", "metattack", 0.25)):
        similarity = Similarity()
        unlike = similarity(graph.x, graph.edge_index) == 0
        similarity.calibrate(graph.x, graph.edge_index, probability=torch.nn.functional.one_hot(graph.y).float())
        kept.append(float(similarity(graph.x, graph.edge_index)[unlike].mean()))
    assert kept[0] > 0.3 > 0.2 > kept[1] > 0


def test_few_features_are_taken_sparse_too(data: Data) -> None:
    sparse = data.x.to_sparse_csr().requires_grad_()
    weights = Similarity()(sparse, data.edge_index)
    torch.testing.assert_close(weights, Similarity()(data.x, data.edge_index))
    assert bool((torch.autograd.grad(weights.sum(), sparse)[0].values() != 0).any())


def test_edges_between_classes_weigh_less(real_data: None) -> None:
    clean, attacked = datasets.load("cora"), datasets.load_attacked("cora", "metattack", 0.25)
    weights = Similarity(power=1.0)(attacked.x, attacked.edge_index)
    codes = [graph.edge_index[0] * graph.num_nodes + graph.edge_index[1] for graph in (clean, attacked)]
    added = ~torch.isin(codes[1], codes[0])
    assert float(weights[added].mean()) < 0.3 < 0.6 < float(weights[~added].mean())


def test_one_hot_features_are_replaced_by_the_neighbours() -> None:
    clique = torch.combinations(torch.arange(5)).t()
    edges = torch.cat([clique, clique + 5, torch.tensor([[0], [5]])], dim=1)
    edge_index = torch.cat([edges, edges.flip(0)], dim=1)
    weights = Similarity(rank=3)(torch.eye(10), edge_index)
    bridge = (edge_index[0] - edge_index[1]).abs() == 5
    assert float(weights[bridge].max()) < 0.5 * float(weights[~bridge].min())
    torch.testing.assert_close(weights, Similarity(rank=3, source="structure")(torch.randn(10, 4), edge_index))


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("source", ["features", "structure"])
def test_gradients_are_those_of_finite_differences(data: Data, source: str, calibrated: bool) -> None:
    """In the edge weights; of the structure's principal axes, which are held fixed, the gradient knows nothing."""
    similarity = Similarity(rank=5 if source == "features" else 100, source=source)  # type: ignore[arg-type]
    if calibrated:
        probability = torch.nn.functional.one_hot(data.y, 3).double()
        similarity.calibrate(data.x, data.edge_index, probability=probability)
    start = torch.rand(data.num_edges, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.5

    def score(weight: Tensor) -> Tensor:
        return similarity(data.x, data.edge_index, weight).square().sum()

    weight = start.clone().requires_grad_()
    (slope,) = torch.autograd.grad(score(weight), weight)
    for edge in (0, 11, 40):
        step = torch.zeros_like(start)
        step[edge] = 1e-6
        difference = float(score(start + step) - score(start - step)) / 2e-6
        assert float(slope[edge]) == pytest.approx(difference, rel=1e-4, abs=1e-7)


def test_an_attacker_sees_absent_edges_and_features(data: Data) -> None:
    model = robust(12, 3, hidden_channels=8).double().eval()
    pairs = torch.tensor([[0, 1, 2], [30, 41, 55]])
    edge_index = torch.cat([data.edge_index, pairs, pairs.flip(0)], dim=1)
    weight = torch.cat([torch.ones(data.num_edges), torch.zeros(6)]).double().requires_grad_()
    x = data.x.clone().requires_grad_()
    gradient_a, gradient_x = torch.autograd.grad(model(x, edge_index, weight).square().sum(), [weight, x])
    likely = Similarity()(data.x, edge_index) > 0
    assert bool((gradient_a[likely] != 0).all())
    assert bool((gradient_x[data.x.sum(dim=1) > 0] != 0).any(dim=1).all())


def test_pairs_without_a_gradient_hide_nothing(data: Data) -> None:
    torch.manual_seed(0)
    model = robust(12, 3, hidden_channels=8).double().eval()
    every = torch.combinations(torch.arange(data.num_nodes)).t()
    known = set(map(tuple, data.edge_index.t().tolist()))
    absent = torch.tensor([pair for pair in map(tuple, every.t().tolist()) if pair not in known]).t()
    edge_index = torch.cat([data.edge_index, absent, absent.flip(0)], dim=1)
    present = torch.arange(edge_index.shape[1]) < data.num_edges
    weight = present.double().requires_grad_()
    scores = model(data.x, edge_index, weight)
    # of the sum of all scores: its gradient vanishes where no score moves, but for chance
    direction = torch.rand(scores.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (slope,) = torch.autograd.grad((direction * scores).sum(), weight)
    silent = ~present & (slope == 0)
    assert int(silent.sum()) > 500
    both = present | (silent & silent[_reversed(edge_index)])
    torch.testing.assert_close(model(data.x, edge_index, both.double()), scores.detach())
    loud = present | (~present & (slope != 0))
    assert not torch.allclose(model(data.x, edge_index, loud.double()), scores.detach(), atol=0.1)


def _reversed(edge_index: Tensor) -> Tensor:
    """The place of each edge's opposite."""
    n = int(edge_index.max()) + 1
    code, opposite = edge_index[0] * n + edge_index[1], edge_index[1] * n + edge_index[0]
    order = code.argsort()
    return order[torch.searchsorted(code[order], opposite)]


def test_listing_an_absent_pair_changes_nothing(data: Data) -> None:
    pairs = torch.tensor([[0, 1], [30, 41]])
    edge_index = torch.cat([data.edge_index, pairs, pairs.flip(0)], dim=1)
    weight = torch.cat([torch.ones(data.num_edges), torch.zeros(4)]).double()
    torch.testing.assert_close(
        Similarity()(data.x, edge_index, weight)[: data.num_edges], Similarity()(data.x, data.edge_index)
    )


def test_the_cache_notices_changes_in_place(data: Data) -> None:
    similarity, x = Similarity(), data.x.clone()
    before = similarity(x, data.edge_index)
    assert similarity(x, data.edge_index) is before
    x[0] = x[1]
    after = similarity(x, data.edge_index)
    torch.testing.assert_close(after, Similarity()(x, data.edge_index))
    assert not torch.equal(after, before)
    assert torch.equal(copy.deepcopy(similarity)(x, data.edge_index), after)


def test_errors_say_what_was_expected() -> None:
    with pytest.raises(ValueError, match="rank must be at least 1, got 0"):
        Similarity(rank=0)
    with pytest.raises(ValueError, match="mixing must be at least 0 and below 1"):
        Similarity(mixing=1.0)
    with pytest.raises(ValueError, match="power must be positive"):
        Similarity(power=0)
    with pytest.raises(ValueError, match="source must be 'auto', 'features' or 'structure', got 'x'"):
        Similarity(source="x")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="similarity=False takes no rank"):
        robust(4, 2, similarity=False, rank=3)
    with pytest.raises(ValueError, match="needs a similarity to calibrate"):
        robust(4, 2, similarity=False, calibrated=True)
    with pytest.raises(ValueError, match="mu must be positive"):
        nn.build("robust-provable", 4, 2, mu=0.0)
    with pytest.raises(ValueError, match="row_norm must be positive"):
        robust(4, 2, row_norm=0.0)


def columns_of_one_value(*, classes: int = 4, columns: int = 20, nodes: int = 120) -> Tensor:
    """One feature a node, of columns that are each equally popular among some others: whole runs of singular values."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(nodes) % classes
    word = y * (columns // classes) + torch.randint(0, columns // classes, (nodes,), generator=generator)
    return torch.nn.functional.one_hot(word, columns).double()


@pytest.mark.parametrize("rank", [3, 7, 10, 15])
def test_the_order_of_the_columns_decides_nothing_where_singular_values_tie(data: Data, rank: int) -> None:
    x = columns_of_one_value()
    edges = datasets.contextual_sbm(120, seed=0).edge_index
    layer = Similarity(rank=rank)
    weights = layer(x, edges)
    for seed in range(4):
        order = torch.randperm(20, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(layer(x[:, order], edges), weights, atol=1e-9, rtol=0)
        nodes = torch.randperm(120, generator=torch.Generator().manual_seed(seed))
        place = torch.empty_like(nodes)
        place[nodes] = torch.arange(120)
        torch.testing.assert_close(layer(x[nodes], place[edges]), weights, atol=1e-9, rtol=0)


TRANSFORMED = ["csgnn", "robust", "robust-provable", "robust-provable-ensemble", "robust-mixture"]


@pytest.mark.parametrize("name", TRANSFORMED)
@pytest.mark.parametrize("rank", [3, 64])
def test_torch_func_differentiates_what_autograd_does(data: Data, name: str, rank: int) -> None:
    torch.manual_seed(0)
    model = nn.build(name, 12, 3).double().eval()
    for part in model.modules():
        if isinstance(part, Similarity):
            part.rank = rank  # at 3 there are singular vectors to hold fixed, at 64 the features are taken as they are
    x, generator = data.x.double() + 0.1, torch.Generator().manual_seed(0)
    u, v = (torch.randn(x.shape, dtype=torch.float64, generator=generator) for _ in range(2))

    def f(x: Tensor) -> Tensor:
        return model(x, data.edge_index).square().sum()  # type: ignore[no-any-return]

    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(f(leaf), leaf, create_graph=True)
    (curvature,) = torch.autograd.grad((gradient * v).sum(), leaf)
    slope, bend = (gradient.detach() * v).sum(), (curvature * u).sum()
    torch.testing.assert_close(torch.func.grad(f)(x), gradient.detach(), rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(torch.func.jvp(f, (x,), (v,))[1], slope, rtol=1e-8, atol=1e-9)
    twice = torch.func.jvp(torch.func.grad(f), (x,), (v,))[1]
    torch.testing.assert_close(twice, curvature, rtol=1e-7, atol=1e-7)
    origin = torch.zeros(2, dtype=torch.float64)

    def plane(t: Tensor) -> Tensor:
        return f(x + t[0] * u + t[1] * v)

    for jacobian in (torch.func.jacrev, torch.func.jacfwd):
        torch.testing.assert_close(jacobian(plane)(origin)[1], slope, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(torch.func.hessian(plane)(origin)[0, 1], bend, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("source", ["auto", "features", "structure"])
def test_one_call_for_many_features_is_refused(data: Data, source: Source) -> None:
    many = torch.stack([data.x, 2 * data.x])
    similarity = Similarity(source=source)
    if source == "structure":  # which features are not looked at for
        weights = torch.func.vmap(lambda x: similarity(x, data.edge_index))(many)
        torch.testing.assert_close(weights[1], similarity(data.x, data.edge_index))
        return
    with pytest.raises(NotImplementedError, match="call the model for each graph in a loop"):
        torch.func.vmap(lambda x: similarity(x, data.edge_index))(many)


@pytest.mark.parametrize("source", ["features", "structure"])
def test_nothing_is_kept_from_a_transformation_nor_served_to_one(data: Data, source: Source) -> None:
    def wrapped(similarity: Similarity) -> bool:
        lasts = [similarity._axes, similarity._speechless, similarity._embedded, similarity._latest]
        kept = [t for last in lasts for t in (*last._kept[1], last._kept[2]) if isinstance(t, Tensor)]
        return any(transformed(t) or t.is_inference() for t in kept)

    similarity, x = Similarity(source=source, rank=3), data.x.double()

    def f(x: Tensor, similarity: Similarity = similarity) -> Tensor:
        return similarity(x, data.edge_index).sum() + x.sum()

    expected = Similarity(source=source, rank=3)(x, data.edge_index)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(f(leaf, Similarity(source=source, rank=3)), leaf)
    for _ in range(2):  # before there is anything to serve, and after
        torch.testing.assert_close(torch.func.grad(f)(x), gradient)
        with forward_ad.dual_level():
            tangent = forward_ad.unpack_dual(f(forward_ad.make_dual(x, x))).tangent  # type: ignore[no-untyped-call]
        torch.testing.assert_close(tangent, (gradient * x).sum())
        with torch.inference_mode():
            torch.testing.assert_close(similarity(x, data.edge_index), expected)
        assert not wrapped(similarity)
        torch.testing.assert_close(similarity(x, data.edge_index), expected)
        assert not wrapped(similarity)
        assert similarity(x, data.edge_index) is similarity(x, data.edge_index)


def test_what_is_remembered_follows_the_settings_and_the_precision(data: Data) -> None:
    layer = Similarity(rank=8)
    layer(data.x, data.edge_index)
    layer.rank, layer.power, layer.rounds = 3, 2.0, 1
    fresh = Similarity(rank=3, power=2.0, rounds=1)(data.x, data.edge_index)
    assert torch.equal(layer(data.x, data.edge_index), fresh)
    layer = Similarity(rank=3, power=2.0, rounds=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer(data.x, data.edge_index)
    assert torch.equal(layer(data.x, data.edge_index), fresh)
    model = robust(data.num_features, 3).to(data.x.dtype).eval()
    before = model(data.x, data.edge_index)
    model.row_norm = 1.0
    assert not torch.allclose(model(data.x, data.edge_index), before)


class Scaled(Similarity):
    """Takes some columns more seriously than others."""

    def __init__(self, columns: int) -> None:
        super().__init__(rank=3)
        self.columns = columns

    def embedding(self, x: Tensor, graph: Graph) -> Tensor:
        return super().embedding(x * torch.where(torch.arange(x.shape[1]) < self.columns, 5.0, 0.1), graph)


def test_members_share_no_cosines_that_are_ones_own(data: Data) -> None:
    members = [robust(data.num_features, 3).to(data.x.dtype).eval() for _ in range(2)]
    for member, columns in zip(members, (2, 6), strict=True):
        member.similarity = Scaled(columns)
    alone = [member(data.x, data.edge_index).softmax(dim=1) for member in members]
    together = nn.Ensemble(members)(data.x, data.edge_index)
    torch.testing.assert_close(together.exp(), (alone[0] + alone[1]) / 2)
