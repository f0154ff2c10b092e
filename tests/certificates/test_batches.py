"""A certificate of a batch says of what graph it is one."""

from __future__ import annotations

import pytest
import torch

from contractive_gnn import datasets, nn
from contractive_gnn.certificates import FlipBudget, certify, certify_batch
from contractive_gnn.inputs import InputError
from contractive_gnn.training import fit, induced


def test_it_is_that_of_the_sampled_graph_and_says_so() -> None:
    data = datasets.contextual_sbm(200, classes=2, seed=0)
    model = nn.build("linf-diffusion", data.num_features, 2)
    fit(model, data, epochs=20)
    nodes = torch.arange(0, 200, 2)
    batch = induced(data, nodes)
    budget = FlipBudget.uniform(1, 100)
    found, plain = certify_batch(model, batch, flips=budget), certify(model, batch.x, batch.edge_index, flips=budget)
    assert torch.equal(found.margin, plain.margin)
    assert 0 < int(found.certified.sum()) < 100
    assert torch.equal(found.n_id, nodes)
    assert repr(found).endswith("for the sampled graph of 100 of 200 nodes, not for the whole)")
    whole = certify(model, data.x, data.edge_index, flips=FlipBudget.uniform(1, 200))
    assert not torch.equal(found.certified, whole.certified[nodes])  # another graph, another answer


def test_what_is_no_batch_is_refused() -> None:
    data = datasets.contextual_sbm(60, classes=2, seed=0)
    model = nn.build("linf-diffusion", data.num_features, 2)
    with pytest.raises(InputError, match="no n_id and whole_nodes"):
        certify_batch(model, data)
    with pytest.raises(TypeError, match="got a Tensor"):
        certify_batch(model, data.x)  # type: ignore[arg-type]
    data.edge_weight = torch.ones(data.num_edges)
    with pytest.raises(InputError, match="edge weights"):
        certify_batch(model, induced(data, torch.arange(30)))


def test_large_numbers_are_read_at_a_glance() -> None:
    data = datasets.contextual_sbm(2000, classes=2, seed=0)
    found = certify_batch(nn.build("linf-diffusion", data.num_features, 2), induced(data, torch.arange(1000)))
    assert repr(found).endswith("for the sampled graph of 1,000 of 2,000 nodes, not for the whole)")
