"""The order of the gallery: from a first layer to the family."""

from __future__ import annotations

#: scripts of ``examples/``; one that is not listed stops the build
ORDER = (
    "first_layer.py",
    "robust.py",
    "own_graph.py",
    "neighbourhood.py",
    "transfer_matrix.py",
    "certificate.py",
    "write_dynamics.py",
    "graph_classification.py",
    "deep_network.py",
    "plane_flow.py",
    "two_halves.py",
    "several_processes.py",
    "digits_classifier.py",
    "plug_and_play.py",
    "learned_pendulum.py",
    "learned_pde.py",
)


class Listed:
    """A script's place in :data:`ORDER`."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, script: str) -> int:
        """The key that scripts are sorted by."""
        return ORDER.index(script)
