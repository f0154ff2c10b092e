"""Every certificate agrees with the model on the clean graph, or certifies nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from contractive_gnn.certificates import Box, Certificate, FeatureBudget, FlipBudget, certificate, certify
from contractive_gnn.certificates.consistency import holds_clean, margins_hold_clean
from contractive_gnn.certificates.pagerank import certify_pagerank
from contractive_gnn.certificates.parts import Parts
from contractive_gnn.certificates.rounding import Unproved
from contractive_gnn.inputs import InputError
from contractive_gnn.nn import linf_diffusion

N, D = 6, 5
EDGES = torch.tensor([[0, 1, 1, 2, 3, 4], [1, 0, 2, 1, 4, 3]])


def model(**settings: Any) -> Any:
    torch.manual_seed(0)
    return linf_diffusion(D, 3, hidden_channels=8, num_layers=3, **settings).eval()


def features() -> Tensor:
    return torch.rand(N, D, generator=torch.Generator().manual_seed(0))


def test_a_box_must_hold_the_clean_scores() -> None:
    clean = torch.zeros(2, 2)
    holds_clean(Box(clean - 1, clean + 1), clean, "this")
    for box, why in (
        (Box(clean + 0.1, clean + 1), "outside of the bound of this at 2 nodes"),
        (Box(clean + 1, clean - 1), "not ordered"),
        (Box(clean - 1, clean / 0), "not finite"),
    ):
        with pytest.raises(Unproved, match=why):
            holds_clean(box, clean, "this")
    with pytest.raises(Unproved, match="scores on the clean graph are not all finite"):
        holds_clean(Box(clean - 1, clean + 1), clean * torch.inf, "this")


def test_a_margin_must_not_exceed_the_clean_one() -> None:
    clean = torch.tensor([[2.0, 1.0, 0.0]])
    margins_hold_clean(torch.tensor([1.0]), clean)
    for wrong in (1.1, float("nan")):
        with pytest.raises(Unproved, match="margin exceeds the model's own"):
            margins_hold_clean(torch.tensor([wrong]), clean)


@pytest.mark.parametrize("space", ["class", "hidden"])
@pytest.mark.parametrize(
    "budget", [FlipBudget.uniform(0, N), FlipBudget.uniform(2, N), FlipBudget.uniform(2, N, total=1)]
)
def test_bounds_of_other_weights_are_noticed(space: str, budget: FlipBudget, monkeypatch: pytest.MonkeyPatch) -> None:
    correct = Parts.in_double

    def other(parts: Parts) -> Parts:
        found = correct(parts)
        with torch.no_grad():
            found.encoder[0].weight.mul_(1.01)
        return found

    assert certify(model(space=space), features(), EDGES, flips=budget).reason == ""
    monkeypatch.setattr(Parts, "in_double", other)
    found = certify(model(space=space), features(), EDGES, flips=budget)
    assert "the model computes something else than what is bounded" in found.reason
    assert not bool(found.certified.any())
    linear = certify_pagerank(model(activation="identity"), features(), EDGES, flips=budget)
    assert "something else" in linear.reason


def test_a_bound_of_the_total_that_is_too_good_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    correct = certificate.total_harm
    monkeypatch.setattr(certificate, "total_harm", lambda *given, **more: correct(*given, **more) - 1)
    found = certify(model(), features(), EDGES, flips=FlipBudget.uniform(1, N, total=1))
    assert "a certified margin exceeds the model's own" in found.reason


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_nothing_is_certified_where_numbers_may_overflow(dtype: torch.dtype) -> None:
    large = model(activation="identity").to(dtype)
    with torch.no_grad():
        large.decoder.weight.copy_(large.decoder.weight.sign() * 0.3 * torch.finfo(dtype).max)
    found = certify(large, features().to(dtype), EDGES, flips=FlipBudget.uniform(1, N))
    assert "may overflow" in found.reason
    assert not bool(found.certified.any())


@pytest.mark.parametrize("sigma", ["tanh", "softsign", "soft-threshold"])
def test_a_threshold_that_the_precision_does_not_have_is_refused(sigma: str) -> None:
    for threshold in (1e-45, 1e38):
        found = certify(model(activation=sigma, threshold=threshold), features(), EDGES)
        assert "threshold" in found.reason


def test_underflow_is_part_of_the_slack() -> None:
    tiny = model()
    with torch.no_grad():
        for layer in (tiny.encoder, tiny.decoder):
            layer.weight.mul_(1e-22)  # products of two of them are below the smallest normal number
            layer.bias.zero_()
    found = certify(tiny, features(), EDGES, flips=FlipBudget.uniform(1, N))
    assert not found.reason
    assert not bool(found.certified.any())


def test_a_precision_in_which_the_errors_have_no_bound_is_refused() -> None:
    torch.manual_seed(0)
    wide = linf_diffusion(200, 3, hidden_channels=8).to(torch.bfloat16).eval()
    found = certify(wide, torch.ones(N, 200, dtype=torch.bfloat16), EDGES)
    assert "rounding errors in a row cannot be bounded in torch.bfloat16" in found.reason


@pytest.mark.parametrize("certified", [torch.tensor([True, False]), torch.tensor([True, True])])
def test_a_certificate_that_contradicts_itself_cannot_be_made(certified: Tensor) -> None:
    fine = Certificate(torch.zeros(2).long(), torch.tensor([1.0, -1.0]), torch.tensor([True, False]), "", 0.0)
    for wrong in ({"margin": torch.tensor([float("nan"), 1.0])}, {"reason": "none"}, {"margin": torch.zeros(2)}):
        with pytest.raises(ValueError, match="only with a positive margin"):
            replace(fine, certified=certified, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one entry for every node"):
        replace(fine, certified=certified[:1])


def test_the_accuracy_reads_labels_and_masks_in_every_form() -> None:
    found = certify(model(), features(), EDGES)
    y, mask = found.prediction.clone(), torch.tensor([True, True, False, False, False, True])
    y[0] = (y[0] + 1) % 3
    expected = found.accuracy(y, mask)
    assert expected == pytest.approx(100 * 2 / 3)
    for labels in (y[:, None], y.int(), y.float()):
        for nodes in (mask, mask.nonzero().flatten(), mask.int(), mask[:, None]):
            assert found.accuracy(labels, nodes) == expected
    with pytest.raises(InputError, match="at least one node"):
        found.accuracy(y, torch.zeros(N, dtype=torch.bool))
    with pytest.raises(InputError, match="without a label"):
        found.accuracy(y.fill_(-1), mask)


def test_the_mode_of_every_part_is_put_back() -> None:
    mixed = model().train()
    mixed.conv.eval()
    certify(mixed, features(), EDGES)
    assert [part.training for part in (mixed, mixed.encoder, mixed.conv, mixed.decoder)] == [True, True, False, True]
    with pytest.raises(ValueError, match="features of 0 and 1"):
        certify(mixed, features(), EDGES, features=FeatureBudget(flips=1))
    assert mixed.training


@pytest.mark.parametrize(
    ("x", "edges", "why"),
    [
        (features(), EDGES[:, 1:], "directed"),
        (features(), torch.cat([EDGES, EDGES[:, :1]], dim=1), "twice"),
        (features(), torch.cat([EDGES, torch.zeros(2, 1).long()], dim=1), "self-loop"),
        (features(), EDGES.int(), "int32"),
        (features(), torch.sparse_coo_tensor(EDGES, torch.full((6,), 0.1), (N, N)), "weights other than 1"),
        (features().log().sub(torch.inf).mul(0), EDGES, "not finite"),
        (features().double(), EDGES, "convert one of them"),
    ],
    ids=["directed", "twice", "loop", "int32", "weights", "NaN", "double"],
)
def test_what_the_bound_does_not_cover_is_refused(x: Tensor, edges: Tensor, why: str) -> None:
    with pytest.raises(InputError, match=why):
        certify(model(), x, edges, flips=FlipBudget.uniform(1, N))


def test_a_sparse_matrix_of_ones_is_the_same_graph_and_a_budget_knows_its_nodes() -> None:
    matrix = torch.sparse_coo_tensor(EDGES, torch.ones(6), (N, N)).coalesce()
    expected = certify(model(), features(), EDGES, flips=FlipBudget.uniform(1, N)).margin
    for form in (matrix, matrix.to_sparse_csr()):
        assert torch.equal(certify(model(), features(), form, flips=FlipBudget.uniform(1, N)).margin, expected)
    for n in (N - 1, N + 1):
        with pytest.raises(ValueError, match=f"budget is for {n} nodes, x has {N}"):
            certify(model(), features(), EDGES, flips=FlipBudget.uniform(1, n))
    assert "no nodes" in certify(model(), features()[:0], EDGES[:, :0]).reason
