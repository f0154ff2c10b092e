"""Training: reproducible, selected on validation, roles of parameters, errors."""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch_geometric.data import Data

from contractive_gnn import datasets, nn, training


@pytest.fixture(scope="module")
def data() -> Data:
    return datasets.contextual_sbm(150, classes=3, features=8, average_degree=6, seed=0, split_seed=0)


def test_a_seed_gives_the_same_model_and_leaves_the_global_state(data: Data) -> None:
    scores = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        model = nn.build("csgnn", data.num_features, 3, hidden=8)
        torch.set_rng_state(before)
        result = training.fit(model, data, seed=5, epochs=15)
        assert torch.equal(torch.get_rng_state(), before)
        scores.append((result.val_accuracy, result.best_epoch, training.predict(model, data)))
    assert scores[0][:2] == scores[1][:2]
    assert torch.equal(scores[0][2], scores[1][2])


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
    model = nn.build("csgnn", data.num_features, 3, hidden=8, weight=True)
    training.fit(model, data, epochs=1, lr={"encoder": 0.1, "node": 0.0, "adjacency": 0.0})
    trained = {name: parameter.clone() for name, parameter in model.state_dict().items()}
    training.fit(model, data, epochs=0)  # the same seed draws the same parameters and stops there
    for name, parameter in model.state_dict().items():
        assert torch.equal(trained[name], parameter) == name.startswith("blocks")
    with pytest.raises(
        ValueError, match=r"lr must name the roles \['adjacency', 'encoder', 'node'\], got \['encoder'\]"
    ):
        training.fit(model, data, lr={"encoder": 0.1})
    with pytest.raises(ValueError, match="GCN has no roles of parameters"):
        training.fit(nn.build("gcn", data.num_features, 3), data, lr={"encoder": 0.1})


def test_a_diverging_fit_says_so(data: Data) -> None:
    model = nn.build("gcn", data.num_features, 3)
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        training.fit(model, data, lr=1e30, epochs=10)
    large = data.clone()
    large.x = 3e38 * torch.ones_like(data.x)
    with pytest.raises(FloatingPointError, match=r"at epoch 0; the entries of x are as large as 3e\+38: scale the"):
        training.fit(model, large, epochs=1)


def test_a_missing_mask_says_so(data: Data) -> None:
    bare = Data(x=data.x, edge_index=data.edge_index, y=data.y)
    with pytest.raises(ValueError, match=r"data\.train_mask must select at least one node"):
        training.fit(nn.build("gcn", data.num_features, 3), bare)


def test_nodes_that_are_trained_on_and_judged_by_are_not_passed_over_in_silence(data: Data) -> None:
    seen = data.clone()
    seen.test_mask = data.test_mask | data.train_mask
    with pytest.warns(
        UserWarning, match=rf"{int(data.train_mask.sum())} nodes of data\.test_mask are in data\.train_mask"
    ):
        training.fit(nn.build("gcn", data.num_features, 3), seen, epochs=1)


def test_a_split_of_indices_is_the_split_of_its_masks(data: Data) -> None:
    listed = data.clone()
    for mask in ("train_mask", "val_mask", "test_mask"):
        listed[mask] = data[mask].nonzero().flatten()
    listed.y = data.y.unsqueeze(1).int()
    found = []
    for graph in (data, listed):
        model = nn.build("gcn", data.num_features, 3)
        fitted = training.fit(model, graph, epochs=20)
        found.append((fitted.val_accuracy, training.evaluate(model, graph, graph.test_mask)))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "name", ["gcn", "gat", "appnp", "csgnn", "linf-diffusion", "robust", "robust-ensemble", "rung"]
)
def test_weights_of_edges_are_read(data: Data, name: str) -> None:
    same = data.y[data.edge_index[0]] == data.y[data.edge_index[1]]
    weighted, plain = data.clone(), data.clone()
    weighted.edge_weight = torch.where(same, 1.0, 0.0)
    plain.edge_index = data.edge_index[:, same]
    scores = []
    plainly = {"dropout": 0.0} if name == "gat" else {}  # it draws for every edge, also for one of weight 0
    for graph in (weighted, plain):
        model = nn.build(name, data.num_features, 3, **plainly)
        training.fit(model, graph, epochs=3, self_training=0.4)
        scores.append(training.predict(model, graph))
        assert training.evaluate(model, graph, graph.test_mask) == pytest.approx(
            100 * float((scores[-1].argmax(dim=1) == graph.y)[graph.test_mask].float().mean())
        )
        assert torch.equal(scores[-1], model(graph.x, graph.edge_index, graph.get("edge_weight")).detach())
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-3, atol=1e-4)  # an edge of weight 0 is none
    weighted.edge_weight = torch.where(same, 1.0, 0.5)
    if getattr(model, "setting", "edges") == "edges":
        assert not torch.allclose(training.predict(model, weighted), training.predict(model, data))
    weighted.edge_weight = torch.ones_like(weighted.edge_weight)
    model = nn.build(name, data.num_features, 3)
    training.fit(model, data, epochs=1)
    assert torch.equal(training.predict(model, weighted), training.predict(model, data))


class TwoArguments(torch.nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.map = torch.nn.Linear(features, 3)

    def reset_parameters(self) -> None:
        self.map.reset_parameters()

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        return self.map(x)


def test_weights_that_a_model_cannot_read_are_refused(data: Data) -> None:
    weighted = data.clone()
    weighted.edge_weight = torch.full((data.num_edges,), 0.5)
    model = TwoArguments(data.num_features)
    training.fit(model, data, epochs=2)
    for use in (
        lambda: training.fit(model, weighted, epochs=2),
        lambda: training.predict(model, weighted),
        lambda: training.evaluate(model, weighted, weighted.test_mask),
    ):
        with pytest.raises(ValueError, match=r"TwoArguments\.forward\(x, edge_index\) takes no edge_weight"):
            use()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"y": torch.full((150,), 3)}, "y holds class 3, but the model scores 3 classes, 0 to 2"),
        ({"x": torch.ones(150, 9)}, "x has 9 features, GCN was built for 8"),
        ({"x": torch.ones(150, 8, dtype=torch.float64)}, "x is torch.float64, GCN torch.float32"),
        ({"x": torch.full((150, 8), torch.nan)}, "not finite"),
        ({"y": torch.full((150,), -1)}, r"data\.train_mask selects \d+ nodes without a label"),
    ],
)
def test_a_graph_that_does_not_fit_the_model_says_so(data: Data, change: dict[str, torch.Tensor], says: str) -> None:
    other = data.clone()
    for key, value in change.items():
        other[key] = value
    with pytest.raises(ValueError, match=says):
        training.fit(nn.build("gcn", 8, 3), other, epochs=1)


def test_a_judgement_needs_nodes_with_labels_and_puts_the_mode_back(data: Data) -> None:
    model = nn.build("gcn", data.num_features, 3)
    training.fit(model, data, epochs=2)
    model.train()
    model.conv1.eval()
    modes = [module.training for module in model.modules()]
    training.predict(model, data)
    training.evaluate(model, data, [0, 5])
    assert [module.training for module in model.modules()] == modes
    with pytest.raises(ValueError, match="mask must select at least one node"):
        training.evaluate(model, data, data.y > 7)
    unknown = data.clone()
    unknown.y[5] = -100
    with pytest.raises(ValueError, match="mask selects 1 nodes without a label"):
        training.evaluate(model, unknown, [0, 5])


def test_scores_that_are_not_numbers_are_wrong(data: Data) -> None:
    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
            return torch.full((x.size(0), 3), float("nan"))

    assert training.evaluate(Broken(), data, data.y == 0) == 0.0
    with pytest.raises(FloatingPointError, match="Broken's scores of 150 of 150 nodes are not finite"):
        training.predict(Broken(), data)


def test_self_training_learns_from_what_the_first_fit_is_sure_of(data: Data) -> None:
    def trained(**more: float) -> tuple[training.FitResult, torch.Tensor]:
        model = nn.build("gcn", data.num_features, 3)
        return training.fit(model, data, epochs=25, **more), training.predict(model, data)  # type: ignore[arg-type]

    once, first = trained()
    twice, second = trained(self_training=0.6)
    assert (once.epochs, twice.epochs) == (25, 50)
    assert not torch.equal(first, second)
    hidden = data.clone()
    hidden.y = torch.where(data.train_mask | data.val_mask, data.y, 0)  # test labels are never read
    model = nn.build("gcn", data.num_features, 3)
    training.fit(model, hidden, epochs=25, self_training=0.6)
    assert torch.equal(training.predict(model, hidden), second)


def test_whoever_knows_more_of_the_validation_nodes_teaches(data: Data) -> None:
    def trained(teaching: torch.Tensor | None) -> tuple[training.FitResult, torch.Tensor]:
        model = nn.build("gcn", data.num_features, 3)
        model.communities = lambda graph: teaching  # type: ignore[assignment]
        return training.fit(model, data, epochs=25, self_training=0.6), training.predict(model, data)

    own, alone = trained(None)
    ignorant = torch.full((data.num_nodes, 3), 0.3)
    assert torch.equal(trained(ignorant)[1], alone)
    # at the test nodes as the teacher has it, and without the labelled nodes that it contradicts
    turned = (data.y + 1) % 3
    misleading = torch.nn.functional.one_hot(torch.where(data.val_mask, data.y, turned), 3).float()
    assert torch.equal(trained(misleading)[1], alone)  # no labelled node is left
    labelled = data.train_mask.nonzero().squeeze(1)[:5]
    misleading[labelled] = torch.nn.functional.one_hot(data.y[labelled], 3).float()
    _, predicted = trained(misleading)
    follows = [float((scores.argmax(dim=1) == turned)[data.test_mask].float().mean()) for scores in (predicted, alone)]
    assert follows[0] > 2 * follows[1]
    assert own.epochs == 50


@pytest.mark.parametrize(("homophily", "setting"), [(0.1, "nodes"), (0.9, "edges")])
def test_the_setting_that_knows_more_of_the_validation_nodes_is_kept(homophily: float, setting: str) -> None:
    data = datasets.contextual_sbm(400, homophily=homophily, seed=0)
    model = nn.build("robust", data.num_features, 4, num_steps=4)
    fitted = training.fit(model, data, epochs=40, self_training=0.8)
    assert (model.setting, fitted.epochs) == (setting, 3 * 40)
    again = nn.build("robust", data.num_features, 4, num_steps=4)
    again.load_state_dict(model.state_dict())
    assert torch.equal(training.predict(again, data), training.predict(model, data))
    perceptron = nn.build("mlp", data.num_features, 4)
    training.fit(perceptron, data, epochs=40)
    # one in ten of the 320 test nodes: the two perceptrons differ in their rows, width and labels
    assert training.evaluate(model, data, data.test_mask) > training.evaluate(perceptron, data, data.test_mask) - 10


def test_a_calibrated_model_is_told_what_its_first_fit_knows() -> None:
    data = datasets.contextual_sbm(300, homophily=0.85, seed=0)
    model = nn.build("robust", data.num_features, 4, num_steps=4, calibrated=True)
    told: list[tuple[torch.Tensor | None, torch.Tensor]] = []
    calibrate = model.calibrate

    def listen(graph: Data, probability: torch.Tensor | None) -> None:
        told.append((probability, training.predict(model, data).softmax(dim=-1)))
        calibrate(graph, probability)

    model.calibrate = listen  # type: ignore[method-assign]
    training.fit(model, data, epochs=30)
    assert [probability for probability, _ in told] == [None]
    data.y[data.test_mask] = -1  # nobody looks there
    training.fit(model, data, epochs=30, self_training=0.8)
    probability, first = told[2]
    assert probability is not None
    labels = torch.nn.functional.one_hot(data.y[data.train_mask], 4).float()
    assert torch.equal(probability[data.train_mask], labels)
    assert torch.equal(probability[~data.train_mask], first[~data.train_mask])
    predicted, curve = training.predict(model, data), model.similarity.reliability
    assert curve is not None
    assert curve.slope > 0
    again = nn.build("robust", data.num_features, 4, num_steps=4, calibrated=True)
    again.load_state_dict(model.state_dict())
    assert torch.equal(training.predict(again, data), predicted)
    # a second training starts from the cosines, whatever the first one left
    training.fit(again, data, epochs=30, self_training=0.8)
    assert torch.equal(training.predict(again, data), predicted)


def test_a_student_learns_what_its_teacher_answers(data: Data) -> None:
    teacher = nn.build("gcn", data.num_features, 3)
    training.fit(teacher, data, epochs=60)
    answers = training.predict(teacher, data).argmax(dim=1)

    def student(graph: Data, **more: torch.nn.Module) -> torch.nn.Module:
        model = nn.build("mlp", graph.num_features, 3, row_norm=4.0, dropout=0.0)
        training.fit(model, graph, epochs=120, select="loss", **more)  # type: ignore[arg-type]
        return model

    def agreement(model: torch.nn.Module) -> float:
        return float((training.predict(model, data).argmax(dim=1) == answers)[data.test_mask].float().mean())

    taught = student(data, teacher=teacher)
    assert agreement(taught) > agreement(student(data)) + 0.05
    hidden = data.clone()
    hidden.y = torch.where(data.train_mask | data.val_mask, data.y, 0)  # test labels are never read
    assert torch.equal(training.predict(student(hidden, teacher=teacher), data), training.predict(taught, data))
    scaled = data.clone()
    scaled.x = 7.0 * data.x
    torch.testing.assert_close(training.predict(taught, scaled), training.predict(taught, data))
    with pytest.raises(ValueError, match="not both"):
        training.fit(taught, data, teacher=teacher, self_training=0.8)


def test_self_training_is_refused_where_it_means_nothing(data: Data) -> None:
    with pytest.raises(ValueError, match=r"self_training must be at least 0 and below 1, got 1\.0"):
        training.fit(nn.build("gcn", data.num_features, 3), data, self_training=1.0)


@pytest.mark.parametrize("name", ["mlp", "gcn", "appnp", "linf-diffusion", "csgnn", "robust"])
@pytest.mark.parametrize("width", [3, 20])
def test_sparse_features_of_another_width_are_refused(name: str, width: int) -> None:
    data = datasets.contextual_sbm(60, classes=3, features=8, seed=0)
    data.x = torch.nn.functional.one_hot(torch.arange(60) % width, width).float()
    model = nn.build(name, 8, 3)
    with pytest.raises(ValueError, match=rf"x has {width} features, .*built for 8"):
        training.predict(model, data)
    with pytest.raises(ValueError, match=rf"x has {width} features, .*built for 8"):
        model(data.x.to_sparse_csr(), data.edge_index)


def test_a_fit_without_a_finite_validation_loss_says_so(data: Data) -> None:
    for select in ("loss", "accuracy"):
        with pytest.raises(FloatingPointError, match="validation loss was not finite at any of 1 epochs"):
            training.fit(nn.build("gcn", data.num_features, 3), data, epochs=1, lr=1e25, select=select)


def test_gradients_are_on_for_a_fit_and_wrappers_are_named(data: Data) -> None:
    models = [nn.build("gcn", data.num_features, 3) for _ in range(2)]
    training.fit(models[0], data, epochs=3)
    with torch.no_grad():
        training.fit(models[1], data, epochs=3)
    assert all(torch.equal(*pair) for pair in zip(*(model.parameters() for model in models), strict=True))
    with torch.inference_mode(), pytest.raises(RuntimeError, match=r"outside of torch\.inference_mode"):
        training.fit(models[0], data, epochs=1)
    with pytest.raises(ValueError, match="DataParallel has no reset_parameters"):
        training.fit(torch.nn.DataParallel(models[0]), data, epochs=1)
    with pytest.raises(ValueError, match="the teacher has 3 classes, the model scores 4"):
        training.fit(nn.build("mlp", data.num_features, 4), data, epochs=1, teacher=models[0])


def test_threads_that_ask_one_model_do_not_change_its_mode(data: Data) -> None:
    model = nn.build("mlp", data.num_features, 3, dropout=0.9).train()
    expected = training.predict(model, data)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: training.predict(model, data), range(200)))
    assert all(torch.equal(answer, expected) for answer in answers)
    assert model.training
