"""The compiled loop of a transposed convolution into few channels. Imports numba: import it where it is needed."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch

from contractive_gnn.compiled.row_threads import SHARE, empty, in_threads


def transpose(y: Any, weight: Any, padding: tuple[int, int]) -> Any:
    """``x[i, m, a, b] = Σ y[i, f, a + p − s, b + q − t] w[f, m, s, t]`` over f, s, t.

    Args:
        y: ``[n, out, H', W']``.
        weight: ``[out, in, kh, kw]``.
        padding: p and q.

    Returns:
        ``[n, in, H' + kh − 1 − 2p, W' + kw − 1 − 2q]``.
    """
    (p, q), (n, _, rows, columns), (_, channels, height, width) = padding, y.shape, weight.shape
    x = empty((n, channels, rows + height - 1 - 2 * p, columns + width - 1 - 2 * q), y.dtype)
    lines = n * x.shape[2]
    threads = max(1, min(torch.get_num_threads(), y.size * channels * height // SHARE, lines))
    in_threads(_transpose, (y, weight, p, q), [lines * part // threads for part in range(threads + 1)], x)
    return x


@numba.njit(cache=True, nogil=True, fastmath={"contract", "nsz", "reassoc"})
def _transpose(y, weight, p, q, start, stop, x):  # type: ignore[no-untyped-def]
    """The lines ``start … stop − 1`` of x, counted through all images.

    A line of y, with zeros at either side, is spread over kh lines of x. The taps of one line of a kernel are written
    out for each width: in a loop over them the pixels would no longer be computed side by side.
    """
    filters, rows, columns = y.shape[1], y.shape[2], y.shape[3]
    channels, height, width = weight.shape[1], weight.shape[2], weight.shape[3]
    lines, length = x.shape[2], x.shape[3]
    before = width - 1 - q
    line = np.zeros(max(length + width - 1, before + columns), y.dtype)
    for i in range(start // lines, (stop - 1) // lines + 1):
        first, last = max(start - i * lines, 0), min(stop - i * lines, lines)
        x[i, :, first:last] = 0
        for r in range(max(first + p - height + 1, 0), min(last + p, rows)):
            for f in range(filters):
                for b in range(columns):
                    line[before + b] = y[i, f, r, b]
                for m in range(channels):
                    for s in range(max(first - r + p, 0), min(last - r + p, height)):
                        a = r - p + s
                        w = weight[f, m, s]
                        if width == 3:
                            w0, w1, w2 = w[2], w[1], w[0]
                            for b in range(length):
                                x[i, m, a, b] += w0 * line[b] + w1 * line[b + 1] + w2 * line[b + 2]
                        elif width == 5:
                            w0, w1, w2, w3, w4 = w[4], w[3], w[2], w[1], w[0]
                            for b in range(length):
                                x[i, m, a, b] += (
                                    w0 * line[b]
                                    + w1 * line[b + 1]
                                    + w2 * line[b + 2]
                                    + w3 * line[b + 3]
                                    + w4 * line[b + 4]
                                )
                        elif width == 7:
                            w0, w1, w2, w3, w4, w5, w6 = w[6], w[5], w[4], w[3], w[2], w[1], w[0]
                            for b in range(length):
                                x[i, m, a, b] += (
                                    w0 * line[b]
                                    + w1 * line[b + 1]
                                    + w2 * line[b + 2]
                                    + w3 * line[b + 3]
                                    + w4 * line[b + 4]
                                    + w5 * line[b + 5]
                                    + w6 * line[b + 6]
                                )
                        else:
                            w0, w1, w2, w3, w4, w5, w6, w7, w8 = w[8], w[7], w[6], w[5], w[4], w[3], w[2], w[1], w[0]
                            for b in range(length):
                                x[i, m, a, b] += (
                                    w0 * line[b]
                                    + w1 * line[b + 1]
                                    + w2 * line[b + 2]
                                    + w3 * line[b + 3]
                                    + w4 * line[b + 4]
                                    + w5 * line[b + 5]
                                    + w6 * line[b + 6]
                                    + w7 * line[b + 7]
                                    + w8 * line[b + 8]
                                )
