"""The benchmark from Python: classes and graphs of this process, a report, resuming."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv

from contractive_gnn import training
from contractive_gnn.bench import own_models
from contractive_gnn.bench.api import benchmark
from contractive_gnn.bench.protocol import ProtocolError
from contractive_gnn.bench.report import Report
from contractive_gnn.datasets import contextual_sbm


class Net(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, *, hidden: int = 8) -> None:
        super().__init__()
        self.first, self.last = GCNConv(in_channels, hidden), GCNConv(hidden, out_channels)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        return self.last(self.first(x, edge_index, edge_weight).relu(), edge_index, edge_weight)


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_models, "_own", {})


@pytest.fixture
def graph() -> Data:
    whole = contextual_sbm(150, seed=3)
    return Data(x=whole.x, edge_index=whole.edge_index, y=whole.y)


QUICK = {"training.epochs": 4}


def test_a_class_and_a_graph_of_this_process(graph: Data, tmp_path: Path) -> None:
    report = benchmark(
        [Net, "gcn"], graph, attacks=["clean", "random:0.3", "whitebox-pgd:5flips"], seeds=[0, 3],
        settings={**QUICK, "Net.model.hidden": 5, "whitebox-pgd.attack.epochs": 2}, split_seed=1,
    )  # fmt: skip
    assert not report.failures
    assert len(report.results) == 12
    assert {(r.dataset, r.split, r.split_seed, r.seed) for r in report.results} == {
        ("data", "random", 1, 0),
        ("data", "random", 1, 3),
    }
    own = next(r for r in report.results if r.model == "Net")
    assert own.hyperparameters["model"] == {"hidden": 5}
    assert set(own.hyperparameters["plugins"]) == {"Net"}
    assert len(own.hyperparameters["data"]["sha256"]) == 12
    for model, worst in report.worst.items():
        rows = [r for r in report.results if r.model == model and r.attack != "clean"]
        by_attack = {a: mean(r.accuracy for r in rows if r.attack == a) for a in ("random", "whitebox-pgd")}
        assert worst.accuracy == min(by_attack.values())
        assert worst.evaluated_on == "test"
    assert set(report.worst) == {"Net", "gcn"}
    assert "of 2 attacks" in str(report)
    assert "Net" in str(report)
    assert report._repr_html_().count("<table") == 1
    path = report.save(tmp_path / "kept")
    assert report.save(tmp_path / "kept") == path  # again: nothing is there twice
    assert len(Report.of(tmp_path / "kept").results) == 12


def test_budgets_at_each_node_and_for_each_target_and_a_search_without_gradients(graph: Data, tmp_path: Path) -> None:
    quick = {"lrbcd.attack.epochs": 2, "local-pgd.attack.epochs": 2, "eva.attack.population": 4}
    report = benchmark(
        ["gcn"], graph, attacks=["lrbcd:0.05", "local-pgd:0.5", "local-pgd:2", "nettack:0.5", "eva:0.05"], seeds=1,
        settings={**QUICK, **quick, "eva.attack.generations": 2}, targets=3,
    )  # fmt: skip
    assert not report.failures
    assert {(r.attack, r.threat, r.budget, r.budget_unit) for r in report.results} == {
        ("lrbcd", "evasion", 0.05, "fraction of edges"),
        ("local-pgd", "evasion", 0.5, "fraction of each target's degree"),
        ("local-pgd", "evasion", 2, "edges per target"),
        ("nettack", "poisoning", 0.5, "fraction of each target's degree"),
        ("eva", "evasion", 0.05, "fraction of edges"),
    }
    assert all(r.n_evaluated == 3 for r in report.results if r.evaluated_on == "targets")
    pages = report.save(tmp_path / "kept").parent, tmp_path / "page"
    Report.of(pages[0]).write(pages[1])  # tables and pictures of these budgets, too
    assert "of each target" in (pages[1] / "report.html").read_text("utf-8")


def test_it_resumes_and_a_changed_graph_is_measured_anew(
    graph: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[int] = []
    fit = training.fit

    def counting(*arguments: object, **options: object) -> object:
        fitted.append(1)
        return fit(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "fit", counting)

    def run() -> int:
        fitted.clear()
        report = benchmark(Net, graph, attacks="clean,random:0.2", seeds=1, settings=QUICK, out=tmp_path)
        assert len(report.results) == 2
        return len(fitted)

    assert run() == 2
    assert run() == 0
    graph.x = graph.x + 1.0
    assert run() == 2


def test_own_masks_are_taken_and_nodes_without_a_label_left_out() -> None:
    data = contextual_sbm(150, seed=3)
    hidden = data.test_mask.nonzero().flatten()[:7]
    data.y[hidden] = -1
    report = benchmark("gcn", data, attacks="clean", seeds=1, settings=QUICK)
    (result,) = report.results
    assert (result.split, result.n_evaluated) == ("own", int(data.test_mask.sum()) - 7)


def test_a_file_and_a_name(graph: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("mine.npz", edges=graph.edge_index.numpy(), features=graph.x.numpy(), labels=graph.y.numpy())
    report = benchmark(
        {"small": lambda i, o: Net(i, o, hidden=3)}, "mine.npz", attacks="clean", seeds=1, settings=QUICK
    )
    assert [(r.dataset, r.model) for r in report.results] == [("mine.npz", "small")]


def test_what_fails_is_told_beside_what_does_not(graph: Data) -> None:
    class Fragile(Net):
        def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
            scores = super().forward(x, edge_index, edge_weight)
            return scores * torch.nan if edge_index.shape[1] > graph.edge_index.shape[1] else scores

    report = benchmark(Fragile, graph, attacks="clean,random:0.2", seeds=1, settings=QUICK)
    assert [r.attack for r in report.results] == ["clean"]
    (failure,) = report.failures
    assert failure.reason.startswith("FloatingPointError")
    assert f"missing: {failure.what}" in str(report)
    with pytest.raises(RuntimeError, match="nothing could be measured: Fragile, seed 0, random"):
        benchmark(Fragile, graph, attacks="random:0.2", seeds=1, settings=QUICK)


@pytest.mark.parametrize(
    ("models", "options", "complaint"),
    [
        ("gnn", {}, "no model is called 'gnn'. Did you mean"),
        ([], {}, "no model given"),
        ([Net, Net], {}, "two models are called 'Net'"),
        ({"mine": "gcn"}, {}, "the registered model 'gcn' keeps its name"),
        (nn.Linear(2, 2), {}, "or a class or function"),
        ("gcn", {"split": "prognn"}, "no split is called 'prognn'. There are: inductive, own, random"),
        ("gcn", {"split": "own"}, "data has no masks"),
        ("gcn", {"attacks": "clean,random:1"}, "'1' is no budget of it"),
        ("gcn", {"settings": {"epochs": 3}}, "expected \\[MODEL.\\]training.KEY=VALUE"),
        ("gcn", {"settings": {"training.lr": float("nan")}}, "the setting 'training.lr' is nan; expected what JSON"),
        ("gcn", {"seeds": 0}, "expected at least one seed"),
        ("gcn", {"device": "gpu"}, "--device gpu"),
    ],
)
def test_mistakes(graph: Data, models: object, options: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        benchmark(models, graph, **{"attacks": "clean", **options})  # type: ignore[arg-type]


def test_a_graph_with_weights_or_half_a_split_is_refused(graph: Data) -> None:
    graph.edge_weight = torch.full((graph.edge_index.shape[1],), 2.0)
    with pytest.raises(ValueError, match="only unweighted graphs are taken here"):
        benchmark("gcn", graph)
    del graph.edge_weight
    graph.train_mask = torch.ones(graph.num_nodes, dtype=torch.bool)
    with pytest.raises(ValueError, match="data has train_mask and no val_mask, test_mask; give all three, or none"):
        benchmark("gcn", graph)
    with pytest.raises(ValueError, match="no dataset is called 'coral'"):
        benchmark("gcn", "coral")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"seeds": 1.5}, "seeds must be int or Sequence, got 1.5"),
        ({"seeds": True}, "seeds must be int or Sequence, got True"),
        ({"seeds": ["a"]}, "a seed must be a whole number, got 'a'"),
        ({"seeds": [-3]}, "a seed must be at least 0, got -3"),
        ({"seeds": [2**70]}, "a seed must be below 4294967296"),
        ({"targets": 5.5}, "targets 5.5: expected a number, like 20, or RULE:NUMBER, like degree:40"),
        ({"settings": ["training.epochs"]}, "settings must be Mapping, got"),
        ({"attacks": None}, "attacks must be str or Sequence, got None"),
        ({"data": None}, "data must be Data or str or PathLike, got None"),
    ],
)
def test_an_argument_of_another_kind_is_refused_in_a_sentence(
    graph: Data, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(complaint)):
        benchmark("gcn", **{"data": graph, "attacks": "clean", **options})


def test_several_splits_are_one_table_from_python() -> None:
    report = benchmark("gcn", "csbm", attacks="clean,random:0.3", seeds=2, splits=2, settings=QUICK)
    assert {(r.split, r.split_seed, r.seed) for r in report.results} == {
        ("random", k, s) for k in (0, 1) for s in (0, 1)
    }
    assert "csbm (2 random splits)" in report.table
    attacked = [r.accuracy for r in report.results if r.attack == "random"]
    assert report.worst["gcn"].accuracy == pytest.approx(mean(attacked))
    assert "Each of the 2 splits" in report._repr_html_()
    with pytest.raises(ProtocolError, match="splits=2 and split_seed=0: give several splits, or one"):
        benchmark("gcn", "csbm", splits=2, split_seed=0)


def test_splits_that_are_the_same_nodes_are_refused(graph: Data) -> None:
    for mask, (first, last) in {"train_mask": (0, 50), "val_mask": (50, 70), "test_mask": (70, 150)}.items():
        graph[mask] = torch.zeros(150, dtype=torch.bool)
        graph[mask][first:last] = True
    with pytest.raises(ProtocolError, match=r"2 splits: data has one split 'own', whatever its seed"):
        benchmark("gcn", graph, splits=2)
