"""What the demo shows: progress bars on a terminal, plain lines elsewhere, tables everywhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from trading_platform.assets.bring_current import Step

PLAIN_WIDTH = 140  # where there is no terminal to ask


class Screen:
    """The demo's voice. On a terminal long work has a bar; elsewhere each finished piece is one line."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(text)

    def title(self, text: str) -> None:
        """A heading."""
        self.console.print(f"\n[bold]{text}[/bold]")

    def step(self, step: Step) -> None:
        """One asset partition was brought up to date, or was current."""
        name = step.asset + (f" [dim]{step.partition}[/dim]" if step.partition not in ("", "all") else "")
        if step.ran:
            self.console.print(f"  [green]materialized[/green] {name}  [dim]{step.seconds:.1f} s, {step.why}[/dim]")
        else:
            self.console.print(f"  [dim]current      {step.asset} {step.partition}[/dim]")

    @contextmanager
    def bars(self) -> Iterator[Bars]:
        """Bars of work that goes on side by side; on anything but a terminal a line per quarter of each."""
        columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console, disable=not self.console.is_terminal) as progress:
            yield Bars(self, progress)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table; all columns but the first are numbers, to the right."""
        table = Table(title=title, title_justify="left")
        for index, column in enumerate(columns):
            table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
        for row in rows:
            table.add_row(*row)
        self.console.print(table)

    def links(self, rows: Sequence[tuple[str, str, str]]) -> None:
        """The chain of an order: verdict, link, where it lies."""
        table = Table(show_header=False, box=None, padding=(0, 1))
        table.add_column(no_wrap=True, min_width=6)
        table.add_column(no_wrap=True, max_width=48, overflow="ellipsis")
        table.add_column(overflow="fold")
        for name, verdict, where in rows:
            table.add_row(verdict, name, where)
        self.console.print(table)


class Bars:
    """Where each piece of work that goes on side by side gets a bar. Any thread may ask."""

    def __init__(self, screen: Screen, progress: Progress) -> None:
        self._screen = screen
        self._progress = progress

    def add(self, text: str, total: int) -> Bar:
        """A bar of `total` rows."""
        return Bar(self._screen, self._progress, text, total)


class Bar:
    """Progress of one piece of long work."""

    def __init__(self, screen: Screen, progress: Progress, text: str, total: int) -> None:
        self._screen = screen
        self._progress = progress
        self._text = text
        self._total = max(total, 1)
        self._quarters = 0
        self._task = progress.add_task(text, total=total)

    def at(self, done: int) -> None:
        """`done` of the total are over."""
        self._progress.update(self._task, completed=done)
        quarters = 4 * done // self._total
        if not self._screen.console.is_terminal and quarters > self._quarters:
            self._quarters = quarters
            self._screen.say(f"  {self._text}: {done} of {self._total}")
