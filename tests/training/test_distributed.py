"""Two processes of torch.distributed, each with a part of the graph, against one with the whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch_geometric.data import Data

from contractive_gnn.datasets import contextual_sbm
from contractive_gnn.nn import build
from contractive_gnn.seeding import seeded
from contractive_gnn.training import FitOptions, evaluate, fit, fit_distributed, predict
from contractive_gnn.training.fitting import judged
from contractive_gnn.training.halo import Halo
from contractive_gnn.training.lessons import CrossEntropy, Lesson
from contractive_gnn.training.loop import train
from contractive_gnn.training.prediction import accuracy_and_loss, class_scores, compressed

MODELS: dict[str, dict[str, Any]] = {
    "linf-diffusion": {"dropout": 0.0, "hidden_channels": 8},
    "gradient-flow": {"dropout": 0.0, "hidden_channels": 8, "learn_weight": True, "normalization": "sym"},
    "csgnn": {"dropout": 0.0, "hidden_channels": 8, "num_layers": 3, "learn_weight": True, "adjacency_step": 0.5},
}

SCRIPT = """
import json, sys
from pathlib import Path

import torch
import torch.distributed as dist

from contractive_gnn.nn import build
from contractive_gnn.training import evaluate, fit_distributed, predict
from torch_geometric.data import Data

folder, rank = Path(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=2)
data = Data(**torch.load(folder / "data.pt"))
out = {}
for name, options in json.loads((folder / "models.json").read_text()).items():
    model, curve = build(name, data.num_features, 4, **options), []
    fitted = fit_distributed(
        model, data, epochs=EPOCHS, seed=3, part=data.part, on_epoch=lambda *figures: curve.append(figures)
    )
    scores = predict(model, data)
    out[name] = {"curve": curve, "accuracy": evaluate(model, data, data.test_mask), "scores": scores.tolist()}
    out[name]["best"] = [fitted.best_epoch, fitted.val_accuracy]
refused = []
for options in ({"self_training": 0.5}, {"order": "rcm"}, {"seed": rank}):
    try:
        fit_distributed(model, data, epochs=1, **options)
    except ValueError as error:
        refused.append(str(error))
data.x = data.x + rank
try:
    fit_distributed(model, data, epochs=1)
except ValueError as error:
    refused.append(str(error))
out["refused"] = refused
(folder / f"{rank}.json").write_text(json.dumps(out))
dist.destroy_process_group()
"""
EPOCHS = 25


@pytest.fixture(scope="module")
def data() -> Data:
    made = contextual_sbm(200, seed=0)
    # parts that cut many edges, of different sizes, numbered across the graph
    made.part = (torch.arange(200) % 5 == 0).long()
    return made


@pytest.fixture(scope="module")
def found(data: Data, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("distributed")
    kept = ("x", "edge_index", "y", "train_mask", "val_mask", "test_mask", "part")
    torch.save({name: data[name] for name in kept}, folder / "data.pt")
    (folder / "models.json").write_text(json.dumps(MODELS))
    (folder / "script.py").write_text(SCRIPT.replace("EPOCHS", str(EPOCHS)))
    command = [sys.executable, str(folder / "script.py"), str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = [subprocess.Popen([*command, str(rank)], env=environment, stderr=subprocess.PIPE) for rank in range(2)]
    try:
        for process in running:
            _, error = process.communicate(timeout=600)
            assert process.returncode == 0, error.decode()
    finally:
        for process in running:
            process.kill()
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("name", MODELS)
def test_two_processes_learn_as_one_does(found: list[dict[str, Any]], data: Data, name: str) -> None:
    model, curve = build(name, data.num_features, 4, **MODELS[name]), []
    options, graph = FitOptions(epochs=EPOCHS), compressed(data)
    with seeded(3):
        train(
            model,
            graph,
            options,
            seed=3,
            objective=CrossEntropy([Lesson(data.train_mask, data.y)], data.y, data.train_mask),
            judge=lambda loss: judged(*accuracy_and_loss(class_scores(model, graph), data.y, data.val_mask), options),
            on_epoch=lambda *figures: curve.append(figures),
        )
    assert curve[-1][2] < 0.9 * curve[0][2]
    for one in found:
        assert torch.allclose(torch.tensor(one[name]["curve"]), torch.tensor(curve), rtol=0, atol=1e-5)
        assert one[name]["accuracy"] == evaluate(model, data, data.test_mask)
        assert torch.allclose(torch.tensor(one[name]["scores"]), predict(model, data), rtol=0, atol=1e-4)
    assert found[0][name]["scores"] == found[1][name]["scores"]


def test_what_needs_one_process_and_what_differs_is_refused(found: list[dict[str, Any]]) -> None:
    for one in found:
        alone, ordered, different, featured = one["refused"]
        assert "fit_distributed has no self_training" in alone
        assert "fit_distributed has no order" in ordered
        assert "the processes were given different" in different
        assert "the processes were given different" in featured


def test_each_edge_that_ends_in_a_part_is_there_and_the_halo_is_what_it_begins_in(data: Data) -> None:
    weight = torch.rand(data.num_edges)
    seen = 0
    for rank in range(2):
        halo = Halo(data.edge_index, weight, data.part, rank=rank, parts=2)
        m = halo.own.numel()
        neighbours = data.edge_index[0, data.part[data.edge_index[1]] == rank]
        expected = neighbours[data.part[neighbours] != rank].unique()
        assert halo.graph.num_nodes == m + expected.numel()
        number = torch.cat([halo.own, expected])
        ending = halo.graph.target < m
        seen += int(ending.sum())
        back = {(int(i), int(j)): w for (i, j), w in zip(data.edge_index.T, weight, strict=True)}
        for (i, j), w in zip(number[halo.graph.edge_index].T, halo.graph.edge_weight, strict=True):
            assert back[int(i), int(j)] == w
    assert seen == data.num_edges


def test_of_three_processes_each_sends_the_rows_that_the_others_expect(data: Data) -> None:
    part = torch.arange(200) % 3
    halos = [Halo(data.edge_index, torch.ones(data.num_edges), part, rank=rank, parts=3) for rank in range(3)]
    source, target = data.edge_index
    for here, sender in enumerate(halos):
        sent = sender._rows.split(sender._sent)
        for there, receiver in enumerate(halos):
            between = (part[source] == here) & (part[target] == there) & (here != there)
            expected = source[between].unique()
            assert torch.equal(sender.own[sent[there]], expected)
            assert receiver._received[here] == expected.numel()


def test_without_a_process_group_the_error_says_how_to_start(data: Data) -> None:
    with pytest.raises(RuntimeError, match=r"torchrun.*init_process_group"):
        fit_distributed(build("linf-diffusion", data.num_features, 4), data)


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A process group of this process."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        ("gcn", {}, "takes a FlowGNN"),
        ("robust", {}, "or a CSGNN"),
        ("csgnn", {"normalization": "none"}, "take normalization="),
        ("gradient-flow", {"learn_weight": True, "normalization": "none"}, "take normalization="),
    ],
)
def test_a_model_that_is_not_exact_on_a_part_is_refused(
    data: Data, name: str, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=complaint):
        fit_distributed(build(name, data.num_features, 4, **options), data)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    "part", [torch.full((200,), -1), torch.ones(200).long(), torch.arange(200), torch.zeros(200), [0] * 200]
)
def test_parts_that_are_no_parts_are_refused(data: Data, part: Any) -> None:
    with pytest.raises(ValueError, match="part must"):
        fit_distributed(build("linf-diffusion", data.num_features, 4), data, part=part)


@pytest.mark.usefixtures("alone")
def test_what_cannot_learn_is_told_as_by_fit(data: Data) -> None:
    model = build("linf-diffusion", data.num_features, 4)
    with torch.inference_mode(), pytest.raises(RuntimeError, match="fit_distributed needs gradients"):
        fit_distributed(model, data)
    with pytest.raises(ValueError, match=r"build the model with data\.num_features in the place of -1"):
        fit_distributed(build("linf-diffusion", -1, 4), data)
    with pytest.raises(ValueError, match="all are frozen"):
        fit_distributed(model.requires_grad_(False), data)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("name", ["linf-diffusion", "csgnn"])
def test_sparse_features_are_those_of_fit(data: Data, name: str) -> None:
    sparse, found = data.clone(), []
    sparse.x = data.x.relu().to_sparse_csr()
    for train_in in (fit, fit_distributed):
        model = build(name, data.num_features, 4, hidden_channels=8, dropout=0.0)
        train_in(model, sparse, epochs=5, seed=1)
        found.append(predict(model, sparse))
    assert torch.allclose(found[0], found[1], rtol=0, atol=1e-5)


@pytest.mark.usefixtures("alone")
def test_one_process_is_fit_with_its_dropout(data: Data) -> None:
    found = []
    for train_in in (fit, fit_distributed):
        model = build("gradient-flow", data.num_features, 4, hidden_channels=8, normalization="none")
        train_in(model, data, epochs=5, seed=1)
        found.append(predict(model, data))
    assert torch.allclose(found[0], found[1], rtol=0, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here: nccl is not tried")
def test_on_a_gpu_it_is_fit_there(data: Data, tmp_path: Path) -> None:
    torch.distributed.init_process_group("nccl", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        found, graph = [], data.clone().to("cuda")
        for train_in in (fit, fit_distributed):
            model = build("csgnn", data.num_features, 4, hidden_channels=8, dropout=0.0).to("cuda")
            train_in(model, graph, epochs=5, seed=1)
            found.append(predict(model, graph))
    finally:
        torch.distributed.destroy_process_group()
    assert torch.allclose(found[0], found[1], rtol=0, atol=1e-4)
