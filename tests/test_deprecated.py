"""Old names and words still work, and say what to write instead."""

from __future__ import annotations

import importlib
import inspect
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

from contractive_gnn.deprecated import aliases, renamed
from contractive_gnn.nn import Similarity, build
from contractive_gnn.nn.surrogate import gradient_surrogate


def test_an_old_name_stands_for_the_new_one() -> None:
    lookup = aliases("animals", {"Pound": "fractions:Fraction"})
    with pytest.warns(DeprecationWarning, match=r"animals\.Pound is called fractions\.Fraction now"):
        assert lookup("Pound")(1, 2) + lookup("Pound")(1, 2) == 1
    with pytest.raises(AttributeError, match="module 'animals' has no attribute 'Stone'"):
        lookup("Stone")


@renamed(sigma="activation", hidden="hidden_channels")
class Layer:
    def __init__(self, channels: int, *, hidden_channels: int = 64, activation: str = "tanh") -> None:
        self.given = channels, hidden_channels, activation


class Wider(Layer):
    def __init__(self, channels: int, **more: object) -> None:
        super().__init__(channels, **more)  # type: ignore[arg-type]


def test_an_argument_is_taken_under_its_old_word() -> None:
    with pytest.warns(DeprecationWarning, match=r"Layer\(hidden=…\) is Layer\(hidden_channels=…\) now") as caught:
        assert Layer(3, hidden=8, activation="relu").given == (3, 8, "relu")  # type: ignore[call-arg]
    assert caught[0].filename == __file__
    with pytest.warns(DeprecationWarning, match="Layer"):
        assert Wider(3, sigma="relu").given == (3, 64, "relu")
    with pytest.raises(TypeError, match="was given hidden and hidden_channels, which are one argument"):
        Layer(3, hidden=8, hidden_channels=8)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'width'"):
        Layer(3, width=8)  # type: ignore[call-arg]


@pytest.mark.filterwarnings("error")
def test_the_new_words_are_those_that_are_seen() -> None:
    assert Layer(3, hidden_channels=8).given == (3, 8, "tanh")
    assert list(inspect.signature(Layer).parameters) == ["channels", "hidden_channels", "activation"]
    assert pickle.loads(pickle.dumps(Layer(3))).given == (3, 64, "tanh")


@pytest.mark.parametrize(
    ("module", "old", "place", "new"),
    [
        ("contractive_gnn.certificates.attack", "Siege", "contractive_gnn.certificates.attack", "EmpiricalAttack"),
        ("contractive_gnn.certificates.attack", "besiege", "contractive_gnn.certificates.attack", "run"),
        ("contractive_gnn.kernels", "disabled", "contractive_gnn.compiled.kernels", "disabled"),
        ("contractive_gnn.kernels", "plain_edge_sum", "contractive_gnn.compiled.kernels", "plain_edge_sum"),
        ("contractive_gnn.nn.hedged", "Hedged", "contractive_gnn.nn.mixture", "MLPMixture"),
        ("contractive_gnn.nn.relaxed", "relaxed", "contractive_gnn.nn.surrogate", "gradient_surrogate"),
        ("contractive_gnn.nn.reliability", "Reliability", "contractive_gnn.nn.calibration", "Calibration"),
    ],
)
def test_a_name_of_the_last_release_still_works(module: str, old: str, place: str, new: str) -> None:
    with pytest.warns(DeprecationWarning, match=rf"{old} is called {place}\.{new} now"):
        found = getattr(importlib.import_module(module), old)
    assert found is getattr(importlib.import_module(place), new)


def test_the_curve_of_a_similarity_still_has_its_old_name() -> None:
    with pytest.warns(DeprecationWarning, match="reliability is called calibration now"):
        assert Similarity().reliability is None


class WrittenForTheLastRelease(nn.Linear):
    def relaxed(self) -> nn.Module:
        return nn.Identity()


def test_a_model_may_still_say_relaxed() -> None:
    with pytest.warns(DeprecationWarning, match=r"WrittenForTheLastRelease\.relaxed\(\) is called gradient_surrogate"):
        assert isinstance(gradient_surrogate(WrittenForTheLastRelease(2, 2)), nn.Identity)
    model = build("csgnn-published", 4, 2)
    with pytest.warns(DeprecationWarning, match=r"CSGNN\.relaxed\(\) is called gradient_surrogate") as caught:
        assert model.relaxed().layers()[0].placement == "outside"  # type: ignore[operator,union-attr]
    assert caught[0].filename == __file__


def test_the_package_of_the_certificates_still_has_its_old_name(tmp_path: Path) -> None:
    """And the function at the top has its own, whichever was imported first."""
    code = """
import warnings
import contractive_gnn as cg
function = cg.certify
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from contractive_gnn.certify import Certificate, certify
    from contractive_gnn.certify.attack import run
print(sum("contractive_gnn.certificates" in str(warning.message) for warning in caught))
from contractive_gnn import certificates
print(Certificate is certificates.Certificate, certify is function, run is certificates.attack.run)
data = cg.contextual_sbm(60, seed=0)
model = cg.build("linf-diffusion", data.num_features, 4).eval()
budget = cg.FlipBudget.uniform(1, 60)
print(cg.certify(model, data.x, data.edge_index, flips=budget).certified.equal(
    function(model, data.x, data.edge_index, flips=budget).certified))
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == ["1", "True True True", "True"]
