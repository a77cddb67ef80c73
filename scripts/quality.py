"""`serrano quality`: what the chip's numbers cost, against an independent FP32 reference."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from compiler.errors import UserError
from runtime.device import Device, RowRequest
from runtime.golden_chip import GoldenChip
from runtime.tokenizer import make
from scripts import options
from scripts.console import bar, report_console
from scripts.demo.corpus import read_corpus
from scripts.devices import compiled, load_model
from sim.reference import Reference

__all__ = ["quality"]


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _text(path: Path | None) -> tuple[str, str]:
    """Name and content of the text to predict."""
    if path is None:
        return "the held-out standard library", "\n\n".join(read_corpus().held_out)
    try:
        return path.name, path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--text {path}: can't read it as text ({error})") from None


def _golden_logits(device: Device, tokens: list[int]) -> np.ndarray:
    """Logits of every position of a text, in chunks of the device's rows."""
    sequence = device.open_sequence()
    parts = []
    for start in range(0, len(tokens), device.rows):
        chunk = tokens[start : start + device.rows]
        found = device.step([RowRequest(sequence, chunk, outputs=len(chunk))]).logits
        assert found is not None
        parts.append(found)
    device.close_sequence(sequence)
    return np.concatenate(parts)


def quality(
    model: Annotated[str, typer.Option(help="Name, directory or file of a model.")] = "demo",
    text: Annotated[
        Path | None,
        typer.Option(
            help="Text to predict; by default the files of Python's standard library that the "
            "demo model was not trained on."
        ),
    ] = None,
    windows: Annotated[int, typer.Option(help="Windows of the text.")] = 4,
    tokens: Annotated[int, typer.Option(help="Tokens in each window.")] = 128,
    preset: options.Preset = "edge",
    tokenizer: Annotated[
        Path | None, typer.Option(help="Tokenizer file, for a model without one.")
    ] = None,
    json: options.JsonFile = None,
) -> None:
    """Perplexity, KL divergence and agreement of the golden model with plain FP32."""
    config = options.preset(preset)
    options.whole("--windows", windows, 1, 10_000)
    options.output_file("--json", json)
    checkpoint = load_model(model, str(tokenizer) if tokenizer else None)
    options.whole("--tokens", tokens, 2, checkpoint.config.context)
    if checkpoint.tokenizer is None:
        raise UserError(f"{checkpoint.source} has no tokenizer: give --tokenizer FILE")
    words = make(checkpoint.tokenizer)
    name, content = _text(text)
    ids = words.encode(content, bos=False)
    start = words.encode("", bos=True)
    body = tokens - len(start)
    if len(ids) < windows * body:
        raise UserError(
            f"{name} has {len(ids)} tokens, {windows} windows of {tokens} need {windows * body}: "
            "give a longer text or ask for fewer windows"
        )
    image = compiled(checkpoint, config, context=tokens)
    device = Device(image, GoldenChip)
    reference = Reference(checkpoint)
    loss = {"fp32": 0.0, "chip": 0.0}
    kl, agree, count, worst = 0.0, 0, 0, 0.0
    with bar("comparing") as progress:
        for w in range(windows):
            progress(f"window {w + 1} of {windows}", w / windows)
            at = w * (len(ids) // windows)  # spread over the text
            window = start + ids[at : at + body]
            exact = np.asarray(reference.forward(window, reference.cache()))
            found = _golden_logits(device, window)
            p, q = _log_softmax(exact)[:-1], _log_softmax(found)[:-1]
            target = np.array(window[1:])
            rows = np.arange(len(target))
            loss["fp32"] -= p[rows, target].sum()
            loss["chip"] -= q[rows, target].sum()
            kl += (np.exp(p) * (p - q)).sum()
            agree += int((p.argmax(axis=1) == q.argmax(axis=1)).sum())
            worst = max(worst, float(np.abs(exact - found).max()))
            count += len(target)
    figures = {
        "model": model,
        "text": name,
        "tokens": count,
        "perplexity_fp32": float(np.exp(loss["fp32"] / count)),
        "perplexity_chip": float(np.exp(loss["chip"] / count)),
        "kl": kl / count,
        "top1_agreement": agree / count,
        "largest_logit_difference": worst,
    }
    report_console().print(
        f"{model}, {count} tokens of {name}: perplexity FP32 "
        f"{figures['perplexity_fp32']:.4f}, chip {figures['perplexity_chip']:.4f}; KL "
        f"{figures['kl']:.4f} nats a token; top-1 agreement "
        f"{100 * agree / count:.1f} %; largest logit difference {worst:.3f}"
    )
    options.write_json(json, figures)
