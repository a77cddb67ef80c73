"""`serrano models`: what can be had by name."""

from rich.console import Console
from rich.table import Table

from compiler.catalog import CATALOG, is_available

__all__ = ["models"]


def models() -> None:
    """List the models that --model takes by name."""
    table = Table(box=None, pad_edge=False)
    for column in ("name", "state", "what it is"):
        table.add_column(column)
    for entry in CATALOG.values():
        state = "ready" if is_available(entry) else "downloaded at first use"
        table.add_row(entry.name, state, entry.description)
    console = Console()
    console.print(table)
    console.print(
        "\n--model also takes a Hugging Face directory, a GGUF file or a llama2.c .bin file."
    )
