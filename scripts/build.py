"""`serrano verilog` and `serrano compile`: what the tools make, as files."""

from pathlib import Path
from typing import Annotated

import typer

from compiler.errors import UserError
from compiler.image import write_image
from hdl.accelerator import Accelerator
from hdl.emit import emit_verilog
from scripts import options
from scripts.console import err
from scripts.devices import compiled, load_model

__all__ = ["compile_image", "verilog"]


def verilog(
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write.")],
    preset: options.Preset = "edge",
    top: Annotated[str, typer.Option(help="Name of the top module.")] = "serrano",
) -> None:
    """Write the Verilog of a chip."""
    config = options.preset(preset)
    options.output_file("-o", output)
    text = emit_verilog(Accelerator(config), top)
    try:
        output.write_text(text)
    except OSError as error:
        raise UserError(f"-o {output}: can't write it ({error.strerror})") from None
    err.print(f"{output}: {len(text.splitlines())} lines, module {top}, preset {config.name}")


def compile_image(
    output: Annotated[Path, typer.Option("-o", "--output", help="Image file to write.")],
    model: Annotated[str, typer.Option(help="Name, directory or file of a model.")] = "demo",
    preset: options.Preset = "edge",
    context: Annotated[
        int | None, typer.Option(help="Longest sequence; the model's own limit by default.")
    ] = None,
    sequences: Annotated[int, typer.Option(help="Sequences in the KV cache at a time.")] = 1,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Tokenizer file, for a model without one.")
    ] = None,
) -> None:
    """Compile a checkpoint to an image file, for `run --image`."""
    config = options.preset(preset)
    options.output_file("-o", output)
    checkpoint = load_model(model, str(tokenizer) if tokenizer else None)
    image = compiled(checkpoint, config, context=context, sequences=sequences)
    write_image(image, output)
    memory = image.memory
    err.print(
        f"{output}: tape {image.sections['tape'].size / 1e6:.1f} MB, "
        f"{image.sections['program'].size // 16} instructions, "
        f"{image.manifest['rows']} rows a step, {memory.size / 1e6:.1f} MB of memory"
    )
