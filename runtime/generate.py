"""Text generation over a device: steps of rows, many prompts at once, checked if wanted."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from compiler.errors import UserError
from hdl.config import PAGE_TOKENS
from hdl.isa import Counter
from runtime.device import Device, RowRequest, StepResult
from runtime.pages import Sequence
from runtime.sampling import Sampler
from runtime.work import StepWork, step_work

__all__ = ["Generation", "Mismatch", "Request", "StepRecord", "generate"]


@dataclass
class Request:
    """One prompt to complete.

    Parameters
    ----------
    prompt : token ids, at least one
    tokens : new tokens at the most
    sampler : chooses each token
    stop : token ids that end the text (they are part of it)
    """

    prompt: list[int]
    tokens: int
    sampler: Sampler
    stop: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Mismatch:
    """The first difference between the device and the checker in a step."""

    step: int
    output: int
    token: int
    device: int  # FP32 bits
    golden: int

    def __str__(self) -> str:
        return (
            f"step {self.step}, output {self.output}, logit {self.token}: device "
            f"{self.device:#010x}, golden {self.golden:#010x}"
        )


@dataclass(frozen=True)
class StepRecord:
    """What one step did.

    Attributes
    ----------
    phase : "prefill", "decode" or "mixed"
    rows, outputs : rows of the step, and those with logits
    work : bytes and multiplications it needed
    counters : of the device, empty without cycles
    seconds : wall time on the device
    exact : every logit equal to the checker's; None if not checked
    """

    phase: str
    rows: int
    outputs: int
    work: StepWork
    counters: dict[Counter, int]
    seconds: float
    exact: bool | None


@dataclass
class Generation:
    """New tokens of each request, the steps, and the first mismatch of each step that had one."""

    tokens: list[list[int]]
    steps: list[StepRecord] = field(default_factory=list)
    mismatches: list[Mismatch] = field(default_factory=list)

    @property
    def bit_exact(self) -> bool | None:
        """True or False; None where no step was checked."""
        if not any(s.exact is not None for s in self.steps):
            return None
        return not self.mismatches


class _Active:
    """A request that has its sequence on the device (and on the checker)."""

    def __init__(self, index: int, request: Request, sequences: list[Sequence]):
        self.index = index
        self.request = request
        self.sequences = sequences
        self.pending = list(request.prompt)  # tokens not yet run
        self.made = 0
        self.prompt_left = len(request.prompt)
        self.pages = _pages(request)

    def close(self, devices: list[Device]) -> None:
        for device, sequence in zip(devices, self.sequences, strict=True):
            device.close_sequence(sequence)


def _pages(request: Request) -> int:
    """KV pages that a request needs when it is complete; its last token is never run."""
    return -(-(len(request.prompt) + request.tokens - 1) // PAGE_TOKENS)


def _check(step: int, result: StepResult, golden: StepResult) -> Mismatch | None:
    assert result.logits is not None
    assert golden.logits is not None
    a, b = result.logits.view(np.uint32), golden.logits.view(np.uint32)
    if not np.array_equal(a, b):
        output, token = (int(v) for v in np.argwhere(a != b)[0])
        return Mismatch(step, output, token, int(a[output, token]), int(b[output, token]))
    if not np.array_equal(result.tokens, golden.tokens):
        output = int(np.argmax(result.tokens != golden.tokens))
        return Mismatch(step, output, -1, int(result.tokens[output]), int(golden.tokens[output]))
    return None


def generate(
    device: Device,
    requests: list[Request],
    *,
    checker: Device | None = None,
    on_token: Callable[[int, int], None] = lambda request, token: None,
    on_step: Callable[[StepRecord], None] = lambda record: None,
    progress: Callable[[int, StepWork], None] | None = None,
) -> Generation:
    """Complete every request.

    Sequences that decode take a row each, prompts fill the rest of a step in chunks. Requests for
    which there is no page table, or not enough KV pages, wait until a sequence ends.

    Parameters
    ----------
    checker
        A second device that runs the same steps; every logit is compared bit for bit.
    on_token
        Called with request and token as soon as a token is known.
    on_step
        Called after each step.
    progress
        Called during a step with the cycles so far and the step's work.

    Raises
    ------
    UserError
        For an empty prompt, or one that does not fit the context or the KV cache.
    DeviceFault
        The chip stopped a step. Every sequence is closed, the device can go on.
    """
    context, pages = device.map.context, device.map.kv_pages
    for i, r in enumerate(requests):
        if not r.prompt:
            raise UserError(f"prompt {i} is empty: give it at least one token")
        if max(r.prompt) >= device.vocab or min(r.prompt) < 0:
            raise UserError(f"prompt {i} has a token outside 0 to {device.vocab - 1}")
        if len(r.prompt) + r.tokens - 1 > context:
            raise UserError(
                f"prompt {i} with {len(r.prompt)} tokens and {r.tokens} new ones passes the "
                f"context of {context}: shorten it or compile with a longer context"
            )
        if _pages(r) > pages:
            raise UserError(
                f"prompt {i} with {len(r.prompt)} tokens and {r.tokens} new ones needs {_pages(r)} "
                f"KV pages of {pages}: shorten it or compile with more pages"
            )
    devices = [device] + ([checker] if checker else [])
    waiting = deque((i, r) for i, r in enumerate(requests) if r.tokens > 0)
    active: list[_Active] = []
    done = Generation([[] for _ in requests])
    limit = min(d.rows for d in devices)
    try:
        while waiting or active:
            while waiting and len(active) < device.config.row_capacity:
                index, request = waiting[0]
                if sum(a.pages for a in active) + _pages(request) > pages:
                    break
                waiting.popleft()
                active.append(_Active(index, request, [d.open_sequence() for d in devices]))
            _step(devices, active, limit, done, on_token, on_step, progress)
            for a in [a for a in active if not a.pending]:
                a.close(devices)
                active.remove(a)
    finally:
        for a in active:
            a.close(devices)
    return done


def _step(devices, active, limit, done, on_token, on_step, progress) -> None:
    """One step over the active sequences; those that are finished have nothing pending after."""
    device = devices[0]
    chosen: list[tuple[_Active, list[int]]] = []
    room = limit
    # Decoding rows first: they are one each, and nobody should wait behind a long prompt.
    for a in sorted(active, key=lambda a: a.prompt_left > 0):
        if room:
            chunk = a.pending[:room]
            chosen.append((a, chunk))
            room -= len(chunk)
    ends = [len(chunk) == len(a.pending) for a, chunk in chosen]
    prompts = [a.prompt_left > 0 for a, _ in chosen]
    phase = "prefill" if all(prompts) else "mixed" if any(prompts) else "decode"

    greedy = all(a.request.sampler.temperature == 0 for a, _ in chosen)
    logits = len(devices) > 1 or not greedy
    spans = [
        (a.sequences[0].length, len(chunk), int(end))
        for (a, chunk), end in zip(chosen, ends, strict=True)
    ]
    work = step_work(device.image, spans, logits=logits)
    results, seconds = [], 0.0
    for i, d in enumerate(devices):
        rows = [
            RowRequest(a.sequences[i], chunk, int(end))
            for (a, chunk), end in zip(chosen, ends, strict=True)
        ]
        start = perf_counter()
        report = (lambda cycles: progress(cycles, work)) if progress and i == 0 else None
        results.append(d.step(rows, logits=logits, progress=report))
        if i == 0:
            seconds = perf_counter() - start
    exact = None
    if len(devices) > 1:
        mismatch = _check(len(done.steps), *results)
        exact = mismatch is None
        if mismatch:
            done.mismatches.append(mismatch)
    record = StepRecord(
        phase, sum(n for _, n, _ in spans), sum(ends), work, results[0].counters, seconds, exact
    )
    done.steps.append(record)

    output = 0
    for (a, chunk), end in zip(chosen, ends, strict=True):
        del a.pending[: len(chunk)]
        a.prompt_left = max(0, a.prompt_left - len(chunk))
        if not end:
            continue
        r = a.request
        if r.sampler.temperature == 0:
            token = int(results[0].tokens[output])
        else:
            token = r.sampler.sample(results[0].logits[output])
        output += 1
        a.made += 1
        done.tokens[a.index].append(token)
        on_token(a.index, token)
        if a.made < r.tokens and token not in r.stop:
            a.pending.append(token)
    on_step(record)
