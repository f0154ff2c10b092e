"""The loop: the best epoch, patience, rates of roles, losses that are no numbers."""

import math

import pytest
import torch
from torch_geometric.data import Data

from contractive_gnn import nn, training


def test_the_best_validation_epoch_is_kept(data: Data) -> None:
    model = nn.build("gcn", data.num_features, 3)
    seen: list[float] = []
    result = training.fit(model, data, epochs=40, on_epoch=lambda epoch, accuracy: seen.append(accuracy))
    assert len(seen) == result.epochs == 40
    assert result.val_accuracy == max(seen) == seen[result.best_epoch]
    assert training.evaluate(model, data, data.val_mask) == pytest.approx(result.val_accuracy)


def test_selection_by_loss(data: Data) -> None:
    model = nn.build("gcn", data.num_features, 3)
    by_loss = training.fit(model, data, epochs=40, select="loss")
    assert by_loss.val_loss <= training.fit(model, data, epochs=40, select="accuracy").val_loss


def test_without_an_epoch_the_drawn_parameters_are_scored(data: Data) -> None:
    model = nn.build("gcn", data.num_features, 3)
    result = training.fit(model, data, epochs=0)
    assert (result.epochs, result.best_epoch) == (0, -1)
    assert result.val_accuracy == training.evaluate(model, data, data.val_mask)
    assert math.isfinite(result.val_loss)


def test_patience_stops_early(data: Data) -> None:
    result = training.fit(nn.build("mlp", data.num_features, 3), data, epochs=500, patience=5)
    assert result.epochs == result.best_epoch + 6 < 500


def test_roles_have_their_own_rates(data: Data) -> None:
    model = nn.build("csgnn", data.num_features, 3, hidden_channels=8, learn_weight=True)
    training.fit(model, data, epochs=1, lr={"encoder": 0.1, "node": 0.0, "adjacency": 0.0})
    trained = {name: parameter.clone() for name, parameter in model.state_dict().items()}
    training.fit(model, data, epochs=0)  # the same seed draws the same parameters and stops there
    for name, parameter in model.state_dict().items():
        assert torch.equal(trained[name], parameter) == name.startswith("blocks")
    with pytest.raises(
        ValueError, match=r"lr must name the roles \['adjacency', 'encoder', 'node'\], got \['encoder'\]"
    ):
        training.fit(model, data, lr={"encoder": 0.1})
    with pytest.raises(ValueError, match="GCNClassifier has no roles of parameters"):
        training.fit(nn.build("gcn", data.num_features, 3), data, lr={"encoder": 0.1})


@pytest.mark.parametrize("batched", [False, True])
def test_float16_is_named_where_it_is_the_cause(data: Data, batched: bool) -> None:
    half, model = data.clone(), nn.build("linf-diffusion", data.num_features, 3).half()
    half.x = data.x.half()
    given = (training.ClusterBatches(1),) if batched else ()
    with pytest.raises(FloatingPointError, match="train in float32 or bfloat16"):
        (training.fit_batches if batched else training.fit)(model, half, *given, epochs=10)


def test_a_diverging_fit_says_so(data: Data) -> None:
    model = nn.build("gcn", data.num_features, 3)
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        training.fit(model, data, lr=1e30, epochs=10)
    large = data.clone()
    large.x = 3e38 * torch.ones_like(data.x)
    with pytest.raises(FloatingPointError, match=r"at epoch 0; the entries of x are as large as 3e\+38: scale the"):
        training.fit(model, large, epochs=1)


def test_a_fit_without_a_finite_validation_loss_says_so(data: Data) -> None:
    for select in ("loss", "accuracy"):
        with pytest.raises(FloatingPointError, match="validation loss was not finite at any of 1 epochs"):
            training.fit(nn.build("gcn", data.num_features, 3), data, epochs=1, lr=1e25, select=select)
