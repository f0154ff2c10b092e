"""A neighbourhood as a picture: two panels in SVG, in colours that stand on light and on dark paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from xml.etree import ElementTree

from contractive_gnn.bench.neighbourhood import Neighbourhood, Pair

#: pale enough for dark letters; Okabe and Ito's hues, then mixtures of them
FILLS: Final = (
    "#8cc5e8", "#f2a97c", "#8fd6bd", "#e3b6cf", "#f2cf73", "#b9b4e8", "#c8d98a", "#d9c2a3", "#a8d8e0", "#e8a3a3",
)  # fmt: skip
UNKNOWN: Final = "#d0d7de"
ADDED, REMOVED, WRONG, PLAIN, INK = "#d55e00", "#2186c4", "#d6187e", "#8c959f", "#1b1f24"
_RADIUS: Final = 195
_SIZE: Final = 2 * _RADIUS + 60
_HEAD: Final = 20
_HEIGHT: Final = _SIZE + _HEAD
_FOOT: Final = 40


def draw(
    around: Neighbourhood,
    predictions: Sequence[Sequence[int]],
    labels: Sequence[int],
    weights: Sequence[Mapping[Pair, float] | None],
) -> str:
    """The panels beside one another, on white, for a file. See :func:`panel` for what is drawn.

    Args:
        around: what to draw.
        predictions: of all nodes, before and after; one of them for one panel.
        labels: of all nodes, −1 where it is not known.
        weights: by edge, before and after; None where the model has none.
    """
    width, height = len(predictions) * _SIZE, _HEIGHT + _FOOT
    svg = _svg(width, height, f"Node {around.node} and the nodes around it")
    svg.set("width", str(width))
    svg.set("height", str(height))
    ElementTree.SubElement(svg, "rect", {"width": str(width), "height": str(height), "fill": "#fff"})
    for index, prediction in enumerate(predictions):
        place = ElementTree.SubElement(svg, "g", {"transform": f"translate({index * _SIZE}, 0)"})
        _panel(place, around, prediction, labels, weights[index], after=index == 1)
    _legend(svg, _HEIGHT + 18, around)
    return ElementTree.tostring(svg, encoding="unicode")


def panel(
    around: Neighbourhood,
    prediction: Sequence[int],
    labels: Sequence[int],
    weights: Mapping[Pair, float] | None,
    *,
    after: bool,
) -> str:
    """One graph, on whatever paper is there.

    Every node carries the class that is predicted for it, and is coloured by it; where that is not its label it is
    circled. An edge that the attack removes is dashed before, one that it adds is thick after. Where the model has
    weights of its own, an edge is as thick as its weight. Who points at a node or an edge is told its numbers.

    Args:
        around: what to draw.
        prediction: of all nodes.
        labels: of all nodes, −1 where it is not known.
        weights: by edge; None where the model has none.
        after: whether it is the attacked graph.
    """
    wrong = sum(0 <= labels[v] != prediction[v] for v in around.hops)
    changed = len(around.added) if after else len(around.removed)
    kind = "added" if after else "to be removed"
    said = (
        f"{'After' if after else 'Before'} the attack: node {around.node}, predicted {prediction[around.node]}, among "
        f"{len(around.hops) - 1} nodes; {changed} edges {kind}, {wrong} predictions wrong"
    )
    svg = _svg(_SIZE, _HEIGHT, said)
    _panel(svg, around, prediction, labels, weights, after=after)
    return ElementTree.tostring(svg, encoding="unicode")


def legend(around: Neighbourhood) -> str:
    """What the lines and circles mean, as a picture of one line."""
    svg = _svg(_SIZE, _FOOT - 14, "Dashed blue: removed. Orange: added. Circled: wrong.")
    _legend(svg, 18, around)
    return ElementTree.tostring(svg, encoding="unicode")


def _svg(width: float, height: float, said: str) -> ElementTree.Element:
    """An empty picture, with what is said of it to who cannot see it."""
    look = {"viewBox": f"0 0 {width} {height}", "font-family": "DejaVu Sans, system-ui, sans-serif"}
    return ElementTree.Element(
        "svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img", "aria-label": said, **look}
    )


def _panel(
    parent: ElementTree.Element,
    around: Neighbourhood,
    prediction: Sequence[int],
    labels: Sequence[int],
    weights: Mapping[Pair, float] | None,
    *,
    after: bool,
) -> None:
    _text(parent, _SIZE / 2, 22, "after the attack" if after else "before", size=16, anchor="middle", weight="600")
    centre = ElementTree.SubElement(parent, "g", {"transform": f"translate({_SIZE / 2}, {_SIZE / 2 + _HEAD})"})
    _edges(centre, around, after=after, weights=weights)
    _nodes(centre, around, prediction, labels)


def _edges(
    parent: ElementTree.Element, around: Neighbourhood, *, after: bool, weights: Mapping[Pair, float] | None
) -> None:
    edges = around.after if after else around.before
    changed = around.added if after else around.removed
    for pair in sorted(edges, key=lambda pair: (pair in changed, pair)):
        (x1, y1), (x2, y2) = (_at(around, end) for end in pair)
        weight = None if weights is None else weights.get(pair, 0.0)
        thick = 1.1 if weight is None else 0.3 + 2.7 * min(max(weight, 0.0), 1.0)
        look = {"stroke": PLAIN, "stroke-width": f"{thick:.2f}", "stroke-opacity": "0.75"}
        if pair in changed:
            look = {"stroke": ADDED if after else REMOVED, "stroke-width": f"{max(thick, 2.4):.2f}"}
            if not after:
                look["stroke-dasharray"] = "5 4"
        line = ElementTree.SubElement(
            parent, "line", {"x1": f"{x1:.1f}", "y1": f"{y1:.1f}", "x2": f"{x2:.1f}", "y2": f"{y2:.1f}", **look}
        )
        what = "" if pair not in changed else ", added" if after else ", to be removed"
        said = "" if weight is None else f", weight {weight:.3f}"
        ElementTree.SubElement(line, "title").text = f"edge {pair[0]} – {pair[1]}{what}{said}"


def _nodes(
    parent: ElementTree.Element, around: Neighbourhood, prediction: Sequence[int], labels: Sequence[int]
) -> None:
    for node in sorted(around.hops, key=lambda node: -around.hops[node]):
        x, y = _at(around, node)
        size = 17 if node == around.node else 10
        group = ElementTree.SubElement(parent, "g", {"transform": f"translate({x:.1f}, {y:.1f})"})
        wrong = labels[node] >= 0 and prediction[node] != labels[node]
        edge = {"stroke": WRONG, "stroke-width": "3"} if wrong else {"stroke": INK, "stroke-width": "1"}
        fill = FILLS[prediction[node] % len(FILLS)] if prediction[node] >= 0 else UNKNOWN
        ElementTree.SubElement(group, "circle", {"r": str(size), "fill": fill, **edge})
        _text(
            group, 0, 0.36 * (size - 1), str(prediction[node]), size=size + 1, anchor="middle", colour=INK,
            weight="700" if node == around.node else "400",
        )  # fmt: skip
        label = f"label {labels[node]}" if labels[node] >= 0 else "label not known"
        told = f"node {node}: predicted {prediction[node]}, {label}"
        ElementTree.SubElement(group, "title").text = told


def _at(around: Neighbourhood, node: int) -> tuple[float, float]:
    x, y = around.place[node]
    return x * _RADIUS, y * _RADIUS


def _legend(svg: ElementTree.Element, y: float, around: Neighbourhood) -> None:
    x = 16.0
    for name, colour, dash, there in (
        ("removed", REMOVED, "5 4", bool(around.removed)),
        ("added", ADDED, "", bool(around.added)),
    ):
        if there:
            look = {"stroke": colour, "stroke-width": "3", **({"stroke-dasharray": dash} if dash else {})}
            line = {"x1": f"{x}", "x2": f"{x + 26}", "y1": f"{y - 4}", "y2": f"{y - 4}"}
            ElementTree.SubElement(svg, "line", {**line, **look})
            _text(svg, x + 32, y, name, size=13)
            x += 44 + 8 * len(name)
    circle = {"cx": f"{x + 9}", "cy": f"{y - 4}", "r": "7", "fill": "none", "stroke": WRONG, "stroke-width": "3"}
    ElementTree.SubElement(svg, "circle", circle)
    _text(svg, x + 22, y, "wrong; number: predicted class", size=13)


def _text(
    parent: ElementTree.Element,
    x: float,
    y: float,
    text: str,
    *,
    size: float,
    anchor: str = "start",
    colour: str = "currentColor",
    weight: str = "400",
) -> None:
    look = {"font-size": f"{size}", "text-anchor": anchor, "fill": colour, "font-weight": weight}
    ElementTree.SubElement(parent, "text", {"x": f"{x:.1f}", "y": f"{y:.1f}", **look}).text = text
