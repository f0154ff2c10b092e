"""A frozen copy: the same numbers, no parametrisation to compute, and a constant that is still proved."""

import pickle
import threading

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from contractive_gnn.dynamics import GradientFlow
from contractive_gnn.nn import Flow
from contractive_gnn.nn.images import ImageClassifier, frozen
from contractive_gnn.nn.parametrizations import AlmostOrthogonal, Spectral, spectral
from contractive_gnn.operators import Conv2d


@pytest.mark.parametrize("kind", ["nonexpansive", "alternating", "unconstrained"])
def test_the_copy_has_the_same_scores_and_the_model_is_as_it_was(kind: str) -> None:
    torch.manual_seed(0)
    model = ImageClassifier(1, 3, size=8, channels=(4, 6), dense=(5,), kind=kind)  # type: ignore[arg-type]
    x = torch.rand(5, 1, 8, 8)
    before, names = model(x), set(model.state_dict())
    copied = frozen(model)
    torch.testing.assert_close(copied(x), before, rtol=1e-5, atol=1e-6)
    assert not any(parameter.requires_grad for parameter in copied.parameters())
    assert not copied.training
    torch.testing.assert_close(model(x), before, rtol=0, atol=0)
    assert set(model.state_dict()) == names
    assert model.training
    (model(x).sum()).backward()  # it can still be trained
    assert copied.certified == model.certified
    assert copied.lipschitz() <= model.lipschitz() * (1 + 1e-6)
    assert not any(parametrize.is_parametrized(part) for part in copied.modules())
    torch.testing.assert_close(pickle.loads(pickle.dumps(copied))(x), copied(x))
    twice = frozen(copied)
    torch.testing.assert_close(twice(x), copied(x))


def test_nothing_is_computed_for_a_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    copied = frozen(ImageClassifier(1, 3, size=8, channels=(4, 6), dense=(5,)))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a weight was made anew")

    monkeypatch.setattr(AlmostOrthogonal, "forward", refuse)
    monkeypatch.setattr("contractive_gnn.nn.parametrizations.weighted_sums", refuse)
    copied(torch.rand(2, 1, 8, 8))


def test_a_changed_weight_changes_the_constant() -> None:
    """The proof is worked out from the weights that are there: a copy that was tampered with says so."""
    copied = frozen(ImageClassifier(1, 3, size=8, channels=(4,), dense=()))
    assert copied.lipschitz() <= 1.0
    state = copied.state_dict()
    name = next(name for name in state if name.startswith("body.3.") and name.endswith("weight"))
    copied.load_state_dict({**state, name: 2 * state[name]})
    assert copied.lipschitz() > 1.5


def test_other_parametrisations_are_computed_once_too() -> None:
    torch.manual_seed(0)
    operator = spectral(Conv2d(nn.Parameter(torch.randn(3, 3, 3, 3)), padding=1))
    model = Flow(GradientFlow(operator, "tanh"), num_steps=2)
    x = torch.rand(2, 3, 6, 6)
    copied = frozen(model)
    torch.testing.assert_close(copied(x), model(x))
    assert not any(isinstance(part, Spectral) for part in copied.modules())
    assert not any(parametrize.is_parametrized(part) for part in copied.modules())
    assert copied.lipschitz() <= 1 + 1e-3  # by the symbol of the fixed kernel
    assert model.lipschitz() == 1.0


def test_a_fixed_model_may_be_evaluated_beside_a_training() -> None:
    """torch keeps parametrised weights for all threads at once: a fixed model must not make it do so."""
    served, trained = (ImageClassifier(1, 3, size=8, channels=(4, 6), dense=(5,)) for _ in range(2))
    served, x = frozen(served), torch.rand(5, 1, 8, 8)
    stop, failed = threading.Event(), []

    def serve() -> None:
        try:
            while not stop.is_set():
                served(x)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=serve) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        optimiser = torch.optim.SGD(trained.parameters(), lr=0.1)
        for _ in range(30):
            optimiser.zero_grad()
            trained(x).square().sum().backward()
            optimiser.step()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failed
