"""`serrano board`: the whole board, simulated, behind a pseudo-terminal."""

import signal
from typing import Annotated

import typer

from compiler.errors import UserError
from hdl.link.uart import phase_step
from scripts import options
from scripts.console import bar, err
from sim.board.noise import LineNoise
from sim.board.simulated import CLOCK_HZ, SimulatedBoard, build_board

__all__ = ["board"]


def board(
    preset: options.Preset = "ulx3s",
    baud: Annotated[
        int,
        typer.Option(
            help="Rate of its UART at a clock of 100 MHz. A real board has 3000000; faster lines "
            "are simulated faster."
        ),
    ] = CLOCK_HZ // 4,
    noise: Annotated[
        float,
        typer.Option(help="Probability that a byte is lost, changed or doubled, of each kind."),
    ] = 0.0,
    seed: options.Seed = 0,
) -> int:
    """Simulate a board with its SDRAM: prints the port for `run --device serial:PORT`.

    Runs until Ctrl-C or SIGTERM. The port takes any baud rate.
    """
    config = options.preset(preset)
    options.whole("--baud", baud, 1, CLOCK_HZ)
    try:
        phase_step(CLOCK_HZ, baud)
    except ValueError as error:
        raise UserError(f"--baud: {error}") from None
    if not 0 <= noise <= 0.1:
        raise UserError(f"--noise {noise}: give a probability from 0 to 0.1")
    with bar(f"board with preset {config.name}") as progress:
        library = build_board(config, baud, progress)
    lines = [
        LineNoise(2 * seed + i, drop=noise, change=noise, double=noise) if noise else None
        for i in range(2)
    ]
    for kind in (signal.SIGINT, signal.SIGTERM):  # ignored where a shell started it behind itself
        signal.signal(kind, signal.default_int_handler)
    made = SimulatedBoard(library, baud, (lines[0], lines[1]))
    print(made.port, flush=True)
    err.print(
        f"use it with: run --preset {config.name} --device serial:{made.port}; Ctrl-C ends it"
    )
    try:
        made.run()
    except KeyboardInterrupt:
        err.print(f"{made.cycles:,} cycles simulated")
    finally:
        made.close()
    return 0
