"""Train the demo model, a Llama that completes Python code, and write it to `models/demo/`.

    python -m scripts.train_demo --steps 6000 --seed 0

Needs PyTorch (`pip install torch==2.13.0`), one CPU core and about an hour. The same steps, seed,
Python and PyTorch give the same model on the same kind of machine; `--minutes` instead of
`--steps` fits the learning-rate schedule to a time budget. Interrupted, the same command goes on
from its checkpoint; `--export-only` with it writes the model as it is now.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from compiler.errors import UserError

__all__ = ["main"]

EVALUATION_ROWS = 64


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    try:
        train(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def train(options: argparse.Namespace) -> None:
    """Run what the options ask for; the result is written to `options.out`."""
    try:
        import torch
    except ImportError:
        raise UserError("training needs PyTorch: pip install torch==2.13.0") from None
    from scripts.demo.batches import HeldOut, TrainingBatches
    from scripts.demo.bpe import train_tokenizer
    from scripts.demo.corpus import read_corpus
    from scripts.demo.export import export_model
    from scripts.demo.network import Llama, LlamaShape
    from scripts.demo.trainer import Trainer, TrainingPlan

    options.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(options.seed)
    shape = LlamaShape()
    corpus = read_corpus(options.source)
    if not corpus.train or not corpus.held_out:
        raise UserError(f"{options.source or 'the standard library'} has too little Python source")
    tokenizer = train_tokenizer(corpus.train, shape.vocab)
    if tokenizer.get_vocab_size() != shape.vocab:
        raise UserError(f"the text is too small for a vocabulary of {shape.vocab}")
    batches = TrainingBatches(corpus.train, tokenizer, options.batch, options.context, options.seed)
    held_out = HeldOut(corpus.held_out, tokenizer, shape.context)
    plan = TrainingPlan(
        steps=options.steps,
        minutes=options.minutes,
        muon_rate=options.muon_rate,
        adam_rate=options.adam_rate,
        weight_decay=options.weight_decay,
        bfloat16=options.precision == "bf16",
        compile=not options.no_compile,
    )
    trainer = Trainer(Llama(shape), batches, held_out, plan)
    print(
        f"corpus: {len(corpus.train)} files, {sum(map(len, corpus.train))} bytes, "
        f"{batches.tokens} tokens; held out: {len(corpus.held_out)} files, "
        f"{sum(map(len, corpus.held_out))} bytes; sha256 {corpus.sha256}; "
        f"{sum(p.numel() for p in trainer.network.parameters())} parameters",
        flush=True,
    )
    if options.checkpoint.exists() and not options.fresh:
        try:
            trainer.load(options.checkpoint)
        except Exception as error:  # torch.load raises many kinds for a damaged file
            raise UserError(
                f"cannot resume from {options.checkpoint}: {error}; start over with --fresh"
            ) from None
        print(f"resumed from {options.checkpoint} at step {trainer.step}", flush=True)
    while trainer.progress < 1.0 and not options.export_only:
        first_step, first_seconds = trainer.step, trainer.seconds
        loss = trainer.run(options.report_seconds)
        score = trainer.evaluate(EVALUATION_ROWS)
        rate = (trainer.step - first_step) / (trainer.seconds - first_seconds)
        left = (
            60 * options.minutes - trainer.seconds
            if options.steps is None
            else (options.steps - trainer.step) / rate
        )
        print(
            f"step {trainer.step} ({trainer.progress:.1%})  "
            f"{rate * options.batch * options.context:.0f} tokens/s  loss {loss:.4f}  "
            f"held out {score.nats_per_token:.4f} nats/token {score.bits_per_byte:.4f} bits/byte  "
            f"{trainer.seconds / 60:.1f} min, {max(left, 0) / 60:.1f} to go",
            flush=True,
        )
        trainer.save(options.checkpoint)
    score = trainer.evaluate()
    size = export_model(trainer.network, tokenizer, options.out)
    record = {
        "steps": trainer.step,
        "minutes": round(trainer.seconds / 60, 1),
        "tokens_seen": trainer.step * options.batch * options.context,
        "held_out_nats_per_token": round(score.nats_per_token, 4),
        "held_out_bits_per_byte": round(score.bits_per_byte, 4),
        "bytes_written": size,
    }
    print(json.dumps(record))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.train_demo", description="Train the demo model."
    )
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=_positive_int, help="length of the run in steps")
    length.add_argument("--minutes", type=_positive_float, help="length of the run in minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("models/demo"))
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=Path(".cache/demo-checkpoint.pt"),
        help="written every report, resumed if it exists",
    )
    parser.add_argument("--fresh", action="store_true", help="do not resume from the checkpoint")
    parser.add_argument(
        "--export-only", action="store_true", help="write the checkpoint's model, train no further"
    )
    parser.add_argument("--source", type=Path, help="folder of Python files (default: the stdlib)")
    parser.add_argument("--batch", type=_positive_int, default=8, help="rows of a step")
    parser.add_argument("--context", type=_positive_int, default=512, help="tokens of a row")
    parser.add_argument("--muon-rate", type=_positive_float, default=0.02)
    parser.add_argument("--adam-rate", type=_positive_float, default=0.004)
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--no-compile", action="store_true", help="run without torch.compile")
    parser.add_argument("--threads", type=_positive_int, default=1)
    parser.add_argument("--report-seconds", type=_positive_float, default=60.0)
    return parser.parse_args(arguments)


def _positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _positive_float(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return value


if __name__ == "__main__":
    sys.exit(main())
