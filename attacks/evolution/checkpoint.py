"""A population on the disk, so that a search that was stopped goes on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from contractive_gnn.attacks.base import AttackError
from contractive_gnn.attacks.evolution.population import Codes
from contractive_gnn.lines import replacing

Answers: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class State:
    """A search between two generations.

    Attributes:
        generation: how many are done; 0 is the random start.
        population: int64 ``[P, b]``, the fittest first.
        fitness: float64 ``[P]``.
        calls: how often the victim was asked for its scores.
        improved: the generation that found the fittest one.
    """

    generation: int
    population: Codes
    fitness: NDArray[np.float64]
    calls: int
    improved: int

    def save(self, path: Path, run: str, answers: Answers) -> None:
        """Write it, under a temporary name that is then renamed.

        Args:
            path: the file.
            run: what names the search: a file of another one is never read as this one's.
            answers: what the victim says of the clean graph, which tells one victim from another.
        """
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez(
                file,
                run=np.array(run),
                answers=answers,
                population=self.population,
                fitness=self.fitness,
                counts=np.array([self.generation, self.calls, self.improved]),
            )

    @classmethod
    def load(cls, path: Path, run: str, answers: Answers) -> State | None:
        """What :meth:`save` wrote; None where there is no such file.

        Raises:
            AttackError: it is no such file, or one of another search.
        """
        try:
            with np.load(path, allow_pickle=False) as saved:
                near = 1e-3 * np.abs(answers).max(initial=0.0)  # sums on a GPU differ in the last bits
                same = str(saved["run"]) == run and np.allclose(saved["answers"], answers, rtol=0.0, atol=near)
                generation, calls, improved = (int(count) for count in saved["counts"])
                state = cls(generation, saved["population"], saved["fitness"], calls, improved)
        except FileNotFoundError:
            return None
        except Exception as error:
            raise AttackError(f"{path} is no checkpoint of an evolutionary search ({error}); delete it") from error
        if not same:
            raise AttackError(
                f"{path} is the checkpoint of another search (another graph, model, seed, budget or setting); delete "
                "it, or give another path"
            )
        return state
