"""Losses of one's own, and a class to aim at."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.data import Data

from contractive_gnn.attacks import AttackError, Budget, get
from contractive_gnn.attacks.whitebox import LOSSES, LRBCD, WhiteboxPGD, WhiteboxPGDFeatures, tanh_margin
from contractive_gnn.nn import GCNClassifier
from contractive_gnn.training import fit
from tests.attacks.conftest import block_graph

QUICK: dict[str, Any] = {"epochs": 10, "fine_epochs": 3, "samples": 3, "swaps": 8}
ATTACKS = [WhiteboxPGD, LRBCD, WhiteboxPGDFeatures]


@pytest.fixture(scope="module")
def victim() -> nn.Module:
    torch.manual_seed(0)
    model = GCNClassifier(40, 3)
    fit(model, block_graph(), epochs=60)
    return model.eval()


def per_node(logits: Tensor, labels: Tensor) -> Tensor:
    return torch.tanh(functional.cross_entropy(logits, labels, reduction="none") - 1)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_loss_of_ones_own_is_raised(graph: Data, victim: nn.Module, attack: type[WhiteboxPGD]) -> None:
    for loss in (per_node, lambda logits, labels: per_node(logits, labels).sum()):
        result = attack(loss=loss, **QUICK).run(graph, Budget(flips=15), victim=victim)
        told = result.provenance["params"]
        assert told["diagnosis"]["errors"]["found"] > told["diagnosis"]["errors"]["clean"]
        assert "test_goals" in told["loss"]
        json.dumps(result.provenance)


def test_the_function_behind_a_name_gives_what_the_name_gives(graph: Data, victim: nn.Module) -> None:
    runs = [
        WhiteboxPGD(loss=loss, **QUICK).run(graph, Budget(flips=9), victim=victim)
        for loss in ("tanh-margin", tanh_margin, lambda z, y: LOSSES["tanh-margin"](z, y))
    ]
    assert torch.equal(runs[0].edge_flips, runs[1].edge_flips)
    assert torch.equal(runs[0].edge_flips, runs[2].edge_flips)


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (lambda z, y: 1.0, "returned float for the scores of 45 nodes"),
        (lambda z, y: z, r"returned a tensor of shape \[45, 3\]"),
        (lambda z, y: z.sum() / 0, "is inf on the clean graph"),
        (lambda z, y: (z.argmax(dim=1) != y).float(), "has no gradient"),
        (lambda z, y: torch.ones((), requires_grad=True), "has no gradient"),
        (lambda z, y: (z.argmax(dim=1) != y).sum(), "returned a tensor of torch.int64"),
        (lambda z, y: (z - z.detach())[:, 0].sqrt(), "a gradient that is not finite"),
    ],
)
def test_a_loss_that_is_none_is_refused(graph: Data, victim: nn.Module, loss: Any, says: str) -> None:
    with pytest.raises(AttackError, match=says):
        WhiteboxPGD(loss=loss, **QUICK).run(graph, Budget(flips=1), victim=victim)


def test_other_things_are_no_loss() -> None:
    with pytest.raises(TypeError, match="or a callable of scores"):
        WhiteboxPGD(loss=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_class_to_aim_at(graph: Data, victim: nn.Module, attack: type[WhiteboxPGD]) -> None:
    result = attack(goal="targeted", target_labels=2, **QUICK).run(graph, Budget(flips=20), victim=victim)
    told = result.provenance["params"]["diagnosis"]
    others = graph.test_mask & (graph.y != 2)
    given = int((victim(result.data.x, result.data.edge_index).argmax(dim=1) == 2)[others].sum())
    assert told["nodes"] == int(others.sum())
    assert told["errors"]["found"] == given
    assert given >= told["errors"]["clean"] + 5
    assert (result.provenance["params"]["goal"], result.provenance["params"]["target_labels"]) == ("targeted", 2)


def test_a_class_for_each_node(graph: Data, victim: nn.Module) -> None:
    aims = (graph.y + 1) % 3
    attack = get("whitebox-pgd", goal="targeted", target_labels=aims, **QUICK)
    targets = graph.test_mask.nonzero().flatten()[:3]
    result = attack.run(graph, Budget(flips=15), victim=victim, targets=targets)
    predicted = victim(result.data.x, result.data.edge_index).argmax(dim=1)
    told = result.provenance["params"]["diagnosis"]
    assert told["errors"]["found"] == int((predicted == aims)[targets].sum()) > told["errors"]["clean"]
    assert result.provenance["params"]["target_labels"] == tuple(aims.tolist())
    json.dumps(result.provenance)


def test_the_usual_goal_is_not_told() -> None:
    assert not {"goal", "target_labels"} & WhiteboxPGD().params.keys()


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"goal": "both"}, ValueError, "goal is one of 'untargeted', 'targeted'"),
        ({"goal": "targeted"}, ValueError, "needs target_labels"),
        ({"target_labels": 1}, ValueError, "are for goal='targeted'"),
        ({"goal": "targeted", "target_labels": -1}, ValueError, "at least 0"),
        ({"goal": "targeted", "target_labels": 1.0}, TypeError, "whole number"),
        ({"goal": "targeted", "target_labels": torch.ones(4)}, TypeError, "whole numbers of shape"),
        ({"goal": "targeted", "target_labels": [0, 0.5]}, TypeError, "whole number"),
    ],
)
def test_other_goals_are_refused(options: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        WhiteboxPGD(**options)


def test_labels_that_do_not_fit_the_graph_are_refused(graph: Data, victim: nn.Module) -> None:
    for labels, says in (
        ([0, 1], "for 2 nodes, and the graph has 90"),
        (3, "class 3, and the victim scores 3"),
        (graph.y, "label already"),
    ):
        with pytest.raises(ValueError, match=says):
            WhiteboxPGD(goal="targeted", target_labels=labels).run(graph, Budget(flips=1), victim=victim)
