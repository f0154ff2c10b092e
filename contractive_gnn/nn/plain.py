"""Whether a module computes what its class says: what a proof about a class asks of the object in hand.

A subclass, a hook, a method that was replaced on the object, autocast or a reduced precision of matrix products can
make a model compute something else than the formula that is proved. All of them are looked for here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules import module as _globals
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

#: what torch, copying and abc put into the class of a parametrised module, besides the parametrised names
_INJECTED = {
    "__module__",
    "__doc__",
    "__getstate__",
    "__deepcopy__",
    "__slotnames__",
    "_abc_impl",
    "__abstractmethods__",
}


def plain_type(module: nn.Module) -> type[nn.Module]:
    """The class of a module; of a parametrised one that before, unless more than its tensors was changed."""
    kind = type(module)
    if not parametrize.is_parametrized(module):
        return kind
    own = set(vars(kind)) - set(module.parametrizations)  # type: ignore[arg-type]
    return kind.__bases__[0] if own <= _INJECTED else kind


def altered(module: nn.Module, *, below: bool = True, trusted: Collection[nn.Module] = ()) -> str:
    """What makes a module, or a part of it, compute something else than its classes say; empty where nothing does.

    Looked for are forward hooks (also torch's global ones and those of PyG's message passing), methods that were
    replaced on the object, compiled calls and explainers.

    Args:
        module: to look at.
        below: look at its parts, too.
        trusted: parts whose hooks are the library's own.
    """
    if _globals._global_forward_hooks or _globals._global_forward_pre_hooks:
        return "a global forward hook is registered, which may change what any module computes"
    for path, part in module.named_modules() if below else [("", module)]:
        name = f"{path or 'the model'} ({type(part).__name__})"
        kept = vars(part)
        lazy = any(map(is_lazy, part.parameters(recurse=False)))  # the hook that gives it a shape removes itself
        if (
            not lazy
            and part not in trusted
            and any("forward" in key and key.endswith("hooks") and kept[key] for key in kept)
        ):
            return f"{name} has a forward hook, which may change what it computes"
        if getattr(part, "explain", None):
            return f"{name} is being explained, with a mask on its edges"
        replaced = next((key for key in kept if callable(getattr(type(part), key, None))), None)
        if replaced is not None:
            return f"{replaced} of {name} was replaced on the object"
        if kept.get("_compiled_call_impl") is not None:
            return f"{name} is compiled"
    return ""


def reduced_precision(tensors: Sequence[Tensor]) -> str:
    """What makes torch compute with less than the precision of these tensors; empty where nothing does."""
    for device in sorted({tensor.device.type for tensor in tensors}):
        if torch.is_autocast_enabled(device):
            return f"autocast is on for {device}: the precision of the model is not that of its weights"
    try:
        asked = {torch.get_float32_matmul_precision()} - {"highest"}
        backends = (torch.backends.mkldnn, torch.backends.cuda)
        asked |= {getattr(getattr(b, "matmul", None), "fp32_precision", "none") for b in backends} - {"none", "ieee"}
    except RuntimeError:  # torch refuses to say where its old and its new settings were mixed
        asked = {"an unknown precision"}
    if asked and any(tensor.dtype == torch.float32 for tensor in tensors):
        return f"matrix products of float32 run in a reduced precision ({', '.join(sorted(asked))})"
    return ""
