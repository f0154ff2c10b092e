"""The drawing library of the pages: Vega-Lite, from the copy that the package vl-convert-python keeps.

With it a page is 0.9 MB, draws SVG that screen readers can read, and needs no network. Plotly's library, the other one
that a package from the index keeps whole, is 4.8 MB.
"""

from __future__ import annotations

import functools
import importlib.util

from contractive_gnn.extras import needs

_EXPORT = "window.vegaEmbed = vegaEmbed;"


def missing() -> str:
    """Why there is no library; empty where there is one. Nothing is loaded."""
    if importlib.util.find_spec("vl_convert") is not None:
        return ""
    return "vl-convert-python is not installed; pip install 'contractive-gnn[bench]'"


@functools.cache
def library() -> str:
    """JavaScript that defines ``window.vegaEmbed``, for a ``<script type="module">``; made once in a process.

    Raises:
        MissingExtraError: vl-convert-python is not installed.
    """
    with needs("bench", "an interactive page"):
        import vl_convert
    bundle: str = vl_convert.javascript_bundle(_EXPORT)
    # an end tag inside a script would end it
    return bundle.replace("</script", "<\\/script")
