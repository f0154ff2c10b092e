#!/usr/bin/env bash
# torch 2.14.1: under torch.compile an object that is made while tracing fails isinstance with a runtime_checkable
# Protocol, although it has all of its members, and the compiled function takes the other branch without a word.
#
# Expected: isinstance(p, P) with a runtime_checkable Protocol P asks whether p has P's members (PEP 544). A compiled
# function either does the same or, with fullgraph=True, refuses.
# Happens: where a member is data that the instance holds (self.size = 3), the compiled function finds False for an
# object that it made itself, and True for the same object made outside. So the two branches of one function are mixed:
# the result is another one than without torch.compile, with fullgraph=True too. Members that the class holds (methods,
# properties, class attributes) are found.
# Source: torch/_dynamo/variables/builtin.py, call_isinstance: the protocol's own check is asked of the bare object that
# stands for it during the trace; what __init__ has assigned is not on that object yet.
# Seen (isinstance as it is, compiled):
#   instance attribute: made inside True, False; made outside True, True
#   class attribute:    made inside True, True; made outside True, True
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
cat > case.py <<'PY'
import sys
from typing import Protocol, runtime_checkable

import torch


@runtime_checkable
class Sized(Protocol):
    @property
    def size(self) -> int: ...


class Holds(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.size = 3


class Shares(torch.nn.Module):
    size = 3


def answers(kind):
    held = kind()

    def inside(x):
        return x + 1 if isinstance(kind(), Sized) else x

    def outside(x):
        return x + 1 if isinstance(held, Sized) else x

    found = []
    for function in (inside, outside):
        torch._dynamo.reset()
        compiled = torch.compile(function, backend="eager", fullgraph=True)
        x = torch.zeros(1)
        found.append((bool(function(x) == 1), bool(compiled(x) == 1)))
    return found


seen = {"instance attribute": answers(Holds), "class attribute": answers(Shares)}
for name, ((a, b), (c, d)) in seen.items():
    print(f"{name + ':':19} made inside {a}, {b}; made outside {c}, {d}")
both = (True, True)
sys.exit(0 if seen == {"instance attribute": [(True, False), both], "class attribute": [both, both]} else 1)
PY
OMP_NUM_THREADS=1 "$python" -W ignore case.py
