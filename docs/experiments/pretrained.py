"""Train the checkpoints of `contractive_gnn.pretrained`, compare them with the tables, and pack those that are shipped.

    python docs/experiments/pretrained.py train --scratch DIR     # a line for each training, its tensors in DIR
    python docs/experiments/pretrained.py pack --scratch DIR      # the manifest, and the files of the package

A line has the accuracy of the model and that of the table for the same seed. What is shipped is in half precision: a
file is halved only if every node is predicted as before. Lines that are there already are not made again.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from appending import append, read

from contractive_gnn import datasets
from contractive_gnn.bench.pretrain import halved, protocol_of, trained
from contractive_gnn.bench.results import CERTIFICATE, read_results
from contractive_gnn.nn import build
from contractive_gnn.pretrained import prediction_digest
from contractive_gnn.pretrained.files import packed, unpacked
from contractive_gnn.pretrained.manifest import Checkpoint
from contractive_gnn.training import predict

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
PACKAGE = ROOT / "contractive_gnn" / "pretrained"
#: the smallest first
MODELS = ("gcn", "robust", "robust-provable", "csgnn", "certified", "robust-ensemble", "robust-mixture")
DATASETS = ("cora", "citeseer")
#: of these seeds; the others are made by `contractive-gnn pretrain`
SHIPPED_SEEDS = (0,)
#: larger ones are made by `contractive-gnn pretrain`
MOST_BYTES = 1_200_000
#: where the tables of the pages have their clean accuracies from
TABLES = {
    "cora": ("robust_cora/results.jsonl", "cora/results.jsonl", "certify/cora.jsonl"),
    "citeseer": (
        *("robust_citeseer/results.jsonl", "citeseer/results.jsonl"),
        *("robust_hedged_citeseer/results.jsonl", "certify/citeseer.jsonl"),
    ),
}


def in_tables(preset: str, dataset: str, seed: int) -> Mapping[str, Any]:
    """The accuracy on the clean graph in the results behind the tables, with the file; None where there is none."""
    for name in TABLES[dataset]:
        for result in read_results(RESULTS / name):
            clean = result.attack == "clean" or result.attack.startswith(CERTIFICATE)
            if clean and (result.model, result.seed) == (preset, seed):
                return {"file": name, "accuracy": result.clean_accuracy, "commit": result.commit}
    return {"file": None, "accuracy": None, "commit": None}


def train_all(options: argparse.Namespace) -> None:
    """Append a line for each training, and keep its tensors."""
    done = {(row["dataset"], row["preset"], row["seed"]) for row in read(options.out)}
    options.scratch.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for dataset in options.datasets:
            for preset in options.models:
                if (dataset, preset, seed) in done:
                    continue
                protocol = protocol_of(preset, dataset, seed=seed)
                data = protocol.load()
                outcome = trained(protocol, data)
                content = packed(outcome.model.state_dict(), outcome.about)
                (options.scratch / f"{preset}-{dataset}-{seed}.safetensors").write_bytes(content)
                widths = {"in_channels": data.num_features, "out_channels": int(data.y.max()) + 1}
                row = {**outcome.about, **widths, "table": in_tables(preset, dataset, seed)}
                append(options.out, [row])
                print(dataset, preset, seed, row["accuracy"], row["table"]["accuracy"], len(content), flush=True)


def smallest(row: Mapping[str, Any], content: bytes) -> bytes:
    """A checkpoint in half precision, or as it was where that would predict another class for a node."""
    tensors, about = unpacked(content, name=row["preset"])
    smaller = halved(tensors)
    model = build(row["model"], row["in_channels"], row["out_channels"], **row["hyperparameters"]["model"])
    model.load_state_dict({name: tensor.to(tensors[name].dtype) for name, tensor in smaller.items()})
    same = prediction_digest(predict(model, datasets.load(row["dataset"]))) == row["predictions"]
    return packed(smaller, about) if same else content


def checkpoints(options: argparse.Namespace) -> Iterator[tuple[Checkpoint, bytes | None]]:
    """Every checkpoint of the lines, with its file where that is shipped."""
    for row in sorted(read(options.out), key=lambda row: (row["dataset"], MODELS.index(row["preset"]), row["seed"])):
        content = None
        if row["seed"] in SHIPPED_SEEDS:
            content = (options.scratch / f"{row['preset']}-{row['dataset']}-{row['seed']}.safetensors").read_bytes()
            content = smallest(row, content)
            content = content if len(content) <= MOST_BYTES else None
        sha256 = None if content is None else hashlib.sha256(content).hexdigest()
        fields = {field.name: row[field.name] for field in dataclasses.fields(Checkpoint) if field.name in row}
        fields["hyperparameters"] = row["hyperparameters"]["model"]
        yield Checkpoint(**fields, sha256=sha256), content


def pack(options: argparse.Namespace) -> None:
    """Write the manifest and the files of the package."""
    folder = PACKAGE / "weights"
    folder.mkdir(exist_ok=True)
    rows, total = [], 0
    for checkpoint, content in checkpoints(options):
        rows.append(vars(checkpoint))
        if content is not None:
            (folder / checkpoint.file).write_bytes(content)
            total += len(content)
    text = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (PACKAGE / "manifest.json").write_text(f"[\n{text}\n]\n", encoding="utf-8")
    print(f"{len(rows)} checkpoints, {total:,} bytes are shipped")


def main() -> None:
    """Run a stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("train", "pack"))
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--datasets", nargs="+", default=list(DATASETS), choices=DATASETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=RESULTS / "pretrained.jsonl")
    parser.add_argument("--scratch", type=Path, required=True)
    options = parser.parse_args()
    {"train": train_all, "pack": pack}[options.stage](options)


if __name__ == "__main__":
    main()
