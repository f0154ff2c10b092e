"""The baselines' names: none of them is one of PyG's, and those that were still work for one release."""

from __future__ import annotations

import pytest
import torch_geometric.nn

from contractive_gnn import nn
from contractive_gnn.nn import baselines


@pytest.mark.parametrize("old", ["APPNP", "GAT", "GCN", "MLP"])
@pytest.mark.parametrize("module", [nn, baselines])
def test_an_old_name_warns_and_names_the_new_one(module: object, old: str) -> None:
    with pytest.warns(DeprecationWarning, match=rf"{old} is called contractive_gnn\.nn.*{old}Classifier now"):
        found = getattr(module, old)
    assert found is getattr(nn, f"{old}Classifier")
    assert found is nn.MODELS[old.lower()]  # the name on the command line stays
    assert not hasattr(torch_geometric.nn, found.__name__)
