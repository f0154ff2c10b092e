"""Options that make no sense, and two ways to give them."""

import math
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data

from contractive_gnn import nn, training
from contractive_gnn.certificates.training import CertifiedFitOptions, GivenCertifiedOptions
from contractive_gnn.training.options import GivenOptions


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"epochs": -5}, "epochs must be at least 0, got -5"),
        ({"epochs": 2.5}, r"epochs must be a whole number, got 2.5 \(float\)"),
        ({"epochs": True}, "epochs must be a whole number, got True"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"lr": math.nan}, "lr must be at least 0, got nan"),
        ({"lr": math.inf}, "lr must be finite, got inf"),
        ({"lr": -0.1}, "lr must be at least 0, got -0.1"),
        ({"lr": "fast"}, r"lr must be a number, got 'fast' \(str\)"),
        ({"lr": {"encoder": math.nan}}, "lr must be at least 0, got nan"),
        ({"weight_decay": math.nan}, "weight_decay must be at least 0, got nan"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0, got -1"),
        ({"patience": 0}, "patience must be at least 1, got 0"),
        ({"patience": math.nan}, "patience must be a whole number, got nan"),
        ({"select": "acuracy"}, "select must be 'accuracy' or 'loss', got 'acuracy'"),
        ({"self_training": math.nan}, "self_training must be at least 0 and below 1, got nan"),
        ({"self_training": "0.9"}, r"self_training must be a number, got '0.9' \(str\)"),
    ],
)
def test_options_that_make_no_sense_are_refused(data: Data, options: dict[str, Any], complaint: str) -> None:
    for model in (nn.build("gcn", data.num_features, 3), nn.Ensemble([nn.build("mlp", data.num_features, 3)])):
        with pytest.raises((TypeError, ValueError), match=complaint):
            training.fit(model, data, **options)


def test_self_training_is_refused_where_it_means_nothing(data: Data) -> None:
    with pytest.raises(ValueError, match=r"self_training must be at least 0 and below 1, got 1\.0"):
        training.fit(nn.build("gcn", data.num_features, 3), data, self_training=1.0)


def test_options_come_in_one_piece_or_one_by_one(data: Data) -> None:
    results = []
    for arguments in (
        {"epochs": 12, "lr": 0.05, "select": "loss"},
        {"options": training.FitOptions(epochs=12, lr=0.05, select="loss")},
    ):
        model = nn.build("gcn", data.num_features, 3)
        fitted = training.fit(model, data, **arguments)  # type: ignore[arg-type]
        results.append((fitted.epochs, fitted.val_loss))
    assert results[0] == results[1]
    assert results[0][0] == 12


def test_options_that_nobody_knows_or_that_come_twice_are_refused(data: Data) -> None:
    model = nn.build("gcn", data.num_features, 3)
    options = training.FitOptions(epochs=1)
    with pytest.raises(TypeError, match=r"no option of the training is called 'epoch'\. Did you mean 'epochs'"):
        training.fit(model, data, epoch=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="give lr within FitOptions"):
        training.fit(model, data, options, lr=0.1)
    with pytest.raises(TypeError, match="options must be FitOptions, got 200"):
        training.fit(model, data, 200)  # type: ignore[arg-type]
    with pytest.raises(FrozenInstanceError):
        options.epochs = 2  # type: ignore[misc]


def test_every_option_can_be_given_by_its_name() -> None:
    for kind, given in ((training.FitOptions, GivenOptions), (CertifiedFitOptions, GivenCertifiedOptions)):
        assert set(kind.names()) == given.__required_keys__ | given.__optional_keys__  # type: ignore[attr-defined]


def test_an_order_is_refused_where_a_model_knows_the_nodes(data: Data) -> None:
    class Named(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(data.num_nodes, 2)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.table.weight

    with pytest.raises(ValueError, match=rf"table.weight has a row for each of the {data.num_nodes} nodes"):
        training.fit(Named(), data, epochs=1, order="rcm")
    with pytest.raises(ValueError, match="order is for models that fit trains"):
        training.fit(nn.build("rgcn", data.num_features, 2), data, order="rcm")
    with pytest.raises(ValueError, match="order must be 'rcm', 'metis' or None, got 'random'"):
        training.fit(Named(), data, order="random")
