"""The random state of a run, which leaves no trace in the process."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np

from contractive_gnn.seeding import seeded


@contextlib.contextmanager
def forked_random_state(seed: int) -> Iterator[None]:
    """Seed torch, numpy and random, one thread at a time; put their states back afterwards, whatever happens."""
    with seeded(seed):
        state_python, state_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  (DeepRobust draws from it)
        try:
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            yield
        finally:
            random.setstate(state_python)
            np.random.set_state(state_numpy)  # noqa: NPY002
