"""What an attack says of itself: what it changes, how far its budget reaches, and what it knows."""

from __future__ import annotations

from typing import Literal

Kind = Literal["structure", "features", "both", "injection", "deletion"]

Scope = Literal["global", "targeted"]

Knowledge = Literal["random", "transfer", "adaptive"]
