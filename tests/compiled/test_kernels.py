"""The compiled flow against plain tensor operations: values, gradients, second derivatives."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch.autograd import forward_ad

from contractive_gnn.activations import ACTIVATIONS, Activation, activation
from contractive_gnn.compiled import kernels, row_threads
from contractive_gnn.compiled.edge_order import EdgeOrder
from contractive_gnn.dynamics import Diffusion
from contractive_gnn.graph import Graph
from contractive_gnn.nn import FlowConv

pytest.importorskip("numba", reason="the compiled kernel needs numba, which comes with the extra 'attacks'")

SIGMAS = [pytest.param(activation(name), id=name) for name in ACTIVATIONS if kernels.code(activation(name))]


def problem(dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """x, p, b, x⁰ and the edges."""
    generator = torch.Generator().manual_seed(0)
    edges = torch.randint(9, (2, 40), generator=generator)  # directed, with self-loops and repeated edges
    x, anchor = (torch.randn(9, 4, dtype=dtype, generator=generator, requires_grad=True) for _ in range(2))
    p, b = (torch.rand(40, dtype=dtype, generator=generator, requires_grad=True) for _ in range(2))
    return x, p, b, anchor, edges


class Case(NamedTuple):
    """Arguments of a flow beyond x and p."""

    inside: bool = False
    anchored: str = "none"
    num_steps: int = 1


CASES = [
    pytest.param(case, id="-".join(map(str, case)))
    for case in (
        Case(),
        Case(inside=True),
        Case(anchored="self"),
        Case(anchored="self", num_steps=2),
        Case(anchored="other", num_steps=4),
        Case(inside=True, anchored="self", num_steps=3),
        Case(inside=True, anchored="other"),
    )
]


def compiled_and_plain(
    sigma: Activation, edges: torch.Tensor, case: Case
) -> tuple[Callable[..., torch.Tensor], Callable[..., torch.Tensor]]:
    """Both as functions of x, p, b and x⁰; the last two are not read where the case has none."""
    rates = {"keep": 0.7, "pull": 0.3} if case.anchored != "none" else {"keep": 0.0, "pull": 0.0}

    def compiled(x: torch.Tensor, p: torch.Tensor, b: torch.Tensor, anchor: torch.Tensor) -> torch.Tensor:
        chosen = {"none": None, "self": x, "other": anchor}[case.anchored]
        scale = b if case.inside else None
        return kernels.flow(x, p, edges, sigma, scale=scale, anchor=chosen, num_steps=case.num_steps, **rates)

    def plain(x: torch.Tensor, p: torch.Tensor, b: torch.Tensor, anchor: torch.Tensor) -> torch.Tensor:
        start = anchor if case.anchored == "other" else x
        for _ in range(case.num_steps):
            force = kernels.plain_edge_sum(x, p, b if case.inside else None, edges, *kernels.code(sigma))  # type: ignore[misc]
            x = rates["keep"] * x + rates["pull"] * start - force
        return x

    return compiled, plain


@pytest.mark.parametrize("case", CASES)
def test_an_edge_of_weight_zero_is_as_good_as_none(case: Case) -> None:
    x, p, b, anchor, edges = problem(torch.float32)
    kept = torch.rand(40, generator=torch.Generator().manual_seed(1)) < 0.5
    results = []
    for chosen, weights in ((slice(None), p.detach() * kept), (kept, p.detach()[kept])):
        compiled, _ = compiled_and_plain(activation("group-mcp"), edges[:, chosen].contiguous(), case)
        out = compiled(x, weights, b.detach()[chosen], anchor)
        wanted = [x, anchor] if case.anchored == "other" else [x]
        results.append([out, *torch.autograd.grad(out.square().sum(), wanted)])
    for with_zeros, without in zip(*results, strict=True):
        torch.testing.assert_close(with_zeros, without, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_agree_with_the_plain_path(sigma: Activation, case: Case, dtype: torch.dtype) -> None:
    x, p, b, anchor, edges = problem(dtype)
    compiled, plain = compiled_and_plain(sigma, edges, case)
    assert kernels.available(sigma, x, p, b, anchor)
    ours, theirs = compiled(x, p, b, anchor), plain(x, p, b, anchor)
    torch.testing.assert_close(ours, theirs)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x, p, b, anchor), ours, rtol=0, atol=0)
    g = torch.randn(9, 4, dtype=dtype, generator=torch.Generator().manual_seed(1))
    wanted = [x, p, *([b] if case.inside else []), *([anchor] if case.anchored == "other" else [])]
    ours_grad, plain_grad = torch.autograd.grad(ours, wanted, g), torch.autograd.grad(theirs, wanted, g)
    torch.testing.assert_close(ours_grad, plain_grad, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("sigma", SIGMAS)
def test_second_derivatives(sigma: Activation, case: Case) -> None:
    x, p, b, anchor, edges = problem(torch.float64)
    edges = edges[:, edges[0] != edges[1]][:, :12]  # away from the kinks at d = 0
    p, b = (t.detach()[: edges.size(1)].requires_grad_() for t in (p, b))
    compiled, _ = compiled_and_plain(sigma, edges, case)
    arguments = (x, p, b if case.inside else b.detach(), anchor if case.anchored == "other" else anchor.detach())
    assert torch.autograd.gradcheck(compiled, arguments)
    assert torch.autograd.gradgradcheck(compiled, arguments)


@pytest.mark.parametrize("wanted", ["x", "p", "b", "anchor"])
def test_a_second_derivative_in_one_argument_alone(wanted: str) -> None:
    *tensors, edges = problem(torch.float64)
    named = {n: t.detach() for n, t in zip(("x", "p", "b", "anchor"), tensors, strict=True)}
    named[wanted].requires_grad_()
    compiled, _ = compiled_and_plain(activation("group-huber"), edges, Case(True, "other", 2))
    out = compiled(*named.values())
    (gradient,) = torch.autograd.grad(out.square().sum(), named[wanted], create_graph=True)
    gradient.square().sum().backward()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("sigma", SIGMAS)
def test_arguments_that_depend_on_each_other_are_counted_once(sigma: Activation, case: Case) -> None:
    x, p, *_, edges = problem(torch.float64)
    edges = edges[:, edges[0] != edges[1]][:, :12]
    compiled, plain = compiled_and_plain(sigma, edges, case)

    def of(way: Callable[..., torch.Tensor], x: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        weight = q[:12] * torch.sigmoid((x[edges[0]] * x[edges[1]]).sum(dim=1))
        return way(x, weight, weight, x.sin()).sin()  # one tensor outside and inside of σ

    found = [
        torch.autograd.grad(of(way, x, p).sum(), (x, p), create_graph=create)
        for way, create in ((plain, False), (compiled, False), (compiled, True))
    ]
    for gradient in found[1:]:
        torch.testing.assert_close(gradient, found[0], rtol=1e-9, atol=1e-11)
    third = []
    for way in (compiled, plain):
        (slope,) = torch.autograd.grad(of(way, x, p).sum(), x, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.square().sum(), x, create_graph=True)
        third.append(torch.autograd.grad(curvature.square().sum(), (x, p)))
    torch.testing.assert_close(third[0], third[1], rtol=1e-8, atol=1e-9)
    assert torch.autograd.gradgradcheck(lambda *t: of(compiled, *t), (x, p.detach()))


def test_many_gradients_at_once_take_the_plain_path() -> None:
    x, p, *_, edges = problem(torch.float64)
    compiled, _ = compiled_and_plain(activation("group-huber"), edges, Case())
    rows = torch.eye(36, dtype=torch.float64).view(36, 9, 4)
    out = compiled(x, p, p, x)
    together = torch.autograd.grad(out, (x, p), rows, is_grads_batched=True, retain_graph=True)
    for row, *gradient in zip(rows, *together, strict=True):
        torch.testing.assert_close(tuple(gradient), torch.autograd.grad(out, (x, p), row, retain_graph=True))


def test_it_is_refused_where_it_would_lose_a_tangent() -> None:
    x, p, *_, edges = problem(torch.float64)
    x, p, sigma = x.detach(), p.detach(), activation("huber")
    with pytest.raises(TypeError, match="knows reverse mode alone"):
        torch.func.grad(lambda x: kernels.flow(x, p, edges, sigma).sum())(x)
    with forward_ad.dual_level(), pytest.raises(TypeError, match="knows reverse mode alone"):
        kernels.flow(x, forward_ad.make_dual(p, p), edges, sigma)


def test_a_step_with_a_tangent_is_differentiated() -> None:
    x, p, *_, edges = problem(torch.float64)
    x, graph, field = x.detach(), Graph(edges, p.detach(), 9), Diffusion(mu=0.5)
    h = torch.tensor(0.3, dtype=torch.float64)

    def of(h: torch.Tensor) -> torch.Tensor:
        return field.euler(x, graph, step=h, num_steps=3, anchor=2 * x).sin().sum()

    expected = torch.func.grad(of)(h)
    step = h.clone().requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(of(step), step)[0], expected)
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(of(forward_ad.make_dual(h, torch.ones_like(h)))).tangent  # type: ignore[no-untyped-call]
    torch.testing.assert_close(tangent, expected)


def test_forward_mode_takes_the_plain_path() -> None:
    z, a, *_ = problem(torch.float64)
    sigma = activation("identity")
    seen: list[bool] = []

    def probe(z: torch.Tensor) -> torch.Tensor:
        seen.append(kernels.available(sigma, z, a))
        return z

    torch.func.jvp(probe, (z.detach(),), (torch.ones_like(z),))
    torch.func.vmap(probe)(z.detach())
    assert seen == [False, False]


def test_a_block_without_kernels() -> None:
    z, a, *_, edges = problem(torch.float32)
    sigma, layer = activation("huber"), FlowConv(Diffusion(), num_steps=1)
    compiled = layer(z, edges, a)
    with kernels.disabled():
        assert not kernels.available(sigma, z, a)
        plain = layer(z, edges, a)
        with kernels.disabled():
            pass
        assert not kernels.available(sigma, z, a)
    torch.testing.assert_close(plain, compiled)
    with pytest.raises(KeyError), kernels.disabled():
        raise KeyError
    assert kernels.available(sigma, z, a)


def test_nan_is_not_hidden_and_a_wrong_index_is_refused() -> None:
    z, a, *_, edges = problem(torch.float32)
    spoilt = z.detach().clone()
    spoilt[int(edges[0, edges[0] != edges[1]][0])] = float("nan")
    assert bool(kernels.flow(spoilt, a, edges, activation("huber")).isnan().any())
    with pytest.raises(IndexError, match="node indices from 0 to 8"):
        kernels.flow(z, a, torch.tensor([[10**9], [0]]), activation("huber"))


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("anchored", ["none", "self", "other"])
@pytest.mark.parametrize("inside", [True, False])
def test_states_that_were_not_kept_are_found_again(
    sigma: Activation, anchored: str, inside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    *tensors, edges = problem(torch.float32)
    for num_steps in (1, 2, 5):
        compiled, _ = compiled_and_plain(sigma, edges, Case(inside, anchored, num_steps))
        all_kept = torch.autograd.grad(compiled(*tensors).square().sum(), tensors, allow_unused=True)
        for every in range(2, num_steps + 1):
            monkeypatch.setattr(kernels, "kept_every", lambda *_, every=every: every)
            some_kept = torch.autograd.grad(compiled(*tensors).square().sum(), tensors, allow_unused=True)
            monkeypatch.undo()
            for ours, theirs in zip(some_kept, all_kept, strict=True):
                assert (ours is None and theirs is None) or torch.equal(ours, theirs)


@pytest.mark.parametrize("num_steps", range(1, 40))
def test_the_states_in_memory_are_the_fewest_where_they_are_large(num_steps: int) -> None:
    def in_memory(every: int) -> int:
        return len(range(every, num_steps, every)) + every - 1  # kept, and found again at a time

    large = kernels.kept_every(num_steps, 1 << 40)
    assert in_memory(large) == min(map(in_memory, range(1, num_steps + 1))) < 2 * num_steps**0.5
    assert kernels.kept_every(num_steps, 1) == 1


@pytest.mark.parametrize("case", CASES)
def test_the_operator_is_well_registered(case: Case) -> None:
    x, p, b, anchor, edges = problem(torch.float32)
    order = list(EdgeOrder.of(edges, 9).arrays)
    other = anchor if case.anchored == "other" else None
    pull = 0.0 if case.anchored == "none" else 0.1
    arguments = (
        x,
        p,
        b if case.inside else None,
        other,
        order,
        kernels.CLIP,
        0.5,
        0.0,
        0.9,
        pull,
        case.num_steps,
    )
    for every in {1, case.num_steps}:
        torch.library.opcheck(torch.ops.contractive_gnn.flow, (*arguments, every))


@pytest.mark.parametrize("sigma", [activation("huber"), activation("group-huber")], ids=str)
def test_threads_share_the_rows(sigma: Activation, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    edges = torch.randint(50, (2, 400), generator=generator)
    edges[1, :200] = 7  # one row is most of the work
    z = torch.randn(50, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    a = torch.rand(400, dtype=torch.float64, generator=generator, requires_grad=True)
    alone = kernels.flow(z, a, edges, sigma, scale=a, anchor=z, keep=0.9, pull=0.1, num_steps=3)
    alone_grad = torch.autograd.grad(alone.square().sum(), (z, a))
    monkeypatch.setattr(row_threads, "SHARE", 100)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    shared = kernels.flow(z, a, edges, sigma, scale=a, anchor=z, keep=0.9, pull=0.1, num_steps=3)
    assert torch.equal(shared, alone)
    for ours, theirs in zip(torch.autograd.grad(shared.square().sum(), (z, a)), alone_grad, strict=True):
        assert torch.equal(ours, theirs)


def test_a_graph_without_edges() -> None:
    z = torch.ones(3, 2, requires_grad=True)
    out = kernels.flow(z, torch.ones(0), torch.empty(2, 0, dtype=torch.long), activation("huber"))
    out.sum().backward()  # type: ignore[no-untyped-call]
    assert torch.equal(out, torch.zeros(3, 2))
    assert z.grad is not None
    assert torch.equal(z.grad, torch.zeros(3, 2))


def test_the_weights_gradient_is_left_out_where_nobody_asks() -> None:
    z, a, *_, edges = problem(torch.float64)
    both = torch.autograd.grad(kernels.flow(z, a, edges, activation("huber")).square().sum(), (z, a))
    (alone,) = torch.autograd.grad(kernels.flow(z, a.detach(), edges, activation("huber")).square().sum(), z)
    assert torch.equal(alone, both[0])


def test_an_unknown_activation_has_no_kernel() -> None:
    class Mine(Activation):
        slopes = (0.0, 1.0)

    z, a, *_, edges = problem(torch.float32)
    assert not kernels.available(Mine(), z, a)
    with pytest.raises(ValueError, match="has no compiled kernel"):
        kernels.flow(z, a, edges, Mine())
