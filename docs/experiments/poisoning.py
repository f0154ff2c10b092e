"""Which attack on the graph before the training leaves a GCN least?

    python docs/experiments/poisoning.py run --out docs/results/poisoning.jsonl
    python docs/experiments/poisoning.py table --out docs/results/poisoning.jsonl
    python docs/experiments/poisoning.py scale --out docs/results/poisoning_scale.jsonl

Each attack flips a share of the edges of the clean graph; a GCN is then trained on what it left, from three seeds, and
measured on the test nodes. A line for each data set, attack and seed of the attack, with seconds of the processor; what
is there already is left out, so that a stopped run goes on. ``scale`` says what a step of Meta-PGD takes on larger
graphs: seconds of the processor and memory beyond what was taken before.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from appending import append, read
from pages import markdown, write_between
from torch import nn
from torch_geometric.data import Data

import contractive_gnn as cg
from contractive_gnn import datasets
from contractive_gnn.attacks import Budget, get, poison_and_evade
from contractive_gnn.attacks.base.provenance import versions
from contractive_gnn.bench.speed import measure
from contractive_gnn.provenance import current_commit

PAGE, NAME = Path("docs/poisoning.md"), "poisoning"
PROBABILITY = {"outer_loss": "probability"}

#: by the name of the row: an attack and its hyperparameters
ATTACKS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "random": ("random", {}),
    "metattack": ("metattack", {}),
    "grad": ("grad", {}),
    "meta-pgd": ("meta-pgd", {}),
    "metacon-s": ("metacon-s", {}),
    "metacon-s, loss of grad": ("metacon-s", PROBABILITY),
    "metacon-d": ("metacon-d", {}),
    "metacon-d, loss of grad": ("metacon-d", PROBABILITY),
    "metattack-unlabelled": ("metattack-unlabelled", {}),
    "grad, unlabelled": ("grad", {"candidates": "unlabelled"}),
}
SYMBIOTIC = "meta-pgd and whitebox-pgd, one budget"


def trained(data: Data, seed: int) -> nn.Module:
    """A GCN."""
    model = cg.build("gcn", data.num_features, int(data.y.max()) + 1)
    cg.fit(model, data, seed=seed)
    return model.eval()


def accuracy(model: nn.Module, data: Data) -> float:
    """In percent of the test nodes."""
    with torch.no_grad():
        right = model(data.x, data.edge_index).argmax(dim=1) == data.y
    return 100 * float(right[data.test_mask].double().mean())


@cache
def without_attack(dataset: str, seeds: int) -> list[float]:
    """The accuracies on the clean graph."""
    data = datasets.load(dataset)
    return [accuracy(trained(data, each), data) for each in range(seeds)]


def poisoned(name: str, data: Data, fraction: float, seed: int, seeds: int) -> dict[str, Any]:
    """What one attack does."""
    attack, options = ATTACKS[name]
    started = time.process_time()
    result = get(attack, seed=seed, **options).run(data, Budget(fraction=fraction))
    seconds = time.process_time() - started
    labelled = data.train_mask[result.edge_flips].any(dim=0)
    return {
        "flips": result.n_flips,
        "at_labelled": float(labelled.double().mean()),
        "accuracies": [accuracy(trained(result.data, each), result.data) for each in range(seeds)],
        "attack_s": round(seconds, 1),
        "params": result.provenance["params"],
    }


def symbiotic(data: Data, fraction: float, seed: int, seeds: int) -> dict[str, Any]:
    """What poisoning and evasion do together; each training is attacked by itself."""
    started = time.process_time()
    found = [poison_and_evade(partial(trained, seed=each), data, fraction=fraction, seed=seed) for each in range(seeds)]
    return {
        "flips": max(one.n_flips for one in found),
        "at_labelled": None,
        "accuracies": [one.accuracy for one in found],
        "attack_s": round((time.process_time() - started) / seeds, 1),
        "params": {"shares": [one.share for one in found], "by_share": [dict(one.accuracies) for one in found]},
    }


def row(dataset: str, name: str, fraction: float, seed: int, seeds: int) -> dict[str, Any]:
    """A line of the results."""
    data = datasets.load(dataset)
    work: Callable[[], dict[str, Any]] = (
        (lambda: symbiotic(data, fraction, seed, seeds))
        if name == SYMBIOTIC
        else (lambda: poisoned(name, data, fraction, seed, seeds))
    )
    commit, changes = current_commit()
    return {
        "dataset": dataset,
        "attack": name,
        "fraction": fraction,
        "seed": seed,
        **work(),
        "clean": without_attack(dataset, seeds),
        "commit": commit,
        "uncommitted_changes": changes,
        "versions": dict(versions(("scipy", "numba"))),
    }


def table(out: Path) -> str:
    """Accuracy after each attack, mean and standard deviation over seeds of attack and training, in Markdown."""
    rows = [line for line in read(out) if line["fraction"] == 0.05]
    if not rows:
        raise SystemExit(f"{out} has no lines of 5 %: run `run` first")
    sets = sorted({line["dataset"] for line in rows})
    shown = []
    for name in ["clean", *ATTACKS, SYMBIOTIC]:
        cells = []
        for dataset in sets:
            own = [line for line in rows if line["dataset"] == dataset and name in ("clean", line["attack"])]
            values = np.array([line["clean" if name == "clean" else "accuracies"] for line in own])
            if not own:
                cells += ["–", "–", "–"]
                continue
            cells.append(f"{values.mean():.1f} ± {values.std():.1f}")
            if name == "clean":
                cells += ["", ""]
                continue
            labelled = [line["at_labelled"] for line in own if line["at_labelled"] is not None]
            cells.append(f"{100 * np.mean(labelled):.0f}" if labelled else "")
            cells.append(f"{np.mean([line['attack_s'] for line in own]):.0f}")
        shown.append([name, *cells])
    head = ["attack, 5 % of the edges"]
    for dataset in sets:
        head += [dataset.capitalize(), "at labelled nodes, %", "seconds"]
    return markdown(head, shown)


def scale(nodes: int) -> dict[str, Any]:
    """What a step of Meta-PGD takes, the mean of ten, on a block model of this size with 10 % of its nodes labelled."""
    data = datasets.contextual_sbm(nodes, seed=0)
    attack = get("meta-pgd", epochs=10, fine_epochs=0, samples=0, swaps=0, self_training_labels=data.y)
    get("meta-pgd", epochs=1, self_training_labels=data.y).run(data, Budget(flips=10))  # compiles
    started = time.process_time()
    cost = measure(lambda: attack.run(data, Budget(fraction=0.05)))
    return {
        "nodes": nodes,
        "edges": data.num_edges // 2,
        "block": attack.params["block_size"],
        "step_s": round((time.process_time() - started) / 10, 3),
        "peak_mb": None if cost.megabytes is None else round(cost.megabytes),
        "versions": dict(versions(("scipy", "numba"))),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is not there yet, or write the table into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table", "scale"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--datasets", nargs="+", default=["cora", "citeseer"])
    parser.add_argument("--attacks", nargs="+", choices=[*ATTACKS, SYMBIOTIC], default=[*ATTACKS, SYMBIOTIC])
    parser.add_argument("--fraction", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the attacks")
    parser.add_argument("--trainings", type=int, default=3, help="seeds of the GCN")
    given = parser.parse_args(arguments)
    if given.what == "table":
        write_between(given.page, NAME, table(given.out))
        return
    torch.set_num_threads(1)
    if given.what == "scale":
        for nodes in (5_000, 20_000):
            append(given.out, [scale(nodes)])
        return
    done = {(line["dataset"], line["attack"], line["fraction"], line["seed"]) for line in read(given.out)}
    for seed in given.seeds:
        for dataset in given.datasets:
            for name in given.attacks:
                if (dataset, name, given.fraction, seed) in done:
                    continue
                line = row(dataset, name, given.fraction, seed, given.trainings)
                append(given.out, [line])
                print(dataset, name, seed, np.round(np.mean(line["accuracies"]), 2), line["attack_s"], flush=True)


if __name__ == "__main__":
    main()
