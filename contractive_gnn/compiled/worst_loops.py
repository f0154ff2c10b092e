"""The compiled loop of a certificate's step: the worst graph within a budget, node by node, for the CPU.

Imports numba: nothing imports it before it is needed.
"""

from __future__ import annotations

import numba
import numpy as np

from contractive_gnn.compiled.edge_loops import CLIP


@numba.njit(cache=True, error_model="numpy", nogil=True, inline="always")
def pull(kind, parameter, d):  # type: ignore[no-untyped-def]
    """σ of a difference: a line, or a line that is cut at ± the parameter."""
    if kind == CLIP:
        return parameter if d > parameter else (-parameter if d < -parameter else d)
    return parameter * d


@numba.njit(cache=True, error_model="numpy", nogil=True)
def worst_rows(  # type: ignore[no-untyped-def]
    z, anchor, pointer, neighbour, deletable, allowed, best, slot, chosen, exists, kind, parameter, step, mu,
    start, stop, out,
):  # fmt: skip
    """Rows start … stop − 1 of the largest next state, as ``certificates.bounds.worst_step`` has it.

    The entries of node i, its neighbours, stand at ``pointer[i] … pointer[i + 1] − 1``; ``allowed`` flips at a node.
    Who can be joined to it is in ``best``, or in ``chosen`` and ``exists`` at its ``slot`` where that is not −1.
    """
    channels, most = z.shape[1], best.shape[0]
    total, gained, lost, worst = np.empty((4, channels))
    least = np.empty((max(1, allowed.max() if allowed.size else 0), channels))
    for i in range(start, stop):
        z_i, flips, size = z[i], allowed[i], 1 + pointer[i + 1] - pointer[i]
        total[:] = 0.0
        least[:flips] = np.inf
        deletions = 0
        for k in range(pointer[i], pointer[i + 1]):
            z_j = z[neighbour[k]]
            if flips == 0 or not deletable[k]:
                for c in range(channels):
                    total[c] += pull(kind, parameter, z_j[c] - z_i[c])
                continue
            deletions += 1
            for c in range(channels):
                value = pull(kind, parameter, z_j[c] - z_i[c])
                total[c] += value
                lost[c] = value
            for b in range(flips):  # into the list of the smallest, in order
                least_b = least[b]
                for c in range(channels):
                    larger = max(lost[c], least_b[c])
                    least_b[c] = min(lost[c], least_b[c])
                    lost[c] = larger
        for c in range(channels):
            worst[c] = total[c] / size
            gained[c] = 0.0
        for a in range(min(flips, most) + 1):
            if a > 0:
                for c in range(channels):
                    if slot[i] < 0:
                        gained[c] += pull(kind, parameter, z[best[a - 1, c], c] - z_i[c])
                    elif exists[slot[i], a - 1, c]:
                        gained[c] += pull(kind, parameter, z[chosen[slot[i], a - 1, c], c] - z_i[c])
                    else:
                        gained[c] = -np.inf
            for b in range(min(deletions, flips - a) + 1):
                number = max(1, size + a - b)
                for c in range(channels):
                    lost[c] = 0.0 if b == 0 else lost[c] + least[b - 1, c]
                    worst[c] = max(worst[c], (total[c] + gained[c] - lost[c]) / number)
        for c in range(channels):
            out[i, c] = (1 - step * mu) * z_i[c] + step * mu * anchor[i, c] + step * worst[c]
