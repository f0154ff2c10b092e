from __future__ import annotations

from importlib import metadata

import pytest
import torch
from torch_geometric.data import Data

from contractive_gnn import datasets
from contractive_gnn.bench.protocol import (
    Override,
    Protocol,
    ProtocolError,
    check_names,
    evaluation,
    missing_packages,
)
from contractive_gnn.bench.spec import parse_attack, parse_attacks
from contractive_gnn.bench.targets import TargetRule


@pytest.fixture(scope="module")
def graph() -> Data:
    return datasets.contextual_sbm(200, average_degree=12.0, seed=0)


def test_accuracy_is_taken_over_the_targets_where_there_are_any(graph: Data) -> None:
    assert evaluation(graph).on == "test"
    assert torch.equal(evaluation(graph).mask, graph.test_mask)
    attacked = graph.clone()
    attacked.targets = torch.tensor([4, 2])
    assert evaluation(attacked).on == "targets"
    assert evaluation(attacked).mask.nonzero().flatten().tolist() == [2, 4]


@pytest.mark.parametrize(
    ("text", "override"),
    [
        ("training.epochs=50", Override(None, "training", "epochs", 50)),
        ("csgnn.model.step_size=0.1", Override("csgnn", "model", "step_size", 0.1)),
        ("pgd.attack.loss=CW", Override("pgd", "attack", "loss", "CW")),
        ("model.shared=true", Override(None, "model", "shared", True)),
        ('training.lr={"node": 0.1}', Override(None, "training", "lr", {"node": 0.1})),
        ("model.name=a=b", Override(None, "model", "name", "a=b")),
    ],
)
def test_overrides_are_read(text: str, override: Override) -> None:
    assert Override.parse(text) == override
    assert Override.parse(str(override)) == override


@pytest.mark.parametrize(
    "text", ["", "epochs=50", "training.epochs", "attack.epochs=5", "a.b.model.c=1", "gcn.data.x=1", "model.=1"]
)
def test_overrides_of_another_form_are_errors_that_show_the_form(text: str) -> None:
    with pytest.raises(ProtocolError, match=r"like training\.epochs=50"):
        Override.parse(text)


def test_overrides_reach_the_cells_they_are_for() -> None:
    protocol = Protocol(
        dataset="digits",
        models=("gcn", "mlp"),
        attacks=parse_attacks("clean,random:0.1,pgd:0.1,nettack:2", dataset="digits"),
        seeds=(0,),
        overrides=tuple(
            map(
                Override.parse,
                ["training.epochs=3", "mlp.training.epochs=4", "gcn.model.dropout=0.1", "pgd.attack.epochs=7"],
            )
        ),
        attack_seed=5,
        targets=TargetRule(6),
    )
    assert protocol.model_hyperparameters("gcn")["training"]["epochs"] == 3
    assert protocol.model_hyperparameters("gcn")["model"]["dropout"] == 0.1
    assert protocol.model_hyperparameters("mlp")["training"]["epochs"] == 4
    assert "dropout" not in protocol.model_hyperparameters("mlp")["model"]
    attacks = {
        spec.name: cell.hyperparameters["attack"] for spec, cell in protocol.cells(split="random", model="gcn", seed=0)
    }
    assert attacks["clean"] == {}
    assert attacks["random"] == {"seed": 5}
    assert attacks["pgd"]["seed"] == 5
    assert attacks["pgd"]["params"]["epochs"] == 7
    assert attacks["nettack"]["targets"] == 6


def test_an_attack_that_takes_no_such_hyperparameter_says_what_it_takes() -> None:
    override = Override.parse("pgd.attack.epoch=7")
    spec = parse_attack("pgd:0.1", dataset="digits")
    protocol = Protocol(dataset="digits", models=("gcn",), attacks=(spec,), seeds=(0,), overrides=(override,))
    with pytest.raises(TypeError, match=r"takes no epoch; it takes: .*epochs"):
        protocol.attack(spec)


def test_the_packages_of_a_missing_extra_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(package: str) -> str:
        raise metadata.PackageNotFoundError(package)

    nettack, random = (parse_attack(text, dataset="digits") for text in ("nettack-deeprobust:1", "random:0.1"))
    published = parse_attack("nettack:1", dataset="cora")
    assert missing_packages(nettack) == ()
    monkeypatch.setattr(metadata, "version", absent)
    assert "deeprobust" in missing_packages(nettack)
    assert missing_packages(random) == missing_packages(published) == ()


def test_unknown_names_are_listed_with_the_known_ones() -> None:
    check_names("model", ["a"], {"a": 1, "b": 2})
    with pytest.raises(ProtocolError, match=r"no model is called 'c', 'd'\. There are: a, b"):
        check_names("model", ["a", "c", "d"], {"b": 1, "a": 2})
    with pytest.raises(ProtocolError, match="no model given; there are: a"):
        check_names("model", [], {"a": 1})
