"""The compiled edge sum against plain tensor operations: values, gradients, second derivatives."""

import pytest
import torch

from contractive_gnn import kernels
from contractive_gnn.activations import ACTIVATIONS, Activation, activation

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
    kind, parameter = kernels.code(sigma)  # type: ignore[misc]
    ours = kernels.edge_sum(z, a, edges, sigma, inside=inside)
    plain = kernels.plain_edge_sum(z, a, edges, kind, parameter, inside)
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


def test_nan_is_not_hidden_and_a_wrong_index_is_refused() -> None:
    z, a, edges = problem(torch.float32)
    spoilt = z.detach().clone()
    spoilt[int(edges[0, edges[0] != edges[1]][0])] = float("nan")
    assert bool(kernels.edge_sum(spoilt, a, edges, activation("huber"), inside=False).isnan().any())
    with pytest.raises(IndexError, match="node indices from 0 to 8"):
        kernels.edge_sum(z, a, torch.tensor([[10**9], [0]]), activation("huber"), inside=False)


def test_the_operator_is_well_registered() -> None:
    z, a, edges = problem(torch.float32)
    torch.library.opcheck(torch.ops.contractive_gnn.edge_sum, (z, a, edges, kernels.CLIP, 0.5, False))


def test_an_unknown_activation_has_no_kernel() -> None:
    class Mine(Activation):
        slopes = (0.0, 1.0)

    z, a, edges = problem(torch.float32)
    assert not kernels.available(z, a, Mine())
    with pytest.raises(ValueError, match="has no compiled kernel"):
        kernels.edge_sum(z, a, edges, Mine(), inside=False)
