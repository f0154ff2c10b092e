r"""What a field or a dynamics declares, as statements that can be tried: ``‖f(x) − f(y)‖ ≤ c ‖x − y‖``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from contractive_gnn.dynamics import Dynamics, VectorField
from contractive_gnn.graph import Graph
from contractive_gnn.norms import LipschitzBound, Norm, lipschitz_adversarial, lipschitz_sampled, number
from contractive_gnn.testing.conservation import Residual, directions, identities, promises

SLACK = 1e-9
"""Largest excess that rounding may explain: float64, states of order 1, differences of at least 0.01."""


STEP_COST, DIRECTION_COST = 20, 200
"""Steps of a scheme, with their Jacobian, take the place of so many tries; where a step goes shows everywhere."""

Kind = Literal["step", "rate", "field", "anchor", "conserved", "kept", "structure", "uniform"]


@dataclass(frozen=True, eq=False)
class Finding:
    """The worst pair that was found for one claim.

    Attributes:
        value: the largest ratio ``‖f(x) − f(y)‖/‖x − y‖``, or its one-sided counterpart.
        tries: pairs that were evaluated.
        x: one point; for a claim about the structure, the adjacency matrix.
        y: the other; for what is conserved or kept by a scheme, the field at x.
    """

    value: float
    tries: int
    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Claim:
    """One declared constant of one field, or of one dynamics on one graph.

    Attributes:
        kind: which quantity.
        what: the same in words, with its step where it has one.
        graph: name of the graph; of a field without one, that of the draw of its parameters.
        constant: what is declared.
    """

    kind: Kind
    what: str
    graph: str
    constant: float

    def broken_by(self, finding: Finding) -> bool:
        """Whether the pair exceeds the declared constant by more than rounding does; a NaN on either side breaks it."""
        return not finding.value <= self.constant + SLACK * max(1.0, abs(self.constant))

    def ratio(self, finding: Finding) -> float:
        """Found over declared; 1 is a bound that is attained. For rates, which may be 0, 1 plus the difference."""
        if self.constant > SLACK:
            return finding.value / self.constant
        return 1.0 + (finding.value - self.constant)


Search = Callable[[int, int], Finding]
"""``(tries, seed) ↦`` the worst pair found."""


def claims(
    dynamics: Dynamics, graph: Graph, *, name: str = "", channels: int = 2, seed: int = 0
) -> Iterator[tuple[Claim, Search]]:
    """Everything that ``dynamics`` declares on ``graph``: :func:`field_claims`, and its constants in the structure.

    Args:
        dynamics: in float64.
        graph: weights in float64.
        name: of the graph.
        channels: of the state.
        seed: of the state that the search begins at.

    Returns:
        each claim with the search that tries to break it.
    """
    generator = torch.Generator().manual_seed(seed)
    x = dynamics.state(graph, channels, generator=generator)
    anchor = dynamics.state(graph, channels, generator=generator)
    derived = type(dynamics).field_lipschitz is Dynamics.field_lipschitz
    yield from field_claims(dynamics.on(graph, anchor), x, name=name, derived=derived)
    for state, what in ((x, "Lipschitz in A at a state"), (None, "Lipschitz in A")):
        constant = dynamics.structure_lipschitz(graph, state)
        if constant != math.inf:
            yield (
                Claim("structure", what, name, constant),
                _structure_search(dynamics, graph, x, anchor, anywhere=state is None),
            )
        for constant, power, unit in zip(
            dynamics.structure_saturation(graph, state), (0.5, 0.0), ("√Σ|ã − a|", "any A"), strict=True
        ):
            if constant != math.inf:
                search = _saturation_search(dynamics, graph, x, anchor, power=power, anywhere=state is None)
                yield Claim("structure", f"{what}, saturated: {unit}", name, constant), search


def field_claims(
    field: VectorField, x: Tensor, *, name: str = "", derived: bool | None = None
) -> Iterator[tuple[Claim, Search]]:
    """Everything that ``field`` declares, whatever it lives on.

    The Euler step at the largest step, at half of it and beyond it, as far as a constant is declared; the one-sided
    Lipschitz constant −κ of the field; its own Lipschitz constant; that in the anchor; what its flow keeps, and
    what each scheme keeps that promises it.

    Args:
        field: in float64, with its anchor.
        x: the state that the search begins at, in float64.
        name: of its graph, or of the draw of its parameters.
        derived: whether the field's own Lipschitz constant follows from that of its steps, and needs no trial; None to
            look whether it is declared.

    Returns:
        each claim with the search that tries to break it.
    """
    norm, anchorless = field.norm, field.anchored(x) is field

    def lipschitz(kind: Kind, what: str, f: Callable[[Tensor], Tensor], constant: float) -> tuple[Claim, Search]:
        def search(tries: int, seed: int) -> Finding:
            return worst_pair(f, x, norm=norm, project=field.project, one_sided=kind == "rate", tries=tries, seed=seed)

        return Claim(kind, what, name, constant), search

    def step(h: float, t: float = 0.0) -> Callable[[Tensor], Tensor]:
        return lambda y: y + h * field(y, t)

    rate, longest = number(field.rate()), number(field.max_step())
    reach = min(longest, 1e6)  # beyond that rounding is larger than what is claimed
    if reach > 0 or math.isnan(reach):
        for share in (1.0, 0.5):
            h = share * reach
            yield lipschitz("step", f"step {h:.3g} contracts by 1 − hκ", step(h, 20.0 * (1.0 - share)), 1.0 - h * rate)
    reference = reach if reach > 0 else 1.0
    for share in (0.5, 1.0, 1.5):
        h = share * reference
        constant = number(field.lipschitz(h))
        if constant != math.inf:
            yield lipschitz("step", f"step {h:.3g} is Lipschitz", step(h, 4.0 * (1.5 - share)), constant)
    if rate != -math.inf:
        yield lipschitz("rate", "log norm ≤ −κ", lambda y: field(y, 0.7), -rate)
    if derived is None:
        derived = type(field).field_lipschitz is VectorField.field_lipschitz
    constant = math.inf if derived else number(field.field_lipschitz())
    if constant != math.inf:
        yield lipschitz("field", "Lipschitz", lambda y: field(y, 1.3), constant)
    constant = field.anchor_lipschitz
    if constant != math.inf and not anchorless:
        yield lipschitz("anchor", "Lipschitz in the anchor", lambda u: field.anchored(u)(x, 10.0), constant)
    for what, residual in identities(field):
        yield Claim("conserved", what, name, 0.0), _conservation_search(field, x, residual)
    for what, residual in promises(field):
        yield Claim("kept", what, name, 0.0), _conservation_search(field, x, residual, cost=STEP_COST)
    for what, residual in directions(field):
        yield Claim("kept", what, name, 0.0), _conservation_search(field, x, residual, cost=DIRECTION_COST)


def _conservation_search(field: VectorField, x: Tensor, residual: Residual, *, cost: int = 1) -> Search:
    """The largest residual at random states of every size and at random times; of ``cost`` tries each."""

    def search(tries: int, seed: int) -> Finding:
        generator = torch.Generator().manual_seed(seed)
        tries = max(tries // cost, 2)
        best = Finding(-math.inf, tries, x, x)
        for attempt in range(tries):
            scale = 10 ** float(torch.empty(()).uniform_(-1, 1, generator=generator)) if attempt else 0.0
            state = x + scale * torch.randn(x.shape, generator=generator, dtype=x.dtype)
            state = field.project(state).detach()
            time = 10 * float(torch.rand((), generator=generator))
            with torch.no_grad():
                value = residual(field, state, time)
                if value > best.value:
                    best = Finding(value, tries, state, field(state, time).detach())
        return best

    return search


def worst_pair(
    f: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    norm: Norm,
    project: Callable[[Tensor], Tensor],
    one_sided: bool,
    tries: int,
    seed: int,
) -> Finding:
    """The worst one of four fifths of the tries at random and one fifth by ascent, a try of which costs several."""
    climbs = max(tries // 5, 1)
    steps = min(40, climbs)
    restarts = climbs // steps
    samples = max(tries - restarts * steps, 1)
    sampled = lipschitz_sampled(f, x, norm=norm, project=project, one_sided=one_sided, samples=samples, seed=seed)
    climbed = lipschitz_adversarial(
        f, x, norm=norm, project=project, one_sided=one_sided, restarts=restarts, steps=steps, seed=seed
    )
    best: LipschitzBound = max(sampled, climbed, key=lambda bound: bound.value)
    return Finding(best.value, sampled.pairs + climbed.pairs, best.x, best.y)


def _structure_search(dynamics: Dynamics, graph: Graph, x: Tensor, anchor: Tensor, *, anywhere: bool) -> Search:
    """Flip a few pairs, change weights a little or a lot, empty a node: whatever keeps A symmetric and A ≥ 0.

    ``anywhere``: from states of every size, for a constant that is to hold at all of them. Four fifths of the tries are
    drawn at random, one fifth climbs (:func:`_climb`), at least 24 steps.
    """
    n = graph.num_nodes
    dense = torch.zeros(n, n, dtype=torch.float64).index_put((graph.target, graph.source), graph.edge_weight)
    rows, columns = torch.triu_indices(n, n, offset=1)

    def field_of(a: Tensor, scale: float) -> Tensor:
        pairs = torch.cat([torch.stack([rows, columns]), torch.stack([columns, rows])], dim=1)
        return dynamics.field(scale * x, Graph(pairs, a[pairs[0], pairs[1]], n, loop_free=True), anchor=anchor)

    def shift(state: Tensor, upper: Tensor) -> Tensor:
        pairs = torch.cat([torch.stack([rows, columns]), torch.stack([columns, rows])], dim=1)
        change = dynamics.field(state, Graph(pairs, torch.cat([upper, upper]), n, loop_free=True), anchor=anchor)
        return dynamics.size(change - dynamics.field(state, graph, anchor=anchor), graph)

    def search(tries: int, seed: int) -> Finding:
        generator = torch.Generator().manual_seed(seed)
        steps = max(tries // 5, 24)
        draws = max(tries - steps, tries // 5)
        value, upper = _climb(shift, x, dense[rows, columns], steps, anywhere=anywhere, generator=generator)
        changed = torch.zeros_like(dense).index_put((rows, columns), upper)
        best = Finding(value, steps + draws, dense, changed + changed.T)
        with torch.no_grad():
            scale = 1.0
            before = field_of(dense, scale)
            for attempt in range(draws):
                if anywhere and attempt % 5 == 4:
                    scale = 10 ** float(torch.empty(()).uniform_(-1, 3, generator=generator))
                    before = field_of(dense, scale)
                upper = dense[rows, columns].clone()
                kind = attempt % 4
                count = int(torch.randint(1, 4, (), generator=generator))
                chosen = torch.randint(len(upper), (count,), generator=generator)
                if kind == 0:
                    upper[chosen] = torch.where(upper[chosen] > 0, 0.0, 1.0).to(upper)
                elif kind == 1:
                    upper[chosen] = 10 ** (2 * torch.rand(count, generator=generator, dtype=torch.float64) - 1)
                elif kind == 2:
                    upper = upper + 0.01 * torch.rand(len(upper), generator=generator, dtype=torch.float64)
                else:
                    node = int(torch.randint(n, (), generator=generator))
                    upper[(rows == node) | (columns == node)] = 0.0
                changed = torch.zeros_like(dense)
                changed[rows, columns] = upper
                changed = changed + changed.T
                moved = float((changed - dense).abs().sum())
                if moved > 1e-6:
                    value = float(dynamics.size(field_of(changed, scale) - before, graph)) / moved
                    value = math.inf if math.isnan(value) else value
                    if value > best.value:
                        best = Finding(value, steps + draws, dense, changed)
        return best

    return search


def _saturation_search(
    dynamics: Dynamics, graph: Graph, x: Tensor, anchor: Tensor, *, power: float, anywhere: bool
) -> Search:
    """The largest ``‖X(x; Ã) − X(x; A)‖/δ^power`` where nodes exchange their edges for heavy ones."""
    n = graph.num_nodes
    dense = torch.zeros(n, n, dtype=torch.float64).index_put((graph.target, graph.source), graph.edge_weight)
    pairs = (1 - torch.eye(n)).nonzero().T

    def search(tries: int, seed: int) -> Finding:
        generator = torch.Generator().manual_seed(seed)
        best, state = Finding(0.0, tries, dense, dense), x
        with torch.no_grad():
            for _ in range(tries):
                if anywhere:
                    state = 10 ** float(torch.empty(()).uniform_(-1, 3, generator=generator)) * torch.randn(
                        x.shape, generator=generator, dtype=x.dtype
                    )
                changed = dense.clone()
                count = int(torch.randint(1, n + 1, (), generator=generator))
                for node, other in torch.randint(n, (count, 2), generator=generator).tolist():
                    changed[node], changed[:, node] = 0.0, 0.0
                    if node != other:
                        weight = 10 ** float(torch.empty(()).uniform_(-1, 5, generator=generator))
                        changed[node, other] = changed[other, node] = weight
                delta = float((changed - dense).abs().sum())
                if delta > 1e-6:
                    after = Graph(pairs, changed[pairs[0], pairs[1]], n, loop_free=True)
                    shift = dynamics.field(state, after, anchor=anchor) - dynamics.field(state, graph, anchor=anchor)
                    value = float(dynamics.size(shift, graph)) / delta**power
                    value = math.inf if math.isnan(value) else value
                    if value > best.value:
                        best = Finding(value, tries, dense, changed)
        return best

    return search


def _climb(
    shift: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    given: Tensor,
    steps: int,
    *,
    anywhere: bool,
    generator: torch.Generator,
) -> tuple[float, Tensor]:
    """Climb the ratio ``shift(x, a)/(2 Σ|a − given|)`` of the weights of the pairs, and with ``anywhere`` of the state.

    In the weights the ball is that of ℓ1, so its best direction is one pair: the steepest, by a little or by all of it.
    The state jumps once along its gradient to a size of its own, since a saturated σ has no gradient left, and then
    goes on in small steps. Whatever stalls starts anew.
    """
    best, where = 0.0, given
    state, weights, age, last = x, given, 0, 0.0
    for _ in range(steps):
        if age == 0:
            scale = 10 ** float(torch.empty(()).uniform_(-2, 0, generator=generator)) if anywhere else 1.0
            state, last = scale * (x[torch.randperm(len(x), generator=generator)] if anywhere else x), 0.0
            length = 10 ** float(torch.empty(()).uniform_(-3, 1, generator=generator))
            weights = given + length * torch.rand(given.shape, generator=generator, dtype=given.dtype)
        state, weights = state.detach().requires_grad_(), weights.detach().requires_grad_()
        with torch.enable_grad():
            size = shift(state, weights)
            length = float((weights - given).detach().abs().sum())
            ratio = float(size.detach()) / (2 * length)
            ratio = math.inf if math.isnan(ratio) else ratio
            if ratio > best:
                best, where = ratio, weights.detach()
            by_state, by_weight = torch.autograd.grad(size, (state, weights), allow_unused=True)
        age = 0 if age > 2 and ratio <= last * (1 + 1e-3) else age + 1
        state, weights, last = state.detach(), weights.detach(), ratio
        if by_weight is not None and age != 2:  # the state jumps for the pair that was chosen last
            # a weight can only shrink by what is there
            gain = torch.where(given > 0, by_weight.abs(), by_weight)
            pair = int(gain.argmax())
            length = 10 ** float(torch.empty(()).uniform_(-3, 1, generator=generator))
            step = length if by_weight[pair] >= 0 else -min(length, float(given[pair]))
            weights = given.index_add(0, torch.tensor([pair]), given.new_tensor([step]))
        if anywhere and age > 1 and by_state is not None and float(by_state.abs().max()) > 0:
            unit = by_state / by_state.abs().max()
            if age == 2:
                state = 10 ** float(torch.empty(()).uniform_(0, 3, generator=generator)) * unit
            else:
                state = state + 0.1 * float(state.abs().max()) * unit
    return best, where


M = TypeVar("M", bound=nn.Module)


def randomised(field: M, *, seed: int) -> M:
    """The dynamics or field itself, in float64, with parameters far from where they start; for an odd seed, smaller.

    A condition has to hold for every value that training may reach.
    """
    generator = torch.Generator().manual_seed(seed)
    field = field.double()
    with torch.no_grad():
        for parameter in field.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(noise * 10 ** float(torch.empty(()).uniform_(-2, 0, generator=generator)))
            if seed % 2:
                parameter.mul_(10 ** float(torch.empty(()).uniform_(-3, 0, generator=generator)))
    return field
