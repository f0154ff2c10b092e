"""Fixtures that tests of every folder share, and where the suite's random numbers come from."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from contractive_gnn import datasets

# The suite draws the same examples in every run; tests/fresh.py asks for the other profile.
settings.register_profile("fixed", derandomize=True, database=None, deadline=None)
settings.register_profile("fresh", derandomize=False, database=None, deadline=None, print_blob=False)
settings.load_profile("fixed")
# A newer Hypothesis also draws the constants of every module of the project imported so far. With
# them, an example would depend on the library's text, and on which other tests are run.
try:
    from hypothesis.internal.conjecture import providers

    _NONE = providers.Constants()
    providers._get_local_constants = lambda: _NONE
except (ImportError, AttributeError):
    pass


def _seed() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  DeepRobust draws from the global generator
    torch.manual_seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup() -> None:
    """Every fixture starts from the same random state, whichever test asks for it first."""
    _seed()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    """Every test starts from the same random state, whichever tests ran before."""
    _seed()


@pytest.fixture(scope="session")
def real_data() -> None:
    """Skip a test that needs Cora, Citeseer and Polblogs, where neither $CONTRACTIVE_GNN_DATA nor the cache has them.

    An altered file is no reason to skip: the loader's error then fails the test.
    """
    graphs = [entry for entry in datasets.status() if entry.name in ("cora", "citeseer", "polblogs")]
    absent = [file.file for entry in graphs for file in entry.files if file.state == "absent"]
    if absent:
        pytest.skip(
            f"{len(absent)} files of real graphs are in neither $CONTRACTIVE_GNN_DATA nor the cache ({absent[0]}, …); "
            "fetch them with contractive_gnn.datasets.load and load_attacked"
        )


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository's root."""
    return Path(__file__).parents[1]
