"""One perturbed graph, and the file that it is kept in."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from contractive_gnn.attacks.base.budget import Budget


@dataclass(frozen=True, kw_only=True, eq=False)
class AttackResult:
    """One perturbed graph and how it came about.

    Args:
        data: the perturbed graph, with the labels and masks of the clean one (and ``targets`` where there are any).
            New nodes come after the old ones, with unknown labels (−1) and in no mask.
        edge_flips: int64 ``[2, k]``, u < v: the undirected edges in which it differs from the clean graph.
        feature_flips: int64 ``[2, q]``: the (node, column) of the feature entries in which it differs.
        budget: what was allowed.
        seconds: wall time of the attack, its surrogate's training included.
        provenance: attack, kind, scope, knowledge, seed, params (with the ``diagnosis`` of an adaptive attack),
            allowed_flips (per target for a targeted attack; a list where they differ), targets, versions.
    """

    data: Data
    edge_flips: Tensor
    feature_flips: Tensor
    budget: Budget
    seconds: float
    provenance: dict[str, Any]

    @property
    def n_flips(self) -> int:
        """Edges and feature entries that really differ from the clean graph; may be fewer than the budget allows."""
        return self.edge_flips.shape[1] + self.feature_flips.shape[1]

    def __repr__(self) -> str:
        """One line, without the graph."""
        attack = self.provenance.get("attack", "an attack")
        return f"AttackResult({self.n_flips} flips by {attack}, {self.budget}, {self.seconds:.1f} s, {self.data})"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an ``.npz`` without pickle, under a temporary name that is then renamed.

        The folder is made where it is missing.

        Raises:
            TypeError: ``data`` holds something that is neither a tensor nor a string, number or bool.
        """
        arrays: dict[str, np.ndarray[Any, Any]] = {
            "edge_flips": self.edge_flips.cpu().numpy(),
            "feature_flips": self.feature_flips.cpu().numpy(),
        }
        plain: dict[str, str | int | float | bool | None] = {}
        for key, value in self.data.to_dict().items():
            if isinstance(value, Tensor):
                arrays[f"data/{key}"] = value.detach().cpu().numpy()
            elif value is None or isinstance(value, str | int | float | bool):
                plain[key] = value
            else:
                raise TypeError(
                    f"data.{key} is a {type(value).__name__}; a saved graph holds tensors, strings, "
                    f"numbers and bools only. Delete it first: del result.data.{key}"
                )
        header = {
            "format": _FORMAT,
            "data": plain,
            "budget": {name: value for name, value in vars(self.budget).items() if value is not None},
            "seconds": self.seconds,
            "provenance": self.provenance,
        }
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                np.savez_compressed(file, header=np.array(json.dumps(header)), **arrays)  # type: ignore[arg-type]
                file.flush()
                os.fsync(file.fileno())  # before it is renamed: a machine that stops leaves no half of it
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> AttackResult:
        """Read what :meth:`save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is not a saved AttackResult.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {key: archive[key] for key in archive.files}
            header = json.loads(str(arrays.pop("header")))
            if header["format"] != _FORMAT:
                raise ValueError(f"its format is {header['format']!r}")
            data = Data(**header["data"])
            for key, array in arrays.items():
                if key.startswith("data/"):
                    data[key.removeprefix("data/")] = torch.from_numpy(array)
            return cls(
                data=data,
                edge_flips=torch.from_numpy(arrays["edge_flips"]),
                feature_flips=torch.from_numpy(arrays["feature_flips"]),
                budget=Budget(**header["budget"]),
                seconds=header["seconds"],
                provenance=header["provenance"],
            )
        except FileNotFoundError:
            raise
        except Exception as error:
            raise ValueError(
                f"{os.fspath(path)} is not a graph saved by AttackResult.save ({_FORMAT}): {error}"
            ) from error


_FORMAT: Final = "contractive_gnn attack result 1"
