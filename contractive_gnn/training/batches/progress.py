"""What is shown while a training runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any


class Progress:
    """A bar over the steps, with the figures of the last epoch; without tqdm a line for each epoch.

    Args:
        shown: whether anything is.
        steps: of the whole training.
        done: steps that an earlier run has done.
    """

    def __init__(self, *, shown: bool, steps: int, done: int) -> None:
        self.shown = shown
        self.bar: Any = None
        if shown:
            try:
                from tqdm import tqdm
            except ImportError:  # the bar is a convenience: training does not need it
                return
            self.bar = tqdm(total=steps, initial=done, unit="step", dynamic_ncols=True)

    def step(self) -> None:
        """One more."""
        if self.bar is not None:
            self.bar.update()

    def epoch(self, figures: Mapping[str, float | None]) -> None:
        """The figures of an epoch; those that are None, and the times, are left out."""
        told = {name: value for name, value in figures.items() if value is not None and "seconds" not in name}
        text = ", ".join(f"{name} {value:.4g}" for name, value in told.items())
        if self.bar is not None:
            self.bar.set_postfix_str(text)
        elif self.shown:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self.bar is not None:
            self.bar.close()
