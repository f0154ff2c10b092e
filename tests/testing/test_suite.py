"""Every dynamics of the package passes the suite that is given to others."""

import pytest
import torch
from torch import Tensor

from contractive_gnn.dynamics import Dynamics, registry
from contractive_gnn.graph import Graph
from contractive_gnn.testing import DynamicsSuite

SHARP = {
    "gradient-flow-linear", "gradient-flow-degree", "gradient-flow-unnormalised", "diffusion-linear", "diffusion",
    "adjacency-linear", "adjacency-l1-inside", "adjacency-max-outside",
}  # fmt: skip
NAMES = [name for name in registry.DYNAMICS if name != "adjacency-published"]
TESTS = [name for name in vars(DynamicsSuite) if name.startswith("test_")]


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("name", NAMES)
def test_conformance(name: str, test: str) -> None:
    suite = DynamicsSuite()
    suite.make = lambda channels: registry.build(name, channels)  # type: ignore[method-assign]
    suite.sharp = name in SHARP
    suite.tries = 600
    getattr(suite, test)()


class Broken(Dynamics):
    """A diffusion with every fault that a test of the suite is there to find."""

    norm = "linf"

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault
        self.used = torch.nn.Parameter(torch.ones(()))
        if fault == "unused parameter":
            self.unused = torch.nn.Parameter(torch.ones(()))

    def field(self, x: Tensor, graph: Graph, *, anchor: Tensor | None = None, t: Tensor | float = 0.0) -> Tensor:
        p = (graph.edge_weight / (1 + graph.row_sum(graph.edge_weight))[graph.target]).unsqueeze(1)
        if self.fault == "masked":
            p = p * (p.detach() > 0)
        pull = p * (x[graph.source] - x[graph.target])
        out = torch.zeros_like(x).index_add(0, graph.target, pull) * self.used / self.used.detach()
        if self.fault == "shape":
            return out[:, :1]
        if self.fault == "dtype":
            return out.double() if x.dtype == torch.float32 else out.float()
        if self.fault == "node order":
            return out + torch.arange(len(x)).to(x).unsqueeze(1)
        if self.fault == "gradient":
            return out + x.detach()
        if self.fault == "graph break":
            return -out if x.sum() > 1e9 else out
        if self.fault == "late":
            out = out - 5 * t * x
        if self.fault == "nan once isolated":
            return out * (graph.row_sum(graph.edge_weight)[0] / graph.row_sum(graph.edge_weight)[0])
        if self.fault == "nan":
            return out / out.abs().gt(1e9)
        if self.fault == "random":
            return out + torch.rand_like(out)
        return out

    def rate(self, graph: Graph) -> float:
        return 0.1 if self.fault == "rate" else 0.0

    def max_step(self, graph: Graph) -> float:
        return {"step": 1.3, "timid": 0.5}.get(self.fault, 1.0)

    def parts(self) -> tuple[Dynamics, ...]:
        return (self, self) if self.fault == "parts" else (self,)

    @property
    def certified(self) -> bool:
        return self.fault != "uncertified"

    @property
    def uniform(self) -> bool:
        return self.fault == "uniform"

    def lipschitz(self, graph: Graph, step: Tensor | float) -> Tensor | float:
        return super().lipschitz(graph, step) + (len(graph.source) if self.fault == "uniform" else 0)

    def structure_lipschitz(self, graph: Graph, x: Tensor | None = None) -> float:
        return 6.0 if self.fault in ("unbounded", "nan once isolated") else float("inf")


@pytest.mark.parametrize(
    ("fault", "test"),
    [
        ("shape", "shape_dtype_and_device"),
        ("dtype", "shape_dtype_and_device"),
        ("node order", "equivariance"),
        ("gradient", "gradient"),
        ("unused parameter", "gradient"),
        ("masked", "gradient_of_absent_edges"),
        ("graph break", "compile"),
        ("random", "state_dict_copy_and_pickle"),
        ("parts", "parts"),
        ("rate", "claims"),
        ("nan", "claims"),
        ("nan once isolated", "claims"),
        ("late", "claims"),
        ("uniform", "claims"),
        ("unbounded", "claims"),
        ("step", "claims"),
        ("uncertified", "claims"),
        ("timid", "a_step_beyond_the_edge_expands"),
    ],
)
def test_the_suite_finds_the_fault(fault: str, test: str) -> None:
    suite = DynamicsSuite()
    suite.sharp = True
    suite.make = lambda channels: Broken("none")  # type: ignore[method-assign]
    getattr(suite, f"test_{test}")()
    suite.make = lambda channels: Broken(fault)  # type: ignore[method-assign]
    expected: tuple[type[Exception], ...] = (AssertionError, RuntimeError, torch._dynamo.exc.Unsupported)
    with pytest.raises(expected):
        getattr(suite, f"test_{test}")()


def test_make_must_be_defined() -> None:
    with pytest.raises(NotImplementedError, match=r"must define make\(channels\)"):
        DynamicsSuite().dynamics()
