"""Showing that work goes on: a spinner on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from sam3_prelabel.demo.process import Tick

_REMINDER = 10.0  # seconds between two lines where nothing can be redrawn


@contextmanager
def step(console: Console, what: str) -> Iterator[Tick]:
    """One step of the work; yields a tick to call while it lasts. Prints how long it took when it succeeds."""
    started = time.monotonic()
    with console.status(f"{what} …") as status:
        reminded = 0.0
        if not console.is_terminal:
            console.print(f"{what} …", soft_wrap=True)

        def tick(_: float) -> None:
            nonlocal reminded
            seconds = time.monotonic() - started
            if console.is_terminal:
                status.update(f"{what} … {seconds:.0f} s")
            elif seconds - reminded >= _REMINDER:
                reminded = seconds
                console.print(f"  still at it ({seconds:.0f} s)")

        yield tick
    console.print(f"[green]✓[/] {what} [dim]{time.monotonic() - started:.1f} s[/]", soft_wrap=True)
