"""On a GPU: the scores and gradients of the CPU, and whole trainings. Skipped where torch finds none."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn import attacks, datasets
from contractive_gnn.bench.protocol import Override, Protocol
from contractive_gnn.bench.results import RESULTS, Result, ResultsFile
from contractive_gnn.bench.runner import attack_once, execute, plan
from contractive_gnn.bench.spec import parse_attacks
from contractive_gnn.nn import MODELS, build, seeded_communities
from contractive_gnn.nn.deeprobust import DEEPROBUST_MODELS
from contractive_gnn.training import evaluate, fit, predict

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")

NAMES = [name for name in MODELS if name not in {*DEEPROBUST_MODELS, "ensemble", "mixture"}]


@pytest.fixture(scope="module")
def data() -> Data:
    data = datasets.contextual_sbm(200, classes=3, features=40, average_degree=6, seed=2)
    data.x = (data.x > 0.4).double()
    return data


def scores(model: nn.Module, data: Data) -> list[Tensor]:
    """The scores in evaluation mode, and the gradient of their squares by edge weights, features and parameters."""
    weight = torch.ones(data.num_edges, dtype=data.x.dtype, device=data.x.device, requires_grad=True)
    x = data.x.clone().requires_grad_()
    out = model.eval()(x, data.edge_index, weight)
    wanted = [weight, x, *(p for p in model.parameters() if p.requires_grad)]
    gradients = torch.autograd.grad(out.square().sum(), wanted, allow_unused=True)
    return [out.detach().cpu(), *(g.cpu() for g in gradients if g is not None)]


@pytest.mark.parametrize("name", NAMES)
def test_scores_and_gradients_are_those_of_the_cpu(data: Data, name: str) -> None:
    torch.manual_seed(0)
    model = build(name, data.num_features, 3).double()
    expected = scores(model, data)
    for found, wanted in zip(scores(copy.deepcopy(model).cuda(), data.clone().cuda()), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_trained_where_it_lies(data: Data, name: str) -> None:
    there = data.clone().cuda()
    there.x = there.x.float()
    model = build(name, data.num_features, 3).cuda()
    state = torch.cuda.get_rng_state()
    fitted = fit(model, there, epochs=30, self_training=0.8)
    assert torch.equal(torch.cuda.get_rng_state(), state)
    assert predict(model, there).isfinite().all()
    assert evaluate(model, there, there.val_mask) == pytest.approx(fitted.val_accuracy, abs=3)


def test_a_bound_and_the_communities_are_found_there(data: Data) -> None:
    there = data.clone().cuda()
    model = build("csgnn", data.num_features, 3).double()
    expected = model.lipschitz(data.x, data.edge_index)  # type: ignore[operator]
    bound = copy.deepcopy(model).cuda().lipschitz(there.x, there.edge_index)
    assert bound.features == pytest.approx(expected.features)
    named = seeded_communities(there.edge_index, there.y, there.train_mask, num_classes=3)
    torch.testing.assert_close(
        named.cpu(), seeded_communities(data.edge_index, data.y, data.train_mask, num_classes=3), rtol=1e-3, atol=1e-3
    )
    there.x = torch.eye(data.num_nodes, device="cuda")
    bare = build("robust", data.num_nodes, 3).cuda()
    assert fit(bare, there, epochs=10, self_training=0.8).epochs == 30


def test_a_model_is_attacked_there(data: Data) -> None:
    there = data.clone().cuda()
    there.x = there.x.float()
    model = build("gcn", data.num_features, 3).cuda()
    fit(model, there, epochs=30)
    result = attacks.get("whitebox-pgd", seed=0, epochs=10).run(there, attacks.Budget(fraction=0.1), victim=model)
    assert evaluate(model, result.data.cuda(), there.test_mask) < evaluate(model, there, there.test_mask)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_benchmark_runs_there(tmp_path: Path, jobs: int) -> None:
    epochs = ("training.epochs=30", *(f"whitebox-pgd.attack.{key}=10" for key in ("epochs", "fine_epochs", "swaps")))
    specs = "clean,random:0.5,random:0.2+whitebox-pgd:0.05@evasion,whitebox-pgd:0.1,whitebox-pgd:0.1@poisoning,dice:0.1"
    members = '[{"name": "gcn"}, {"name": "robust"}]'
    asked = Protocol(
        dataset="csbm",
        models=("gcn", "robust-distilled", "ensemble"),
        attacks=parse_attacks(specs, dataset="csbm"),
        seeds=(0,),
        overrides=tuple(map(Override.parse, (*epochs, f"ensemble.model.members={members}"))),
        device="cuda",
    )
    with ResultsFile(tmp_path / RESULTS) as file:
        results = list(execute(plan(asked, out=tmp_path, finished={}), file, processes=jobs))
    measured = [result for result in results if isinstance(result, Result)]
    assert len(measured) == 18, results
    assert all(result.device.startswith("cuda (") and result.accuracy > 30 for result in measured)
    gcn = {(result.attack, result.threat): result.accuracy for result in measured if result.model == "gcn"}
    assert gcn["whitebox-pgd", "evasion"] < gcn["clean", "evasion"]
    # nothing is left to do, and one that asks again finds its clean accuracy
    with ResultsFile(tmp_path / RESULTS) as file:
        assert plan(asked, out=tmp_path, finished=file.finished).n_finished == 18


def test_one_graph_is_attacked_there() -> None:
    asked = Protocol(
        dataset="csbm",
        models=("gcn",),
        attacks=parse_attacks("whitebox-pgd:0.05", dataset="csbm"),
        seeds=(0,),
        overrides=(Override.parse("training.epochs=30"), Override.parse("whitebox-pgd.attack.epochs=10")),
        device="cuda",
    )
    result, effect = attack_once(asked, seed=0)
    assert result.data.x.device.type == "cpu"
    assert effect is not None
    assert effect.accuracy < effect.clean_accuracy
