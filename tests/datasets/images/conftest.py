"""Real images, where they are."""

from __future__ import annotations

import pytest

from contractive_gnn.datasets.images import sources

pytest.importorskip("PIL")


@pytest.fixture(scope="session")
def real_images() -> None:
    """Skip a test that needs the image files, where neither $CONTRACTIVE_GNN_DATA nor the cache has them.

    An altered file is no reason to skip: the loader's error then fails the test.
    """
    wanted = ["images/cifar10_test.npz", "images/dncnn/sigma25.npz", *sources.pinned_folders()]
    absent = [file for file in wanted if sources.find(file, root=None) is None]
    if absent:
        pytest.skip(f"{', '.join(absent)} are in neither $CONTRACTIVE_GNN_DATA nor the cache")
