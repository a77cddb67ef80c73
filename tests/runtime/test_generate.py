"""Generation: any number of prompts, each as if it were alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from compiler.errors import UserError
from hdl.isa import Counter
from runtime.chip import DeviceFault, Progress
from runtime.device import Device
from runtime.generate import Generation, Request, StepRecord, generate
from runtime.golden_chip import GoldenChip
from runtime.sampling import Sampler
from tests.devices import checkpoint, golden, image, logits

PROMPTS = [[(11 * i + 7 * j) % 96 for j in range(n)] for i, n in enumerate((3, 1, 20, 40, 8, 33))]


def greedy(
    prompts: list[list[int]], tokens: int, stop: frozenset[int] = frozenset()
) -> list[Request]:
    return [Request(p, tokens, Sampler(), stop) for p in prompts]


def alone(prompt: list[int], tokens: int) -> list[int]:
    """Greedy by hand: the whole text again for each token."""
    device, text = golden(checkpoint()), list(prompt)
    for _ in range(tokens):
        text.append(int(logits(device, text)[-1].argmax()))
    return text[len(prompt) :]


@pytest.fixture(scope="module")
def expected() -> list[list[int]]:
    return [alone(p, 12) for p in PROMPTS]


@pytest.mark.parametrize(("preset", "sequences"), [("edge", 6), ("tiny", 6), ("tiny", 2)])
def test_every_prompt_is_continued_as_if_alone(
    preset: str, sequences: int, expected: list[list[int]]
) -> None:
    device = golden(checkpoint(), preset, sequences=sequences)
    done = generate(device, greedy(PROMPTS, 12))
    assert done.tokens == expected
    assert done.bit_exact is None
    assert len({tuple(t) for t in expected}) > 1


def test_more_prompts_than_page_tables_wait_for_their_turn() -> None:
    device = golden(checkpoint(), "tiny", sequences=8)
    prompts = [[i] * (1 + i % 5) for i in range(20)]
    most = 0

    def on_step(record: StepRecord) -> None:
        nonlocal most
        most = max(most, record.rows)

    done = generate(device, greedy(prompts, 3), on_step=on_step)
    assert done.tokens == [alone(p, 3) for p in prompts]
    assert most == device.rows == 8


def test_prompts_wait_for_pages_where_there_are_few() -> None:
    """Two pages: one long text at a time, or two short ones."""
    device = golden(checkpoint(), kv_pages=2)
    done = generate(device, greedy(PROMPTS, 5))
    assert done.tokens == [alone(p, 5) for p in PROMPTS]
    assert len(device.open_sequence().pages) == 0


def test_requests_of_different_lengths(expected: list[list[int]]) -> None:
    device = golden(checkpoint(), sequences=6)
    counts = [1, 12, 0, 4, 7, 2]
    requests = [Request(p, n, Sampler()) for p, n in zip(PROMPTS, counts, strict=True)]
    assert generate(device, requests).tokens == [
        e[:n] for e, n in zip(expected, counts, strict=True)
    ]
    assert generate(device, []).tokens == []


def test_a_stop_token_ends_its_own_text_and_is_part_of_it(expected: list[list[int]]) -> None:
    stop = expected[2][4]
    done = generate(golden(checkpoint(), sequences=6), greedy(PROMPTS, 12, frozenset({stop})))
    for found, whole in zip(done.tokens, expected, strict=True):
        end = whole.index(stop) + 1 if stop in whole else len(whole)
        assert found == whole[:end]
    assert done.tokens[2][-1] == stop


def test_steps_say_what_they_did() -> None:
    device = golden(checkpoint(), sequences=3)
    seen: list[tuple[int, int]] = []
    records: list[StepRecord] = []
    prompts = [[1] * 100, [2, 3]]
    long = golden(checkpoint(context=128), sequences=2)
    done = generate(
        long, greedy(prompts, 3), on_token=lambda r, t: seen.append((r, t)), on_step=records.append
    )
    assert records == done.steps
    # 64 of the first prompt; its rest with the second; then a row each, the second a step behind.
    assert [(s.phase, s.rows, s.outputs) for s in done.steps] == [
        ("prefill", 64, 0),
        ("prefill", 38, 2),
        ("decode", 2, 2),
        ("decode", 2, 2),
    ]
    assert sorted(seen) == sorted((i, t) for i, tokens in enumerate(done.tokens) for t in tokens)
    assert all(s.seconds > 0 and s.exact is None and s.counters == {} for s in done.steps)
    mixed = generate(device, [Request([1], 4, Sampler()), Request([5] * 64, 1, Sampler())])
    assert [s.phase for s in mixed.steps] == ["prefill", "mixed", "decode", "decode"]


def sampled(device: Device, prompts: list[list[int]], seed: int, first: int = 0) -> Generation:
    requests = [Request(p, 10, Sampler(0.8, 0.9, seed, first + i)) for i, p in enumerate(prompts)]
    return generate(device, requests)


def test_sampling_is_reproducible_and_independent_of_the_batch() -> None:
    device = golden(checkpoint(), sequences=6)
    together = sampled(device, PROMPTS, 3).tokens
    assert sampled(device, PROMPTS, 3).tokens == together
    assert sampled(golden(checkpoint(), "tiny", sequences=3), PROMPTS, 3).tokens == together
    for i, prompt in enumerate(PROMPTS):
        assert sampled(device, [prompt], 3, first=i).tokens == [together[i]]
    assert sampled(device, PROMPTS, 4).tokens != together


def test_greedy_and_sampled_requests_go_together(expected: list[list[int]]) -> None:
    device = golden(checkpoint(), sequences=2)
    requests = [Request(PROMPTS[0], 12, Sampler()), Request(PROMPTS[1], 12, Sampler(1.0, 1.0, 1))]
    assert generate(device, requests).tokens[0] == expected[0]


def test_a_checker_that_agrees() -> None:
    made = image(checkpoint(), sequences=2)
    devices = Device(made, GoldenChip), Device(made, GoldenChip)
    done = generate(devices[0], greedy(PROMPTS[:2], 4), checker=devices[1])
    assert done.bit_exact is True
    assert all(s.exact for s in done.steps)
    assert done.mismatches == []


def break_embedding(device: Device, token: int) -> None:
    """The lowest bits of one embedding row of the device."""
    at = device.map.embedding + token * 32 * 4
    device.memory[at : at + 128].view("<u4")[:] ^= 1 << 16


def break_head(device: Device, token: int) -> None:
    """One weight of one logit: the last 32 outputs, the scale of the first of them."""
    c = device.config
    at = device.map.descriptor - 1
    panel = c.column_groups * c.block_tile_beats * c.port_bytes
    tape_end = device.map.tape + device.map.tape_block_tiles // c.column_groups * panel
    assert tape_end <= at
    device.memory[tape_end - panel] += 1


@pytest.mark.parametrize("side", ["device", "checker"])
@pytest.mark.parametrize("damage", [break_embedding, break_head])
def test_a_difference_is_found_and_reported(
    side: str, damage: Callable[[Device, int], None]
) -> None:
    made = image(checkpoint(), sequences=2)
    device, checker = Device(made, GoldenChip), Device(made, GoldenChip)
    damage(device if side == "device" else checker, PROMPTS[1][0])
    done = generate(device, greedy(PROMPTS[:2], 4), checker=checker)
    assert done.bit_exact is False
    first = done.mismatches[0]
    assert first.step == 0
    assert first.device != first.golden
    if damage is break_head:
        assert (first.output, first.token) == (0, 64)
    else:
        assert first.output == 1  # the first prompt does not hold the token
    assert done.steps[0].exact is False
    assert f"device {first.device:#010x}, golden {first.golden:#010x}" in str(first)


class WrongToken(GoldenChip):
    """Right logits, and the token after the best."""

    def run(
        self, program: int, descriptor: int, progress: Progress | None = None
    ) -> dict[Counter, int]:
        counters = super().run(program, descriptor)
        result = self._machine.step.result
        self.memory[result : result + 4].view("<u4")[:] += 1
        return counters


def test_a_wrong_token_beside_right_logits_is_found() -> None:
    made = image(checkpoint())
    done = generate(Device(made, WrongToken), greedy([[5]], 2), checker=Device(made, GoldenChip))
    assert done.bit_exact is False
    first = done.mismatches[0]
    assert (first.token, first.device) == (-1, first.golden + 1)


@pytest.mark.parametrize(
    ("prompt", "tokens", "text"),
    [
        ([], 1, "prompt 1 is empty"),
        ([96], 1, "prompt 1 has a token outside 0 to 95"),
        ([5, -1], 1, "prompt 1 has a token outside 0 to 95"),
        ([1] * 65, 1, "prompt 1 with 65 tokens and 1 new ones passes the context of 64"),
        ([1] * 60, 6, "passes the context of 64"),
        ([1] * 33, 1, "needs 2 KV pages of 1"),
    ],
)
def test_requests_that_can_not_be_run_are_refused(
    prompt: list[int], tokens: int, text: str
) -> None:
    device = golden(checkpoint(), kv_pages=1)
    with pytest.raises(UserError, match=text):
        generate(device, [Request([1], 1, Sampler()), Request(prompt, tokens, Sampler())])


def test_a_text_may_fill_the_context() -> None:
    device = golden(checkpoint())
    assert len(generate(device, greedy([[1] * 60], 5)).tokens[0]) == 5


class Failing(GoldenChip):
    """Stops in its third step."""

    steps = 0

    def run(
        self, program: int, descriptor: int, progress: Progress | None = None
    ) -> dict[Counter, int]:
        self.steps += 1
        if self.steps == 3:
            raise DeviceFault("NON_FINITE")
        return super().run(program, descriptor)


def test_after_a_fault_the_device_can_go_on(expected: list[list[int]]) -> None:
    device = Device(image(checkpoint(), sequences=6), Failing)
    with pytest.raises(DeviceFault):
        generate(device, greedy(PROMPTS, 12))
    assert generate(device, greedy(PROMPTS, 12)).tokens == expected


def test_a_device_in_use_keeps_its_sequences() -> None:
    device = golden(checkpoint(), sequences=3)
    sequence = device.open_sequence()
    before = logits(device, PROMPTS[2], sequence=sequence)
    generate(device, greedy(PROMPTS[:2], 4))
    np.testing.assert_array_equal(
        np.concatenate([before, logits(device, [7], sequence=sequence)]),
        logits(device, [*PROMPTS[2], 7]),
    )
