"""Progress and messages on stderr, so that stdout carries only results."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

__all__ = ["bar", "err", "report_console"]

err = Console(stderr=True, highlight=False)


def report_console() -> Console:
    """Stdout for tables: as wide as the terminal, or wide enough for them in a file."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=110)


@contextmanager
def bar(title: str) -> Iterator[Callable[[str, float], None]]:
    """A progress bar while the block runs; call what it gives with a text and a fraction of 1.

    Off a terminal each new text is one plain line.
    """
    if not err.is_terminal:
        said: set[str] = set()

        def plain(text: str, fraction: float) -> None:
            if text not in said:
                said.add(text)
                err.print(f"{title}: {text}")

        yield plain
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(title, total=1.0)

        def update(text: str, fraction: float) -> None:
            progress.update(task, description=f"{title}: {text}", completed=fraction)

        yield update
