#!/usr/bin/env bash
# hypothesis 6.170.17: with derandomize=True the examples still depend on which other modules are imported.
#
# Expected: every run draws the same examples until Hypothesis, Python or the test function is changed, as the
# documentation of derandomize says.
# Happens: the same test draws other integers once a local module that it does not use has been imported: a constant from
# that module's source turns up among them. So a test that passes alone may fail in the whole suite, or after an edit
# elsewhere, and the other way round.
# Source: hypothesis/internal/conjecture/providers.py, HypothesisProvider._maybe_draw_constant draws from
# _get_local_constants, which reads the source of every local module in sys.modules; the seed is a hash of the test only.
# Seen (two runs each):
#   alone: 300 drawn, sum 32359283783155350016999423852482216111 | the other module's constant among them: False
#   other: 300 drawn, sum 32359283752451867755310673346505803343 | the other module's constant among them: True
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python="${FINDINGS_PYTHON:-}"
if [ -z "$python" ]; then
    python3 -m venv "$folder/venv"
    python="$folder/venv/bin/python"
    "$python" -m pip install --quiet hypothesis==6.170.17
fi
cd "$folder"
echo 'LIMIT = 987654321' > limits.py
cat > draws.py <<'PY'
import sys
from hypothesis import given, settings, strategies as st

drawn = []


@settings(derandomize=True, max_examples=300)
@given(st.integers())
def sample(n):
    drawn.append(n)


if sys.argv[1] == "other":
    import limits
sample()
print(len(drawn), "drawn, sum", sum(drawn), "| the other module's constant among them:", 987654320 + 1 in drawn)
PY
alone="$("$python" draws.py alone)"
again="$("$python" draws.py alone)"
other="$("$python" draws.py other)"
other_again="$("$python" draws.py other)"
printf 'alone: %s\nother: %s\n' "$alone" "$other"
if [ "$alone" != "$again" ] || [ "$other" != "$other_again" ]; then exit 1; fi
if [[ "$alone" != *False ]] || [[ "$other" != *True ]]; then exit 1; fi
