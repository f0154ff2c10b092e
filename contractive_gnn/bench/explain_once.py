"""The body of ``contractive-gnn explain``: train a model as the benchmark does, attack one node, and explain it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch_geometric.data import Data

from contractive_gnn.attacks import AttackResult
from contractive_gnn.bench import own_models
from contractive_gnn.bench.explain import Explanation, explain, named
from contractive_gnn.bench.protocol import Protocol, ProtocolError, check_names
from contractive_gnn.bench.runner import budget_on, check_protocol, make_graph, train
from contractive_gnn.bench.spec import CLEAN, AttackSpec
from contractive_gnn.bench.workers import single_thread


def explain_once(
    protocol: Protocol, node: int, *, seed: int, hops: int, most: int, on_note: Callable[[str], None] | None = None
) -> Explanation:
    """Train the model on the clean graph, attack it, and explain one node.

    A live attack aims at this node; a published or saved graph, and attacks in a row, are taken as they are. Under a
    poisoning attack the model is trained anew on the attacked graph, of the same seed and split.

    Args:
        protocol: with one model, and one attack ("clean" for none).
        node: index of the node.
        seed: of the model.
        hops: how far to draw.
        most: how many nodes to draw.
        on_note: is given what was decided about the model and the graph, a sentence each.

    Raises:
        ProtocolError: not one model, not one attack, or no such node.
    """
    if len(protocol.models) != 1:
        raise ProtocolError(f"expected one model, got {', '.join(protocol.models) or 'none'}")
    if len(protocol.attacks) != 1:
        raise ProtocolError(f"expected one attack, got {', '.join(map(str, protocol.attacks))}")
    if protocol.attacks[0].threat == "symbiotic":
        raise ProtocolError(
            f"attack {protocol.attacks[0]}: bench measures both parts; explain one of them, such as "
            f"{protocol.attacks[0].poisoning_steps[0].without_threat}@poisoning"
        )
    data = protocol.load()
    own_models.use(protocol.own_models)
    check_names("model", protocol.models, own_models.names())
    if not 0 <= node < data.num_nodes:
        raise ProtocolError(f"--node {node}: {protocol.dataset} has the nodes 0 to {data.num_nodes - 1}")
    for note in check_protocol(protocol, data):
        if on_note is not None:
            on_note(note)
    (name,), (spec,) = protocol.models, protocol.attacks
    with single_thread():
        model = train(protocol, name, data, seed=seed).model
        attacked, retrained = None, None
        if spec.name != CLEAN:
            if spec.source == "published" and spec.targeted and on_note is not None:
                on_note(f"{spec} is a graph that others published, made for their targets; {spec.name}-live aims here.")
            attacked = _attack(protocol, spec, data, model, node)
            if spec.threat == "poisoning":
                retrained = train(protocol, name, attacked.data, seed=seed).model.cpu()
        found = explain(model.cpu(), data, node, attack=attacked, retrained=retrained, hops=hops, most=most)
    return named(found, model=name, attack="" if spec.name == CLEAN else f"{spec.without_threat} ({spec.threat})")


def _attack(protocol: Protocol, spec: AttackSpec, data: Data, model: nn.Module, node: int) -> AttackResult:
    if spec.source != "live" or spec.then:
        return make_graph(protocol, spec, data, victim=model)
    budget = budget_on(data, spec)
    assert budget is not None
    adaptive = spec.attack.knowledge == "adaptive"
    given = protocol.place(data) if adaptive else data
    return protocol.attack(spec).run(given, budget, victim=model, targets=torch.tensor([node]))
