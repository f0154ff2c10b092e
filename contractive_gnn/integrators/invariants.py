"""What a flow may keep, and a scheme with it."""

from __future__ import annotations

from typing import Literal

Invariant = Literal["mass", "norm", "volume", "symplectic", "energy"]
"""What a flow may keep: ``Σx``, ``‖x‖₂``, ``det``, ``dq ∧ dp``, H."""
