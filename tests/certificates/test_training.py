from __future__ import annotations

import pytest
import torch
from torch_geometric.data import Data

from contractive_gnn import nn, training
from contractive_gnn.certificates import FeatureBudget, FlipBudget, Neighbourhoods, certify
from contractive_gnn.certificates.certificate import score_bounds, worst_margins
from contractive_gnn.certificates.parts import Parts, take_apart
from contractive_gnn.certificates.training import CertifiedFit, CertifiedFitOptions, fit_certified
from contractive_gnn.nn import FlowGNN, linf_diffusion
from contractive_gnn.training import evaluate


def budget(data: Data) -> FlipBudget:
    return FlipBudget.uniform(1, data.num_nodes)


def test_the_epoch_that_is_kept_is_the_one_reported(data: Data, trained: tuple[FlowGNN, CertifiedFit]) -> None:
    model, fit = trained
    assert evaluate(model, data, data.val_mask) == pytest.approx(fit.val_accuracy)
    certificate = certify(model, data.x, data.edge_index, flips=budget(data))
    assert certificate.accuracy(data.y, data.val_mask) == pytest.approx(fit.val_certified)
    assert fit.epochs == 60
    assert fit.best_epoch % 5 == 0 or fit.best_epoch == 59


def test_the_same_seed_gives_the_same_model_and_leaves_the_random_state(data: Data) -> None:
    state = torch.get_rng_state()
    models = [linf_diffusion(8, 3, hidden_channels=8, num_layers=3) for _ in range(2)]
    torch.set_rng_state(state)
    for model in models:
        fit_certified(model, data, flips=budget(data), seed=3, epochs=4, weight=0.5, warmup=0)
    assert torch.equal(torch.get_rng_state(), state)
    first, second = (model.state_dict() for model in models)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_training_through_the_bound_lowers_the_worst_case_loss(data: Data) -> None:
    """On the training nodes, where it is minimised, cross-entropy of the scores as an attacker may move them."""
    worst = {}
    for weight in (0.0, 0.7):
        model = linf_diffusion(8, 3, hidden_channels=16, num_layers=5, mu=0.3, threshold=2.0, dropout=0.0)
        fit_certified(model, data, flips=budget(data), epochs=60, every=59, weight=weight, warmup=10)
        with torch.no_grad():
            parts = take_apart(model)
            assert isinstance(parts, Parts)
            graph = Neighbourhoods.of(data.edge_index, budget(data))
            margins = worst_margins(score_bounds(parts, data.x, graph, FeatureBudget()), data.y)
            scores = -margins.scatter(1, data.y[:, None], 0.0)[data.train_mask]
            worst[weight] = float(torch.nn.functional.cross_entropy(scores, data.y[data.train_mask]))
    assert worst[0.7] < 0.9 * worst[0.0]


def test_patience_ends_the_training(data: Data) -> None:
    model = linf_diffusion(8, 3, hidden_channels=8, num_layers=3)
    assert fit_certified(model, data, flips=budget(data), epochs=150, patience=3, lr=1e-9).epochs < 150


@pytest.mark.parametrize("space", ["class", "hidden"])
def test_features_can_be_part_of_the_loss(data: Data, space: str) -> None:
    model = linf_diffusion(8, 3, hidden_channels=8, num_layers=3, space=space)
    seen: list[int] = []
    fit = fit_certified(
        model, data, flips=budget(data), features=FeatureBudget(linf=0.05), epochs=6, weight=0.5, warmup=2, every=2,
        on_epoch=lambda epoch, clean, certified: seen.append(epoch),
    )  # fmt: skip
    assert seen == [0, 2, 4, 5]
    assert 0 <= fit.val_certified <= fit.val_accuracy <= 100


def test_flipped_entries_are_trained_for_with_dropout_too(data: Data) -> None:
    binary = data.clone()
    binary.x = (data.x > 0.4).to(data.x.dtype)
    model = linf_diffusion(8, 3, hidden_channels=8, num_layers=3, dropout=0.5)
    fit = fit_certified(model, binary, flips=budget(data), features=FeatureBudget(flips=1), epochs=6, weight=0.5)
    certificate = certify(model, binary.x, data.edge_index, flips=budget(data), features=FeatureBudget(flips=1))
    assert certificate.accuracy(data.y, data.val_mask) == pytest.approx(fit.val_certified)


def test_what_a_teacher_answers_is_certified_at_nodes_without_a_label(data: Data) -> None:
    teacher = nn.build("gcn", 8, 3)
    training.fit(teacher, data, epochs=60)
    answers = training.predict(teacher, data).argmax(dim=1)

    def held(graph: Data, **more: torch.nn.Module) -> torch.Tensor:
        model = linf_diffusion(8, 3, hidden_channels=16, num_layers=3, dropout=0.0)
        fit_certified(model, graph, flips=budget(data), epochs=100, weight=0.5, warmup=10, every=10, **more)  # type: ignore[arg-type]
        certificate = certify(model, data.x, data.edge_index, flips=budget(data))
        return certificate.certified & (certificate.prediction == answers)

    taught = held(data, teacher=teacher)
    assert int(taught[data.test_mask].sum()) > int(held(data)[data.test_mask].sum())
    hidden = data.clone()
    hidden.y = torch.where(data.train_mask | data.val_mask, data.y, 0)  # test labels are never read
    assert torch.equal(held(hidden, teacher=teacher), taught)
    with torch.no_grad():
        next(teacher.parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match="not all finite"):
        held(data, teacher=teacher)


def test_what_cannot_be_trained_is_refused(data: Data) -> None:
    model = linf_diffusion(8, 3)
    with pytest.raises(ValueError, match="weight must be at least 0 and at most 1"):
        fit_certified(model, data, flips=budget(data), weight=1.5)
    with pytest.raises(ValueError, match="not for GraphGradientFlow"):
        fit_certified(nn.build("gradient-flow", 8, 3), data, flips=budget(data))  # type: ignore[arg-type]
    lacking = data.clone()
    lacking.val_mask = None
    with pytest.raises(ValueError, match=r"data\.val_mask"):
        fit_certified(model, lacking, flips=budget(data))


def test_a_split_of_indices_and_unknown_labels_elsewhere_change_nothing(data: Data) -> None:
    listed = data.clone()
    for key in ("train_mask", "val_mask", "test_mask"):
        listed[key] = data[key].nonzero().flatten()
    listed.y = torch.where(data.train_mask | data.val_mask, data.y, -100).unsqueeze(1)
    models = [linf_diffusion(8, 3, hidden_channels=8, num_layers=3) for _ in range(2)]
    for model, graph in zip(models, (data, listed), strict=True):
        fit_certified(model, graph, flips=budget(data), epochs=4, weight=0.5, warmup=0)
    first, second = (model.state_dict() for model in models)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_graph_that_the_bound_does_not_cover_is_refused(data: Data) -> None:
    weighted, directed = data.clone(), data.clone()
    weighted.edge_weight = torch.full((data.num_edges,), 0.5)
    directed.edge_index = data.edge_index[:, data.edge_index[0] < data.edge_index[1]]
    for graph, says in ((weighted, "has edge_weight"), (directed, "the graph is directed")):
        with pytest.raises(ValueError, match=says):
            fit_certified(linf_diffusion(8, 3), graph, flips=budget(data), epochs=1)


def test_no_epoch_is_the_model_as_it_was_drawn(data: Data) -> None:
    models = [linf_diffusion(8, 3, hidden_channels=8, num_layers=3) for _ in range(2)]
    found = fit_certified(models[0], data, flips=budget(data), epochs=0, seed=4)
    training.fit(models[1], data, epochs=0, seed=4)
    assert all(torch.equal(*pair) for pair in zip(*(model.parameters() for model in models), strict=True))
    assert (found.best_epoch, found.epochs) == (-1, 0)
    assert found.val_accuracy == pytest.approx(evaluate(models[0], data, data.val_mask))


def test_what_cannot_be_trained_for_is_named(data: Data) -> None:
    for change, says in (
        ({"flips": 1}, "flips must be a FlipBudget, got 1"),
        ({"flips": FlipBudget.uniform(1, 3)}, "the budget is for 3 nodes"),
        ({"teacher": nn.build("gcn", 8, 4)}, "the teacher has 4 classes, the model scores 3"),
    ):
        with pytest.raises((TypeError, ValueError), match=says):
            fit_certified(linf_diffusion(8, 3), data, **{"flips": budget(data), "epochs": 1, **change})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="y holds class 2, but the model scores 2 classes"):
        fit_certified(linf_diffusion(8, 2), data, flips=budget(data), epochs=1)
    half = data.clone()
    half.x = data.x.bfloat16()
    with pytest.raises(ValueError, match="in which the bound is not trained for"):
        fit_certified(linf_diffusion(8, 3).bfloat16(), half, flips=budget(data), epochs=1)


def test_without_the_worst_case_its_epochs_are_those_of_fit(data: Data) -> None:
    """One loop: the same draws, steps and validation accuracies."""
    seen: list[list[float]] = [[], []]
    for k, options in enumerate(({}, {"flips": budget(data), "options": CertifiedFitOptions(epochs=8, lr=0.05)})):
        model = linf_diffusion(8, 3, hidden_channels=8, num_layers=3)
        if options:
            fit_certified(model, data, seed=4, on_epoch=lambda e, clean, certified: seen[1].append(clean), **options)  # type: ignore[arg-type]
        else:
            training.fit(model, data, seed=4, epochs=8, lr=0.05, on_epoch=lambda e, clean: seen[0].append(clean))
        assert len(seen[k]) == 8
    assert seen[0] == pytest.approx(seen[1])
    assert len(set(seen[0])) > 1


def test_options_of_a_certified_training_are_checked_where_they_are_given(data: Data) -> None:
    for given, says in (
        ({"weight": 1.5}, "weight must be at least 0 and at most 1, got 1.5"),
        ({"select": "accuracy"}, "select must be a number, got 'accuracy'"),
        ({"every": 0}, "every must be at least 1, got 0"),
        ({"epochs": -1}, "epochs must be at least 0, got -1"),
    ):
        with pytest.raises((TypeError, ValueError), match=says):
            CertifiedFitOptions(**given)  # type: ignore[arg-type]
    model = linf_diffusion(8, 3)
    with pytest.raises(TypeError, match=r"no option of the training is called 'wieght'\. Did you mean 'weight'"):
        fit_certified(model, data, flips=budget(data), wieght=0.5)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="FlowGNN has no roles of parameters"):
        fit_certified(model, data, flips=budget(data), lr={"encoder": 0.1})
    large = data.clone()
    large.x = 3e38 * torch.ones_like(data.x)
    with pytest.raises(FloatingPointError, match=r"at epoch 0; the entries of x are as large as 3e\+38"):
        fit_certified(model, large, flips=budget(data), epochs=1)
