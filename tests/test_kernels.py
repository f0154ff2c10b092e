"""The compiled edge sum against plain tensor operations: values, gradients, second derivatives."""

import pytest
import torch

from contractive_gnn import kernels
from contractive_gnn.activations import ACTIVATIONS, Activation, activation
from contractive_gnn.dynamics import Diffusion
from contractive_gnn.edge_order import EdgeOrder
from contractive_gnn.nn import FlowConv

pytest.importorskip("numba", reason="the compiled kernel needs numba, which comes with the extra 'attacks'")

SIGMAS = [pytest.param(activation(name), id=name) for name in ACTIVATIONS if kernels.code(activation(name))]


def problem(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    edges = torch.randint(9, (2, 40), generator=generator)  # directed, with self-loops and repeated edges
    z = torch.randn(9, 4, dtype=dtype, generator=generator, requires_grad=True)
    a = torch.rand(40, dtype=dtype, generator=generator, requires_grad=True)
    return z, a, edges


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_agree_with_the_plain_path(sigma: Activation, inside: bool, dtype: torch.dtype) -> None:
    z, a, edges = problem(dtype)
    assert kernels.available(z, a, sigma)
    ours = kernels.edge_sum(z, a, edges, sigma, inside=inside)
    plain = kernels.plain_edge_sum(z, a, edges, *kernels.code(sigma), inside)  # type: ignore[misc]
    torch.testing.assert_close(ours, plain)
    g = torch.randn(9, 4, dtype=dtype, generator=torch.Generator().manual_seed(1))
    ours_grad = torch.autograd.grad(ours, (z, a), g)
    plain_grad = torch.autograd.grad(plain, (z, a), g)
    torch.testing.assert_close(ours_grad, plain_grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("sigma", SIGMAS)
def test_second_derivatives(sigma: Activation, inside: bool) -> None:
    z, a, edges = problem(torch.float64)
    edges = edges[:, edges[0] != edges[1]][:, :12]  # away from the kinks at d = 0
    a = a.detach()[: edges.size(1)].requires_grad_()

    def apply(z: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        return kernels.edge_sum(z, a, edges, sigma, inside=inside)

    assert torch.autograd.gradcheck(apply, (z, a))
    assert torch.autograd.gradgradcheck(apply, (z, a))


@pytest.mark.parametrize("wanted", ["z", "a"])
def test_a_second_derivative_in_one_argument_alone(wanted: str) -> None:
    z, a, edges = problem(torch.float64)
    z, a = (z, a.detach()) if wanted == "z" else (z.detach(), a)
    out = kernels.edge_sum(z, a, edges, activation("group-huber"), inside=True)
    (gradient,) = torch.autograd.grad(out.square().sum(), z if wanted == "z" else a, create_graph=True)
    gradient.square().sum().backward()


def test_forward_mode_takes_the_plain_path() -> None:
    z, a, _ = problem(torch.float64)
    sigma = activation("identity")
    seen: list[bool] = []

    def probe(z: torch.Tensor) -> torch.Tensor:
        seen.append(kernels.available(z, a, sigma))
        return z

    torch.func.jvp(probe, (z.detach(),), (torch.ones_like(z),))
    torch.func.vmap(probe)(z.detach())
    assert seen == [False, False]


def test_a_block_without_kernels() -> None:
    z, a, edges = problem(torch.float32)
    sigma, layer = activation("huber"), FlowConv(Diffusion(), num_steps=1)
    compiled = layer(z, edges, a)
    with kernels.disabled():
        assert not kernels.available(z, a, sigma)
        plain = layer(z, edges, a)
        with kernels.disabled():
            pass
        assert not kernels.available(z, a, sigma)
    torch.testing.assert_close(plain, compiled)
    with pytest.raises(KeyError), kernels.disabled():
        raise KeyError
    assert kernels.available(z, a, sigma)


def test_nan_is_not_hidden_and_a_wrong_index_is_refused() -> None:
    z, a, edges = problem(torch.float32)
    spoilt = z.detach().clone()
    spoilt[int(edges[0, edges[0] != edges[1]][0])] = float("nan")
    assert bool(kernels.edge_sum(spoilt, a, edges, activation("huber"), inside=False).isnan().any())
    with pytest.raises(IndexError, match="node indices from 0 to 8"):
        kernels.edge_sum(z, a, torch.tensor([[10**9], [0]]), activation("huber"), inside=False)


def test_the_operator_is_well_registered() -> None:
    z, a, edges = problem(torch.float32)
    order = EdgeOrder.of(edges, 9)
    lists = [*order.incoming, *order.outgoing]
    torch.library.opcheck(torch.ops.contractive_gnn.edge_sum, (z, a, lists, kernels.CLIP, 0.5, 0.0, False))


@pytest.mark.parametrize("sigma", [activation("huber"), activation("group-huber")], ids=str)
def test_threads_share_the_rows(sigma: Activation, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    edges = torch.randint(50, (2, 400), generator=generator)
    edges[1, :200] = 7  # one row is most of the work
    z = torch.randn(50, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    a = torch.rand(400, dtype=torch.float64, generator=generator, requires_grad=True)
    alone = kernels.edge_sum(z, a, edges, sigma, inside=True)
    alone_grad = torch.autograd.grad(alone.square().sum(), (z, a))
    monkeypatch.setattr(kernels, "_SHARE", 100)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    shared = kernels.edge_sum(z, a, edges, sigma, inside=True)
    assert torch.equal(shared, alone)
    for ours, theirs in zip(torch.autograd.grad(shared.square().sum(), (z, a)), alone_grad, strict=True):
        assert torch.equal(ours, theirs)


def test_a_graph_without_edges() -> None:
    z = torch.ones(3, 2, requires_grad=True)
    out = kernels.edge_sum(z, torch.ones(0), torch.empty(2, 0, dtype=torch.long), activation("huber"), inside=False)
    out.sum().backward()  # type: ignore[no-untyped-call]
    assert torch.equal(out, torch.zeros(3, 2))
    assert z.grad is not None
    assert torch.equal(z.grad, torch.zeros(3, 2))


def test_the_weights_gradient_is_left_out_where_nobody_asks() -> None:
    z, a, edges = problem(torch.float64)
    both = torch.autograd.grad(kernels.edge_sum(z, a, edges, activation("huber"), inside=False).square().sum(), (z, a))
    (alone,) = torch.autograd.grad(
        kernels.edge_sum(z, a.detach(), edges, activation("huber"), inside=False).square().sum(), z
    )
    assert torch.equal(alone, both[0])


def test_an_unknown_activation_has_no_kernel() -> None:
    class Mine(Activation):
        slopes = (0.0, 1.0)

    z, a, edges = problem(torch.float32)
    assert not kernels.available(z, a, Mine())
    with pytest.raises(ValueError, match="has no compiled kernel"):
        kernels.edge_sum(z, a, edges, Mine(), inside=False)
