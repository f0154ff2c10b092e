"""What surrogates gave is remembered, and never given for another graph, seed or budget."""

from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Data

import contractive_gnn as cg
from contractive_gnn.attacks import AttackResult, Budget
from contractive_gnn.attacks.auto import Member, members


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds of the surrogates that were trained."""
    seeds: list[int] = []
    real = members.trained_surrogate

    def counted(name: str, data: Data, *, seed: int) -> torch.nn.Module:
        seeds.append(seed)
        return real(name, data, seed=seed)

    monkeypatch.setattr(members, "trained_surrogate", counted)
    monkeypatch.setattr(members, "_of_graph", members.Remembered())
    return seeds


def run(member: Member, data: Data, *, number: int = 5, seed: int = 0) -> AttackResult:
    victim = cg.build("gcn", data.num_features, 4).eval()
    return member.run(victim, data, Budget(flips=number), targets=None, seed=seed)


def flips(member: Member, data: Data, *, number: int = 5, seed: int = 0) -> torch.Tensor:
    return run(member, data, number=number, seed=seed).edge_flips


def test_a_surrogate_is_trained_once_for_a_graph_and_a_seed(trained: list[int]) -> None:
    data, member = cg.contextual_sbm(80, seed=0), Member("from-gcn", "whitebox-pgd", surrogate="gcn")
    first = flips(member, data)
    assert torch.equal(first, flips(member, data))
    assert flips(member, data, number=3).shape[1] == 3
    assert trained == [0]
    flips(member, data, seed=1)
    assert trained == [0, 1]
    quick = Member("quick", "whitebox-pgd", {"epochs": 2}, surrogate="gcn")
    assert run(quick, data).provenance["params"]["epochs"] == 2
    assert trained == [0, 1]
    data.y = data.y.roll(1)
    assert not torch.equal(flips(member, data), first)
    assert trained == [0, 1, 0]


def test_what_is_remembered_is_what_would_be_made(trained: list[int]) -> None:
    data, member = cg.contextual_sbm(80, seed=0), Member("from-gcn", "whitebox-pgd", surrogate="gcn")
    torch.manual_seed(3)
    first = flips(member, data)
    members._of_graph([], dict)
    torch.manual_seed(4)
    assert torch.equal(first, flips(member, data))
    assert trained == [0, 0]


def test_what_the_caller_does_to_a_result_is_not_remembered(trained: list[int]) -> None:
    data, member = cg.contextual_sbm(80, seed=0), Member("from-gcn", "whitebox-pgd", surrogate="gcn")
    first = run(member, data)
    edges = first.data.edge_index.clone()
    first.data.edge_index.zero_()
    first.provenance.clear()
    again = run(member, data)
    assert torch.equal(again.data.edge_index, edges)
    assert again.provenance["attack"] == "whitebox-pgd"
    assert trained == [0]
