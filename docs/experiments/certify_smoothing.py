"""Randomised smoothing on Cora beside the certificate here, under a number of flips in the whole graph.

    python docs/experiments/certify_smoothing.py --out docs/results/certify/smoothing.jsonl

A GCN is trained on noisy graphs and smoothed by the same noise; a node counts as certified within B flips if every
split of them into additions and deletions is. Each line also has the certified accuracy of the preset "certified"
within the same B (any node may have all of them), by bounds that hold with certainty.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path

import torch
from torch_geometric.data import Data

from contractive_gnn import datasets, nn
from contractive_gnn.bench.presets import load_preset
from contractive_gnn.bench.results import current_commit, current_versions, replacing
from contractive_gnn.certificates import FlipBudget, certify
from contractive_gnn.certificates.smoothing import SparseNoise, certified_within, lower_confidence
from contractive_gnn.certificates.training import fit_certified
from contractive_gnn.nn.sparse import compress


def main() -> None:
    """Write one line for each noise and number of flips."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cora")
    parser.add_argument("--add", type=float, default=0.001)
    parser.add_argument("--delete", type=float, nargs="+", default=[0.6, 0.8])
    parser.add_argument("--choose", type=int, default=1000, help="samples that choose the class")
    parser.add_argument("--samples", type=int, default=10_000, help="samples that bound its probability")
    parser.add_argument("--alpha", type=float, default=0.01, help="each node's certificate is wrong at most this often")
    parser.add_argument("--flips", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    data = datasets.load(options.dataset)
    preset, n = load_preset("certified", options.dataset), data.num_nodes
    ours = nn.linf_diffusion(data.num_features, int(data.y.max()) + 1, **preset["model"])
    fit_certified(ours, data, flips=FlipBudget.uniform(1, n), seed=options.seed, **preset["training"])
    certain = [
        certify(ours, data.x, data.edge_index, flips=FlipBudget.uniform(flips, n)).accuracy(data.y, data.test_mask)
        for flips in range(options.flips + 1)
    ]
    commit, changes = current_commit()
    with replacing(options.out) as partial, partial.open("w", encoding="utf-8") as file:
        for delete in options.delete:
            noise = SparseNoise(options.add, delete)
            generator = torch.Generator().manual_seed(options.seed)
            start = time.perf_counter()
            model = fit_noisy(data, noise, generator, seed=options.seed)
            prediction = votes(model, data, noise, options.choose, generator).argmax(dim=1)
            hits = votes(model, data, noise, options.samples, generator).gather(1, prediction[:, None]).squeeze(1)
            low = lower_confidence(hits, options.samples, alpha=options.alpha)
            right = (prediction == data.y)[data.test_mask]
            for flips in range(options.flips + 1):
                splits = {
                    (added, flips - added): certified_within(noise, low, added=added, deleted=flips - added)
                    for added in range(flips + 1)
                }
                row = {
                    "dataset": options.dataset,
                    "split": data.split,
                    "model": "smoothed GCN",
                    "seed": options.seed,
                    "noise": {"add": options.add, "delete": delete},
                    "samples": options.samples,
                    "alpha": options.alpha,
                    "flips": flips,
                    "clean_accuracy": 100.0 * float(right.double().mean()),
                    "certified_accuracy": percent(right, torch.stack([*splits.values()]).all(dim=0)[data.test_mask]),
                    "additions_alone": percent(right, splits[flips, 0][data.test_mask]),
                    "deletions_alone": percent(right, splits[0, flips][data.test_mask]),
                    "certified_preset_accuracy": certain[flips],
                    "seconds": time.perf_counter() - start,
                    "commit": commit,
                    "uncommitted_changes": changes,
                    "versions": current_versions(),
                }
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                shown = ("flips", "clean_accuracy", "certified_accuracy", "additions_alone", "deletions_alone")
                print(delete, *(f"{key} {row[key]}" for key in (*shown, "certified_preset_accuracy")), flush=True)


def percent(right: torch.Tensor, certified: torch.Tensor) -> float:
    """Certified accuracy."""
    return 100.0 * float((right & certified).double().mean())


def fit_noisy(
    data: Data, noise: SparseNoise, generator: torch.Generator, *, seed: int, epochs: int = 200
) -> torch.nn.Module:
    """A GCN trained on a new noisy graph in every epoch; of its epochs the best on the validation nodes is kept."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.build("gcn", data.num_features, int(data.y.max()) + 1, hidden_channels=64)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
        x, best, kept = compress(data.x), -1.0, copy.deepcopy(model.state_dict())
        for _ in range(epochs):
            model.train()
            optimizer.zero_grad()
            noisy = noise.edges(data.edge_index, data.num_nodes, generator=generator)
            scores = model(x, noisy)
            torch.nn.functional.cross_entropy(scores[data.train_mask], data.y[data.train_mask]).backward()
            optimizer.step()
            found = votes(model, data, noise, 3, generator).argmax(dim=1) == data.y
            accuracy = float(found[data.val_mask].double().mean())
            if accuracy > best:
                best, kept = accuracy, copy.deepcopy(model.state_dict())
    model.load_state_dict(kept)
    return model


@torch.no_grad()
def votes(
    model: torch.nn.Module, data: Data, noise: SparseNoise, samples: int, generator: torch.Generator
) -> torch.Tensor:
    """How often the model says each class on noisy graphs, ``[n, classes]``."""
    model.eval()
    count, x = torch.zeros(data.num_nodes, int(data.y.max()) + 1, dtype=torch.long), compress(data.x)
    for _ in range(samples):
        noisy = noise.edges(data.edge_index, data.num_nodes, generator=generator)
        count[torch.arange(data.num_nodes), model(x, noisy).argmax(dim=1)] += 1
    return count


if __name__ == "__main__":
    main()
