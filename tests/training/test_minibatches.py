"""Batches of one graph: which nodes and edges they have, and a training on them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from contractive_gnn import datasets, nn, training
from contractive_gnn.datasets import validate
from contractive_gnn.inputs import InputError
from contractive_gnn.training import Batches, ClusterBatches, NeighbourBatches, fit_batches, induced


@pytest.fixture(scope="module")
def graph() -> Data:
    data = datasets.contextual_sbm(300, classes=3, seed=0)
    data.edge_weight = (data.edge_index.sum(dim=0) % 7 + 1).float()
    return data


def pairs(data: Data, named: bool = False) -> dict[tuple[int, int], float]:
    """The weights by edge; with the numbers that a batch's nodes have in the whole graph."""
    edges = data.n_id[data.edge_index] if named else data.edge_index
    return dict(zip(map(tuple, edges.t().tolist()), data.edge_weight.tolist(), strict=True))


def test_an_induced_graph_has_all_edges_between_its_nodes(graph: Data) -> None:
    nodes = torch.randperm(300, generator=torch.Generator().manual_seed(0))[:120]
    batch = induced(graph, nodes)
    validate(batch)
    chosen = set(nodes.tolist())
    assert pairs(batch, named=True) == {pair: w for pair, w in pairs(graph).items() if set(pair) <= chosen}
    assert torch.equal(batch.x, graph.x[nodes])
    assert torch.equal(batch.train_mask, graph.train_mask[nodes])
    assert batch.whole_nodes == 300


@pytest.mark.parametrize("at_once", [1, 3])
def test_clusters_hold_every_node_once_and_are_joined_anew(graph: Data, at_once: int) -> None:
    generator, how = np.random.default_rng(0), ClusterBatches(7, at_once=at_once)
    first, second = list(how(graph, generator)), list(how(graph, generator))
    assert len(first) == -(-7 // at_once)
    assert torch.equal(torch.cat([batch.n_id for batch in first]).sort().values, torch.arange(300))
    assert all(batch.seed_mask.all() for batch in first)
    assert [batch.n_id.tolist() for batch in first] != [batch.n_id.tolist() for batch in second]


def test_neighbours_are_drawn_and_no_more_than_asked_for(graph: Data) -> None:
    batches = list(NeighbourBatches(8, neighbours=(3, 2))(graph, np.random.default_rng(0)))
    seeds = torch.cat([batch.n_id[batch.seed_mask] for batch in batches])
    assert torch.equal(seeds.sort().values, graph.train_mask.nonzero().flatten())
    whole = pairs(graph)
    for batch in batches:
        validate(batch)
        own = pairs(batch, named=True)
        assert own.items() <= whole.items()
        assert batch.num_nodes <= 8 * (1 + 3 + 6)
        assert batch.num_edges <= 2 * 8 * (3 + 3 * 2)
        # every node is reached from those that the batch is for
        seen = batch.seed_mask.clone()
        for _ in range(2):
            seen[batch.edge_index[1, seen[batch.edge_index[0]]]] = True
        assert seen.all()


def test_all_neighbours_are_there_where_none_has_more(graph: Data) -> None:
    (batch,) = NeighbourBatches(300, neighbours=(300,))(graph, np.random.default_rng(0))
    touching = {pair for pair in pairs(graph) if graph.train_mask[list(pair)].any()}
    assert set(pairs(batch, named=True)) == touching


def test_draws_are_uniform() -> None:
    star = torch.stack([torch.zeros(10, dtype=torch.long), torch.arange(1, 11)])
    data = Data(x=torch.ones(11, 1), edge_index=torch.cat([star, star.flip(0)], dim=1), train_mask=torch.arange(11) < 1)
    generator, counts = np.random.default_rng(0), torch.zeros(11)
    for _ in range(1000):
        (batch,) = NeighbourBatches(1, neighbours=(3,))(data, generator)
        assert batch.num_nodes == 4
        counts[batch.n_id] += 1
    assert counts[1:].numpy() == pytest.approx([300] * 10, abs=60)


def test_sparse_features_stay_sparse(graph: Data) -> None:
    sparse = Data(x=graph.x.relu().to_sparse_csr(), edge_index=graph.edge_index, train_mask=graph.train_mask)
    batch = induced(sparse, torch.tensor([5, 2, 9]))
    assert batch.x.layout == torch.sparse_csr
    assert torch.equal(batch.x.to_dense(), graph.x.relu()[[5, 2, 9]])


@pytest.mark.parametrize("name", ["robust", "csgnn", "linf-diffusion"])
@pytest.mark.parametrize("how", [ClusterBatches(4, at_once=2), NeighbourBatches(10, neighbours=(8, 8))])
def test_a_model_learns_from_batches(name: str, how: Batches) -> None:
    data = datasets.contextual_sbm(300, classes=3, seed=0)
    accuracies = []
    for _ in range(2):
        model = nn.build(name, data.num_features, 3)
        told: list[int] = []
        result = fit_batches(
            model, data, how, epochs=12, every=4, seed=1, on_epoch=lambda epoch, accuracy, told=told: told.append(epoch)
        )
        assert told == [0, 4, 8, 11]
        assert (result.epochs, model.training) == (12, False)
        assert training.evaluate(model, data, data.val_mask) == pytest.approx(result.val_accuracy)
        accuracies.append(training.evaluate(model, data, data.test_mask))
    assert accuracies[0] == accuracies[1] > 60


def test_one_batch_of_the_whole_graph_is_a_step_of_fit() -> None:
    data = datasets.contextual_sbm(200, classes=2, seed=0)
    scores = []
    for way in ("whole", "batch"):
        model = nn.build("linf-diffusion", data.num_features, 2, dropout=0.0).double()
        given = data.clone()
        given.x = given.x.double()
        if way == "whole":
            training.fit(model, given, epochs=5)
        else:
            fit_batches(model, given, ClusterBatches(1), epochs=5)
        scores.append(training.predict(model, given))
    torch.testing.assert_close(*scores, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        ("mlp", {"teacher": nn.build("mlp", 32, 4)}, ValueError, "learns from the labels alone"),
        ("rgcn", {}, TypeError, "is not trained by one loop"),
        ("robust-mixture", {}, TypeError, "is not trained by one loop"),
        ("mlp", {"batches": "clusters"}, TypeError, "batches must be ClusterBatches"),
        ("mlp", {"every": 0}, ValueError, "every must be at least 1"),
        ("mlp", {"options": training.FitOptions(order="rcm")}, TypeError, "options must be LoopOptions"),
    ],
)
def test_what_is_not_used_is_refused(model: str, options: dict[str, Any], error: type[Exception], message: str) -> None:
    data = datasets.contextual_sbm(60, seed=0)
    options = {"batches": ClusterBatches(2), **options}
    with pytest.raises(error, match=message):
        fit_batches(nn.build(model, data.num_features, 4), data, **options)


def test_a_batch_of_graphs_is_refused() -> None:
    data = datasets.contextual_sbm(60, seed=0)
    data.batch = torch.arange(60) // 30
    with pytest.raises(InputError):
        fit_batches(nn.build("mlp", data.num_features, 4), data, ClusterBatches(2), epochs=1)


def test_own_batches_serve() -> None:
    class Whole(Batches):
        def __call__(self, data: Data, generator: np.random.Generator) -> Iterator[Data]:
            yield induced(data, torch.arange(data.num_nodes))

    data = datasets.contextual_sbm(60, seed=0)
    assert fit_batches(nn.build("mlp", data.num_features, 4), data, Whole(), epochs=2).epochs == 2


class Given(Batches):
    """The same for each epoch, whatever they are."""

    def __init__(self, *batches: Any) -> None:
        self.batches = batches

    def __call__(self, data: Data, generator: np.random.Generator) -> Iterator[Data]:
        yield from self.batches


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("none", ValueError, "12 of 12 training nodes were not in the seed_mask of exactly one batch"),
        ("twice", ValueError, "12 of 12 training nodes"),
        ("half", ValueError, "of 12 training nodes"),
        ("graph", TypeError, "got one without n_id"),
        ("number", TypeError, "got a int"),
    ],
)
def test_own_batches_that_are_none_are_told(kind: str, error: type[Exception], message: str) -> None:
    data = datasets.contextual_sbm(60, seed=0)
    data.train_mask = torch.arange(60) % 5 == 0
    data.val_mask = data.test_mask = ~data.train_mask
    whole, half = induced(data, torch.arange(60)), induced(data, torch.arange(30))
    given = {"none": (), "twice": (whole, whole), "half": (half,), "graph": (data,), "number": (3,)}[kind]
    with pytest.raises(error, match=message):
        fit_batches(nn.build("mlp", data.num_features, 4), data, Given(*given), epochs=1)


def test_a_batch_has_the_fields_of_its_nodes_and_no_others() -> None:
    data = datasets.contextual_sbm(60, seed=0)
    data.place, data.names, data.year = torch.arange(60), [str(k) for k in range(60)], 2026
    seen = 0
    for how in (ClusterBatches(3), NeighbourBatches(5)):
        for batch in how(data, np.random.default_rng(0)):
            assert torch.equal(batch.place, batch.n_id)
            assert batch.names == [str(k) for k in batch.n_id.tolist()]
            assert "year" not in batch
            seen += 1
    assert seen > 3


def test_training_nodes_may_be_given_by_their_numbers() -> None:
    data = datasets.contextual_sbm(60, seed=0)
    known = data.train_mask.clone()
    data.train_mask = known.nonzero().flatten()
    batches = list(NeighbourBatches(5)(data, np.random.default_rng(0)))
    assert torch.equal(
        torch.cat([batch.n_id[batch.train_mask & batch.seed_mask] for batch in batches]).sort().values,
        known.nonzero().flatten(),
    )


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (torch.tensor([1, 1]), "distinct"),
        (torch.tensor([-1, 2]), "from 0 to 59, got -1 to 2"),
        (torch.tensor([60]), "from 0 to 59, got 60 to 60"),
        (torch.arange(60) < 3, "mask.nonzero"),
        ([1, 2], "got a list"),
    ],
)
def test_nodes_of_no_induced_graph_are_told(nodes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        induced(datasets.contextual_sbm(60, seed=0), nodes)


def test_a_setting_of_no_batches_is_told_where_it_is_given() -> None:
    with pytest.raises(ValueError, match="'rcm' or 'metis'"):
        ClusterBatches(3, method="spectral")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"like \(10, 10\), got 5"):
        NeighbourBatches(3, neighbours=5)  # type: ignore[arg-type]


def test_batches_are_not_trained_on_in_inference_mode() -> None:
    data = datasets.contextual_sbm(60, seed=0)
    with torch.inference_mode(), pytest.raises(RuntimeError, match="fit_batches needs gradients"):
        fit_batches(nn.build("mlp", data.num_features, 4), data, ClusterBatches(2), epochs=1)
