"""The command line: `./serrano COMMAND`. Commands live in files of their own."""

import sys

import typer

from compiler.errors import UserError
from scripts import (
    bench,
    board,
    build,
    estimate,
    fpga,
    models,
    netlist,
    quality,
    run,
    suite,
    timeline,
    worker,
)
from scripts.sweep import command as sweep

__all__ = ["app", "main"]

app = typer.Typer(
    name="serrano",
    help="Serrano, an open LLM-inference accelerator: run real language models on real RTL.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.add_typer(bench.app, name="bench")
app.command("timeline")(timeline.timeline)
app.command("estimate")(estimate.estimate_model)
app.add_typer(sweep.app, name="sweep")
app.command("board")(board.board)
app.command("worker")(worker.worker)
app.command("models")(models.models)
app.command("compile")(build.compile_image)
app.command("verilog")(build.verilog)
app.command("fpga")(fpga.fpga)
app.command("netlist")(netlist.netlist)
app.command("quality")(quality.quality)
app.command("test", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(
    suite.suite
)


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the exit code. A user's mistake is one line on stderr and code 2."""
    try:
        code = app(arguments, prog_name="serrano", standalone_mode=False)
    except UserError as error:
        print(f"serrano: {error}", file=sys.stderr)
        return 2
    except typer.Exit as done:
        return done.exit_code
    except typer.Abort:
        print("serrano: interrupted", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("serrano: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        # Click's own refusals (unknown option, missing argument) know how to show themselves.
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            if message := error.format_message():  # empty where the help has been shown
                print(f"serrano: {message} (try --help)", file=sys.stderr)
            return 2
        raise
    if code == 130:  # what Typer makes of Ctrl-C
        print("serrano: interrupted", file=sys.stderr)
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
