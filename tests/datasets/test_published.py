from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch_geometric.data import Data

from contractive_gnn import datasets
from contractive_gnn.datasets import (
    UnknownAttackError,
    UnknownBudgetError,
    UnknownDatasetError,
    UnknownSplitError,
    has_published,
    load,
    load_attacked,
)
from contractive_gnn.datasets.published import ATTACKS

# DESIGN.md §4: nodes, edges, features, classes, and the sizes of the published split.
SIZES = {
    "cora": (2485, 5069, 1433, 7, (247, 249, 1988)),
    "citeseer": (2110, 3668, 3703, 6, (210, 211, 1688)),
    "polblogs": (1222, 16714, 1222, 2, (121, 123, 978)),
}
# Edges in which an attacked graph differs from the clean one: added, removed.
FLIPS = {
    ("cora", "metattack", 0.25): (1222, 45),
    ("cora", "nettack", 5): (393, 22),
    ("citeseer", "metattack", 0.25): (899, 18),
}


def edges(data: Data) -> set[tuple[int, int]]:
    return {(u, v) for u, v in data.edge_index.T.tolist() if u < v}


def mask_sizes(data: Data) -> tuple[int, ...]:
    return tuple(int(data[f"{part}_mask"].sum()) for part in ("train", "val", "test"))


@pytest.mark.usefixtures("real_data")
@pytest.mark.parametrize("name", SIZES)
def test_clean_graph_has_the_published_sizes_and_one_component(name: str) -> None:
    data = load(name, download=False)
    nodes, m, features, classes, split = SIZES[name]
    assert (data.num_nodes, data.num_edges // 2, data.num_features) == (nodes, m, features)
    assert mask_sizes(data) == split
    assert data.y.unique().tolist() == list(range(classes))
    assert (data.x.dtype, data.y.dtype, data.edge_index.dtype) == (torch.float32, torch.int64, torch.int64)
    assert (data.name, data.split) == (name, "prognn")
    assert data.is_coalesced()
    assert data.is_undirected()
    assert not data.has_self_loops()
    row, col = data.edge_index.numpy()
    assert sp.csgraph.connected_components(sp.coo_matrix((np.ones(len(row)), (row, col)), shape=(nodes, nodes)))[0] == 1


@pytest.mark.usefixtures("real_data")
def test_polblogs_has_identity_features_and_papers_have_binary_ones() -> None:
    assert torch.equal(load("polblogs", download=False).x, torch.eye(1222))
    assert load("cora", download=False).x.unique().tolist() == [0.0, 1.0]


@pytest.mark.usefixtures("real_data")
@pytest.mark.parametrize(("name", "attack", "budget"), FLIPS)
def test_attacked_graph_differs_in_the_published_number_of_edges(name: str, attack: str, budget: float) -> None:
    clean, attacked = load(name, download=False), load_attacked(name, attack, budget, download=False)
    before, after = edges(clean), edges(attacked)
    assert (len(after - before), len(before - after)) == FLIPS[name, attack, budget]
    for key in ("x", "y", "train_mask", "val_mask", "test_mask"):
        assert torch.equal(clean[key], attacked[key])
    assert "targets" not in clean


@pytest.mark.usefixtures("real_data")
@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("attack", ATTACKS)
def test_every_published_budget_loads_and_stays_within_itself(name: str, attack: str) -> None:
    clean = load(name, download=False)
    before = edges(clean)
    for budget in ATTACKS[attack]:
        attacked = load_attacked(name, attack, budget, download=False)
        flips = len(before ^ edges(attacked))
        allowed = round(budget * len(before)) if attack == "metattack" else budget * len(attacked.targets)
        assert 0 < flips <= allowed


@pytest.mark.usefixtures("real_data")
@pytest.mark.parametrize(("name", "count"), [("cora", 83), ("citeseer", 63), ("polblogs", 540)])
def test_nettack_targets_are_distinct_test_nodes(name: str, count: int) -> None:
    data = load_attacked(name, "nettack", 1, download=False)
    assert data.targets.dtype == torch.int64
    assert len(data.targets.unique()) == len(data.targets) == count
    assert bool(data.test_mask[data.targets].all())


@pytest.mark.usefixtures("real_data")
@pytest.mark.parametrize("name", ["cora", "polblogs"])
def test_the_published_split_is_the_random_one_of_seed_15(name: str) -> None:
    # DeepRobust's documentation says so; Citeseer's was drawn with other tools: only its test nodes agree.
    fixed, drawn = load(name, download=False), load(name, split="random", split_seed=15, download=False)
    assert all(torch.equal(fixed[key], drawn[key]) for key in ("train_mask", "val_mask", "test_mask"))


@pytest.mark.usefixtures("real_data")
def test_random_split_has_the_sizes_of_the_published_one_and_follows_its_seed() -> None:
    data = load("cora", split="random", split_seed=3, download=False)
    assert data.split == "random"
    assert mask_sizes(data) == SIZES["cora"][4]
    again, other = (load("cora", split="random", split_seed=seed, download=False) for seed in (3, 4))
    assert torch.equal(data.train_mask, again.train_mask)
    assert not torch.equal(data.train_mask, other.train_mask)
    assert torch.equal(data.x, other.x)


def test_has_published_follows_the_manifest() -> None:
    assert {(name, attack) for name in datasets.DATASETS for attack in ATTACKS if has_published(name, attack)} == {
        *((name, attack) for name in ("cora", "citeseer", "polblogs", "pubmed") for attack in ATTACKS),
        ("cora_ml", "metattack"),
    }
    assert not has_published("cora", "pgd")


def test_a_wrong_name_lists_the_right_ones() -> None:
    with pytest.raises(UnknownDatasetError, match=r"called 'Cora'. Did you mean 'cora'\? There are: citeseer, cora"):
        load("Cora")
    with pytest.raises(UnknownDatasetError, match="no dataset is called 'reddit'"):
        load_attacked("reddit", "metattack", 0.05)


def test_a_wrong_split_lists_the_right_ones() -> None:
    with pytest.raises(UnknownSplitError, match=r"no split is called 'public'\. There are: inductive, prognn, random"):
        load("digits", split="public")  # type: ignore[arg-type]
    with pytest.raises(UnknownSplitError, match="split seed -1 given"):
        load("digits", split_seed=-1)


@pytest.mark.parametrize(("name", "attack"), [("cora", "pgd"), ("digits", "metattack"), ("cora_ml", "nettack")])
def test_an_unpublished_attack_is_an_error(name: str, attack: str) -> None:
    with pytest.raises(UnknownAttackError, match=f"'{attack}' on dataset '{name}'.*metattack on cora"):
        load_attacked(name, attack, 0.05)


@pytest.mark.parametrize(
    ("attack", "budget"),
    [
        ("metattack", 0.3),
        ("metattack", 1),
        ("metattack", 5),
        ("nettack", 6),
        ("nettack", 0),
        ("nettack", 5.0),
        ("nettack", True),
    ],
)
def test_an_unpublished_budget_is_an_error_and_one_is_not_one_point_zero(attack: str, budget: float) -> None:
    expected = "0.05, 0.1, 0.15, 0.2, 0.25" if attack == "metattack" else "1, 2, 3, 4, 5"
    with pytest.raises(UnknownBudgetError, match=f"{attack} budget {budget!r} given; expected .* one of {expected}"):
        load_attacked("cora", attack, budget)


@pytest.mark.usefixtures("real_data")
def test_a_budget_computed_in_floating_point_is_found() -> None:
    assert edges(load_attacked("cora", "metattack", 0.1 + 0.05)) == edges(load_attacked("cora", "metattack", 0.15))


@pytest.mark.usefixtures("real_data")
def test_status_tells_what_is_here_and_what_it_costs_to_fetch() -> None:
    entries = {entry.name: entry for entry in datasets.status()}
    assert list(entries) == list(datasets.DATASETS)
    assert entries["cora"].state == "here"
    assert entries["cora"].bytes_to_fetch == 0
    assert len(entries["cora"].files) == 13
    assert entries["digits"].state == "embedded"
    assert entries["csbm"].files == ()
    assert dict(entries["cora_ml"].published) == {"metattack": (0.05, 0.1, 0.15, 0.2, 0.25)}
