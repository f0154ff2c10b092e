"""No constructor takes NaN, an infinity, a word or a flag for a number, nor a word for a flag."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import pytest

from contractive_gnn import attacks
from contractive_gnn import dynamics as flows
from contractive_gnn.activations import MCP, SCAD, Firm, Huber, LeakyReLU
from contractive_gnn.checks import check_flag, check_real, check_whole, check_widths, whole_pair
from contractive_gnn.nn import (
    MODELS,
    AlternatingConv,
    ElasticConv,
    EquilibriumConv,
    FlowConv,
    FlowGNN,
    MLPClassifier,
    MLPMixture,
    RUNGConv,
    Similarity,
    flow_gnn,
)
from contractive_gnn.nn.csgnn import CoupledConv


def fits(factory: Callable[..., object], *given: object) -> Callable[..., object]:
    return functools.partial(factory, *given)


FACTORIES: dict[str, Callable[..., object]] = {
    **{name: fits(model, 3, 2) for name, model in MODELS.items() if not name.endswith(("ensemble", "mixture"))},
    **attacks.ATTACKS,
    **{activation.__name__: activation for activation in (LeakyReLU, Huber, MCP, Firm, SCAD)},
    "flow-gnn": functools.partial(flow_gnn, 3, 2, dynamics="gradient-flow"),
    "diffusion-flow": flows.Diffusion,
    "gradient-flow-field": fits(flows.GraphGradientFlow, 2),
    "implicit-flow": fits(flows.ImplicitFlow, 2),
    "adjacency-flow": flows.AdjacencyFlow,
    "coupled-flow": fits(flows.CoupledFlow, flows.Diffusion(), flows.AdjacencyFlow()),
    "coupled-conv": fits(CoupledConv, 2),
    "flow-conv": fits(FlowConv, flows.Diffusion()),
    "flow-model": fits(FlowGNN, 3, 2, FlowConv(flows.Diffusion())),
    "alternating": fits(AlternatingConv, flows.GraphGradientFlow(2, mu=0.1), flows.GradientAscent(2)),
    "equilibrium": fits(EquilibriumConv, flows.Diffusion()),
    "elastic": ElasticConv,
    "rung-conv": RUNGConv,
    "similarity": Similarity,
    "mixture": fits(MLPMixture, MLPClassifier(3, 2), MLPClassifier(3, 2)),
}
#: what an infinity may be given to: the model that its authors call RUNG-ℓ1
UNBOUNDED = {("rung", "gamma"), ("rung-conv", "gamma")}


def arguments() -> list[tuple[str, str, Any]]:
    """Every factory and argument that is declared a number or a flag, with what it must refuse."""
    found = []
    for name, factory in FACTORIES.items():
        for argument in inspect.signature(factory).parameters.values():
            kinds = {part.strip() for part in str(argument.annotation).split("|")}
            if argument.name in ("seed", "in_channels", "out_channels"):
                continue
            if "bool" in kinds:
                found += [(name, argument.name, bad) for bad in ("False", 0)]
            elif kinds & {"float", "int"}:
                infinities = [] if (name, argument.name) in UNBOUNDED else [math.inf]
                found += [(name, argument.name, bad) for bad in (math.nan, *infinities, -math.inf, True, "1")]
    return found


@pytest.mark.parametrize(("name", "argument", "bad"), arguments())
def test_it_is_refused_by_its_name(name: str, argument: str, bad: object) -> None:
    if name in attacks.ATTACKS or name in MODELS:
        pytest.importorskip("deeprobust")
    with pytest.raises((TypeError, ValueError), match=rf"^{argument} (must be|is|says)"):
        FACTORIES[name](**{argument: bad})


def test_bounds_are_named() -> None:
    check_real("p", 0, least=0, below=1)
    for bounds, wanted in (
        ({"least": 0, "below": 1}, "p must be at least 0 and below 1, got 2"),
        ({"above": 0}, "p must be positive, got -1"),
        ({"above": 0, "most": 1}, "p must be above 0 and at most 1, got nan"),
        ({}, "p must be finite, got inf"),
        ({"least": 0}, "p must be finite, got inf"),
    ):
        value = float(wanted.split()[-1])
        with pytest.raises(ValueError, match=wanted.replace("got 2", "got 2.0").replace("got -1", "got -1.0")):
            check_real("p", value, **bounds)
    with pytest.raises(TypeError, match=r"p must be a number, got None \(NoneType\)"):
        check_real("p", None)
    with pytest.raises(TypeError, match=r"k must be a whole number, got 2.0 \(float\)"):
        check_whole("k", 2.0)
    with pytest.raises(ValueError, match="k must be at least 3, got 2"):
        check_whole("k", 2, least=3)
    with pytest.raises(ValueError, match="k must be below 2, got 2"):
        check_whole("k", 2, below=2)
    with pytest.raises(TypeError, match=r"on must be True or False, got 'no' \(str\)"):
        check_flag("on", "no")
    check_widths(-1, hidden_channels=1)
    with pytest.raises(ValueError, match="in_channels must be at least 1, got 0"):
        check_widths(0)


def test_one_number_or_two() -> None:
    assert whole_pair("size", 3, least=1) == whole_pair("size", (3, 3), least=1) == whole_pair("size", [3, 3], least=1)
    for value in ((1, 2, 3), "ab", 1.5, None, (1.0, 2), ((1, 2), 3), True):
        with pytest.raises(TypeError, match="size must be a whole number"):
            whole_pair("size", value, least=1)
    with pytest.raises(ValueError, match="size must be at least 1"):
        whole_pair("size", (2, 0), least=1)
