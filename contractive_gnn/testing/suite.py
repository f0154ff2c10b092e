"""A conformance suite for a dynamics: say how to build it, and inherit the tests."""

from __future__ import annotations

import copy
import io
import pickle

import torch
from torch import Tensor

from contractive_gnn.dynamics import Dynamics
from contractive_gnn.graph import Graph
from contractive_gnn.nn.flow import FlowConv
from contractive_gnn.norms import number
from contractive_gnn.testing.claims import randomised, worst_pair
from contractive_gnn.testing.graphs import battery, random_weighted
from contractive_gnn.testing.verification import verify_one


class DynamicsSuite:
    """Tests that every :class:`~contractive_gnn.dynamics.Dynamics` should pass, for pytest.

    Subclass it in a test module as ``class TestMine(DynamicsSuite)`` and define :meth:`make`. Claims are tried at the
    edge of their hypothesis; with ``sharp`` they must also *fail* beyond it: a bound nobody reaches is loose, or
    untested.

    Attributes:
        channels: of the states.
        sharp: the largest step is the largest: 1.2 times it expands on some graph of the battery.
        tries: pairs of states for all claims together.
        compiles: ``torch.compile`` takes the field without a graph break.
    """

    channels: int = 4
    sharp: bool = False
    tries: int = 1500
    compiles: bool = True

    def make(self, channels: int) -> Dynamics:
        """Build the dynamics under test, for states of ``channels`` channels."""
        raise NotImplementedError(f"{type(self).__name__} must define make(channels)")

    def dynamics(self, seed: int = 0) -> Dynamics:
        """The dynamics in float64 with parameters that are not at their start."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return randomised(self.make(self.channels), seed=seed)

    def graph(self) -> Graph:
        """A weighted graph in float64."""
        return random_weighted(7, seed=1)

    def state(self, dynamics: Dynamics, graph: Graph, seed: int = 0) -> Tensor:
        """A random state in float64."""
        return dynamics.state(graph, self.channels, generator=torch.Generator().manual_seed(seed))

    def test_shape_dtype_and_device(self) -> None:
        """The field has the state's shape, dtype and device, in float32 and float64, wherever there is a device."""
        devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        for dtype in (torch.float32, torch.float64):
            for device in devices:
                dynamics, graph = self.dynamics().to(device, dtype), _moved(self.graph(), device, dtype)
                x = self.state(dynamics, self.graph()).to(device, dtype)
                out = dynamics.field(x, graph, anchor=x)
                assert (out.shape, out.dtype, out.device) == (x.shape, x.dtype, x.device)
                assert bool(torch.isfinite(out).all())

    def test_equivariance(self) -> None:
        """Renaming the nodes renames the result."""
        dynamics, graph = self.dynamics(), self.graph()
        x = self.state(dynamics, graph)
        order = torch.randperm(graph.num_nodes, generator=torch.Generator().manual_seed(2))
        renamed = Graph(order.argsort()[graph.edge_index], graph.edge_weight, graph.num_nodes)
        permuted = dynamics.permute(x, order)
        torch.testing.assert_close(
            dynamics.field(permuted, renamed, anchor=permuted),
            dynamics.permute(dynamics.field(x, graph, anchor=x), order),
        )

    def test_gradient(self) -> None:
        """Autograd agrees with finite differences in the state, and reaches every parameter."""
        dynamics, graph = self.dynamics(), self.graph()
        x, anchor = self.state(dynamics, graph).requires_grad_(), self.state(dynamics, graph, 1)
        assert torch.autograd.gradcheck(lambda y: dynamics.field(y, graph, anchor=anchor), x, atol=1e-5)
        out = dynamics.field(x, graph, anchor=anchor)
        weights = torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(3))
        (out * weights).sum().backward()  # type: ignore[no-untyped-call]
        for name, parameter in dynamics.named_parameters():
            assert parameter.grad is not None, f"{name} got no gradient"
            assert bool(torch.isfinite(parameter.grad).all()), f"the gradient of {name} is not finite"

    def test_gradient_of_absent_edges(self) -> None:
        """A white-box attacker sees pairs that are not edges: their gradient is the effect of a little weight on them.

        A gradient of 0 where an edge would have an effect is gradient masking.
        """
        dynamics, graph = self.dynamics(), self.graph()
        if not dynamics.on_features:
            return  # the state holds the adjacency
        x = self.state(dynamics, graph)
        present = torch.eye(graph.num_nodes, dtype=torch.bool)
        present[graph.source, graph.target] = True
        pairs = torch.triu(~present).nonzero().T

        def goal(weight: Tensor) -> Tensor:
            edges = torch.cat([graph.edge_index, pairs, pairs.flip(0)], dim=1)
            wider = Graph(edges, torch.cat([graph.edge_weight, weight, weight]), graph.num_nodes)
            out = dynamics.field(x, wider, anchor=x)
            return (out * torch.linspace(1, 2, out.numel(), dtype=out.dtype).view_as(out)).sum()

        zero = torch.zeros(pairs.size(1), dtype=torch.float64, requires_grad=True)
        value = goal(zero)
        (gradient,) = torch.autograd.grad(value, zero)
        with torch.no_grad():
            little = 1e-6 * torch.eye(pairs.size(1), dtype=torch.float64)
            effect = torch.stack([goal(weight) - value for weight in little]) / 1e-6
        torch.testing.assert_close(gradient, effect, rtol=1e-3, atol=1e-4)

    def test_compile(self) -> None:
        """``torch.compile`` traces the field without a break, and the result agrees."""
        if not self.compiles:
            return
        dynamics, graph = self.dynamics().float(), _moved(self.graph(), "cpu", torch.float32)
        x = self.state(dynamics, self.graph()).float()
        torch._dynamo.reset()
        compiled = torch.compile(lambda y: dynamics.field(y, graph, anchor=y), backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(x), dynamics.field(x, graph, anchor=x))

    def test_state_dict_copy_and_pickle(self) -> None:
        """Saved, loaded, copied or pickled it is the same field."""
        dynamics, graph = self.dynamics(), self.graph()
        x = self.state(dynamics, graph)
        expected = dynamics.field(x, graph, anchor=x)
        file = io.BytesIO()
        torch.save(dynamics.state_dict(), file)
        file.seek(0)
        loaded = self.make(self.channels).double()
        loaded.load_state_dict(torch.load(file, weights_only=True))
        for twin in (loaded, copy.deepcopy(dynamics), pickle.loads(pickle.dumps(dynamics))):
            torch.testing.assert_close(twin.field(x, graph, anchor=x), expected, rtol=0, atol=0)

    def test_parts(self) -> None:
        """The field is the sum of its parts at every time, so that a splitting follows it."""
        dynamics, graph = self.dynamics(), self.graph()
        x = self.state(dynamics, graph)
        for t in (0.0, 0.7):
            whole = dynamics.field(x, graph, anchor=x, t=t)
            torch.testing.assert_close(sum(part.field(x, graph, anchor=x, t=t) for part in dynamics.parts()), whole)

    def test_no_edges(self) -> None:
        """A graph without edges, and one without nodes, are graphs."""
        dynamics = self.dynamics()
        for n in (3, 0):
            graph = Graph(torch.zeros(2, 0, dtype=torch.long), torch.zeros(0, dtype=torch.float64), n)
            x = self.state(dynamics, graph)
            assert dynamics.field(x, graph, anchor=x).shape == x.shape

    def test_claims(self) -> None:
        """Nobody breaks what it declares: rate, steps, anchor and structure, tried at their edge."""
        verdict = verify_one(type(self).__name__, lambda: self.make(2), tries=self.tries)
        assert verdict.certified, "nothing is certified: declare certified = True once it is proved"
        assert verdict.word == "holds", "; ".join(
            f"{claim.what} on {claim.graph}: claimed {claim.constant:.6g}, found {finding.value:.6g}"
            for claim, finding in verdict.broken
        )

    def test_a_step_beyond_the_edge_expands(self) -> None:
        """Where the largest step is sharp, a step of 1.2 times it expands on some graph."""
        if not self.sharp:
            return
        worst = 0.0
        for seed, graph in enumerate(battery().values()):
            dynamics = self.dynamics(seed)
            h = 1.2 * number(dynamics.max_step(graph))
            if not 0 < h < 1e6:
                continue

            def step(y: Tensor, *, h: float = h, dynamics: Dynamics = dynamics, graph: Graph = graph) -> Tensor:
                return y + h * dynamics.field(y, graph)

            found = worst_pair(
                step,
                self.state(dynamics, graph, seed),
                norm=dynamics.on(graph).norm,
                project=dynamics.project,
                one_sided=False,
                tries=400,
                seed=seed,
            )
            worst = max(worst, found.value / max(1.0 - h / 1.2 * number(dynamics.rate(graph)), 1e-9))
        assert worst > 1.0 + 1e-3, f"1.2 times the largest step reaches {worst:.4f} of the bound at most: not sharp"

    def test_layer(self) -> None:
        """As a layer it keeps shapes, and moves by no more than the constant of the layer."""
        dynamics, graph = self.dynamics(), self.graph()
        if not dynamics.on_features or not number(dynamics.max_step(graph)) > 0:
            return
        conv = FlowConv(dynamics, num_steps=3)
        x, y = self.state(dynamics, graph, 4), self.state(dynamics, graph, 5)
        with torch.no_grad():
            moved = conv(x, graph.edge_index, graph.edge_weight) - conv(y, graph.edge_index, graph.edge_weight)
        bound = conv.lipschitz(graph)
        assert float(dynamics.size(moved, graph)) <= bound * float(dynamics.size(x - y, graph)) * (1 + 1e-9)


def _moved(graph: Graph, device: str, dtype: torch.dtype) -> Graph:
    return Graph(graph.edge_index.to(device), graph.edge_weight.to(device, dtype), graph.num_nodes)
