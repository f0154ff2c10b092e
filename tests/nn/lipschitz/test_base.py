"""One question to every module: its constant, whether it is proved, and why it has none."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from contractive_gnn.dynamics import GradientFlow
from contractive_gnn.nn.flow import Flow
from contractive_gnn.nn.lipschitz import (
    NONEXPANSIVE,
    AvgPool2d,
    ConvexCombination,
    LipschitzModule,
    MaxPool2d,
    OrthogonalConv2d,
    OrthogonalLinear,
    Sequential,
    SpaceToDepth,
    SpectralConv2d,
    SpectralLinear,
    Standardise,
    certified,
    lipschitz,
    rounded_lipschitz,
    why_unknown,
)
from contractive_gnn.nn.lipschitz.rounding import rounded
from contractive_gnn.norms import number
from contractive_gnn.operators import Dense
from contractive_gnn.testing import measured_lipschitz


def test_constants_of_a_sequence_multiply() -> None:
    net = Sequential(Standardise([0.0], [0.5]), MaxPool2d(3, 2), nn.ReLU(), AvgPool2d(2, scaled=False))
    assert net.lipschitz() == pytest.approx(2.0)
    assert net.certified
    assert why_unknown(net) == ""
    assert Sequential().lipschitz() == 1.0
    assert Sequential(nn.Linear(2, 2), SpectralLinear(2, 2)).lipschitz() == math.inf


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.Dropout(0.5), "in training it is random"),
        (nn.Dropout2d(0.1), "in training it is random"),
        (nn.BatchNorm2d(3), "depends on the whole batch"),
        (nn.LayerNorm(3), "near a constant input"),
        (nn.GroupNorm(1, 3), "near a constant input"),
        (nn.InstanceNorm2d(3), "however small"),
        (nn.Linear(2, 2), "use SpectralLinear"),
        (nn.Conv2d(2, 2, 3), "use SpectralConv2d"),
        (nn.MaxPool2d(3, 1), "overlapping windows"),
        (nn.AvgPool2d(2), "pad and overlap"),
        (nn.Softmax(dim=1), "no constant is known"),
    ],
)
def test_what_has_no_constant_says_why(module: nn.Module, reason: str) -> None:
    for mode in (True, False):
        module.train(mode)
        assert lipschitz(module) == math.inf
        assert not certified(module)
        assert reason in why_unknown(module)
        assert why_unknown(module).startswith(type(module).__name__)
    assert reason in why_unknown(Sequential(nn.ReLU(), module))
    assert reason in why_unknown(nn.Sequential(nn.ReLU(), Sequential(module)))
    assert rounded_lipschitz(module, torch.float32) == math.inf


def test_a_training_batch_norm_has_none() -> None:
    """Why it is refused: a sample moves another one's output."""
    layer = nn.BatchNorm1d(1)
    x, y = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.0], [1.0], [9.0]])
    assert float((layer(x)[0] - layer(y)[0]).detach().abs()) > 0.1
    tight = torch.tensor([[0.0], [1e-3]])
    assert float((layer(tight)[1] - layer(tight)[0]).detach()) > 100 * 1e-3  # it stretches what is close


def test_a_subclass_of_a_known_module_is_not_taken_for_it() -> None:
    class Doubled(nn.ReLU):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2.0 * super().forward(x)

    assert nn.ReLU in NONEXPANSIVE
    assert lipschitz(Doubled()) == math.inf


def test_a_convex_combination() -> None:
    layer = ConvexCombination(Standardise([0.0], [0.25]), 0.25)
    assert layer.lipschitz() == pytest.approx(0.75 + 0.25 * 4.0)
    x = torch.randn(2, 1, 3, 3)
    torch.testing.assert_close(layer(x), 0.75 * x + 0.25 * 4.0 * x)
    assert not ConvexCombination(nn.Linear(2, 2)).certified
    learned = ConvexCombination(nn.ReLU(), 0.9, learned=True)
    assert number(learned.weight) == pytest.approx(0.9)
    assert learned.lipschitz() <= 1.0 + 1e-6
    with torch.no_grad():
        learned.logit.fill_(100.0)  # the weight is 1 to rounding, and no more
    assert learned.lipschitz() <= 1.0 + 1e-6
    with pytest.raises(ValueError, match="must keep the shape"):
        ConvexCombination(nn.Flatten())(torch.zeros(1, 2, 3))
    for weight in (0.0, 1.0, -1.0):
        with pytest.raises(ValueError, match="weight must be above 0 and below 1"):
            ConvexCombination(nn.ReLU(), weight)
    with pytest.raises(TypeError, match="expected a module"):
        ConvexCombination(torch.relu)  # type: ignore[arg-type]


def test_flows_are_asked_in_the_same_way() -> None:
    flow = Flow(GradientFlow(Dense(torch.eye(2)), "leaky-relu"), num_steps=1)
    # h = 2/1.2, and slopes in [0.2, 1]
    assert lipschitz(flow) == pytest.approx(2.0 / 3.0, rel=1e-5)
    assert lipschitz(flow) < rounded_lipschitz(flow, torch.float32) < lipschitz(flow) + 1e-4
    assert why_unknown(flow) == ""


def test_rounding_is_that_of_the_precision() -> None:
    assert rounded(2.0, 5.0, torch.bfloat16, roundings=0) == 2.0
    assert rounded(2.0, 5.0, torch.bfloat16, roundings=1) == pytest.approx(2.0 + 5.0 / 256)
    assert rounded(2.0, 5.0, torch.float32, roundings=1) == pytest.approx(2.0 + 5.0 * 2.0**-24, abs=1e-15)
    assert rounded(2.0, 5.0, torch.bfloat16, roundings=0, terms=10) == pytest.approx(2.0 + 50.0 * 2.0**-24, abs=1e-12)
    with pytest.raises(ValueError, match="roundings must be at least 0"):
        rounded(1.0, 1.0, torch.float32, roundings=-1)


def test_a_module_of_ones_own_states_nothing_for_rounded_arithmetic() -> None:
    class Half(LipschitzModule):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x / 2

        def lipschitz(self) -> float:
            return 0.5

    assert lipschitz(Half()) == 0.5
    assert rounded_lipschitz(Half(), torch.bfloat16) == math.inf


@pytest.mark.parametrize(
    "module",
    [SpectralLinear(3, 3), OrthogonalLinear(3, 3, method="cayley"), Sequential(nn.Identity(), nn.ReLU()), nn.ReLU()],
    ids=["spectral", "cayley", "sequence", "torch"],
)
def test_a_hook_or_a_replaced_method_leaves_nothing_proved(module: nn.Module) -> None:
    assert certified(module)
    part = module[1] if isinstance(module, Sequential) else module
    handle = part.register_forward_hook(lambda module, arguments, out: 3 * out)
    assert not certified(module)
    handle.remove()
    assert certified(module)
    part.forward = lambda x: 3 * x  # type: ignore[assignment]
    assert not certified(module)
    del part.forward


@pytest.mark.parametrize("values", [[-0.1, 1.0], [0.1, -1.0]])
def test_a_deviation_that_was_loaded_has_its_own_constant(values: list[float]) -> None:
    layer = Standardise([0.0, 0.0], [1.0, 1.0])
    layer.load_state_dict({"mean": torch.zeros(2), "std": torch.tensor(values)})
    assert measured_lipschitz(layer, torch.rand(1, 2, 2, 2)) <= layer.lipschitz() <= 10 * (1 + 1e-6)


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_a_deviation_that_divides_by_nothing_has_none(value: float) -> None:
    layer = Standardise([0.0, 0.0], [1.0, 1.0])
    layer.std[0] = value
    assert layer.lipschitz() == math.inf
    assert not certified(layer)


@pytest.mark.parametrize("logit", [-200.0, math.nan])
def test_a_convex_combination_is_never_no_number(logit: float) -> None:
    layer = ConvexCombination(nn.Linear(2, 2), learned=True)
    with torch.no_grad():
        layer.logit.fill_(logit)
    assert layer.lipschitz() == math.inf


def test_a_convex_combination_keeps_its_input_from_a_module_that_works_in_place() -> None:
    x = torch.tensor([[-1.0, 2.0]])
    assert ConvexCombination(nn.ReLU(inplace=True), 0.25)(x).tolist() == [[-0.75, 2.0]]


@pytest.mark.parametrize(
    ("build", "word"),
    [
        (lambda: SpectralConv2d(2, 3, "3"), "kernel_size must be a whole number, or two of them"),
        (lambda: SpectralConv2d(2, 3, 3.0), "kernel_size must be a whole number"),
        (lambda: SpectralConv2d(2, 3, (3, 3, 3), padding="same"), "kernel_size must be a whole number, or two of them"),
        (lambda: SpectralConv2d(2, 3, 3, dilation="2", padding="same"), "dilation must be a whole number, or two"),
        (lambda: SpectralConv2d(2, 3, 3, size="ab"), "size must be a whole number, or two of them"),
        (lambda: OrthogonalConv2d(2, 3, 3, size=4.5), "size must be a whole number"),
        (lambda: MaxPool2d((2, 2, 2)), "kernel_size must be a whole number, or two of them"),
    ],
)
def test_sizes_of_another_kind_are_refused(build: Callable[[], nn.Module], word: str) -> None:
    with pytest.raises(TypeError, match=word):
        build()


def test_sizes_are_one_number_or_two() -> None:
    for size in (6, (6, 6), [6, 6]):
        spectral = SpectralConv2d(2, 3, [3, 3], padding="same", size=size)  # type: ignore[arg-type]
        assert spectral.size == (6, 6)
        assert spectral(torch.zeros(1, 2, 6, 6)).shape == (1, 3, 6, 6)
        assert OrthogonalConv2d(2, 3, 3, size=size).size == (6, 6)  # type: ignore[arg-type]
    for x in (torch.zeros(1, 3, 6, 6), torch.zeros(2, 6, 6)):
        with pytest.raises(ValueError, match=r"expected a batch of images \[n, 2, H, W\]"):
            SpectralConv2d(2, 3, 3)(x)


@pytest.mark.parametrize(
    "layer",
    [SpaceToDepth(2), OrthogonalConv2d(4, 3, 3, method="cayley", size=4), MaxPool2d(2), SpectralConv2d(4, 2, 3)],
    ids=lambda layer: type(layer).__name__,
)
def test_an_empty_batch_has_the_shape_of_any_other(layer: nn.Module) -> None:
    assert layer(torch.zeros(0, 4, 4, 4)).shape == (0, *layer(torch.zeros(1, 4, 4, 4)).shape[1:])
