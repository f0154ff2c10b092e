"""Every dataset by its name: register it, load it, load it attacked, ask what is here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, Protocol, TypeVar

from torch_geometric.data import Data

from contractive_gnn.datasets import planetoid
from contractive_gnn.datasets.degree_corrected import degree_corrected_sbm
from contractive_gnn.datasets.digits import digits
from contractive_gnn.datasets.errors import InvalidGraphError, UnknownDatasetError, UnknownSplitError
from contractive_gnn.datasets.fetch import FileStatus, Folder, file_status, known
from contractive_gnn.datasets.ogb import load_arxiv
from contractive_gnn.datasets.protocol import (
    INDUCTIVE,
    assemble,
    inductive_split,
    known_only,
    random_split,
    validate,
    with_masks,
)
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
from contractive_gnn.inputs import MASKS
from contractive_gnn.names import unknown
from contractive_gnn.registry import Registry

SPLITS = ("prognn", "random", INDUCTIVE)
Split = Literal["prognn", "random", "inductive"]


class Loader(Protocol):
    """What :func:`register` takes."""

    def __call__(
        self, *, split: Literal["prognn", "random"], split_seed: int, root: Folder | None, download: bool
    ) -> Data:
        """A clean graph; the arguments are those of :func:`load`, which draws an inductive split by itself."""


@dataclass(frozen=True)
class Dataset:
    """A row of :data:`DATASETS`; its text is the description.

    Attributes:
        load: its loader.
        description: in a line.
    """

    load: Loader
    description: str

    def __str__(self) -> str:
        return self.description


DATASETS: Registry[Dataset] = Registry("dataset", joints="-_")

_Loader = TypeVar("_Loader", bound=Callable[..., Data])


def register(name: str, *, description: str | None = None) -> Callable[[_Loader], _Loader]:
    """Register a function ``(*, split, split_seed, root, download) -> Data``: :func:`load` and the commands know it.

    The graph is simple and undirected: ``edge_index`` with both directions of every edge, no self-loops
    (:func:`~contractive_gnn.datasets.validate` says what is wrong). It has ``x`` float ``[n, d]``, ``y`` int64 ``[n]``,
    and either no masks, and gets a random split of ``split_seed``, or all three, and ``data.split``, the name of the
    split that they are.

    Args:
        name: lower-case words joined by hyphens.
        description: in a line; by default the first line of the function's docstring.

    Raises:
        ValueError: if the name is taken by other code, or has other characters.
        TypeError: if the function does not take the four arguments.

    Example:
        >>> from contractive_gnn import datasets
        >>> @datasets.register("two-rooms")
        ... def two_rooms(**options):
        ...     \"""Two rooms with a door between them.\"""
        ...     return datasets.contextual_sbm(80, classes=2, homophily=0.9, split_seed=options["split_seed"])
        >>> datasets.load("two-rooms", split_seed=3).num_nodes
        80
    """

    def add(loader: _Loader) -> _Loader:
        try:
            inspect.signature(loader).bind(split="prognn", split_seed=0, root=None, download=True)
        except TypeError as error:
            raise TypeError(
                f"the loader of the dataset {name!r} is called with split=…, split_seed=…, root=… and download=…; it "
                f"takes {inspect.signature(loader)} ({error}): let it take those, or **options"
            ) from None
        lines = (inspect.getdoc(loader) or "").splitlines()
        DATASETS.register(name)(Dataset(loader, description or next(iter(lines), "") or name))
        return loader

    return add


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
        """``"embedded"``, ``"here"`` (all files), ``"partly"``, ``"absent"``, or ``"altered"`` (any file).

        ``"registered"`` for one of a plug-in, or of files of your own, of which only its loader knows where it is.
        """
        states = {file.state for file in self.files}
        if not states:
            return "embedded" if self.name in EMBEDDED else "registered"
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
        split: ``"prognn"``, the published fixed split; ``"random"``: 10/10/80, stratified, as DeepRobust draws it; or
            ``"inductive"``: 20 nodes of each class for the training, 20 for the validation, a tenth of each class for
            the test, and a model is fitted on :func:`without_test_nodes` (Gosch et al., NeurIPS 2023).
            ``digits``, ``csbm`` and ``dc-sbm`` have no published split: they get a random one for it, and
            ``data.split`` says so. That of ``ogbn-arxiv`` is by time.
        split_seed: of a split that is drawn; the published one has none.
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
    given: Literal["prognn", "random"] = "random" if split == "inductive" else split
    data = DATASETS.get(name).load(split=given, split_seed=split_seed, root=root, download=download)
    data = data if name in OURS else _checked(data, name, split_seed)
    if split != "inductive":
        return data
    return with_masks(data, known_only(inductive_split, data.y.numpy(force=True), seed=split_seed), split=INDUCTIVE)


def _checked(data: object, name: str, split_seed: int) -> Data:
    """What the loader of a plug-in gave, named and with masks."""
    if not isinstance(data, Data):
        raise InvalidGraphError(
            f"the loader of the dataset {name!r} gave a {type(data).__name__}; expected a torch_geometric.data.Data"
        )
    validate(data)
    if data.y is None:
        raise InvalidGraphError(f"the dataset {name!r} has no labels y; expected int64 [{data.num_nodes}]")
    given = [mask for mask in MASKS if mask in data]
    if not given:
        with_masks(data, random_split(data.y.numpy(force=True), seed=split_seed), split="random")
    elif len(given) < len(MASKS):
        raise InvalidGraphError(
            f"the dataset {name!r} has {', '.join(given)} alone; give it all of {', '.join(MASKS)}, or none, and a "
            "random split is drawn"
        )
    elif "split" not in data:
        raise InvalidGraphError(
            f"the dataset {name!r} has masks, and nothing says of which split; set data.split to its name, or leave "
            "the masks out, and a random split is drawn"
        )
    data.name = name
    return data


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
        description=DATASETS.get(name).description,
        published=MappingProxyType(published),
        files=tuple(file_status(source, root=root) for source in sources),
    )


def _check_name(name: str) -> None:
    if name not in DATASETS:
        raise UnknownDatasetError(unknown("dataset", [name], DATASETS))


def _published(name: str) -> Loader:
    """The loader of a graph of DeepRobust."""

    def loader(*, split: Literal["prognn", "random"], split_seed: int, root: Folder | None, download: bool) -> Data:
        if name == "pubmed":
            x, adjacency, y = planetoid.clean_graph(root=root, download=download)
        else:
            x, adjacency, y = clean_graph(name, root=root, download=download)
        published = split == "prognn"
        indices = fixed_split(name, root=root, download=download) if published else random_split(y, seed=split_seed)
        return assemble(name=name, split=split, x=x, adjacency=adjacency, y=y, indices=indices)

    return loader


def _embedded(make: Callable[..., Data]) -> Loader:
    """The loader of a graph that needs no file."""

    def loader(*, split: Literal["prognn", "random"], split_seed: int, root: Folder | None, download: bool) -> Data:
        return make(split_seed=split_seed)

    return loader


#: those that need no file and no network
EMBEDDED = ("digits", "csbm", "dc-sbm")
OURS: Mapping[str, Dataset] = MappingProxyType(
    {
        name: Dataset(_published(name), description)
        for name, description in (
            ("cora", "citations between 2,485 machine-learning papers, 7 topics, bag of words"),
            ("citeseer", "citations between 2,110 computer-science papers, 6 topics, bag of words"),
            ("polblogs", "links between 1,222 political blogs, 2 leanings, no features (identity)"),
            ("cora_ml", "citations between 2,810 machine-learning papers, 7 topics, bag of words"),
            (
                "pubmed",
                "citations between 19,717 papers on diabetes, 3 topics, TF-IDF (clean graph from Planetoid)",
            ),
        )
    }
    | {
        "digits": Dataset(
            _embedded(digits),
            "1,797 images of digits, each joined to its nearest, 10 classes (embedded, no network needed)",
        ),
        "csbm": Dataset(
            _embedded(contextual_sbm), "contextual stochastic block model, 4 classes (generated, no network needed)"
        ),
        "dc-sbm": Dataset(
            _embedded(degree_corrected_sbm),
            "degree-corrected block model, 20,000 nodes, 40 classes as ogbn-arxiv (generated, no network needed)",
        ),
        "ogbn-arxiv": Dataset(
            load_arxiv, "citations between 169,343 papers of computer science, 40 topics (from files of your own)"
        ),
    }
)
for _name, _row in OURS.items():
    DATASETS.register(_name)(_row)
