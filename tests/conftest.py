"""Fixtures that tests of every folder share."""

from __future__ import annotations

from pathlib import Path

import pytest

from contractive_gnn import datasets


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
