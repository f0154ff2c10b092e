"""The product with a sparse matrix: the dense one's values and derivatives, on either way to it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from contractive_gnn.compiled import kernels, row_threads
from contractive_gnn.nn.sparse import Linear, dropout, normalize_rows, product, unit_rows


def matrices(dtype: torch.dtype = torch.float64, channels: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """x, mostly zeros, with an empty row and an empty column; h; what the product is weighted with."""
    generator = torch.Generator().manual_seed(0)
    x, h, g = (torch.randn(shape, generator=generator, dtype=dtype) for shape in ((7, 5), (5, channels), (7, channels)))
    x[torch.rand(7, 5, generator=generator) < 0.6] = 0
    x[3], x[:, 2] = 0, 0
    return x, h, g


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("threads", [1, 3])
def test_it_is_the_dense_product(dtype: torch.dtype, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(row_threads, "SHARE", 100)
    x, h, g = matrices(dtype, channels=50)
    h.requires_grad_()
    out = product(x.to_sparse_csr(), h)
    torch.testing.assert_close(out, x @ h)
    torch.testing.assert_close(torch.autograd.grad(out, h, g)[0], x.t() @ g)
    assert "_Product" in str(out.grad_fn)


def test_it_is_differentiable_twice_in_both() -> None:
    x, h, g = matrices()
    csr = x.to_sparse_csr()
    values = csr.values().clone().requires_grad_()
    h.requires_grad_()

    def of(values: Tensor, h: Tensor) -> Tensor:
        sparse = torch.sparse_csr_tensor(csr.crow_indices(), csr.col_indices(), values, csr.shape)
        return product(sparse, h).square()

    assert torch.autograd.gradcheck(of, (values, h))
    assert torch.autograd.gradgradcheck(of, (values, h))
    # one that is itself asked for its gradient, as an attacker on the features does
    leaf = csr.detach().clone().requires_grad_()
    (by_x,) = torch.autograd.grad(product(leaf, h), leaf, g)
    torch.testing.assert_close(by_x.to_dense(), (g @ h.t()).detach() * (x != 0))


def test_without_the_compiled_loop_it_is_the_same() -> None:
    x, h, g = matrices()
    h.requires_grad_()
    with kernels.disabled():
        plain = product(x.to_sparse_csr(), h)
    assert "_Product" not in str(plain.grad_fn)
    out = product(x.to_sparse_csr(), h)
    torch.testing.assert_close(out, plain)
    torch.testing.assert_close(torch.autograd.grad(out, h, g), torch.autograd.grad(plain, h, g))


def test_a_layer_takes_features_sparse_after_dropout() -> None:
    x, _, _ = matrices(torch.float32)
    layer = Linear(5, 4)
    dropped = dropout(x.to_sparse_csr(), 0.5, training=True)
    for features in (dropped, dropped.to_dense()):
        layer.zero_grad()
        layer(features).square().sum().backward()
        found = [p.grad.clone() for p in layer.parameters() if p.grad is not None]
        if features is dropped:
            first = found
    torch.testing.assert_close(first, found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dropout_keeps_its_share_and_scales_it(dtype: torch.dtype) -> None:
    x = torch.rand(700, 200, dtype=dtype).add_(1.0).requires_grad_()
    torch.manual_seed(0)
    out = dropout(x, 0.3, training=True)
    kept = out != 0
    assert abs(float(kept.double().mean()) - 0.7) < 0.01
    torch.testing.assert_close(out, kept * x / 0.7)
    torch.testing.assert_close(torch.autograd.grad(out.sum(), x)[0], kept / torch.tensor(0.7, dtype=dtype))
    torch.manual_seed(0)
    assert torch.equal(dropout(x, 0.3, training=True), out)
    assert dropout(x, 0.3, training=False) is x
    assert not dropout(x, 1.0, training=True).any()


def test_derivatives_that_torch_has_not_take_the_plain_product() -> None:
    x, h, _ = matrices()
    sparse = x.to_sparse_csr()
    jacobian = torch.autograd.functional.jacobian(lambda h: product(sparse, h), h)  # type: ignore[no-untyped-call]
    together = torch.autograd.functional.jacobian(lambda h: product(sparse, h), h, vectorize=True)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(together, jacobian)
    torch.testing.assert_close(torch.func.vmap(lambda h: product(sparse, h))(torch.stack([h, 2 * h]))[1], 2 * x @ h)
    leaf = sparse.detach().clone().requires_grad_()
    with kernels.disabled():
        (slope,) = torch.autograd.grad(product(leaf, h.requires_grad_()).square().sum(), h, create_graph=True)
        (by_x,) = torch.autograd.grad(slope.square().sum(), leaf)
    dense = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad((dense @ h).square().sum(), h, create_graph=True)
    expected = torch.autograd.grad(slope.square().sum(), dense)[0] * (x != 0)
    torch.testing.assert_close(by_x.to_dense(), expected)


def test_torch_func_beside_sparse_features_is_refused() -> None:
    x, h, _ = matrices()
    sparse = x.to_sparse_csr()
    for f in (
        lambda h: product(sparse, h).sum(),
        lambda h: (normalize_rows(sparse).values().sum() * h).sum(),
        lambda h: (dropout(sparse, 0.5, training=True).values().sum() * h).sum(),
    ):
        with pytest.raises(NotImplementedError, match=r"give x.to_dense\(\)"):
            torch.func.grad(f)(h)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_unit_rows_are_those_of_torch_with_a_second_derivative_at_zero(dtype: torch.dtype) -> None:
    x, _, g = matrices(dtype)
    x = x[:, :3].clone().requires_grad_()
    ours, theirs = unit_rows(x), torch.nn.functional.normalize(x, dim=1)
    assert torch.equal(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, x, g), torch.autograd.grad(theirs, x, g))
    (slope,) = torch.autograd.grad(unit_rows(x), x, g, create_graph=True)
    assert bool(torch.autograd.grad(slope.sum(), x)[0].isfinite().all())
