"""A model goes on with what it learned, and a checkpoint changes nothing else of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from contractive_gnn.activations import Tanh
from contractive_gnn.dynamics import (
    GradientFlow,
    MassDiffusion,
    PolynomialEnergy,
    QuadraticEnergy,
    RidgeEnergy,
    SeparableHamiltonian,
    SkewField,
    SumField,
    TriangularMatrix,
)
from contractive_gnn.dynamics.pdes import FiniteDifferences, heat, untrained_network
from contractive_gnn.graph import Graph
from contractive_gnn.nn import Flow
from contractive_gnn.nn.images import GradientFlowDenoiser, ImageClassifier
from contractive_gnn.nn.lipschitz import OrthogonalConv2d, OrthogonalLinear, SpectralConv2d, SpectralLinear, Standardise
from contractive_gnn.operators import Dense
from contractive_gnn.training.batches.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from contractive_gnn.training.batches.saved_model import SavedModel

Build = Callable[[], nn.Module]


class Denoiser(nn.Module):
    """One of a single noise level."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = GradientFlowDenoiser(scales=(0, 1), filters=4, kernel_size=3)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, torch.full((len(x),), 0.1))  # type: ignore[no-any-return]


class Adjacency(nn.Module):
    """A learned multiple of a fixed sparse matrix."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix)
        self.share = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.share * (self.matrix @ x.T).T  # type: ignore[operator]


def flow(field: nn.Module) -> Flow:
    return Flow(field, num_steps=1, step=0.1, constrained=False)  # type: ignore[arg-type]


def hamiltonian(mass: float = 1.0) -> Flow:
    return flow(SeparableHamiltonian(QuadraticEnergy(mass * torch.eye(2)), RidgeEnergy(2, 4)))


def equation(alpha: float = 0.01) -> Flow:
    return flow(SumField(FiniteDifferences(heat((8, 8), alpha=alpha)), untrained_network((8, 8))))


def diffusion(weight: float = 1.0) -> Flow:
    edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    return flow(MassDiffusion(4).on(Graph(edges, torch.full((4,), weight), 3)))


def biased(bias: float = 0.5) -> Flow:
    return flow(GradientFlow(Dense(nn.Parameter(torch.randn(4, 4) / 4)), Tanh(), bias=torch.full((4,), bias)))


def standardised(mean: float = 0.5) -> nn.Module:
    return nn.Sequential(Standardise(mean=[mean], std=[0.25]), nn.Flatten(), nn.Linear(64, 2))


def frozen(value: float = 1.0) -> nn.Module:
    first = nn.Linear(4, 4).requires_grad_(False)
    for parameter in first.parameters():
        nn.init.constant_(parameter, value)
    return nn.Sequential(first, nn.Linear(4, 4))


def pruned(share: float = 0.5) -> nn.Module:
    model = nn.Linear(4, 4)
    mask = torch.ones(4, 4)
    mask[: int(4 * share)] = 0.0
    prune.custom_from_mask(model, "weight", mask)  # type: ignore[no-untyped-call]
    return model


def sparse(value: float = 1.0) -> nn.Module:
    return Adjacency((value * torch.eye(4)).to_sparse())


def frozen_rotation(seed: float = 0.0) -> nn.Module:
    torch.manual_seed(int(100 * seed))
    return nn.Sequential(OrthogonalLinear(4, 4, method="cayley").requires_grad_(False), nn.Linear(4, 4))


#: models, what they take, and where theirs differ in what no training changes
ALIKE: dict[str, tuple[Build, tuple[int, ...]]] = {
    "running statistics": (lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), (6, 4)),
    "torch's spectral norm": (lambda: parametrizations.spectral_norm(nn.Linear(4, 3)), (6, 4)),
    "of one row": (lambda: parametrizations.spectral_norm(nn.Linear(4, 1)), (6, 4)),
    "torch's orthogonal": (lambda: parametrizations.orthogonal(nn.Linear(4, 4)), (6, 4)),
    "weight norm": (lambda: parametrizations.weight_norm(nn.Linear(4, 4)), (6, 4)),
    "Cayley": (lambda: OrthogonalLinear(4, 4, method="cayley"), (6, 4)),
    "Björck": (lambda: OrthogonalLinear(4, 4), (6, 4)),
    "orthogonal convolution": (lambda: OrthogonalConv2d(2, 2, 3), (3, 2, 8, 8)),
    "spectral": (lambda: SpectralLinear(4, 4), (6, 4)),
    "spectral convolution": (lambda: SpectralConv2d(2, 2, 3, padding=1), (3, 2, 8, 8)),
    "classifier": (lambda: ImageClassifier(1, 3, size=8, channels=(4,), num_layers=2, dense=(4,)), (3, 1, 8, 8)),
    "denoiser": (Denoiser, (3, 1, 16, 16)),
    "polynomial": (lambda: flow(SeparableHamiltonian(*(PolynomialEnergy(2, 3) for _ in range(2)))), (6, 4)),
    "skew": (lambda: flow(SkewField(TriangularMatrix(4, 8))), (6, 4)),
    "Hamiltonian": (hamiltonian, (6, 4)),
    "equation": (equation, (3, 1, 8, 8)),
    "graph": (diffusion, (3, 4)),
    "fixed bias": (biased, (6, 4)),
    "mean of images": (standardised, (6, 1, 8, 8)),
    "frozen layer": (frozen, (6, 4)),
    "mask": (pruned, (6, 4)),
    "sparse matrix": (sparse, (6, 4)),
}
OTHER: dict[str, tuple[Callable[[float], nn.Module], str]] = {
    "Hamiltonian": (hamiltonian, "weight"),
    "equation": (equation, "kernel"),
    "graph": (diffusion, "edge_weight"),
    "fixed bias": (biased, "bias"),
    "mean of images": (standardised, "mean"),
    "frozen layer": (frozen, "0.weight, 0.bias"),
    "mask": (pruned, "weight_mask"),
    "sparse matrix": (sparse, "matrix"),
    "frozen rotation": (frozen_rotation, "base"),
}


def train(model: nn.Module, x: Tensor) -> None:
    model.train()
    optimiser = torch.optim.Adam([one for one in model.parameters() if one.requires_grad], lr=0.01)
    for _ in range(3):
        optimiser.zero_grad()
        model(x).square().mean().backward()
        optimiser.step()


def answers(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model.eval()(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ALIKE)
def test_a_model_of_other_weights_goes_on(kind: str, tmp_path: Path) -> None:
    """Through a file, into one that was just drawn and into the one that was trained, and on from there."""
    build, shape = ALIKE[kind]
    torch.manual_seed(0)
    x, first = torch.randn(shape), build()
    origin = SavedModel(first, lambda asked: asked(x))
    train(first, x)
    path = tmp_path / "x.pt"
    save_checkpoint(path, origin.saved(origin.answers()), identity={})
    trained = answers(first, x)
    torch.manual_seed(1)
    second = build()
    assert not torch.equal(answers(second, x), trained)
    for model in (second, first):
        kept = SavedModel(model, lambda asked: asked(x))
        saved = load_checkpoint(path, identity={})
        assert saved is not None
        kept.restore(saved, path)
        assert torch.equal(answers(model, x), trained)
        train(model, x)
        assert kept.saved(kept.answers())["fixed"] == saved["fixed"]


@pytest.mark.parametrize("kind", OTHER)
def test_a_model_of_other_fixed_tensors_does_not(kind: str) -> None:
    build, name = OTHER[kind]
    torch.manual_seed(0)
    x, first, second = torch.randn(ALIKE[kind][1] if kind in ALIKE else (6, 4)), build(0.25), build(0.75)
    origin = SavedModel(first, lambda asked: asked(x))
    train(first, x)
    before = {key: value.clone() for key, value in second.state_dict().items()}
    with pytest.raises(
        CheckpointError, match=f"another model: .*{name}.*, which no training changed, had other values"
    ):
        SavedModel(second, lambda asked: asked(x)).restore(origin.saved(origin.answers()), Path("x.pt"))
    assert all(torch.equal(value.to_dense(), before[key].to_dense()) for key, value in second.state_dict().items())


def test_the_mode_of_each_part_is_left() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout()).train()
    model[1].eval()
    SavedModel(model, lambda asked: asked(torch.ones(1, 4))).answers()
    assert [part.training for part in model.modules()] == [True, True, False]
