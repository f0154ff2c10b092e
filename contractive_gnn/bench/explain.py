"""One node before and after an attack: its neighbourhood, what the model says of it, and what is certified."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn import inputs
from contractive_gnn.attacks.base import AttackResult, edge_difference, feature_difference
from contractive_gnn.attacks.run import attack as run_attack
from contractive_gnn.bench.assets import asset, fill
from contractive_gnn.bench.edge_weights import EdgeWeights, edge_weights
from contractive_gnn.bench.neighbourhood import Neighbourhood, Pair, neighbourhood, same_class
from contractive_gnn.bench.neighbourhood_svg import draw, legend, panel
from contractive_gnn.bench.results import make_folder, replacing
from contractive_gnn.certificates import FlipBudget, certify
from contractive_gnn.checks import check_whole
from contractive_gnn.extras import needs
from contractive_gnn.nn import MLPMixture
from contractive_gnn.nn.evaluation import evaluating
from contractive_gnn.training import predict

#: flips to list one by one
_LISTED = 40


@dataclass(frozen=True)
class Radius:
    """What is proved of one node.

    Attributes:
        flips: the largest r for which no r flips at every node at once change its prediction; −1 where not even the
            prediction itself is certain, None where nothing is proved about the model.
        tried: the largest r that was tried.
        any_edges: whether no change of the edges at all can change it.
        reason: why nothing is proved; empty where something is.
    """

    flips: int | None
    tried: int
    any_edges: bool = False
    reason: str = ""

    def __str__(self) -> str:
        if self.any_edges:
            return "any edges"
        if self.flips is None:
            return "none proved"
        if self.flips < 0:
            return "not certain"
        beyond = ", or more" if self.flips == self.tried else ""
        return f"{self.flips} flip{'' if self.flips == 1 else 's'} at every node{beyond}"


@dataclass(frozen=True, eq=False)
class State:
    """What a model says of a node on one graph.

    Attributes:
        prediction: the class.
        margin: the score of the right class less the best other one's, in the model's own units: negative where it is
            wrong. Of a node without a label, of the class predicted before.
        probability: softmax of the scores at the class that ``margin`` is of.
        degree: how many neighbours it has.
        alike: how many of them have its label; None without one.
        kept: the mean weight that the model gives the edges at the node; None where it has no weights of its own.
        radius: what is proved.
    """

    prediction: int
    margin: float
    probability: float
    degree: int
    alike: int | None
    kept: float | None
    radius: Radius


@dataclass(frozen=True)
class Flip:
    """An edge near the node that the attack changed.

    Attributes:
        edge: its ends, the smaller first.
        added: whether it was added; else it was removed.
        labels: of its ends, −1 where one is not known.
        weight: that the model gives it, after (or, of a removed one, before); None where it has none.
    """

    edge: Pair
    added: bool
    labels: tuple[int, int]
    weight: float | None


@dataclass(frozen=True, eq=False)
class Explanation:
    """A node before and after an attack: printed as a few lines, shown in a notebook, saved as a picture and a page.

    Attributes:
        node: its index.
        label: its class, −1 where it is not known.
        model: what the model is called.
        attack: what the attack is called, with its budget; empty where there was none.
        before: on the clean graph.
        after: on the attacked one; None without an attack.
        around: the part of the two graphs that is drawn.
        flips: edges between drawn nodes that were changed, those at the node first.
        n_flips: edges and feature entries changed in the whole graph.
        n_features: feature entries changed at the node, and at its drawn neighbours.
        weights_are: what the thickness of an edge means; empty where the model has no weights of its own.
        predictions: of all nodes, before and after.
        labels: of all nodes.
        weights: of the drawn edges, before and after; None where the model has none.
    """

    node: int
    label: int
    model: str
    attack: str
    before: State
    after: State | None
    around: Neighbourhood
    flips: tuple[Flip, ...]
    n_flips: int
    n_features: tuple[int, int]
    weights_are: str
    predictions: tuple[tuple[int, ...], ...]
    labels: tuple[int, ...]
    weights: tuple[Mapping[Pair, float] | None, ...]

    @property
    def changed(self) -> bool:
        """Whether the attack changed the prediction."""
        return self.after is not None and self.after.prediction != self.before.prediction

    @property
    def outcome(self) -> str:
        """What the attack did, in a few words: "held", "fooled", …; empty without an attack."""
        if self.after is None:
            return ""
        if self.label < 0:
            return "changed" if self.changed else "held"
        right = self.before.prediction == self.label, self.after.prediction == self.label
        return {
            (True, True): "held",
            (True, False): "fooled",
            (False, False): "wrong before and after",
            (False, True): "right after it",
        }[right]

    @property
    def verdict(self) -> str:
        """What happened, in a sentence."""
        label = f"class {self.label}" if self.label >= 0 else "class not known"
        start = f"Node {self.node} ({label}): {self.model} says {self.before.prediction}"
        if self.after is None:
            return f"{start}."
        done = f"{self.attack}, {self.n_flips} flip{'' if self.n_flips == 1 else 's'}"
        then = str(self.after.prediction) if self.changed else "the same"
        return f"{start}, and {then} after {done}: {self.outcome}."

    def svg(self) -> str:
        """The picture, both graphs beside one another, on white."""
        return draw(self.around, self.predictions, self.labels, self.weights)

    def _panels(self) -> str:
        """Both graphs, which stand under one another where there is no room beside."""
        panels = (
            panel(self.around, prediction, self.labels, self.weights[index], after=index == 1)
            for index, prediction in enumerate(self.predictions)
        )
        return f'<div class="panels">{"".join(panels)}</div><div class="legend">{legend(self.around)}</div>'

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write ``node-N.html``, ``node-N.svg`` and ``node-N.png``; returns their paths.

        Raises:
            MissingExtraError: vl-convert-python, which draws the PNG, is not installed.
            ResultsError: the folder cannot be made or written.
        """
        with needs("bench", "a picture as PNG"):
            import vl_convert
        where = Path(folder)
        make_folder(where)
        drawn = self.svg()
        files: dict[str, bytes] = {
            "html": self.page().encode(),
            "svg": drawn.encode(),
            "png": vl_convert.svg_to_png(drawn, scale=2),
        }
        paths = []
        for suffix, content in files.items():
            paths.append(where / f"node-{self.node}.{suffix}")
            with replacing(paths[-1]) as partial:
                partial.write_bytes(content)
        return paths

    def page(self) -> str:
        """One page that needs no other file."""
        return fill(
            "frame.html",
            title=escape(f"Node {self.node}, {self.model}" + (f", {self.attack}" if self.attack else "")),
            style=asset("page.css") + asset("explanation.css"),
            body=self._html(),
            scripts=f"<script>\n{asset('theme.js')}</script>",
        )

    def _repr_html_(self) -> str:
        return f"<style>{asset('explanation.css')}</style>{self._html()}"

    def _html(self) -> str:
        word = "held" if self.outcome in ("held", "right after it") else "fooled"
        verdict = escape(self.verdict)
        if self.after is not None:
            start, colon, end = verdict.rpartition(": ")
            verdict = f'{start}{colon}<strong class="{word}">{end}</strong>'
        head = ["before"] + (["after"] if self.after else [])
        rows = "".join(
            f"<tr><th scope='row'>{escape(name)}</th>{''.join(f'<td>{escape(v)}</td>' for v in values)}</tr>"
            for name, values in self._facts()
        )
        table = f"<table><thead><tr><th></th>{''.join(f'<th scope=col>{h}</th>' for h in head)}</tr></thead>"
        return fill(
            "explanation.html",
            verdict=verdict,
            picture=self._panels(),
            caption=escape(self._caption()),
            facts=f"{table}<tbody>{rows}</tbody></table>",
            notes="".join(f'<p class="note">{escape(note)}</p>' for note in self._notes()),
            flips=self._flip_table(),
        )

    def _facts(self) -> list[tuple[str, list[str]]]:
        states = [self.before, *([self.after] if self.after else [])]
        facts = [
            ("prediction", [str(s.prediction) for s in states]),
            ("margin", [f"{s.margin:+.3f}" for s in states]),
            ("probability", [f"{100 * s.probability:.1f} %" for s in states]),
            ("certified against", [str(s.radius) for s in states]),
            ("neighbours", [str(s.degree) for s in states]),
        ]
        if self.label >= 0:
            facts.append(("of its class", [str(s.alike) for s in states]))
        if self.weights_are:
            facts.append(("mean weight", ["–" if s.kept is None else f"{s.kept:.3f}" for s in states]))
        return facts

    def _caption(self) -> str:
        drawn = f"Node {self.node} in the middle, {len(self.around.hops) - 1} nodes within "
        text = f"{drawn}{max(self.around.hops.values(), default=0)} hops of it"
        if self.around.left_out:
            text += f" ({self.around.left_out} more are not drawn)"
        thick = f" Thickness: {self.weights_are}." if self.weights_are else ""
        return f"{text}; point at a node or an edge for its numbers.{thick}"

    def _notes(self) -> list[str]:
        notes = []
        if reason := self.before.radius.reason:
            notes.append(
                f"Nothing is proved about {self.model}: {reason}. Any model is certified by randomised smoothing: "
                "contractive-gnn certify."
            )
        if any(self.n_features):
            own, near = self.n_features
            notes.append(f"Feature entries changed: {own} at the node, {near} at its drawn neighbours.")
        return notes

    def _flip_table(self) -> str:
        if not self.flips:
            return "<p class='note'>No edge that is drawn was changed.</p>" if self.after else ""
        rows = []
        for flip in self.flips[:_LISTED]:
            weight = "" if flip.weight is None else f"<td>{flip.weight:.3f}</td>"
            classes = " – ".join("?" if label < 0 else str(label) for label in flip.labels)
            rows.append(
                f"<tr><th scope='row'>{flip.edge[0]} – {flip.edge[1]}</th>"
                f"<td>{'added' if flip.added else 'removed'}</td><td>{classes}</td>{weight}</tr>"
            )
        more = len(self.flips) - _LISTED
        last = f"<p class='note'>and {more} more</p>" if more > 0 else ""
        weight = "<th scope='col'>weight</th>" if self.flips[0].weight is not None else ""
        head = f"<th scope='col'>edge</th><th scope='col'>change</th><th scope='col'>classes</th>{weight}"
        return (
            f"<details open><summary>{len(self.flips)} changed edges among the drawn nodes</summary>"
            f"<div class='table'><table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
            f"{last}</details>"
        )

    def __str__(self) -> str:
        lines = [self.verdict]
        lines += [f"  {name:<18} {' → '.join(values)}" for name, values in self._facts()]
        lines += [f"  {note}" for note in self._notes()]
        near = [flip for flip in self.flips if self.node in flip.edge]
        for flip in near[:10]:
            (u, v), (own, other) = flip.edge, flip.labels
            lines.append(f"  {'+' if flip.added else '−'} {u} – {v} (classes {own}, {other})")
        if len(near) > 10:
            lines.append(f"  and {len(near) - 10} more at the node")
        return "\n".join(lines)


def explain(
    model: nn.Module,
    data: Data,
    node: int,
    *,
    attack: str | AttackResult | None = None,
    flips: int | None = None,
    fraction: float | None = None,
    seed: int = 0,
    retrained: nn.Module | None = None,
    hops: int = 2,
    most: int = 60,
    largest_radius: int = 10,
    **hyperparameters: Any,
) -> Explanation:
    """One node before and after an attack.

    Args:
        model: trained; ``forward(x, edge_index, edge_weight=None) -> [n, classes]``, asked in evaluation mode.
        data: an undirected graph without weights, with ``x``, ``edge_index``, ``y`` and masks.
        node: index of the node, 0 ≤ node < n.
        attack: name of an attack, which is run here with the node as its target; or an attacked graph that is there,
            made on ``data``. None shows the node as it is.
        flips: how many undirected edges (or feature entries) the named attack may change.
        fraction: instead of ``flips``, as a share of the edges (or of the non-zero feature entries).
        seed: of the attack.
        retrained: the model that was trained on the attacked graph, for a poisoning attack; None for the frozen one.
        hops: how far from the node to draw, at least 1.
        most: how many nodes to draw, at least 1; the nearest first.
        largest_radius: how many flips at every node at once to try to certify, at least 0.
        **hyperparameters: the named attack's own.

    Returns:
        the explanation, which a notebook shows.

    Raises:
        InputError: a graph that :mod:`contractive_gnn.inputs` refuses.
        ValueError: no such node; a budget without an attack, or a named attack without one; an attacked graph with
            other nodes.
        TypeError: an ``attack`` of another kind.
        AttackError: the attack cannot work on this model.

    Example:
        >>> import contractive_gnn as cg
        >>> data = cg.contextual_sbm(60, seed=0)
        >>> model = cg.build("gcn", data.num_features, 3)
        >>> cg.explain(model, data, 7, attack="random", flips=5).n_flips
        5
    """
    data = inputs.checked(data, weighted=False)
    n = int(data.x.shape[0])
    check_whole("node", node, least=0)
    check_whole("hops", hops, least=1)
    check_whole("most", most, least=1)
    check_whole("largest_radius", largest_radius, least=0)
    if node >= n:
        raise ValueError(f"node is {node}, and the graph has the nodes 0 to {n - 1}")
    attacked, name = _attacked(
        model, data, node, attack, flips=flips, fraction=fraction, seed=seed, hyperparameters=hyperparameters
    )
    graphs = [data] if attacked is None else [data, attacked]
    if attacked is None and retrained is not None:
        raise ValueError("retrained is the model of an attacked graph; give an attack too, or leave it out")
    models = [model, model if retrained is None else retrained][: len(graphs)]
    labels = [int(label) for label in data.y.tolist()]
    scores = [predict(m, g).detach().double().cpu() for m, g in zip(models, graphs, strict=True)]
    weights = [edge_weights(m, g.x, g.edge_index) for m, g in zip(models, graphs, strict=True)]
    chosen = labels[node] if labels[node] >= 0 else int(scores[0][node].argmax())
    states = [
        _state(m, g, node, s, chosen, labels, w, largest_radius)
        for m, g, s, w in zip(models, graphs, scores, weights, strict=True)
    ]
    around = neighbourhood(node, data.edge_index, graphs[-1].edge_index, labels, hops=hops, most=most)
    changed = torch.empty(2, 0, dtype=torch.int64)
    n_flips = 0
    if attacked is not None:
        changed = feature_difference(data.x, attacked.x)
        n_flips = edge_difference(data.edge_index, attacked.edge_index).shape[1] + changed.shape[1]
    drawn = torch.tensor([v for v in around.hops if v != node], dtype=torch.int64)
    return Explanation(
        node=node,
        label=labels[node],
        model=type(model).__name__,
        attack=name,
        before=states[0],
        after=states[1] if attacked is not None else None,
        around=around,
        flips=_flips(around, labels, weights),
        n_flips=n_flips,
        n_features=(int((changed[0] == node).sum()), int(torch.isin(changed[0], drawn).sum())),
        weights_are="" if weights[0] is None else weights[0].meaning,
        predictions=tuple(tuple(s.argmax(dim=1).tolist()) for s in scores),
        labels=tuple(labels),
        weights=tuple(_drawn(w, around, after=i == 1) for i, w in enumerate(weights)),
    )


def named(explanation: Explanation, *, model: str, attack: str) -> Explanation:
    """The same under the names that the reader gave."""
    return replace(explanation, model=model, attack=attack)


def _attacked(
    model: nn.Module,
    data: Data,
    node: int,
    attack: str | AttackResult | None,
    *,
    flips: int | None,
    fraction: float | None,
    seed: int,
    hyperparameters: Mapping[str, Any],
) -> tuple[Data | None, str]:
    """The attacked graph, and what the attack is called."""
    budget = flips is not None or fraction is not None
    if isinstance(attack, str):
        targets = torch.tensor([node])
        made = run_attack(
            model, data, attack, flips=flips, fraction=fraction, targets=targets, seed=seed, **hyperparameters
        )
        if made.data.num_nodes != data.num_nodes:
            raise ValueError(f"attack {attack!r} adds nodes, and an explanation compares the same nodes; take another")
        return inputs.checked(made.data, weighted=False), attack
    if budget or hyperparameters:
        given = ", ".join([*(["a budget"] if budget else []), *hyperparameters])
        raise ValueError(f"{given} is for an attack by name, like attack='prbcd'; got attack={_kind(attack)}")
    if attack is None:
        return None, ""
    if not isinstance(attack, AttackResult):
        raise TypeError(f"attack must be a name, an AttackResult or None, got {_kind(attack)}")
    made_data = inputs.checked(attack.data, weighted=False)
    if made_data.x.shape != data.x.shape or not torch.equal(made_data.y.cpu(), data.y.cpu()):
        raise ValueError(
            f"the attacked graph has features {list(made_data.x.shape)}, the clean one {list(data.x.shape)}, or other "
            "labels; give the graph that was attacked"
        )
    return made_data, str(attack.provenance.get("attack", "an attack"))


def _kind(value: object) -> str:
    return "None" if value is None else type(value).__name__


def _state(
    model: nn.Module,
    data: Data,
    node: int,
    scores: Tensor,
    chosen: int,
    labels: Sequence[int],
    weights: EdgeWeights | None,
    largest: int,
) -> State:
    own = scores[node]
    others = torch.cat([own[:chosen], own[chosen + 1 :]])
    degree, alike = same_class(node, data.edge_index, labels)
    kept = None
    if weights is not None:
        at = [weight for pair, weight in weights.weight.items() if node in pair]
        kept = sum(at) / len(at) if at else None
    return State(
        prediction=int(own.argmax()),
        margin=float(own[chosen] - others.max()) if len(others) else float("inf"),
        probability=float(own.softmax(dim=0)[chosen]),
        degree=degree,
        alike=alike if labels[node] >= 0 else None,
        kept=kept,
        radius=_radius(model, data, node, largest),
    )


def _radius(model: nn.Module, data: Data, node: int, largest: int) -> Radius:
    if isinstance(model, MLPMixture):
        with torch.no_grad(), evaluating(model):
            sure = bool(model.certified_any_edges(data.x, data.edge_index)[node])
        return Radius(None, 0, any_edges=sure, reason="" if sure else "this node leans on its edges")
    n, flips = int(data.x.shape[0]), -1
    for r in range(min(largest, n - 1) + 1):
        found = certify(model, data.x, data.edge_index, flips=FlipBudget.uniform(r, n))
        if found.reason:
            return Radius(None, largest, reason=found.reason)
        if not bool(found.certified[node]):
            break
        flips = r
    return Radius(flips, largest)


def _flips(around: Neighbourhood, labels: Sequence[int], weights: Sequence[EdgeWeights | None]) -> tuple[Flip, ...]:
    found = []
    for pair in around.added | around.removed:
        added = pair in around.added
        own = weights[-1 if added else 0]
        weight = None if own is None else own.weight.get(pair, 0.0)
        found.append(Flip(pair, added, (labels[pair[0]], labels[pair[1]]), weight))
    return tuple(sorted(found, key=lambda flip: (around.node not in flip.edge, flip.edge)))


def _drawn(weights: EdgeWeights | None, around: Neighbourhood, *, after: bool) -> dict[Pair, float] | None:
    edges = around.after if after else around.before
    return None if weights is None else {pair: weights.weight.get(pair, 0.0) for pair in edges}
