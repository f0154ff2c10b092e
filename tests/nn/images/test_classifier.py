"""A classifier of images keeps its constant whatever training does to it."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from contractive_gnn.activations import LeakyReLU
from contractive_gnn.certificates import lipschitz_radius
from contractive_gnn.nn.images import ImageClassifier, frozen
from contractive_gnn.nn.lipschitz import certified, lipschitz
from contractive_gnn.nn.parametrizations import check

KNOWN = ("nonexpansive", "alternating")


def small(kind: str = "nonexpansive", **options: object) -> ImageClassifier:
    torch.manual_seed(0)
    given = {"size": 8, "channels": (6, 8), "dense": (8,), "kind": kind, **options}
    return ImageClassifier(2, 4, **given)  # type: ignore[arg-type]


def images(n: int = 6, size: int = 8) -> Tensor:
    return torch.rand(n, 2, size, size, generator=torch.Generator().manual_seed(1))


def gain(model: nn.Module, x: Tensor) -> float:
    """The largest singular value of the Jacobian at a few images, in float64."""
    exact = copy.deepcopy(frozen(model)).double()
    found = 0.0
    for image in x.double():
        jacobian = torch.autograd.functional.jacobian(lambda y: exact(y[None])[0], image)
        found = max(found, float(torch.linalg.matrix_norm(jacobian.flatten(1), 2)))
    return found


def trained_to_expand(model: ImageClassifier, steps: int = 40) -> ImageClassifier:
    """Pairs of close images are pushed apart."""
    updates = torch.optim.Adam(model.parameters(), lr=0.05)
    for step in range(steps):
        x = images(8)
        y = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(step))
        updates.zero_grad()
        (-((model(x) - model(y)).flatten(1).norm(dim=1) / (x - y).flatten(1).norm(dim=1)).mean()).backward()
        updates.step()
    return model


@pytest.mark.parametrize("kind", KNOWN)
@pytest.mark.parametrize("std", [1.0, 0.25])
def test_the_constant_holds_after_training_that_raises_it(kind: str, std: float) -> None:
    model = trained_to_expand(small(kind, std=std))
    constant = model.lipschitz()
    assert model.certified
    assert certified(model)
    assert constant <= 1 / std * (1 + 1e-9)
    assert lipschitz(model) == constant
    assert max(check(model).values()) <= 0
    measured = gain(model, images())
    assert 0.1 * constant < measured <= constant


def test_the_free_kind_expands_and_claims_nothing() -> None:
    model = small("unconstrained")
    assert model.lipschitz() == math.inf
    assert not model.certified
    assert not certified(model)
    assert gain(trained_to_expand(model), images()) > 10.0
    with pytest.raises(ValueError, match="a model without a certified constant has no radius"):
        model.radius(images())


def test_an_empty_batch_has_no_scores_and_no_radii() -> None:
    model = small()
    assert model(images()[:0]).shape == (0, model.num_classes)
    assert model.radius(images()[:0]).shape == (0,)


def test_a_mean_that_is_no_number_is_refused() -> None:
    with pytest.raises(TypeError, match="mean must be a number"):
        small(mean=None)


@pytest.mark.parametrize("pairwise", [True, False])
@pytest.mark.parametrize("place", ["model", "body", "head", "weight"])
def test_a_hook_may_change_the_scores_so_nothing_is_certified(place: str, pairwise: bool) -> None:
    model = small()
    part = {
        "model": model,
        "body": model.body[-1],
        "head": model.head.operator,
        "weight": model.head.operator.parametrizations["weight"][-1],  # type: ignore[index]
    }[place]
    handle = part.register_forward_hook(lambda module, arguments, out: 100 * out)
    assert gain(model, images()) > 1.0 or place == "weight"
    assert not certified(model)
    assert not model.certified
    with pytest.raises(ValueError, match="a model without a certified constant has no radius"):
        model.radius(images(), pairwise=pairwise)
    handle.remove()
    assert model.certified
    assert bool((model.radius(images(), pairwise=pairwise) >= 0).all())


def test_a_head_that_is_scaled_up_breaks_the_constant_and_says_so() -> None:
    """Beyond the edge it fails: the constant of before does not hold, and the copy states another."""
    model = trained_to_expand(small())
    constant, x = model.lipschitz(), images()
    loose = frozen(model)
    with torch.no_grad():
        loose.head.operator.weight.mul_(4.0)
    assert gain(loose, x) > constant
    assert gain(loose, x) <= loose.lipschitz()


def test_networks_of_all_kinds_have_equal_parameters_and_states() -> None:
    counts, shapes = [], []
    for kind in (*KNOWN, "unconstrained"):
        model = ImageClassifier(3, 10, size=32, kind=kind)  # type: ignore[arg-type]
        counts.append(sum(parameter.numel() for parameter in model.parameters()))
        shapes.append(model.body(torch.rand(1, 3, 32, 32)).shape)
    assert max(counts) <= 1.01 * min(counts)
    assert 600_000 < min(counts) < 800_000
    assert len(set(shapes)) == 1


@pytest.mark.parametrize("kind", [*KNOWN, "unconstrained"])
def test_every_parameter_has_a_gradient_and_the_state_is_saved(kind: str) -> None:
    model, x = small(kind), images()
    model(x).square().sum().backward()
    if kind == "unconstrained":  # a block starts as the identity: its first operator moves after its second
        assert all(p.grad is not None for p in model.parameters())
    else:
        assert all(p.grad is not None and bool(p.grad.any()) for n, p in model.named_parameters())
    fresh = small(kind)
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.add_(1.0)
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(fresh(x), model(x), rtol=0, atol=0)


@pytest.mark.parametrize("kind", KNOWN)
def test_radii_are_those_of_the_certificate_and_the_pairwise_ones_no_smaller(kind: str) -> None:
    model, x = small(kind, std=0.5), images()
    exact = frozen(model).double()
    plain = model.radius(x, pairwise=False)
    assert plain.dtype == torch.float64
    scores = exact(x.double()).detach()
    torch.testing.assert_close(plain, lipschitz_radius(scores, lipschitz=exact.lipschitz()))
    assert bool((model.radius(x) >= plain * (1 - 1e-12)).all())


def test_no_image_within_its_radius_is_predicted_otherwise() -> None:
    model = frozen(small()).double()
    x = images(20).double()
    radii, labels = model.radius(x), model(x).argmax(dim=1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        direction = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        moved = x + direction * (0.999 * radii / direction.flatten(1).norm(dim=1)).view(-1, 1, 1, 1)
        assert bool((model(moved).argmax(dim=1) == labels).all())


def test_standardisation_is_inside() -> None:
    one, other = small(), small(mean=(0.1, 0.3), std=0.2)
    shift = torch.tensor([0.1, 0.3]).view(2, 1, 1)
    torch.testing.assert_close(other(images()), one((images() - shift) / 0.2 + 0.5), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", ["tanh", "huber", LeakyReLU(0.5)])
def test_any_monotone_activation_will_do(activation: str | LeakyReLU) -> None:
    model = small(activation=activation)
    assert model.lipschitz() <= 1.0
    assert gain(model, images(2)) <= model.lipschitz()


def test_errors_say_what_was_expected() -> None:
    with pytest.raises(ValueError, match="kind must be one of 'nonexpansive', 'alternating', 'unconstrained', got 'x'"):
        small("x")
    with pytest.raises(ValueError, match="each of 2 stages halves the size, so 4 must divide it"):
        small(size=10)
    with pytest.raises(ValueError, match="num_layers must be even for the kind 'alternating'"):
        small("alternating", num_layers=3)
    with pytest.raises(ValueError, match="must be monotone and elementwise"):
        small(activation="mcp")
    with pytest.raises(ValueError, match="mean must be one number, or one for each of 2 channels"):
        small(mean=(0.1, 0.2, 0.3))
    with pytest.raises(TypeError, match="channels must be a list of widths"):
        small(channels=8)
    with pytest.raises(ValueError, match=r"expected images \[n, 2, 8, 8\], got"):
        small()(images(size=16))
    with pytest.raises(ValueError, match="channels must have the width of at least one stage"):
        small(channels=())
