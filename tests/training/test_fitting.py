"""Fits: reproducible, taught by themselves, by others, in several modes."""

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv

from contractive_gnn import datasets, nn, training
from contractive_gnn.trainable import HasCommunities


def test_a_seed_gives_the_same_model_and_leaves_the_global_state(data: Data) -> None:
    scores = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        model = nn.build("csgnn", data.num_features, 3, hidden_channels=8)
        torch.set_rng_state(before)
        result = training.fit(model, data, seed=5, epochs=15)
        assert torch.equal(torch.get_rng_state(), before)
        scores.append((result.val_accuracy, result.best_epoch, training.predict(model, data)))
    assert scores[0][:2] == scores[1][:2]
    assert torch.equal(scores[0][2], scores[1][2])


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
    class Knowing(nn.GCNClassifier, HasCommunities):
        def communities(self, data: Data) -> torch.Tensor | None:
            return self.teaching

    def trained(teaching: torch.Tensor | None) -> tuple[training.FitResult, torch.Tensor]:
        model = Knowing(data.num_features, 3)
        model.teaching = teaching
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


@pytest.mark.parametrize(("homophily", "mode"), [(0.1, "nodes"), (0.9, "edges")])
def test_the_mode_that_knows_more_of_the_validation_nodes_is_kept(homophily: float, mode: str) -> None:
    data = datasets.contextual_sbm(400, homophily=homophily, seed=0)
    model = nn.build("robust", data.num_features, 4, num_layers=4)
    fitted = training.fit(model, data, epochs=40, self_training=0.8)
    assert (model.mode, fitted.epochs) == (mode, 3 * 40)
    again = nn.build("robust", data.num_features, 4, num_layers=4)
    again.load_state_dict(model.state_dict())
    assert torch.equal(training.predict(again, data), training.predict(model, data))
    perceptron = nn.build("mlp", data.num_features, 4)
    training.fit(perceptron, data, epochs=40)
    # one in ten of the 320 test nodes: the two perceptrons differ in their rows, width and labels
    assert training.evaluate(model, data, data.test_mask) > training.evaluate(perceptron, data, data.test_mask) - 10


def test_a_calibrated_model_is_told_what_its_first_fit_knows() -> None:
    data = datasets.contextual_sbm(300, homophily=0.85, seed=0)
    model = nn.build("robust", data.num_features, 4, num_layers=4, calibrated=True)
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
    predicted, curve = training.predict(model, data), model.similarity.calibration
    assert curve is not None
    assert curve.slope > 0
    again = nn.build("robust", data.num_features, 4, num_layers=4, calibrated=True)
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


def test_gradients_are_on_for_a_fit_and_wrappers_are_named(data: Data) -> None:
    models = [nn.build("gcn", data.num_features, 3) for _ in range(2)]
    training.fit(models[0], data, epochs=3)
    with torch.no_grad():
        training.fit(models[1], data, epochs=3)
    assert all(torch.equal(*pair) for pair in zip(*(model.parameters() for model in models), strict=True))
    with torch.inference_mode(), pytest.raises(RuntimeError, match=r"outside of torch\.inference_mode"):
        training.fit(models[0], data, epochs=1)
    with pytest.raises(ValueError, match="DataParallel has no reset_parameters"):
        training.fit(torch.nn.DataParallel(nn.build("robust", data.num_features, 3)), data, epochs=1)
    with pytest.raises(ValueError, match="the teacher has 3 classes, the model scores 4"):
        training.fit(nn.build("mlp", data.num_features, 4), data, epochs=1, teacher=models[0])


def test_a_fit_in_another_order_learns_the_same_without_dropout() -> None:
    data = datasets.contextual_sbm(300, classes=3, seed=0)
    scores = []
    for order in (None, "rcm"):
        model = nn.build("robust", data.num_features, 3, dropout=0.0).double()
        given = data.clone()
        given.x = given.x.double()
        result = training.fit(model, given, epochs=8, self_training=0.6, order=order)
        assert result.epochs == 24
        scores.append(training.predict(model, given))
    torch.testing.assert_close(*scores, rtol=1e-6, atol=1e-8)


def test_a_model_that_learns_its_width_from_the_graph_is_fitted_in_another_order(data: Data) -> None:
    assert training.fit(nn.build("linf-diffusion", -1, 3), data, epochs=2, order="rcm").epochs == 2


def test_a_layer_that_keeps_its_graph_keeps_none_of_another_order(data: Data) -> None:
    class Kept(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = GCNConv(data.num_features, 3, cached=True)

        def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
            return self.conv(x, edge_index)

    model = Kept()
    training.fit(model, data, epochs=3, order="rcm")
    torch.testing.assert_close(model(data.x, data.edge_index), training.predict(model, data))


def test_a_teacher_that_knows_the_nodes_by_their_numbers_teaches_no_fit_in_another_order(data: Data) -> None:
    class Table(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scores = torch.nn.Parameter(torch.randn(data.num_nodes, 4))

        def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
            return self.scores

    with pytest.raises(ValueError, match=r"Table.scores has a row for each of the \d+ nodes"):
        training.fit(nn.build("mlp", data.num_features, 4), data, epochs=1, teacher=Table(), order="rcm")


@pytest.mark.parametrize(("name", "fits"), [("mlp", 2), ("robust", 3), ("robust-mixture", 19)])
def test_a_bar_counts_the_epochs_of_all_fits(
    data: Data, name: str, fits: int, capsys: pytest.CaptureFixture[str]
) -> None:
    model = nn.build(name, data.num_features, int(data.y.max()) + 1)
    told: list[int] = []
    result = training.fit(
        model, data, epochs=2, self_training=0.8, progress=True, on_epoch=lambda epoch, accuracy: told.append(epoch)
    )
    assert result.epochs == len(told) == 2 * fits
    shown = capsys.readouterr().err
    assert f"{2 * fits}/{2 * fits}" in shown
    assert "validation accuracy" in shown
