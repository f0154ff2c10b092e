"""How the library's pictures look."""

from __future__ import annotations

from typing import Any

#: Okabe and Ito's colours, told apart with every common colour vision; yellow, too pale for a line on white, left out
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
#: for ``matplotlib.rc_context``, which types its keys as one long Literal
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "svg.hashsalt": "contractive_gnn",
    "svg.fonttype": "path",
}
