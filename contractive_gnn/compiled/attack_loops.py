"""The inner training of Metattack's surrogate and its reverse, compiled: what :mod:`meta_gradient` does in NumPy.

A step works on arrays of a few hundred rows and fewer than twenty columns, for which NumPy's calls cost more than their
arithmetic. Imports numba, so nothing imports it before it is needed; without numba the NumPy path runs. Products with
K are taken four classes at a time: a row of K is read once for four sums. In weight space a step reads B, which may be
too large for the cache, once.
"""

from __future__ import annotations

from typing import Final

import numba
import numpy as np

# Sums may be reordered, as BLAS reorders them; nothing is assumed about NaN or infinity, which diverged training gives.
REORDER: Final = {"reassoc", "contract", "nsz"}


@numba.njit(cache=True, fastmath=REORDER)
def _times(K, E_t, out):  # type: ignore[no-untyped-def]
    """``out`` ``[m, c]`` = K E for a symmetric K; E comes transposed, padded with zero rows to a multiple of four."""
    m, classes = out.shape
    for first in range(0, classes, 4):
        e0, e1, e2, e3 = E_t[first], E_t[first + 1], E_t[first + 2], E_t[first + 3]
        for i in range(m):
            row = K[i]
            s0 = s1 = s2 = s3 = 0.0
            for j in range(m):
                x = row[j]
                s0 += x * e0[j]
                s1 += x * e1[j]
                s2 += x * e2[j]
                s3 += x * e3[j]
            out[i, first] = s0
            if first + 1 < classes:
                out[i, first + 1] = s1
            if first + 2 < classes:
                out[i, first + 2] = s2
            if first + 3 < classes:
                out[i, first + 3] = s3


@numba.njit(cache=True, fastmath=REORDER)
def _softmax(row, largest):  # type: ignore[no-untyped-def]
    """exp(row − largest) over its sum, in place."""
    total = 0.0
    for k in range(row.size):
        row[k] = np.exp(row[k] - largest)
        total += row[k]
    for k in range(row.size):
        row[k] /= total


@numba.njit(cache=True, fastmath=REORDER)
def train(K, BW, V0, labels, steps, lr, beta):  # type: ignore[no-untyped-def]
    """Run the inner training in m dimensions.

    Returns:
        R, V, P, E, Q of every step (Vᵀ and not V), and C and V after the last one; see METATTACK in ``meta_gradient``.
    """
    m, h = BW.shape
    classes = V0.shape[1]
    Rs, Vs = np.empty((steps, m, h)), np.empty((steps, classes, h))
    Ps, Es, Qs = np.empty((steps, m, classes)), np.empty((steps, m, classes)), np.empty((steps, m, classes))
    R, C, V = BW.copy(), np.zeros((m, h)), V0.T.copy()
    pR, pC, pV = np.zeros((m, h)), np.zeros((m, h)), np.zeros((classes, h))
    E_t = np.zeros(((classes + 3) // 4 * 4, m))
    for t in range(steps):
        P, E, Q = Ps[t], Es[t], Qs[t]
        Rs[t] = R
        Vs[t] = V
        for i in range(m):
            largest = -np.inf
            for k in range(classes):
                z = 0.0
                for q in range(h):
                    z += R[i, q] * V[k, q]
                P[i, k] = z
                largest = max(largest, z)
            _softmax(P[i], largest)
            for k in range(classes):
                E[i, k] = P[i, k] / m
            E[i, labels[i]] = (P[i, labels[i]] - 1) / m
            for k in range(classes):
                E_t[k, i] = E[i, k]
        _times(K, E_t, Q)
        pV *= beta
        for i in range(m):
            p, r, pc, x, y = pR[i], R[i], pC[i], C[i], E[i]
            for q in range(h):
                p[q] *= beta
                pc[q] *= beta
            for k in range(classes):
                v, w, a, b = V[k], pV[k], Q[i, k], y[k]
                for q in range(h):
                    p[q] += a * v[q]
                    pc[q] += b * v[q]
                    w[q] += b * r[q]
            for q in range(h):
                r[q] -= lr * p[q]
                x[q] += lr * pc[q]
        V = V - lr * pV
    return Rs, Vs, Ps, Es, Qs, C, V.T.copy()


@numba.njit(cache=True, fastmath=REORDER)
def reverse(K, Rs, Vs, Ps, Es, Qs, bC, bV0, lr, beta):  # type: ignore[no-untyped-def]
    """∂L/∂R₀ ``[m, h]`` and the derivatives ``bQ`` ``[T, m, c]`` by every Q_t."""
    steps, m, h = Rs.shape
    classes = Vs.shape[1]
    bR, bpR = np.zeros((m, h)), np.zeros((m, h))
    bV, bpV = bV0.T.copy(), np.zeros((classes, h))
    bQs, bE, bZ = np.empty((steps, m, classes)), np.empty((m, classes)), np.empty(classes)
    bQ_t = np.zeros(((classes + 3) // 4 * 4, m))
    for t in range(steps - 1, -1, -1):
        R, V, P, E, Q, bQ = Rs[t], Vs[t], Ps[t], Es[t], Qs[t], bQs[t]
        gamma = lr * (1 - beta ** (steps - t)) / (1 - beta)  # what C still receives through the momentum from t on
        for k in range(classes):
            for q in range(h):
                bpV[k, q] -= lr * bV[k, q]
        for i in range(m):
            p, r = bpR[i], bR[i]
            for q in range(h):
                p[q] -= lr * r[q]
            for k in range(classes):
                v = V[k]
                s = 0.0
                for q in range(h):
                    s += p[q] * v[q]
                bQ[i, k] = s
                bQ_t[k, i] = s
        _times(K, bQ_t, bE)
        for i in range(m):
            p, r, x, y = bpR[i], bR[i], R[i], bC[i]
            along = 0.0
            for k in range(classes):
                v, w = V[k], bpV[k]
                s = bE[i, k]
                for q in range(h):
                    s += x[q] * w[q] + gamma * y[q] * v[q]
                s *= P[i, k] / m
                bZ[k] = s
                along += s
            for k in range(classes):
                z, e, a = bZ[k] - P[i, k] * along, E[i, k], Q[i, k]
                v, w, u = V[k], bpV[k], bV[k]
                g = gamma * e
                for q in range(h):
                    u[q] += a * p[q] + z * x[q] + g * y[q]
                    r[q] += e * w[q] + z * v[q]
            for q in range(h):
                p[q] *= beta
        for k in range(classes):
            for q in range(h):
                bpV[k, q] *= beta
    return bR, bQs


@numba.njit(cache=True, fastmath=REORDER)
def forward(B, U, labels):  # type: ignore[no-untyped-def]
    """P = softmax(B U), the derivative E of the mean cross-entropy by B U, and Bᵀ E, in one pass over B."""
    (m, d), classes = B.shape, U.shape[1]
    columns, BE = U.T.copy(), np.zeros((classes, d))
    P, E = np.empty((m, classes)), np.empty((m, classes))
    for i in range(m):
        row = B[i]
        largest = -np.inf
        for k in range(classes):
            u, s = columns[k], 0.0
            for q in range(d):
                s += row[q] * u[q]
            P[i, k] = s
            largest = max(largest, s)
        _softmax(P[i], largest)
        for k in range(classes):
            e = (P[i, k] - (1.0 if k == labels[i] else 0.0)) / m
            E[i, k] = e
            u = BE[k]
            for q in range(d):
                u[q] += e * row[q]
    return P, E, BE.T.copy()


@numba.njit(cache=True, fastmath=REORDER)
def backward(B, bBE, P):  # type: ignore[no-untyped-def]
    """What reaches B U through E, from the derivative by BᵀE, and Bᵀ times that, in one pass over B."""
    (m, d), classes = B.shape, bBE.shape[1]
    columns, BbZ = bBE.T.copy(), np.zeros((classes, d))
    bZ = np.empty((m, classes))
    for i in range(m):
        row = B[i]
        along = 0.0
        for k in range(classes):
            u, s = columns[k], 0.0
            for q in range(d):
                s += row[q] * u[q]
            bZ[i, k] = s * P[i, k] / m
            along += bZ[i, k]
        for k in range(classes):
            z = bZ[i, k] - P[i, k] * along
            bZ[i, k] = z
            u = BbZ[k]
            for q in range(d):
                u[q] += z * row[q]
    return bZ, BbZ.T.copy()


@numba.njit(cache=True, fastmath=REORDER)
def sampled(pointer, column, X_pointer, X_column, X_value, G):  # type: ignore[no-untyped-def]
    """The entries of X Gᵀ at the entries of a CSR matrix, for a CSR matrix X."""
    values = np.empty(column.size)
    for i in range(pointer.size - 1):
        for e in range(pointer[i], pointer[i + 1]):
            row = G[column[e]]
            s = 0.0
            for f in range(X_pointer[i], X_pointer[i + 1]):
                s += X_value[f] * row[X_column[f]]
            values[e] = s
    return values
