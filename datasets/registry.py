"""Every dataset by its name: load it, load it attacked, ask what is here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from torch_geometric.data import Data

from contractive_gnn.datasets import planetoid
from contractive_gnn.datasets.digits import digits
from contractive_gnn.datasets.errors import UnknownDatasetError, UnknownSplitError
from contractive_gnn.datasets.fetch import FileStatus, Folder, file_status, known
from contractive_gnn.datasets.protocol import assemble, random_split
from contractive_gnn.datasets.published import (
    ATTACKS,
    PUBLISHED,
    attack_file,
    attacked_graph,
    checked_budget,
    clean_graph,
    fixed_split,
    graph_file,
    has_published,
    split_file,
    targets_file,
)
from contractive_gnn.datasets.sbm import contextual_sbm
from contractive_gnn.names import unknown

DATASETS: Mapping[str, str] = MappingProxyType(
    {
        "cora": "citations between 2,485 machine-learning papers, 7 topics, bag of words",
        "citeseer": "citations between 2,110 computer-science papers, 6 topics, bag of words",
        "polblogs": "links between 1,222 political blogs, 2 leanings, no features (identity)",
        "cora_ml": "citations between 2,810 machine-learning papers, 7 topics, bag of words",
        "pubmed": "citations between 19,717 papers on diabetes, 3 topics, TF-IDF (clean graph from Planetoid)",
        "digits": "1,797 images of digits, each joined to its nearest, 10 classes (embedded, no network needed)",
        "csbm": "contextual stochastic block model, 4 classes (generated, no network needed)",
    }
)
SPLITS = ("prognn", "random")
Split = Literal["prognn", "random"]


@dataclass(frozen=True)
class DatasetStatus:
    """What of a dataset is on this machine.

    Attributes:
        name: of the dataset.
        description: in a line.
        published: attack → budgets of its published graphs.
        files: every file it can use; empty for an embedded dataset.
    """

    name: str
    description: str
    published: Mapping[str, tuple[float, ...]]
    files: tuple[FileStatus, ...]

    @property
    def state(self) -> str:
        """``"embedded"``, ``"here"`` (all files), ``"partly"``, ``"absent"``, or ``"altered"`` (any file)."""
        states = {file.state for file in self.files}
        if not states:
            return "embedded"
        if "altered" in states:
            return "altered"
        return states.pop() if len(states) == 1 else "partly"

    @property
    def bytes_to_fetch(self) -> int:
        """Total size of the absent files whose size is known."""
        return sum(file.bytes or 0 for file in self.files if file.state == "absent")


def load(
    name: str,
    *,
    split: Split = "prognn",
    split_seed: int = 0,
    root: Folder | None = None,
    download: bool = True,
) -> Data:
    """A clean graph.

    Args:
        name: a key of :data:`DATASETS`.
        split: ``"prognn"``, the published fixed split, or ``"random"``: 10/10/80, stratified, as DeepRobust draws it.
            ``digits`` and ``csbm`` have no published split: either gives them a random one, and ``data.split`` says so.
        split_seed: of the random split; the published one has none.
        root: folder searched before ``$CONTRACTIVE_GNN_DATA``, the cache and the download.
        download: whether absent files may be downloaded into the cache.

    Returns:
        ``x`` float32 dense ``[n, d]``, as published (no normalisation); ``edge_index`` int64 ``[2, 2m]``, both
        directions, sorted, no self-loops; ``y`` int64 ``[n]``; ``train_mask``, ``val_mask``, ``test_mask`` bool
        ``[n]``; ``name`` and ``split``.

    Raises:
        DatasetError: the subclass says what: unknown name or split, file altered, missing, or not downloadable.
    """
    _check_name(name)
    if split not in SPLITS:
        raise UnknownSplitError(unknown("split", [split], SPLITS))
    if name == "digits":
        return digits(split_seed=split_seed)
    if name == "csbm":
        return contextual_sbm(split_seed=split_seed)
    if name == "pubmed":
        x, adjacency, y = planetoid.clean_graph(root=root, download=download)
    else:
        x, adjacency, y = clean_graph(name, root=root, download=download)
    published = split == "prognn"
    indices = fixed_split(name, root=root, download=download) if published else random_split(y, seed=split_seed)
    return assemble(name=name, split=split, x=x, adjacency=adjacency, y=y, indices=indices)


def load_attacked(name: str, attack: str, budget: float, *, root: Folder | None = None, download: bool = True) -> Data:
    """A published attacked graph (poisoning: the attack saw the ``prognn`` split, which the result carries).

    Args:
        name: of a dataset for which :func:`has_published` holds.
        attack: ``"metattack"`` or ``"nettack"``.
        budget: metattack: a float, fraction of the clean edges, 0.05, 0.1, 0.15, 0.2 or 0.25; nettack: an integer,
            flips per target, 1 … 5.
        root: as in :func:`load`.
        download: as in :func:`load`.

    Returns:
        As :func:`load`, with other edges; for nettack also ``targets`` int64 ``[t]``, the attacked test nodes.

    Raises:
        DatasetError: the subclass says what.
    """
    _check_name(name)
    exact = checked_budget(name, attack, budget)
    clean = load(name, root=root, download=download)
    return attacked_graph(clean, attack, exact, root=root, download=download)


def status(root: Folder | None = None) -> list[DatasetStatus]:
    """What of every dataset is on this machine, in the order of :data:`DATASETS`; nothing is downloaded.

    Args:
        root: folder searched before ``$CONTRACTIVE_GNN_DATA`` and the cache.
    """
    return [_status(name, root) for name in DATASETS]


def _status(name: str, root: Folder | None) -> DatasetStatus:
    published = {attack: tuple(budgets) for attack, budgets in ATTACKS.items() if has_published(name, attack)}
    sources = []
    if name in PUBLISHED:
        clean = planetoid.sources() if name == "pubmed" else [known(graph_file(name))]
        files = [attack_file(name, attack, budget) for attack, budgets in published.items() for budget in budgets]
        if "nettack" in published:
            files.append(targets_file(name))
        sources = [*clean, *(known(file) for file in [split_file(name), *files])]
    return DatasetStatus(
        name=name,
        description=DATASETS[name],
        published=MappingProxyType(published),
        files=tuple(file_status(source, root=root) for source in sources),
    )


def _check_name(name: str) -> None:
    if name not in DATASETS:
        raise UnknownDatasetError(unknown("dataset", [name], DATASETS))
