#!/usr/bin/env bash
# PyG 2.8.1: a MessagePassing class whose name begins its base's name runs the base's compiled propagate.
#
# Expected: what a class is called makes no difference: a subclass with a message of its own that takes a further
# argument works, whether it is named Conv or Scaled, below a base named ConvLayer of the same module.
# Happens: Scaled works. Conv, the same but for its name, raises TypeError for the further argument, if a ConvLayer was
# made before it in the process; made first, Conv works too.
# Source: torch_geometric/nn/conv/message_passing.py, _set_jittable_templates: a class is taken to be compiled already if
# the module of its propagate starts with "<module>_<class>"; that of ConvLayer, "<module>_ConvLayer_propagate", starts
# with "<module>_Conv".
# Seen:
#   Conv, base-first: TypeError: propagate() got an unexpected keyword argument 'scale'
#   Conv, base-never: 10.0
#   Scaled, base-first: 10.0
#   Scaled, base-never: 10.0
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
cat > layers.py <<'PY'
import sys
import torch
from torch_geometric.nn import MessagePassing

x, edge_index = torch.eye(3), torch.tensor([[0, 1], [1, 2]])

class ConvLayer(MessagePassing):
    def forward(self, x, edge_index):
        return self.propagate(edge_index, x=x)
    def message(self, x_j):
        return x_j

class NAME(ConvLayer):
    def forward(self, x, edge_index, scale):
        return self.propagate(edge_index, x=x, scale=scale)
    def message(self, x_j, scale):
        return scale * x_j

if sys.argv[1] == "base-first":
    ConvLayer()
try:
    print(float(NAME()(x, edge_index, 5.0).sum()))
except TypeError as error:
    print("TypeError:", error)
PY
for name in Conv Scaled; do
    sed "s/NAME/$name/" layers.py > "$name.py"
    for order in base-first base-never; do
        echo "$name, $order: $(OMP_NUM_THREADS=1 "$python" -W ignore "$name.py" "$order")" | tee -a seen
    done
done
grep -qx "Conv, base-first: TypeError: .* got an unexpected keyword argument 'scale'" seen || exit 1
[ "$(grep -c ': 10.0$' seen)" = 3 ] || exit 1
