#!/usr/bin/env bash
# torch 2.14.1: a COO tensor's values have a gradient, and that gradient has none.
#
# Expected: with create_graph=True, the gradient by the values of torch.sparse_coo_tensor can be differentiated again,
# as that of a dense matrix can; or an error says that it cannot.
# Happens: gradcheck passes, but the gradient that comes back is cut off from the graph. A Hessian by the values is all
# zeros. Where another input carries the graph on, as the features do here, the values' part is missing from a mixed
# second derivative, which is then a wrong number. Nothing is raised in either case (gradgradcheck does notice).
# Source: tools/autograd/derivatives.yaml, the entry of _sparse_coo_tensor_with_dims_and_tensors: the gradient of its
# values is read with _values(), which autograd does not record.
# Seen (Hessian by the values; then that of both inputs times ones, the part of the values):
#   coo [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]] [3.2, 9.0, 14.0]
#   dense [[68.0, 0.0, 0.0], [0.0, 10.0, 26.0], [0.0, 26.0, 68.0]] [71.2, 45.0, 108.0]
#   gradcheck of coo True
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python="${FINDINGS_PYTHON:-}"
if [ -z "$python" ]; then
    python3 -m venv "$folder/venv"
    python="$folder/venv/bin/python"
    "$python" -m pip install --quiet torch==2.14.1 numpy==2.4.6
fi
cd "$folder"
OMP_NUM_THREADS=1 "$python" -W ignore - <<'PY'
import sys
import torch

indices = torch.tensor([[0, 1, 1], [1, 0, 1]])
values = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
features = torch.tensor([[1.0, 2.0], [3.0, 5.0]], dtype=torch.float64)


def coo(v, x):
    return torch.sparse.mm(torch.sparse_coo_tensor(indices, v, (2, 2)), x).pow(2).sum()


def dense(v, x):
    return (v.new_zeros(2, 2).index_put((indices[0], indices[1]), v) @ x).pow(2).sum()


def along_ones(f):
    v, x = values.clone().requires_grad_(), features.clone().requires_grad_()
    first = torch.autograd.grad(f(v, x), (v, x), create_graph=True)
    return torch.autograd.grad(sum(g.sum() for g in first), v)[0]


found = {}
for f in (coo, dense):
    hessian = torch.autograd.functional.hessian(lambda v: f(v, features), values)
    found[f] = (hessian.tolist(), [round(t, 6) for t in along_ones(f).tolist()])
    print(f.__name__, *found[f])
checked = torch.autograd.gradcheck(coo, (values.clone().requires_grad_(), features))
print("gradcheck of coo", checked)
same_value = torch.allclose(coo(values, features), dense(values, features))
cut = not any(any(row) for row in found[coo][0]) and any(any(row) for row in found[dense][0])
sys.exit(0 if checked and same_value and cut and found[coo][1] != found[dense][1] else 1)
PY
