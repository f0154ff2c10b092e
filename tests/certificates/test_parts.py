"""Which models are covered: those that compute what their classes say, with the weights that they use."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.nn.utils import parametrize
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch_geometric.nn.aggr import MaxAggregation

from contractive_gnn.activations import Huber, LeakyReLU, Tanh
from contractive_gnn.certificates import FlipBudget, certify
from contractive_gnn.certificates.parts import Parts, take_apart
from contractive_gnn.compiled import kernels
from contractive_gnn.dynamics import Diffusion
from contractive_gnn.nn import FlowConv, FlowGNN, linf_diffusion
from contractive_gnn.nn.parametrizations import orthogonal, spectral

N, D, CLASSES = 6, 5, 3
EDGES = torch.tensor([[0, 1, 1, 2, 3, 4], [1, 0, 2, 1, 4, 3]])


def model(**settings: Any) -> Any:
    torch.manual_seed(0)
    return linf_diffusion(D, CLASSES, hidden_channels=8, num_layers=3, **settings).eval()


def features() -> Tensor:
    return torch.rand(N, D, generator=torch.Generator().manual_seed(0))


class OtherModel(FlowGNN):
    pass


class OtherLinear(nn.Linear):
    pass


class OtherHuber(Huber):
    pass


class OtherDiffusion(Diffusion):
    pass


class OtherConv(FlowConv):
    pass


class Counting(nn.Module):
    """A parametrisation that never gives the same weight twice."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, weight: Tensor) -> Tensor:
        self.calls += 1
        return weight * (1 + 1e-3 * self.calls)


def put(where: str, name: str, value: Any) -> Callable[[Any], None]:
    return lambda model: setattr(model.get_submodule(where), name, value)


def hook(where: str, register: str = "register_forward_hook") -> Callable[[Any], None]:
    return lambda model: getattr(model.get_submodule(where), register)(lambda *_: None)


def with_weights(layer: nn.Module) -> Callable[[Any], None]:
    return put("", "encoder", layer)


ALTERED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "subclass of the model": (put("", "__class__", OtherModel), "OtherModel is not a FlowGNN"),
    "subclass of the layer": (put("conv", "__class__", OtherConv), "proved for the ℓ∞ Diffusion"),
    "subclass of the field": (put("conv.dynamics", "__class__", OtherDiffusion), "not for OtherDiffusion"),
    "subclass of the activation": (put("conv.dynamics", "sigma", OtherHuber()), "not for OtherHuber"),
    "subclass of a linear map": (with_weights(OtherLinear(D, 8)), "OtherLinear may compute anything"),
    "foreign encoder": (with_weights(nn.Sequential(nn.Linear(D, 8))), "Sequential may compute anything"),
    "foreign decoder": (put("", "decoder", nn.Bilinear(8, 8, CLASSES)), "Bilinear may compute anything"),
    "hook of the model": (hook(""), "forward hook"),
    "hook before the encoder": (hook("encoder", "register_forward_pre_hook"), "encoder .* forward hook"),
    "hook of the activation": (hook("conv.dynamics.sigma"), "forward hook"),
    "hook of the messages": (hook("conv.dynamics", "register_message_forward_hook"), "forward hook"),
    "hook of the propagation": (hook("conv.dynamics", "register_propagate_forward_pre_hook"), "forward hook"),
    "old spectral norm": (lambda model: old_spectral_norm(model.decoder), "forward hook"),
    "replaced forward": (put("", "forward", lambda *_: None), "forward of the model .* was replaced"),
    "replaced step": (put("conv", "step_size", lambda *_: 0.1), "step_size of conv .* was replaced"),
    "replaced message": (put("conv.dynamics", "message", lambda *_: 0), "message of conv.dynamics .* was replaced"),
    "replaced antisymmetric part": (put("conv.dynamics.sigma", "antisymmetric", abs), "antisymmetric of .* replaced"),
    "explained": (put("conv.dynamics", "explain", True), "being explained"),
    "compiled": (lambda model: model.compile(), "is compiled"),
    "another aggregation": (put("conv.dynamics", "aggr_module", MaxAggregation()), "go into MaxAggregation"),
    "the other direction": (put("conv.dynamics", "flow", "target_to_source"), "turned round"),
    "another slope": (put("conv.dynamics.sigma", "slopes", (0.0, 3.0)), "slopes of the activation"),
    "a group activation": (put("conv.dynamics.sigma", "group", True), "group of the activation"),
    "no threshold": (put("conv.dynamics.sigma", "_start", -1.0), "cannot be"),
    "no space": (put("", "space", "clas"), "neither 'class' nor 'hidden'"),
    "no steps": (put("conv", "num_steps", 0), "no number of steps"),
    "a learned step": (put("conv", "step", nn.Parameter(torch.tensor(0.1))), "no positive number"),
    "a negative mu": (put("conv.dynamics", "mu", -0.5), "no number of at least 0"),
    "two precisions": (lambda model: model.decoder.double(), "one floating point precision"),
    "a weight that changes": (
        lambda model: parametrize.register_parametrization(model.encoder, "weight", Counting()),
        "not the same twice",
    ),
}


@pytest.mark.parametrize("what", ALTERED)
def test_what_computes_something_else_is_not_covered(what: str) -> None:
    altered = model()
    change, reason = ALTERED[what]
    change(altered)
    found = take_apart(altered)
    if isinstance(found, Parts):
        found = certify(altered, features(), EDGES).reason
    assert re.search(reason, found), found


def test_a_slope_that_was_changed_does_not_pass_for_the_declared_one() -> None:
    leaky = model(activation="leaky-relu")
    leaky.conv.dynamics.sigma.negative_slope = -3.0
    assert "cannot be" in str(take_apart(leaky))
    leaky.conv.dynamics.sigma = LeakyReLU(0.5)
    assert isinstance(take_apart(leaky), Parts)


@contextmanager
def everywhere(register: Callable[..., Any]) -> Iterator[None]:
    handle = register(lambda *_: None)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def products(precision: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(
    ("around", "reason"),
    [
        (lambda: everywhere(register_module_forward_hook), "global forward hook"),
        (lambda: everywhere(register_module_forward_pre_hook), "global forward hook"),
        (lambda: torch.autocast("cpu", dtype=torch.bfloat16), "autocast is on for cpu"),
        (lambda: products("medium"), "in a reduced precision"),
    ],
    ids=["hook", "hook before", "autocast", "matrix products"],
)
def test_nothing_is_certified_where_torch_is_told_to_compute_otherwise(
    around: Callable[[], AbstractContextManager[None]], reason: str
) -> None:
    with around():
        found = certify(model(), features(), EDGES)
    assert reason in found.reason
    assert not bool(found.certified.any())
    assert certify(model(), features(), EDGES).reason == ""


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("compiled", [True, False])
def test_a_parametrised_weight_is_the_one_that_the_model_uses(dtype: torch.dtype, compiled: bool) -> None:
    torch.manual_seed(0)
    wide = linf_diffusion(150, 2, hidden_channels=16, mu=0.3, num_layers=1).to(dtype).eval()
    spectral(wide.encoder, bound=0.5)
    parts = take_apart(wide)
    assert isinstance(parts, Parts)
    assert torch.equal(parts.in_double().encoder[0].weight, wide.encoder.weight.double())
    converted = copy.deepcopy(wide).double().encoder.weight
    assert dtype == torch.float64 or not torch.allclose(converted, wide.encoder.weight.double(), rtol=1e-5)
    x = (torch.rand(4, 150) < 0.1).to(dtype)
    pair = torch.tensor([[0, 1], [1, 0]])
    if compiled:
        found = certify(wide, x, pair, flips=FlipBudget.uniform(1, 4))
    else:
        with kernels.disabled():
            found = certify(wide, x, pair, flips=FlipBudget.uniform(1, 4))
    assert found.reason == ""


def test_a_learned_threshold_is_the_one_that_the_model_uses() -> None:
    conv = FlowConv(Diffusion(activation=Tanh(0.3, learnable=True)), num_steps=2)
    learned = FlowGNN(D, CLASSES, conv, hidden_channels=8, space="class").eval()
    parts = take_apart(learned)
    assert isinstance(parts, Parts)
    sigma = parts.in_double().dynamics.sigma
    assert isinstance(sigma, Tanh)
    assert not sigma.learnable
    assert sigma.threshold == float(conv.dynamics.sigma.log_threshold.detach().exp())  # type: ignore[attr-defined, operator, union-attr]
    assert certify(learned, features(), EDGES).reason == ""


def test_a_lazy_model_gets_its_weights_from_the_first_call() -> None:
    lazy = linf_diffusion(-1, CLASSES, hidden_channels=8)
    assert certify(lazy, features(), EDGES).reason == ""


def test_the_constraints_of_the_library_are_trusted() -> None:
    for constrain in (orthogonal, spectral):
        own = model()
        constrain(own.decoder)
        found = certify(own.eval(), features(), EDGES)
        assert found.reason == ""
