"""``.pt``: what ``torch.save`` wrote, loaded with ``weights_only=True``."""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.data import data as pyg_data
from torch_geometric.data import storage as pyg_storage

from contractive_gnn.datasets.errors import UnreadableFileError

#: the classes that a saved Data is made of: tensors and dictionaries apart, torch.load builds no others
_CLASSES = [
    getattr(module, name)
    for module, names in (
        (pyg_data, ("Data", "DataEdgeAttr", "DataTensorAttr")),
        (pyg_storage, ("GlobalStorage", "NodeStorage", "EdgeStorage", "BaseStorage")),
    )
    for name in names
    if hasattr(module, name)
]


def pt(content: bytes, where: str) -> dict[str, Any]:
    """The fields of a saved ``Data``, or of a dictionary of tensors.

    Raises:
        UnreadableFileError: another object, or a file that would need a pickle to be trusted.
    """
    save = 'torch.save(data.to_dict(), "mine.pt")'
    try:
        with torch.serialization.safe_globals(_CLASSES):
            found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a file that is no such archive makes of the unpickler
        reason = str(error).strip().split("\n", 1)[0] or type(error).__name__
        raise UnreadableFileError(
            f"{where} cannot be loaded with weights_only=True ({type(error).__name__}: {reason}); a pickle can run "
            f"code, so nothing else is tried: save the graph with {save}"
        ) from error
    if isinstance(found, Data):
        found = found.to_dict()
    if not (isinstance(found, dict) and all(isinstance(key, str) for key in found)):
        raise UnreadableFileError(f"{where} holds a {type(found).__name__}; expected a Data or a dict: {save}")
    return {key: _array(value) for key, value in found.items() if value is not None}


def _array(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    import scipy.sparse as sp

    if value.layout == torch.strided:
        return (value.float() if value.dtype == torch.bfloat16 else value).detach().numpy()
    if value.dim() != 2:
        return value.detach().to_dense().numpy()
    coo = value.detach().to_sparse_coo().coalesce()  # type: ignore[no-untyped-call]
    return sp.coo_matrix((coo.values().numpy(), tuple(coo.indices().numpy())), shape=tuple(coo.shape))
