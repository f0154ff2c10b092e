"""The model that an attack meets: a copy of the caller's, frozen."""

from __future__ import annotations

import copy

import torch
from torch import nn

from contractive_gnn.attacks.base.errors import AttackError
from contractive_gnn.nn.caches import cached_layers


def frozen_victim(attack: str, victim: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose parameters want no gradient.

    Args:
        attack: name of the attack, for the errors.
        victim: the model.

    Raises:
        AttackError: layers that keep an earlier graph (``cached=True``), a script, or a model that cannot be copied.
    """
    cached = cached_layers(victim)
    if cached:
        name = next(iter(cached)) or "model"
        raise AttackError(
            f"attack {attack!r}: the victim's {len(cached)} layers with cached=True (the first is {name!r}) "
            "keep the graph that they saw first: no flip can reach them, and the accuracy on the attacked graph "
            "would be that on the first one; build the model with cached=False (to set it later empties nothing)"
        )
    if isinstance(victim, torch.jit.ScriptModule):
        raise AttackError(
            f"attack {attack!r}: the victim is a script of torch.jit, whose parameters cannot be frozen; give "
            "the module that it was made of"
        )
    try:
        frozen = copy.deepcopy(victim)
    except Exception as error:
        raise AttackError(
            f"attack {attack!r}: the victim {type(victim).__name__} cannot be copied ({error}); "
            "a model must not keep tensors of an autograd graph on itself"
        ) from error
    return frozen.eval().requires_grad_(False)
