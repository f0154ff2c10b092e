"""Datasets by name: ours, and those that someone registers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch_geometric.data import Data

from contractive_gnn import datasets
from contractive_gnn.datasets import DATASETS, InvalidGraphError, UnknownDatasetError
from contractive_gnn.registry import temporary

N = 60


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    with temporary():
        yield


def ring(**more: object) -> Data:
    nodes = torch.arange(N)
    edges = torch.stack([nodes, (nodes + 1) % N])
    return Data(
        x=torch.nn.functional.one_hot(nodes % 3, 3).float(),
        edge_index=torch.cat([edges, edges.flip(0)], dim=1),
        y=nodes % 3,
        **more,
    )


def masks(*names: str) -> dict[str, torch.Tensor]:
    third = torch.arange(N) % 30 // 10
    return {name: third == number for number, name in enumerate(names)}


def test_ours_keep_their_names_and_descriptions() -> None:
    published = ["cora", "citeseer", "polblogs", "cora_ml", "pubmed"]
    assert list(DATASETS) == [*published, "digits", "csbm", "dc-sbm", "ogbn-arxiv"]
    assert str(DATASETS["csbm"]) == "contextual stochastic block model, 4 classes (generated, no network needed)"


def test_a_registered_loader_is_loaded_by_name_and_shown() -> None:
    @datasets.register("ring")
    def load_ring(*, split: str, split_seed: int, root: object, download: bool) -> Data:
        """Sixty nodes in a ring.

        Not the first line.
        """
        assert (split, split_seed, root, download) == ("random", 3, "here", False)
        return ring()

    data = datasets.load("ring", split="random", split_seed=3, root="here", download=False)
    assert (data.name, data.split) == ("ring", "random")
    for mask, nodes in datasets.random_split(data.y.numpy(), seed=3).items():
        assert data[mask].nonzero().flatten().tolist() == sorted(nodes)
    shown = {entry.name: entry for entry in datasets.status()}["ring"]
    assert (shown.description, shown.state, shown.files) == ("Sixty nodes in a ring.", "registered", ())


@pytest.mark.parametrize("name", ["csbm", "digits"])
def test_an_inductive_split_is_of_the_same_graph(name: str) -> None:
    whole, other = (datasets.load(name, split=split, split_seed=3) for split in ("inductive", "random"))
    assert (whole.split, whole.name) == ("inductive", name)
    assert torch.equal(whole.edge_index, other.edge_index)
    classes = int(whole.y.max()) + 1
    assert int(whole.train_mask.sum()) == int(whole.val_mask.sum()) == 20 * classes
    assert not torch.equal(whole.test_mask, datasets.load(name, split="inductive", split_seed=4).test_mask)


def test_the_random_split_is_that_of_the_seed() -> None:
    datasets.register("ring", description="A ring.")(lambda **_: ring())
    first, again, other = (datasets.load("ring", split_seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.test_mask, again.test_mask)
    assert not torch.equal(first.test_mask, other.test_mask)


def test_masks_of_its_own_are_kept_under_their_name() -> None:
    given = masks("train_mask", "val_mask", "test_mask")
    datasets.register("ring")(lambda **_: ring(**given, split="public"))
    data = datasets.load("ring")
    assert data.split == "public"
    assert all(torch.equal(data[name], mask) for name, mask in given.items())


@pytest.mark.parametrize(
    ("made", "complaint"),
    [
        (lambda: (1, 2), r"the loader of the dataset 'ring' gave a tuple; expected a torch_geometric\.data\.Data"),
        (lambda: ring(**masks("train_mask")), "has train_mask alone; give it all of train_mask, val_mask, test_mask"),
        (
            lambda: ring(**masks("train_mask", "val_mask", "test_mask")),
            "set data.split to its name, or leave",
        ),
        (lambda: Data(x=ring().x, edge_index=ring().edge_index), r"'ring' has no labels y; expected int64 \[60\]"),
        (lambda: Data(x=ring().x, edge_index=ring().edge_index[:, :N], y=ring().y), "edge"),
    ],
)
def test_what_a_loader_must_not_give(made: object, complaint: str) -> None:
    datasets.register("ring")(lambda **_: made())  # type: ignore[operator]
    with pytest.raises(InvalidGraphError, match=complaint):
        datasets.load("ring")


def test_a_loader_takes_what_it_is_called_with() -> None:
    def load_ring(split: str, split_seed: int) -> Data:
        return ring()

    with pytest.raises(TypeError, match=r"it takes \(split: 'str', split_seed: 'int'\) .*let it take those"):
        datasets.register("ring")(load_ring)
    assert "ring" not in DATASETS


def test_a_taken_or_unknown_name_is_told() -> None:
    with pytest.raises(ValueError, match="the dataset 'cora' is registered already, by citations between"):
        datasets.register("cora")(lambda **_: ring())
    with pytest.raises(UnknownDatasetError, match="no dataset is called 'rign'"):
        datasets.load("rign")
