"""``.npz`` and ``.mat``: named arrays and sparse matrices. No pickle is loaded."""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import Any

import numpy as np
import scipy.sparse as sp

from contractive_gnn.datasets.errors import UnreadableFileError
from contractive_gnn.datasets.files.contents import ADJACENCY, EDGES, FEATURES, LABELS, MASKS, WEIGHTS

_CSR = ("data", "indices", "indptr", "shape")
_KNOWN = {*ADJACENCY, *EDGES, *WEIGHTS, *FEATURES, *LABELS, *(name for names in MASKS.values() for name in names)}


def npz(content: bytes, where: str) -> dict[str, Any]:
    """The arrays of an npz file; four that are the parts of a CSR matrix (``adj_data``, ``adj_indices``, …) as that.

    A file of ``scipy.sparse.save_npz`` is one matrix, under the name "adj".

    Raises:
        UnreadableFileError: not an npz file, or one whose arrays are pickled objects.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            names = archive.files
            if {"format", "shape", "data"} <= set(names):
                return {"adj": sp.load_npz(io.BytesIO(content))}
            found: dict[str, Any] = {}
            parts: set[str] = set()
            for start in [name.removesuffix("indptr") for name in names if name.endswith("indptr")]:
                if all(start + part in names for part in _CSR):
                    data, indices, indptr, shape = (archive[start + part] for part in _CSR)
                    matrix = sp.csr_matrix((data, indices, indptr), shape=tuple(int(s) for s in shape.reshape(-1)))
                    matrix.check_format()
                    found[start.rstrip("_.") or "adj"] = matrix
                    parts.update(start + part for part in _CSR)
            # what nothing reads is not opened: some files keep pickled objects beside their arrays
            others = [name for name in names if name not in parts]
            found.update({name: archive[name] if name.lower() in _KNOWN else None for name in others})
            return found
    except (
        ValueError,
        KeyError,
        TypeError,
        NotImplementedError,
        zipfile.BadZipFile,
        zlib.error,
        OSError,
        EOFError,
    ) as error:
        pickled = "allow_pickle" in str(error) or "Object arrays" in str(error)
        todo = (
            "a pickle can run code, so none is loaded. If you trust the file, convert it once: d = dict(numpy.load("
            "FILE, allow_pickle=True)), then numpy.savez(NEW, edges=…, features=…, labels=…)"
            if pickled
            else "expected numpy.savez(FILE, edges=…, features=…, labels=…) or scipy.sparse.save_npz"
        )
        raise UnreadableFileError(f"{where} is not an npz file of plain arrays ({error}); {todo}") from error


def mat(content: bytes, where: str) -> dict[str, Any]:
    """The variables of a MATLAB file up to version 7.

    Raises:
        UnreadableFileError: another file.
    """
    import scipy.io

    try:
        found = scipy.io.loadmat(io.BytesIO(content))
    except NotImplementedError as error:
        raise UnreadableFileError(f"{where} is a MATLAB file of version 7.3; save it with save(…, '-v7')") from error
    except Exception as error:  # scipy's own are of no common class
        raise UnreadableFileError(f"{where} is not a MATLAB file ({error})") from error
    return {name: value for name, value in found.items() if not name.startswith("__")}
