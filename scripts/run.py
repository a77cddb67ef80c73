"""`serrano run`: a checkpoint and a prompt in, text out, every bit checked."""

from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer

from compiler.errors import UserError
from hdl.config import PAGE_TOKENS, Config
from runtime.chip import DeviceFault
from runtime.device import Device
from runtime.generate import Generation, Request, StepRecord, generate
from runtime.sampling import Sampler
from runtime.tokenizer import Tokenizer, make
from scripts import options
from scripts.console import err, report_console
from scripts.devices import chip_maker, measured_limit
from scripts.report import breakdown, phase_table, step_json
from scripts.source import Source, from_image, from_model
from scripts.tracing import TraceCycles, TraceFile, TraceResolution, tracing

__all__ = ["run"]

DEFAULT_PROMPT = "def read_file(filename):\n    with open(filename) as f:\n"


def run(
    model: Annotated[
        str, typer.Option(help="Name (see `models`), directory or file of a model.")
    ] = "demo",
    prompt: Annotated[
        list[str] | None, typer.Option(help="Text to continue; repeat it for several at once.")
    ] = None,
    prompt_ids: Annotated[
        list[str] | None,
        typer.Option(metavar="1,5,9", help="Prompt as token ids, for a model without tokenizer."),
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="The prompt is a user's message.")] = False,
    tokens: Annotated[int, typer.Option(help="New tokens for each prompt.")] = 64,
    preset: options.Preset = "edge",
    device: options.Device = options.DeviceChoice(options.DeviceName.rtl),
    batch: Annotated[
        int | None, typer.Option(help="Sequences at once; prompts are used again if fewer.")
    ] = None,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Nucleus sampling.")] = 1.0,
    seed: options.Seed = 0,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Compare every logit to the golden model.")
    ] = True,
    context: Annotated[
        int | None, typer.Option(help="Positions to compile for; by default what is needed.")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Tokenizer file, for a model without one.")
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(help="Image made by `compile`, in place of --model and --preset."),
    ] = None,
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="Do not stop at the end-of-text token.")
    ] = False,
    latency: options.Latency = 60,
    stalls: options.StallPercent = 0,
    memory: options.Memory = "ideal",
    bandwidth: options.Bandwidth = 1.0,
    trace: TraceFile = None,
    trace_cycles: TraceCycles = None,
    trace_resolution: TraceResolution = 16,
    json: options.JsonFile = None,
) -> int:
    """Generate text with a model on the simulated chip, or on a board."""
    config = options.preset(preset)
    options.whole("--tokens", tokens, 1, 1 << 20)
    options.output_file("--json", json)
    traced = tracing(trace, trace_cycles, trace_resolution, device.name)
    timing = options.memory_timing(config, latency, stalls, memory, bandwidth)
    Sampler(temperature, top_p, seed)  # refuses bad numbers before anything is built
    source = from_image(image, tokenizer) if image else from_model(model, tokenizer)
    text = make(source.tokenizer) if source.tokenizer else None
    prompts = _prompts(source, text, prompt, prompt_ids, chat, batch)
    need = max(len(p) for p in prompts) + tokens - 1
    if need > source.context:
        raise UserError(
            f"{max(len(p) for p in prompts)} prompt tokens and {tokens} new ones pass the "
            f"context of {source.context}: shorten the prompt or lower --tokens"
        )
    if context is None:
        context = min(source.context, -(-need // PAGE_TOKENS) * PAGE_TOKENS)
    made = source.image(config, context, min(len(prompts), config.row_capacity))
    config = Config(**made.manifest["config"])
    with_check = check and device.name is not options.DeviceName.golden
    checker = Device(made, chip_maker(options.DeviceName.golden, config)) if with_check else None
    stop = frozenset() if ignore_eos else source.eos_ids
    requests = [
        Request(p, tokens, Sampler(temperature, top_p, seed, i), stop)
        for i, p in enumerate(prompts)
    ]
    wait = _step_progress(device.name)
    with traced as writer, wait as (progress, step_done):
        main = Device(made, chip_maker(device, config, timing, seed, writer))
        show = _Printer(text, prompts, chat)
        start = perf_counter()

        def on_token(request: int, token: int) -> None:
            step_done()
            show.token(request, token)

        def on_step(record: StepRecord) -> None:
            step_done()

        try:
            done = generate(
                main,
                requests,
                checker=checker,
                on_token=on_token,
                on_step=on_step,
                progress=progress,
            )
        except DeviceFault as fault:
            err.print(f"\nthe chip stopped: {fault}")
            return 1
        seconds = perf_counter() - start
        show.finish(done)
    rtl = device.name is options.DeviceName.rtl
    limit = measured_limit(config, timing, seed) if rtl else None
    figures = _figures(main, done, seconds, text, prompts, device, source.name, seed, limit)
    _report(figures, main, done)
    options.write_json(json, figures)
    main.close()
    return 0 if done.bit_exact is not False else 1


def _prompts(
    source: Source,
    text: Tokenizer | None,
    prompt: list[str] | None,
    prompt_ids: list[str] | None,
    chat: bool,
    batch: int | None,
) -> list[list[int]]:
    """Token ids of every sequence."""
    if prompt and prompt_ids:
        raise UserError("--prompt and --prompt-ids: give one of the two")
    if prompt_ids:
        prompts = []
        for ids in prompt_ids:
            try:
                prompts.append([int(i) for i in ids.split(",")])
            except ValueError:
                raise UserError(
                    f"--prompt-ids {ids}: give whole numbers with commas between, as 1,5,9"
                ) from None
            bad = [i for i in prompts[-1] if not 0 <= i < source.vocab]
            if bad:
                raise UserError(f"--prompt-ids: {bad[0]} is outside 0 to {source.vocab - 1}")
    elif text is None:
        raise UserError(
            f"{source.name} has no tokenizer: give --tokenizer FILE or --prompt-ids 1,5,9"
        )
    else:
        texts = prompt or [DEFAULT_PROMPT]
        if chat:
            prompts = [text.chat([{"role": "user", "content": t}]) for t in texts]
        else:
            prompts = [text.encode(t) for t in texts]
        for t, tokens in zip(texts, prompts, strict=True):
            if not tokens:
                raise UserError(f"--prompt {t!r} gives no tokens: write some text")
    if batch is not None:
        options.whole("--batch", batch, 1, 4096)
        count = max(batch, len(prompts))
        prompts = [prompts[i % len(prompts)] for i in range(count)]
    return prompts


class _Printer:
    """Streams the text of one sequence; of several, prints each when all are done."""

    def __init__(self, text: Tokenizer | None, prompts: list[list[int]], chat: bool):
        self._text, self._prompts = text, prompts
        self._single = len(prompts) == 1
        self._stream = text.stream(prompts[0]) if text and self._single else None
        if self._single and text and not chat:
            print(text.decode(prompts[0]), end="", flush=True)

    def token(self, request: int, token: int) -> None:
        if not self._single:
            return
        if self._stream is None:
            print(token, end=" ", flush=True)
        else:
            print(self._stream.push(token), end="", flush=True)

    def finish(self, done: Generation) -> None:
        if self._single:
            print(self._stream.finish() if self._stream else "", flush=True)
            return
        for i, (prompt, tokens) in enumerate(zip(self._prompts, done.tokens, strict=True)):
            if self._text is None:
                print(f"[{i}] {' '.join(map(str, tokens))}")
            else:
                print(f"[{i}] {self._text.decode([*prompt, *tokens])}")


@contextmanager
def _step_progress(device: options.DeviceName):
    """Gives (progress, step_done): a line on stderr while a step takes longer than two seconds."""
    if device is options.DeviceName.golden:
        yield None, lambda: None
        return
    doing = "simulating" if device is options.DeviceName.rtl else "running"
    started: list[float] = []
    shown = [0.0, False]

    def progress(cycles: int, work) -> None:
        now = perf_counter()
        if not started:
            started.append(now)
        if now - started[0] < 2 or now - shown[0] < (0.5 if err.is_terminal else 30):
            return
        shown[0] = now
        speed = cycles / (now - started[0])
        left = max(0.0, work.roofline_cycles - cycles) / speed if speed else 0.0
        line = (
            f"{doing}: {cycles:,} of at least {work.roofline_cycles:,} cycles, "
            f"{speed / 1000:.0f} k cycles/s, about {left:.0f} s left in this step"
        )
        if err.is_terminal:
            err.file.write(f"\x1b7\r\n\x1b[2K{line}\x1b8")
            err.file.flush()
            shown[1] = True
        else:
            err.print(line, soft_wrap=True)

    def step_done() -> None:
        started.clear()
        if shown[1]:
            err.file.write("\x1b7\r\n\x1b[2K\x1b8")
            err.file.flush()
            shown[1] = False

    yield progress, step_done


def _figures(main, done, seconds, text, prompts, device, model, seed, limit) -> dict:
    """The run as JSON-able data."""
    steps = [step_json(main.config, s, limit) for s in done.steps]
    cycles = sum(s["cycles"] or 0 for s in steps)
    simulated = sum(s.seconds for s in done.steps)
    on_rtl = device.name is options.DeviceName.rtl
    texts = [text.decode(t) if text else None for t in done.tokens]
    single = len(prompts) == 1
    return {
        "model": model,
        "preset": main.config.name,
        "device": device.name,
        "port": device.port or None,
        "seed": seed,
        "tokens": done.tokens[0] if single else done.tokens,
        "text": texts[0] if single else texts,
        "sequences": [
            {"prompt_ids": p, "tokens": t, "text": s}
            for p, t, s in zip(prompts, done.tokens, texts, strict=True)
        ],
        "bit_exact": done.bit_exact,
        "mismatches": [str(m) for m in done.mismatches],
        "seconds": seconds,
        "tokens_per_second": sum(map(len, done.tokens)) / seconds if seconds else None,
        "simulated_cycles": cycles if on_rtl and cycles else None,
        "simulated_cycles_per_second": cycles / simulated if on_rtl and simulated else None,
        "steps": steps,
    }


def _report(figures: dict, main: Device, done: Generation) -> None:
    console = report_console()
    console.print()
    phase_table(main.config, figures["steps"], console)
    breakdown(figures["steps"], console)
    made = sum(map(len, done.tokens))
    line = f"{made} tokens in {figures['seconds']:.1f} s"
    line += f" ({figures['tokens_per_second']:.2f} tokens/s on this machine)"
    if figures["simulated_cycles_per_second"]:
        line += f", {figures['simulated_cycles_per_second'] / 1000:.0f} k simulated cycles/s"
    console.print(line)
    checked = sum(s.exact is not None for s in done.steps)
    if done.bit_exact is None:
        console.print("logits not compared")
    elif done.bit_exact:
        console.print(f"bit-exact: every logit of {checked} steps equals the golden model's")
    else:
        console.print(f"NOT bit-exact: {done.mismatches[0]}")
