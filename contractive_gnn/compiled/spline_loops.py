"""The compiled loops of a piecewise linear activation. Imports numba: nothing imports it before it is needed.

numba keeps the machine code on disk. No loop holds Python's lock while it runs.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch

from contractive_gnn.compiled.row_threads import SHARE, empty, in_threads


def forward(u: Any, intercept: Any, slope: Any, scale: Any, width: float) -> Any:
    """``τ a_j + p_j u`` of ``[n, c, m]``; τ is ``[n, c]`` or None."""
    out = empty(u.shape, u.dtype)
    cuts = _cuts(u)
    in_threads(_forward, (u, intercept, slope, _ones(u, scale), u.dtype.type(width)), cuts, out)
    return out


def backward(
    g: Any, u: Any, intercept: Any, slope: Any, scale: Any, width: float, *, by_table: bool
) -> tuple[Any, Any, Any, Any]:
    """The gradients by u, a, p and τ, of size 0 where there is none."""
    by_u = empty(u.shape, u.dtype)
    cuts = _cuts(u)
    factor = _ones(u, scale)
    by_scale = np.empty(factor.shape, u.dtype)
    # a table for each thread, added up in double precision: a piece may hold millions of entries
    tables = np.zeros((len(cuts) - 1, *(slope.shape if by_table else (1, slope.shape[1])), 2))
    bounds = np.array(cuts)
    in_threads(
        _backward,
        (g, u, intercept, slope, factor, u.dtype.type(width), bounds, by_table, scale is not None),
        range(len(cuts)),
        by_u,
        tables,
        by_scale,
    )
    if not by_table:
        tables = tables[:, :0]
    by_intercept, by_slope = (np.ascontiguousarray(tables.sum(0)[..., k].astype(u.dtype)) for k in range(2))
    return by_u, by_intercept, by_slope, by_scale[:0] if scale is None else by_scale


def _cuts(u: Any) -> list[int]:
    """Where the rows of each thread begin, and their number."""
    rows = u.shape[0] * u.shape[1]
    threads = max(1, min(torch.get_num_threads(), u.size // SHARE, rows))
    return [rows * part // threads for part in range(threads + 1)]


def _ones(u: Any, scale: Any) -> Any:
    return np.ones(u.shape[:2], u.dtype) if scale is None else scale


@numba.njit(cache=True, nogil=True)
def _forward(u, intercept, slope, scale, width, start, stop, out):  # type: ignore[no-untyped-def]
    channels, entries = u.shape[1], u.shape[2]
    pieces = slope.shape[1]
    zero, one = u.dtype.type(0), u.dtype.type(1)
    middle, last = u.dtype.type(pieces // 2), u.dtype.type(pieces - 1)
    for row in range(start, stop):
        i, c = row // channels, row % channels
        k = c if slope.shape[0] > 1 else 0
        tau = scale[i, c]
        step = one / (tau * width)
        for e in range(entries):
            value = u[i, c, e]
            place = value * step + middle
            place = place if place > zero else zero  # NaN too
            j = np.uint32(place if place < last else last)
            out[i, c, e] = tau * intercept[k, j] + slope[k, j] * value


@numba.njit(cache=True, nogil=True)
def _backward(g, u, intercept, slope, scale, width, bounds, by_table, with_scale, start, stop, by_u, tables, by_scale):  # type: ignore[no-untyped-def]
    channels, entries = u.shape[1], u.shape[2]
    pieces = slope.shape[1]
    zero, one = u.dtype.type(0), u.dtype.type(1)
    middle, last = u.dtype.type(pieces // 2), u.dtype.type(pieces - 1)
    for part in range(start, stop):
        for row in range(bounds[part], bounds[part + 1]):
            i, c = row // channels, row % channels
            k = c if slope.shape[0] > 1 else 0
            tau = scale[i, c]
            step = one / (tau * width)
            along = 0.0
            for e in range(entries):
                value, grad = u[i, c, e], g[i, c, e]
                place = value * step + middle
                place = place if place > zero else zero  # NaN too
                j = np.uint32(place if place < last else last)
                by_u[i, c, e] = grad * slope[k, j]
                if with_scale:
                    along += grad * intercept[k, j]
                if by_table:
                    tables[part, k, j, 0] += tau * grad
                    tables[part, k, j, 1] += grad * value
            by_scale[i, c] = along
