"""The latest result: kept while the same is asked, unless it is large."""

import copy
import pickle

import pytest
import torch

from contractive_gnn.nn.similarity.latest import Latest


@pytest.mark.parametrize("sparse", [False, True])
def test_a_large_result_is_computed_anew(sparse: bool) -> None:
    x = torch.ones(4, 4)
    for kept, largest in ((True, 64), (False, 63)):
        for latest in (Latest(largest), copy.deepcopy(Latest(largest)), pickle.loads(pickle.dumps(Latest(largest)))):
            first, second = (latest(lambda: (2 * x).to_sparse_csr() if sparse else 2 * x, x) for _ in range(2))
            assert (first is second) == kept
            assert torch.equal(first.to_dense(), second.to_dense())


def test_by_default_every_result_is_kept() -> None:
    x, latest = torch.ones(4, 4), Latest()
    assert latest(lambda: 2 * x, x) is latest(lambda: 2 * x, x)
