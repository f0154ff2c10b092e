"""The evolutionary search."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.data import Data

from contractive_gnn.attacks.base import AttackError, Kind, Perturbation, check_count, name_of, register
from contractive_gnn.attacks.evolution.attacked_graph import CleanEdges
from contractive_gnn.attacks.evolution.checkpoint import Answers, State
from contractive_gnn.attacks.evolution.objectives import CertifiedErrors, GraphObjective
from contractive_gnn.attacks.evolution.population import Codes, crossover, random_pairs, tournament
from contractive_gnn.attacks.whitebox import LOSSES, AdaptiveAttack, Objective, check_victim
from contractive_gnn.checks import check_flag, check_real
from contractive_gnn.training.batches.progress import Progress

#: names of objectives, beside those of the losses
ERRORS: Final = "errors"
CERTIFIED: Final = "certified"
_NAMES: Final = (ERRORS, CERTIFIED, *LOSSES)
_TOURNAMENT: Final = 2


@register
class EvA(AdaptiveAttack):
    """An evolutionary search for flips of edges, which asks the victim for its scores and for nothing else (EvA).

    Akhondzadeh, Zargarbashi, Cao, Bojchevski, *EvA: Evolutionary Attacks on Graphs* (ICLR 2026, arXiv 2507.08212). An
    individual is a set of as many pairs as the budget has. At first each pair joins a node to be fooled with any other
    one. In each generation parents are chosen, each the fitter of two; two of them have two children, by a crossover at
    several points; a pair of a child is exchanged, with a small probability, for a new one, which has an end among the
    nodes to be fooled that the best individual has not fooled yet; and the fittest of parents and children remain.
    Memory is linear in the budget.

    It needs no gradient, so that no gradient can be masked, and raises whatever is asked for. The defaults are the
    published ones, and half a million calls of the victim: an hour or more on a CPU. With 128 individuals and 400
    generations it takes a tenth of that.

    The provenance says under ``diagnosis`` how often the victim was asked (``calls``), the objective before and after,
    and in which generation it last rose (``improved``). What an objective of one's own asks is not counted.

    Args:
        objective: "errors", the number of nodes that are wrong; "certified", the share that are wrong or not certified
            against one flip at every node (:class:`CertifiedErrors`); a loss of
            :data:`~contractive_gnn.attacks.whitebox.LOSSES`, for a few nodes, where the number of errors says too
            little; or a callable of the victim and the attacked graph, whose ``test_mask`` marks the nodes that count,
            that gives a number to be raised.
        population: individuals, ≥ 2.
        generations: after the first, random one.
        mutation: probability of each pair of a child to be exchanged.
        points: of a crossover.
        checkpoint: a file that keeps the population after each generation: a run with the same seed, graph, victim and
            settings goes on there, and ends as one that was never stopped. More ``generations`` go on, too.
        progress: whether a bar is shown.
        seed: see :class:`~contractive_gnn.attacks.Attack`.

    Raises:
        TypeError: an objective that is neither a name nor a callable; something else than a number.
        ValueError: an unknown name, or a number out of its range.
        AttackError: (from ``run``) the victim does not fit the graph; the objective gives no finite number; a
            checkpoint of another search, or of more generations.

    Example:
        >>> import contractive_gnn as cg
        >>> data = cg.contextual_sbm(60, seed=0)
        >>> model = cg.build("gcn", data.num_features, 4).eval()
        >>> result = cg.attack(model, data, "eva", flips=5, population=8, generations=4)
        >>> result.provenance["params"]["diagnosis"]["calls"]
        46
    """

    name: ClassVar[str] = "eva"
    kind: ClassVar[Kind] = "structure"

    def __init__(
        self,
        *,
        objective: str | GraphObjective = ERRORS,
        population: int = 512,
        generations: int = 1024,
        mutation: float = 0.02,
        points: int = 30,
        checkpoint: str | os.PathLike[str] | None = None,
        progress: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(seed=seed)
        if not callable(objective) and objective not in _NAMES:
            kind = ValueError if isinstance(objective, str) else TypeError
            raise kind(
                f"objective is one of {', '.join(map(repr, _NAMES))} or a callable of the victim and the attacked "
                f"graph, given {objective!r}"
            )
        self.objective = objective
        self.population = check_count("population", population, least=2)
        self.generations = check_count("generations", generations, least=0)
        check_real("mutation", mutation, least=0, most=1)
        self.mutation = float(mutation)
        self.points = check_count("points", points)
        self.checkpoint = None if checkpoint is None else os.fspath(checkpoint)
        check_flag("progress", progress)
        self.progress = progress

    @property
    def params(self) -> dict[str, Any]:
        """The hyperparameters that decide what is found."""
        return {name: value for name, value in super().params.items() if name not in ("checkpoint", "progress")}

    def _perturb(self, data: Data, n_flips: int, *, victim: nn.Module | None, targets: Tensor | None) -> Perturbation:
        assert victim is not None  # the base class has checked it
        read = check_victim(self.name, victim, data, kind=self.kind, weights=False)
        n = int(data.num_nodes)
        budget = min(n_flips, n * (n - 1) // 2)
        if not budget:
            return Perturbation()
        fitness = _Fitness(victim, data, targets, self.objective)
        rng = np.random.default_rng([self.seed, 0])
        path = None if self.checkpoint is None else Path(self.checkpoint)
        run, answers = ("", np.zeros(0)) if path is None else (self._run(data, fitness, budget), fitness.answers())
        state = None if path is None else State.load(path, run, answers)
        start = fitness.of(np.empty(0, dtype=np.int64))
        if state is None:
            everyone = random_pairs(self.population * budget, fitness.nodes, n, rng).reshape(self.population, budget)
            state = self._fittest(0, everyone, fitness.of_all(everyone), fitness.calls, 0)
        else:
            fitness.calls = state.calls
            if state.generation > self.generations:
                raise AttackError(
                    f"{path} has done {state.generation} generations, and {self.generations} are asked for; give "
                    "another path, or ask for more"
                )
            if callable(self.objective) and read["repeats"]:
                self._check_objective(state, fitness, path)
        shown = Progress(shown=self.progress, steps=self.generations, done=state.generation)
        while state.generation < self.generations:
            state = self._next(state, fitness, n)
            if path is not None:
                state.save(path, run, answers)
            shown.step()
            shown.epoch({"objective": float(state.fitness[0]), "calls": float(state.calls)})
        shown.close()
        best = np.unique(state.population[0])
        if state.fitness[0] < start:  # a budget that helps nobody is left unspent
            best = best[:0]
        self._tell(read, self._notes_of(state, fitness, best, start))
        return Perturbation(edge_flips=torch.from_numpy(np.stack(np.divmod(best, n))))

    def _next(self, state: State, fitness: _Fitness, n: int) -> State:
        """The generation after this one."""
        generation = state.generation + 1
        rng = np.random.default_rng([self.seed, generation])  # of its own: a run that was stopped draws the same
        pairs = (self.population + 1) // 2
        parents = tournament(state.fitness, 2 * pairs, _TOURNAMENT, rng)
        first, second = state.population[parents[:pairs]], state.population[parents[pairs:]]
        children = np.concatenate(crossover(first, second, self.points, rng))[: self.population]
        exchanged = rng.random(children.shape) < self.mutation
        ends = fitness.not_fooled(state.population[0])
        children[exchanged] = random_pairs(int(exchanged.sum()), ends, n, rng)
        everyone = np.concatenate([state.population, children])
        both = np.concatenate([state.fitness, fitness.of_all(children)])
        after = self._fittest(generation, everyone, both, fitness.calls, state.improved)
        if after.fitness[0] > state.fitness[0]:
            after = State(generation, after.population, after.fitness, after.calls, generation)
        return after

    def _fittest(
        self, generation: int, everyone: Codes, fitness: NDArray[np.float64], calls: int, improved: int
    ) -> State:
        order = np.argsort(-fitness, kind="stable")[: self.population]
        return State(generation, everyone[order], fitness[order], calls, improved)

    def _check_objective(self, state: State, fitness: _Fitness, path: Path | None) -> None:
        """Whether an objective of one's own is that of the file: the digest has its name, which two may share."""
        there, now = float(state.fitness[0]), fitness.of(state.population[0])
        if not np.isclose(there, now, rtol=1e-3):
            raise AttackError(
                f"{path} is the checkpoint of another search: the objective {name_of(self.objective)} gives {now:g} "
                f"for its best flips, where the file has {there:g}; delete it, or give another path"
            )

    def _run(self, data: Data, fitness: _Fitness, budget: int) -> str:
        """A digest of all that decides the search, but for the number of generations."""
        told = {key: value for key, value in self.params.items() if key != "generations"}
        digest = hashlib.sha256(json.dumps([told, self.seed, budget, int(data.num_nodes)]).encode())
        for array in (data.x, data.edge_index, data.y, fitness.clean.argmax(dim=1)):
            digest.update(array.numpy(force=True).tobytes())
        digest.update(fitness.nodes.tobytes())
        return digest.hexdigest()

    def _notes_of(self, state: State, fitness: _Fitness, best: Codes, start: float) -> dict[str, Any]:
        objective = float(state.fitness[0]) if best.size else start
        calls = fitness.calls
        return {
            "gradient": "not used",
            "unreliable": [],
            "found_by": f"generation {state.improved}",
            "errors": {
                "clean": fitness.wrong(np.empty(0, dtype=np.int64)),
                "found": fitness.wrong(best),
            },
            "nodes": fitness.nodes.size,
            "objective": {"clean": start, "found": objective},
            "calls": calls,
            "improved": state.improved,
        }


class _Fitness:
    """What each individual is worth, and how often the victim was asked for it."""

    def __init__(self, victim: nn.Module, data: Data, targets: Tensor | None, objective: str | GraphObjective) -> None:
        self._victim, self._data = victim, data
        self._edges = CleanEdges(data.edge_index, int(data.num_nodes))
        self.calls = 0
        self.clean = self._scores(np.empty(0, dtype=np.int64))
        # checks that the victim's scores and the graph fit each other
        named = objective if isinstance(objective, str) and objective in LOSSES else "tanh-margin"
        self._margins = Objective.of(data, self.clean, targets, named)
        self.nodes: Codes = self._margins.nodes.numpy(force=True)
        self._worth = self._worth_of(objective)

    def _worth_of(self, objective: str | GraphObjective) -> Callable[[Codes], float]:
        if objective == ERRORS:
            return lambda codes: float(self.wrong(codes))
        if isinstance(objective, str) and objective in LOSSES:
            return lambda codes: float(self._margins.value(self._scores(codes)))
        given: GraphObjective = CertifiedErrors() if isinstance(objective, str) else objective
        mask = torch.zeros_like(self._data.test_mask)
        mask[self._margins.nodes] = True

        def worth(codes: Codes) -> float:
            attacked = copy.copy(self._data)
            attacked.edge_index, attacked.test_mask = self._edges.flipped(codes), mask
            with torch.no_grad():
                value: Any = given(self._victim, attacked)
            try:
                number = float(value)
            except (TypeError, ValueError, RuntimeError):
                number = float("nan")
            if not np.isfinite(number):
                raise AttackError(f"the objective {name_of(given)} returned {value!r}; expected one finite number")
            return number

        return worth

    def answers(self) -> Answers:
        """A weighted sum over the nodes of the clean scores of each class, ``[c]``: other victims give others."""
        weights = torch.arange(1, len(self.clean) + 1, device=self.clean.device).cos().double()
        return (weights @ self.clean.double().nan_to_num()).numpy(force=True)

    def of(self, codes: Codes) -> float:
        """The objective with these flips."""
        return self._worth(codes)

    def of_all(self, population: Codes) -> NDArray[np.float64]:
        """The objective of each row."""
        return np.array([self._worth(row) for row in population])

    def wrong(self, codes: Codes) -> int:
        """How many nodes are wrong with these flips."""
        return int((self._predicted(codes) != self._margins.labels).sum())

    def not_fooled(self, codes: Codes) -> Codes:
        """The nodes that are right in spite of these flips; all of them where none is."""
        right: Codes = self.nodes[(self._predicted(codes) == self._margins.labels).numpy(force=True)]
        return right if right.size else self.nodes

    def _predicted(self, codes: Codes) -> Tensor:
        """The class that each of the nodes gets."""
        return self._scores(codes)[self._margins.nodes].argmax(dim=1)

    def _scores(self, codes: Codes) -> Tensor:
        self.calls += 1
        with torch.no_grad():
            return self._victim(self._data.x, self._edges.flipped(codes))  # type: ignore[no-any-return]
