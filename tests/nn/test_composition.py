"""Contractive and expansive steps in turn: the total stays within its bound, and uses it."""

import pytest
import torch

from contractive_gnn.dynamics import (
    Diffusion,
    GradientAscent,
    GradientFlow,
    GraphGradientFlow,
    ImplicitFlow,
    VectorField,
)
from contractive_gnn.dynamics.spectrum import Spectrum
from contractive_gnn.graph import Graph
from contractive_gnn.nn import Alternating, AlternatingConv
from contractive_gnn.nn.composition import longest_step
from contractive_gnn.nn.parametrizations import almost_orthogonal
from contractive_gnn.norms import lipschitz_adversarial
from contractive_gnn.operators import Dense
from contractive_gnn.testing.graphs import battery, complete_bipartite


def layer(bound: float = 1.0, mu: float = 0.5, sigma: str = "identity") -> AlternatingConv:
    torch.manual_seed(0)
    contracting = GraphGradientFlow(2, activation=sigma, mu=mu, learn_weight=False, normalization="sym", epsilon=1e-9)
    expanding = GradientAscent(2, activation=sigma, learn_weight=True, normalization="sym", epsilon=1e-9)
    return AlternatingConv(contracting, expanding, num_pairs=3, bound=bound).double()


def largest(conv: AlternatingConv, graph: Graph) -> float:
    start = torch.zeros(graph.num_nodes, 2, dtype=torch.float64)

    def f(x: torch.Tensor) -> torch.Tensor:
        return conv(x, graph.edge_index, graph.edge_weight)

    return lipschitz_adversarial(f, start, norm="l2").value


@pytest.mark.parametrize("bound", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("graph", battery().values(), ids=battery().keys())
def test_the_total_is_within_its_bound(graph: Graph, bound: float) -> None:
    conv = layer(bound)
    assert conv.certified
    assert conv.lipschitz(graph) <= bound * (1 + 1e-12)
    assert largest(conv, graph) <= bound * (1 + 1e-9)


def test_the_expansion_spends_what_the_contraction_saves() -> None:
    graph = complete_bipartite(3, 3)
    conv = layer()
    assert conv.lipschitz(graph) == pytest.approx(1.0, abs=1e-5)
    h_c, h_e = (float(h.detach()) for h in conv.steps(graph))
    assert h_e > 0
    # In the closed form of the ascent, 1 + hν = 1/q.
    q = 1 - h_c * 0.5
    assert h_e == pytest.approx((1 / q - 1) / float(conv.expanding.smoothness(graph).detach()), rel=1e-5)


def test_a_longer_expansion_breaks_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """W with one singular value above the others: the ascent's bound is attained, so 1.5 times its step is too far."""
    graph = complete_bipartite(3, 3)
    conv = layer(mu=0.1)
    steps = conv.steps(graph)
    monkeypatch.setattr(conv, "steps", lambda graph: (0.05 * steps[0], 1.5 * steps[1]))
    assert largest(conv, graph) > 1.0


def test_the_expansive_step_has_a_gradient() -> None:
    conv, graph = layer(), complete_bipartite(2, 2)
    _, h_e = conv.steps(graph)
    (gradient,) = torch.autograd.grad(h_e, conv.expanding.weight)
    little = 1e-4
    with torch.no_grad():
        conv.expanding.weight += little * gradient / gradient.norm()
    assert float(conv.steps(graph)[1] - h_e) / little == pytest.approx(float(gradient.norm()), rel=1e-2)


def test_a_step_that_contracts_to_a_point_is_no_reason_to_expand_without_end() -> None:
    flow = ImplicitFlow(2, gamma=0.0, activation="identity")
    torch.nn.init.zeros_(flow.own_weight)
    torch.nn.init.zeros_(flow.neighbour_weight)
    graph = complete_bipartite(2, 2)
    ascent = GradientAscent(2, activation="huber", normalization="degree", learn_weight=False)
    conv = AlternatingConv(flow, ascent).double()
    out = conv(torch.ones(4, 2, dtype=torch.float64), graph.edge_index)
    assert bool(torch.isfinite(out).all())
    assert conv.lipschitz(graph) <= 1 + 1e-12


def test_errors_say_what_was_expected() -> None:
    with pytest.raises(ValueError, match="one norm that no weights change, got linf and l2"):
        AlternatingConv(Diffusion(), GradientAscent(2))
    conv = AlternatingConv(GraphGradientFlow(2, mu=0.0), GradientAscent(2))
    graph = complete_bipartite(1, 1)
    with pytest.raises(ValueError, match="does not contract on this graph"):
        conv(torch.zeros(2, 2), graph.edge_index)
    with pytest.raises(ValueError, match="above the bound 0"):
        layer(0.01).lipschitz(graph)
    with pytest.raises(ValueError, match="num_pairs must be at least 1"):
        AlternatingConv(GraphGradientFlow(2), GradientAscent(2), num_pairs=0)
    with pytest.raises(ValueError, match="bound must be positive, got"):
        AlternatingConv(GraphGradientFlow(2), GradientAscent(2), bound=0.0)


def test_on_one_graph_it_is_the_layer_of_any_domain() -> None:
    graph, conv = complete_bipartite(3, 3), layer()
    field = Alternating(conv.contracting.on(graph), conv.expanding.on(graph), num_pairs=3)
    x = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(field(x), conv(x, graph.edge_index, graph.edge_weight))
    assert field.lipschitz() == pytest.approx(conv.lipschitz(graph))
    assert field.certified


class Scale(VectorField):
    """``a x``, of any shape: its Euler step is ``(1 + ha)``-Lipschitz for ``ha ≥ −1``."""

    def __init__(self, a: float) -> None:
        super().__init__()
        self.a = a

    def forward(self, x: torch.Tensor, t: torch.Tensor | float = 0.0) -> torch.Tensor:
        return self.a * x

    def rate(self) -> float:
        return -self.a

    def max_step(self) -> float:
        return -0.5 / self.a if self.a < 0 else 0.0

    def lipschitz(self, step: torch.Tensor | float) -> float:
        return abs(1 + float(step) * self.a)


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4, 4)])
def test_in_any_domain_the_expansion_spends_what_the_contraction_saves(shape: tuple[int, ...]) -> None:
    """Linear scalar fields: the whole is the multiplication by its bound."""
    both = Alternating(Scale(-1.0), Scale(2.0), num_pairs=3, bound=0.7)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(both(x), 0.7 * x)
    assert both(x).dtype == torch.float32
    assert both.lipschitz() == pytest.approx(0.7)
    with pytest.raises(ValueError, match=r"does not contract \(rate -0.5\)"):
        Alternating(Scale(0.5), Scale(2.0))(x)
    with pytest.raises(ValueError, match=r"above the bound 0\.01"):
        Alternating(Scale(-1.0), Scale(2.0), bound=0.01, num_pairs=2).lipschitz()


def test_fields_of_any_domain_share_one_norm() -> None:
    graph = complete_bipartite(2, 2)
    with pytest.raises(ValueError, match="declared in one norm, got linf and l2"):
        Alternating(Diffusion().on(graph), GradientAscent(2).on(graph))
    degree = GraphGradientFlow(2, normalization="degree", mu=0.5).on(graph)
    with pytest.raises(ValueError, match="one where their weights are equal"):
        Alternating(degree, GradientAscent(2, normalization="degree", epsilon=2.0).on(graph))
    assert Alternating(degree, GradientAscent(2, normalization="degree").on(graph)).lipschitz() <= 1 + 1e-6
    with pytest.raises(TypeError, match="Alternating takes a VectorField, got GradientAscent"):
        Alternating(GraphGradientFlow(2).on(graph), GradientAscent(2))  # type: ignore[arg-type]


def flows(mu: float = 0.2, **options: object) -> Alternating:
    """Two almost orthogonal matrices in turn."""
    torch.manual_seed(0)
    contracting, expanding = (almost_orthogonal(Dense(torch.nn.Parameter(torch.randn(3, 3)))) for _ in range(2))
    return Alternating(
        GradientFlow(contracting, "leaky-relu", mu=mu),
        GradientFlow(expanding, "leaky-relu", expansive=True),
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("share", [1.0, 1.3, 4.0])
@pytest.mark.parametrize(("least", "most"), [(-2.0, -0.5), (-2.0, 1.0), (-0.1, 5.0), (0.0, 3.0), (1.0, 2.0)])
def test_the_longest_step_of_a_spectrum_reaches_the_share_and_no_more(least: float, most: float, share: float) -> None:
    spectrum = Spectrum(torch.tensor(least).double(), torch.tensor(most).double())
    h = spectrum.longest_step(torch.tensor(share, dtype=torch.float64))
    assert float(spectrum.lipschitz(h)) == pytest.approx(share) or (share == 1.0 and float(h) == 0.0)
    assert float(spectrum.lipschitz(h * 1.01 + 1e-3)) > share


def test_the_closed_form_is_what_the_search_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    field, share = flows().expanding, torch.tensor(1.25, dtype=torch.float64)
    known = float(longest_step(field, share))
    monkeypatch.setattr(VectorField, "longest_step", lambda self, share: None)
    monkeypatch.delattr(GradientFlow, "longest_step")
    assert float(longest_step(field, share)) == pytest.approx(known, rel=1e-5)


def test_a_prescribed_step_is_taken_up_to_what_the_bound_allows() -> None:
    longest = float(flows().steps()[1])
    short, cut = flows(expanding_step=0.5 * longest), flows(expanding_step=2 * longest)
    assert float(short.steps()[1]) == pytest.approx(0.5 * longest)
    assert float(cut.steps()[1]) == pytest.approx(longest)
    assert short.lipschitz() < cut.lipschitz() <= 1 + 1e-5  # in single precision
    with pytest.raises(ValueError, match="expanding_step must be positive"):
        flows(expanding_step=0.0)


def test_a_learned_step_has_a_gradient_and_stays_within_the_bound() -> None:
    layer = flows(learn_step=True)
    x = torch.randn(5, 3)
    updates = torch.optim.Adam(layer.parameters(), lr=0.3)
    first = float(layer.steps()[1])
    for _ in range(30):
        updates.zero_grad()
        (-layer(x).norm()).backward()
        updates.step()
        assert layer.lipschitz() <= 1 + 1e-5
    assert float(layer.steps()[1]) > first  # it was pushed to expand
    start = torch.zeros(3, dtype=torch.float64)
    assert lipschitz_adversarial(layer.double(), start, norm="l2").value <= 1 + 1e-5
    layer.reset_parameters()
    assert float(layer.share_logit) == 2.0  # type: ignore[arg-type]


def test_held_steps_stay_and_their_constant_is_honest() -> None:
    layer = flows()
    x, steps = torch.randn(5, 3), [float(h) for h in layer.steps()]
    before = layer(x)
    layer.hold()
    torch.testing.assert_close(layer(x), before)
    layer.expanding.operator.parametrizations.weight[0].bound = 2.0  # type: ignore[union-attr,operator]
    assert [float(h) for h in layer.steps()] == steps
    assert layer.lipschitz() > 1.1  # the weights have changed, the steps have not
