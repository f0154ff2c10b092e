from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

from contractive_gnn.deeprobust import import_deeprobust, mended, to_arrays
from contractive_gnn.nn.deeprobust import (
    DEEPROBUST_MODELS,
    GCNSVD,
    DeepRobustModel,
    ProGNN,
    TransductiveModelError,
    cosine_similarities,
    extreme_pairs,
    nearest_neighbours,
    normalised_adjacency,
)
from contractive_gnn.training import evaluate, fit

N, COLUMNS, CLASSES = 60, 30, 3
SMALL: dict[str, dict[str, Any]] = {
    "rgcn": {"hidden_channels": 8},
    "gcn-jaccard": {"threshold": 0.08},
    "gcn-svd": {"rank": 8},
    "median-gcn": {},
    "simp-gcn": {"hidden_channels": 8},
    "pro-gnn": {"epochs": 3, "lr": 0.05},
}
INDUCTIVE = [name for name in SMALL if name != "pro-gnn"]


def blocks(seed: int = 0) -> Data:
    """Three classes, more edges and more shared features within each, no isolated node."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(N) % CLASSES
    likely = torch.where(y[:, None] == y, 0.2, 0.03)
    adjacency = torch.triu(torch.rand(N, N, generator=generator) < likely, diagonal=1)
    ring = torch.stack([torch.arange(N), (torch.arange(N) + CLASSES) % N])
    edge_index = to_undirected(torch.cat([adjacency.nonzero().t(), ring], dim=1), num_nodes=N)
    typical = torch.rand(CLASSES, COLUMNS, generator=generator) < 0.3
    common = torch.rand(N, COLUMNS, generator=generator) < 0.05
    x = ((torch.rand(N, COLUMNS, generator=generator) < 0.5) & typical[y]) | common
    masks = [torch.zeros(N, dtype=torch.bool) for _ in range(3)]
    for mask, part in zip(masks, torch.randperm(N, generator=generator).split(20), strict=True):
        mask[part] = True
    return Data(x=x.float(), edge_index=edge_index, y=y, train_mask=masks[0], val_mask=masks[1], test_mask=masks[2])


def build(name: str, **options: Any) -> DeepRobustModel:
    return DEEPROBUST_MODELS[name](COLUMNS, CLASSES, **{**SMALL[name], **options})


@pytest.fixture(scope="module")
def graph() -> Data:
    return blocks()


@pytest.fixture(scope="module")
def other() -> Data:
    """The same nodes with other edges."""
    data = blocks()
    data.edge_index = blocks(seed=1).edge_index
    return data


@pytest.fixture(scope="module")
def trained(graph: Data) -> dict[str, DeepRobustModel]:
    models = {name: build(name, epochs=3 if name == "pro-gnn" else 40) for name in DEEPROBUST_MODELS}
    for model in models.values():
        fit(model, graph, seed=0)
    return models


@pytest.mark.parametrize("name", DEEPROBUST_MODELS)
class TestEveryModel:
    def test_it_learns(self, name: str, graph: Data, trained: dict[str, DeepRobustModel]) -> None:
        model = trained[name]
        assert not model.training
        logits = model(graph.x, graph.edge_index)
        assert logits.shape == (N, CLASSES)
        assert bool(torch.isfinite(logits).all())
        # three epochs are enough for Pro-GNN to run, not to learn
        assert evaluate(model, graph, graph.test_mask) > (30 if name == "pro-gnn" else 70)

    def test_a_seed_decides_everything_and_nothing_leaks(
        self, name: str, graph: Data, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        models = [build(name, epochs=3) for _ in range(3)]
        before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        clean = graph.clone()
        for model, seed in zip(models, (1, 1, 2), strict=True):
            model.fit_data(graph, seed=seed)
        states = [model.state_dict() for model in models]
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
        assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])

        assert torch.equal(torch.get_rng_state(), before[0])
        assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
        assert list(tmp_path.iterdir()) == []
        assert capfd.readouterr() == ("", "")
        assert all(torch.equal(graph[key], clean[key]) for key in clean.keys())  # noqa: SIM118

    def test_training_again_starts_anew(self, name: str, graph: Data) -> None:
        model = build(name, epochs=3)
        model.fit_data(graph, seed=1)
        first = copy.deepcopy(model.state_dict())
        model.fit_data(graph, seed=1)
        assert all(torch.equal(first[key], value) for key, value in model.state_dict().items())

    def test_it_can_be_copied_and_saved(
        self, name: str, graph: Data, trained: dict[str, DeepRobustModel], tmp_path: Path
    ) -> None:
        model = trained[name]
        model(graph.x, graph.edge_index).sum().backward()  # leaves tensors of an autograd graph if anything does
        logits = model(graph.x, graph.edge_index)
        assert torch.equal(copy.deepcopy(model)(graph.x, graph.edge_index), logits)
        torch.save(model.state_dict(), tmp_path / "state.pt")
        loaded = build(name).eval()
        loaded.load_state_dict(torch.load(tmp_path / "state.pt"))
        assert torch.equal(loaded(graph.x, graph.edge_index), logits)

    def test_sparse_features_and_unit_weights_change_nothing(
        self, name: str, graph: Data, trained: dict[str, DeepRobustModel]
    ) -> None:
        logits = trained[name](graph.x, graph.edge_index)
        assert torch.equal(trained[name](graph.x.to_sparse_csr(), graph.edge_index), logits)
        ones = torch.ones(graph.edge_index.shape[1])
        assert torch.allclose(trained[name](graph.x, graph.edge_index, ones), logits, atol=1e-4)

    def test_bad_epochs_are_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="epochs must be at least 1, got 0"):
            build(name, epochs=0)


@pytest.mark.parametrize("name", INDUCTIVE)
class TestEveryInductiveModel:
    def test_it_predicts_on_another_graph(
        self, name: str, graph: Data, other: Data, trained: dict[str, DeepRobustModel]
    ) -> None:
        model = trained[name]
        assert not torch.allclose(model(other.x, other.edge_index), model(graph.x, graph.edge_index), atol=1e-2)
        part = graph.subgraph(torch.arange(40))
        assert model(part.x, part.edge_index).shape == (40, CLASSES)

    def test_zero_weights_are_no_edges(self, name: str, graph: Data, trained: dict[str, DeepRobustModel]) -> None:
        u, v = graph.edge_index
        kept = (u + v) % 5 != 0
        without = trained[name](graph.x, graph.edge_index[:, kept])
        assert torch.allclose(trained[name](graph.x, graph.edge_index, kept.float()), without, atol=1e-4)

    def test_it_says_how_differentiable_it_is(
        self, name: str, graph: Data, trained: dict[str, DeepRobustModel]
    ) -> None:
        model = copy.deepcopy(trained[name]).double().requires_grad_(False)
        x, edge_index = graph.x.double(), graph.edge_index
        generator = torch.Generator().manual_seed(0)
        weight = 0.6 + 0.3 * torch.rand(N, N, generator=generator, dtype=torch.float64)
        weight = torch.triu(weight, 1)[edge_index.amin(dim=0), edge_index.amax(dim=0)].requires_grad_(True)
        probe = torch.randn(N, CLASSES, generator=generator, dtype=torch.float64)
        value = (model(x, edge_index, weight) * probe).sum()
        if model.edge_weight_gradient == "none":
            assert not value.requires_grad
            return
        (slope,) = torch.autograd.grad(value, weight)
        step = torch.randn(N, N, generator=generator, dtype=torch.float64)
        step = torch.triu(step, 1)[edge_index.amin(dim=0), edge_index.amax(dim=0)]
        with torch.no_grad():
            ahead, behind = ((model(x, edge_index, weight + h * step) * probe).sum() for h in (1e-6, -1e-6))
        numeric, analytic = float(ahead - behind) / 2e-6, float(slope @ step)
        tolerance = {"exact": 1e-5, "approximate": 0.5}[model.edge_weight_gradient]
        assert analytic == pytest.approx(numeric, rel=tolerance)


def reference(name: str, inner: Any, data: Data) -> Tensor:
    """What DeepRobust itself predicts with these weights on this graph."""
    arrays = to_arrays(data)
    with mended(), torch.no_grad():
        if name == "rgcn":
            adjacency = torch.from_numpy(arrays.adjacency.toarray())
            inner.features = data.x
            inner.adj_norm1 = inner._normalize_adj(adjacency, power=-1 / 2)
            inner.adj_norm2 = inner._normalize_adj(adjacency, power=-1)
            inner.gaussian = torch.distributions.Normal(torch.zeros(N, CLASSES), torch.full((N, CLASSES), 1e-30))
            return inner.predict()  # type: ignore[no-any-return]
        if name == "median-gcn":
            return inner.predict([data])  # type: ignore[no-any-return]
        if name == "gcn-svd":
            inner.k = SMALL[name]["rank"]
        elif name == "gcn-jaccard":
            inner.threshold = SMALL[name]["threshold"]
        elif name == "simp-gcn":
            inner.adj_knn, inner.identity = None, torch.eye(N).to_sparse()
        return inner.predict(arrays.features, arrays.adjacency)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", INDUCTIVE)
def test_its_predictions_are_those_of_deeprobust(
    name: str, other: Data, trained: dict[str, DeepRobustModel], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # SimP-GCN writes files where it runs
    monkeypatch.chdir(tmp_path)
    model = trained[name]
    expected = reference(name, copy.deepcopy(model.inner).eval(), other)
    logits = model(other.x, other.edge_index).log_softmax(dim=1)
    assert torch.allclose(logits, expected, atol=1e-4)


class TestRGCN:
    def test_it_keeps_the_weights_of_its_best_epoch(self, graph: Data, monkeypatch: pytest.MonkeyPatch) -> None:
        steps = 0
        step = torch.optim.Adam.step

        def spoiled(self: Any, *arguments: Any) -> Any:
            nonlocal steps
            steps += 1
            result = step(self, *arguments)
            if steps > 30:  # from here on every epoch is worse
                for group in self.param_groups:
                    for parameter in group["params"]:
                        parameter.data.zero_()
            return result

        monkeypatch.setattr(torch.optim.Adam, "step", spoiled)
        model = build("rgcn", epochs=40)
        model.fit_data(graph, seed=0)
        assert steps == 40
        assert all(bool(parameter.any()) for parameter in model.parameters())


class TestGCNJaccard:
    @pytest.mark.parametrize("similarity", ["jaccard", "cosine"])
    def test_it_drops_the_edges_that_deeprobust_drops(self, graph: Data, similarity: str) -> None:
        threshold = {"jaccard": 0.15, "cosine": 0.3}[similarity]
        model = build("gcn-jaccard", threshold=threshold, similarity=similarity)
        arrays = to_arrays(graph)
        model.inner.threshold = threshold
        with mended():
            kept = model.inner.drop_dissimilar_edges(arrays.features, arrays.adjacency).toarray()
        cleaned = model._clean(graph.x, graph.edge_index, None).to_dense()  # type: ignore[operator]
        assert (((cleaned > 0).numpy() != np.eye(N, dtype=bool)) == (kept > 0)).all()
        assert 0 < kept.sum() < arrays.adjacency.sum()

    def test_an_unknown_similarity_is_refused(self) -> None:
        with pytest.raises(ValueError, match="similarity is 'jaccard' or 'cosine', given 'dice'"):
            build("gcn-jaccard", similarity="dice")


class TestGCNSVD:
    def test_the_gradient_is_exact_where_the_adjacency_has_the_rank(self) -> None:
        # a complete bipartite graph has an adjacency of rank 2
        torch.manual_seed(0)
        left, right = 4, 7
        pairs = torch.cartesian_prod(torch.arange(left), torch.arange(left, left + right)).t()
        others = torch.tensor([[0, 1, 4, 5, 8], [2, 3, 6, 7, 9]])
        half = torch.cat([pairs, others], dim=1)
        edge_index = torch.cat([half, half.flip(0)], dim=1)
        weight = torch.cat([torch.ones(pairs.shape[1]), torch.zeros(others.shape[1])]).double().requires_grad_(True)
        x = torch.randn(left + right, 5, dtype=torch.float64)
        model = GCNSVD(5, 3, rank=2).double().eval().requires_grad_(False)
        probe, step = torch.randn(left + right, 3, dtype=torch.float64), torch.randn(half.shape[1]).double()

        def value(w: Tensor) -> Tensor:
            return (model(x, edge_index, torch.cat([w, w])) * probe).sum()  # type: ignore[no-any-return]

        (slope,) = torch.autograd.grad(value(weight), weight)
        with torch.no_grad():
            numeric = float(value(weight + 1e-5 * step) - value(weight - 1e-5 * step)) / 2e-5
        assert float(slope @ step) == pytest.approx(numeric, rel=1e-5)

    def test_rows_of_negative_sum_give_no_nan(self, graph: Data) -> None:
        # rank 1 of a star and an edge: the edge disappears; higher ranks of random graphs have negative rows
        for rank in (1, 5, 20, 40):
            model = build("gcn-svd", rank=rank, epochs=5)
            model.fit_data(graph, seed=0)
            assert bool(torch.isfinite(model(graph.x, graph.edge_index)).all())

    @pytest.mark.parametrize("rank", [N, N + 5])
    def test_a_rank_that_the_graph_does_not_have_is_refused(self, graph: Data, rank: int) -> None:
        model = build("gcn-svd", rank=rank)
        for run in (lambda: model.fit_data(graph), lambda: model(graph.x, graph.edge_index)):
            with pytest.raises(ValueError, match=f"rank {rank} is not below the 60 nodes"):
                run()
        with pytest.raises(ValueError, match="rank must be at least 1, got 0"):
            build("gcn-svd", rank=0)


class TestSimPGCN:
    def test_its_neighbours_and_pairs_are_those_of_deeprobust(
        self, graph: Data, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.chdir(tmp_path)
        theirs = import_deeprobust("graph.defense.simpgcn")
        similarities = cosine_similarities(graph.x)
        model = build("simp-gcn")
        with mended():
            neighbours = model.inner.get_knn_graph(graph.x.numpy().copy())
            agent = theirs.AttrSim(graph.x.clone())
            labels = agent.get_label()
        ours = theirs.preprocess_adj_noloop(nearest_neighbours(similarities), "cpu")
        assert torch.equal(ours.to_dense(), neighbours.to_dense())
        assert ((ours.to_dense() > 0).sum(dim=1) <= 20).all()

        pairs = extreme_pairs(similarities)
        order = np.lexsort(agent.node_pairs[::-1])
        assert np.array_equal(pairs, np.stack(agent.node_pairs)[:, order])
        assert np.array_equal(similarities[tuple(pairs)], labels.numpy().ravel()[order])

    def test_other_features_of_the_same_shape_get_their_own_neighbours(self, graph: Data) -> None:
        model = build("simp-gcn", epochs=3)
        model.fit_data(graph, seed=0)
        shuffled = graph.x[torch.randperm(N, generator=torch.Generator().manual_seed(0))]
        fresh = build("simp-gcn")
        fresh.load_state_dict(model.state_dict())
        assert torch.equal(model(shuffled, graph.edge_index), fresh.eval()(shuffled, graph.edge_index))


class TestProGNN:
    def test_it_refuses_what_it_cannot_predict(
        self, graph: Data, other: Data, trained: dict[str, DeepRobustModel]
    ) -> None:
        model = trained["pro-gnn"]
        with pytest.raises(TransductiveModelError, match=r"was trained on 60 nodes and .* edges that are not the same"):
            model(other.x, other.edge_index)
        part = graph.subgraph(torch.arange(30))
        with pytest.raises(TransductiveModelError, match="given 30 nodes"):
            model(part.x, part.edge_index)
        with pytest.raises(TransductiveModelError, match="takes no edge weights"):
            model(graph.x, graph.edge_index, torch.full((graph.edge_index.shape[1],), 0.5))
        with pytest.raises(TransductiveModelError, match=r"call fit_data\(data\) first"):
            build("pro-gnn")(graph.x, graph.edge_index)

    def test_the_same_graph_in_another_order_and_other_features_are_fine(
        self, graph: Data, trained: dict[str, DeepRobustModel]
    ) -> None:
        model = trained["pro-gnn"]
        logits = model(graph.x, graph.edge_index)
        assert torch.equal(model(graph.x, graph.edge_index.flip(1)), logits)
        assert not torch.equal(model(graph.x.roll(1, dims=0), graph.edge_index), logits)

    def test_it_predicts_on_a_graph_that_it_learned(self, graph: Data) -> None:
        model = build("pro-gnn", epochs=5)
        assert isinstance(model, ProGNN)
        model.fit_data(graph, seed=0)
        given = normalised_adjacency(graph.edge_index, None, N).to_dense()
        assert model.learned.shape == (N, N)
        assert not torch.allclose(model.learned, given, atol=1e-3)
        assert torch.allclose(model(graph.x, graph.edge_index), model.inner(graph.x, model.learned))


def test_the_normalisation_is_that_of_gcn() -> None:
    edge_index = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    expected = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
    degree = torch.tensor([2.0, 3.0, 2.0])
    for power in (-1 / 2, -1.0):
        scaled = degree[:, None] ** power * expected * degree**power
        assert torch.allclose(normalised_adjacency(edge_index, None, 3, power=power).to_dense(), scaled)


def test_all_of_them_are_modules_with_these_names() -> None:
    assert set(DEEPROBUST_MODELS) == {"rgcn", "gcn-jaccard", "gcn-svd", "median-gcn", "simp-gcn", "pro-gnn"}
    assert all(isinstance(build(name), nn.Module) for name in DEEPROBUST_MODELS)
