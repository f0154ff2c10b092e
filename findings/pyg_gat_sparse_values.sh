#!/usr/bin/env bash
# PyG 2.8.1: GATConv with edge_dim=1 leaves out the values of a torch.sparse adjacency.
#
# Expected: a layer that is built for one number an edge (edge_dim=1) gives the same for a weighted torch.sparse adjacency
# as for edge_index with these weights as edge_attr; GraphConv does, and edge_update of GATConv even has a line that turns
# one-dimensional edge_attr into a column.
# Happens: the values of the COO or CSR adjacency are not looked at. Any values give what no edge_attr gives, with no
# warning; the layer's lin_edge and att_edge get no gradient at all.
# Source: torch_geometric/nn/conv/collect.jinja (and _collect in message_passing.py): the values become edge_attr only if
# they are not one-dimensional, which those of a scalar matrix always are; edge_update then skips the edge's term.
# Seen (largest difference from the same layer with edge_index and the weights):
#   coo GATConv 2.164 | from no weights 0.0 | gradient of att_edge None
#   coo GraphConv 0.0
#   csr GATConv 2.164 | from no weights 0.0 | gradient of att_edge None
#   csr GraphConv 0.0
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python="${FINDINGS_PYTHON:-}"
if [ -z "$python" ]; then
    python3 -m venv "$folder/venv"
    python="$folder/venv/bin/python"
    "$python" -m pip install --quiet torch==2.14.1 torch_geometric==2.8.1 numpy==2.4.6
fi
cd "$folder"
OMP_NUM_THREADS=1 "$python" -W ignore - <<'PY'
import sys
import torch
from torch_geometric.nn import GATConv, GraphConv

torch.manual_seed(0)
x = torch.randn(4, 3)
source, target = torch.tensor([1, 2, 3, 0]), torch.tensor([0, 0, 0, 1])
weight = torch.tensor([9.0, 0.1, -5.0, 2.0])
edge_index = torch.stack([source, target])
adjacency = torch.sparse_coo_tensor(torch.stack([target, source]), weight, (4, 4)).coalesce()
gat, graph = GATConv(3, 2, edge_dim=1, add_self_loops=False), GraphConv(3, 2)


def apart(a, b):
    return round(float((a - b).detach().abs().max()), 4)


found = {}
for name, a in (("coo", adjacency), ("csr", adjacency.to_sparse_csr())):
    out = gat(x, a)
    (gradient,) = torch.autograd.grad(out.sum(), gat.att_edge, allow_unused=True)
    found[name] = apart(out, gat(x, edge_index, weight)), apart(out, gat(x, edge_index)), gradient
    reference = apart(graph(x, a), graph(x, edge_index, weight))
    print(name, "GATConv", found[name][0], "| from no weights", found[name][1], "| gradient of att_edge", gradient)
    print(name, "GraphConv", reference)
ignored = all(with_weight > 0.1 and without < 1e-5 and g is None for with_weight, without, g in found.values())
sys.exit(0 if ignored and reference < 1e-4 else 1)
PY
