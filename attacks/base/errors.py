"""The error of an attack that cannot run, or breaks its promises."""

from __future__ import annotations


class AttackError(RuntimeError):
    """An attack cannot run, or returned something that breaks its promises; the text names the attack."""
