"""Steps of a device: what they ask for, what they give, and what they leave after a fault."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.errors import UserError
from hdl.isa import Counter
from runtime.chip import DeviceFault, Progress
from runtime.device import Device, RowRequest
from runtime.golden_chip import GoldenChip
from tests.devices import checkpoint, golden, image, logits

TEXT = list(range(3, 60))


def test_outputs_are_the_last_rows_of_each_request() -> None:
    device = golden(checkpoint(), sequences=3)
    expected = [logits(device, text) for text in (TEXT[:9], TEXT[5:9], TEXT[7:8])]
    a, b, c = (device.open_sequence() for _ in range(3))
    requests = [RowRequest(a, TEXT[:9], 2), RowRequest(b, TEXT[5:9], 0), RowRequest(c, TEXT[7:8])]
    result = device.step(requests)
    assert result.logits is not None
    assert (result.rows, result.logits.shape, result.counters) == (14, (3, 96), {})
    np.testing.assert_array_equal(result.logits, [*expected[0][-2:], expected[2][0]])
    np.testing.assert_array_equal(result.tokens, result.logits.argmax(1))
    assert [s.length for s in (a, b, c)] == [9, 4, 1]


def test_without_logits_there_are_tokens_only() -> None:
    device = golden(checkpoint())
    expected = logits(device, TEXT[:5]).argmax(1)
    result = device.step([RowRequest(device.open_sequence(), TEXT[:5], 5)], logits=False)
    assert result.logits is None
    np.testing.assert_array_equal(result.tokens, expected)


def test_a_step_without_outputs() -> None:
    device = golden(checkpoint())
    sequence = device.open_sequence()
    result = device.step([RowRequest(sequence, TEXT[:5], 0)])
    assert result.logits is not None
    assert (result.logits.shape, result.tokens.shape) == ((0, 96), (0,))
    rest = device.step([RowRequest(sequence, TEXT[5:9], 4)]).logits
    np.testing.assert_array_equal(rest, logits(device, TEXT[:9])[5:])


def test_results_are_not_changed_by_later_steps() -> None:
    device = golden(checkpoint())
    sequence = device.open_sequence()
    first = device.step([RowRequest(sequence, TEXT[:5], 5)])
    assert first.logits is not None
    kept, tokens = first.logits.copy(), first.tokens.copy()
    device.step([RowRequest(sequence, TEXT[5:10], 5)])
    np.testing.assert_array_equal(first.logits, kept)
    np.testing.assert_array_equal(first.tokens, tokens)


@pytest.mark.parametrize("preset", ["tiny", "edge"])
def test_a_step_holds_as_many_rows_as_the_image_says(preset: str) -> None:
    device = golden(checkpoint(), preset, sequences=device_rows(preset))
    assert device.rows == device.config.row_capacity
    requests = [RowRequest(device.open_sequence(), [i % 96]) for i in range(device.rows)]
    result = device.step(requests)
    assert result.logits is not None
    for i in (0, device.rows - 1):
        np.testing.assert_array_equal(result.logits[i], logits_alone(preset, i % 96))
    with pytest.raises(UserError, match="sequences at a time"):
        device.open_sequence()
    extra = RowRequest(requests[0].sequence, [1, 2])
    with pytest.raises(ValueError, match=f"1 to {device.rows} rows, not {device.rows + 1}"):
        device.step([extra, *requests[1:]])
    with pytest.raises(ValueError, match="rows, not 0"):
        device.step([])


def device_rows(preset: str) -> int:
    return {"tiny": 8, "edge": 64}[preset]


def logits_alone(preset: str, token: int) -> np.ndarray:
    return logits(golden(checkpoint(), preset), [token])[0]


def test_requests_that_make_no_sense_are_refused() -> None:
    device = golden(checkpoint(), sequences=2)
    a, b = device.open_sequence(), device.open_sequence()
    for bad in (
        [RowRequest(a, [1]), RowRequest(b, [])],
        [RowRequest(a, [1], 2)],
        [RowRequest(a, [1], -1)],
        [RowRequest(a, [1]), RowRequest(a, [2])],
    ):
        with pytest.raises(ValueError, match=r"token|once"):
            device.step(bad)
    assert (a.length, a.pages, b.length, b.pages) == (0, [], 0, [])


def test_a_step_that_does_not_fit_takes_nothing() -> None:
    device = golden(checkpoint(), kv_pages=3)
    a, b = device.open_sequence(), device.open_sequence()
    logits(device, TEXT[:33], sequence=a)  # two pages
    with pytest.raises(UserError, match="3 pages are all in use"):
        device.step([RowRequest(a, [1]), RowRequest(b, TEXT[:33])])
    assert (len(a.pages), a.length, b.pages, b.length) == (2, 33, [], 0)
    with pytest.raises(UserError, match="compiled for 64"):
        device.step([RowRequest(b, [1]), RowRequest(a, TEXT[:32])])
    assert (len(a.pages), a.length, b.pages, b.length) == (2, 33, [], 0)
    device.step([RowRequest(a, [1]), RowRequest(b, TEXT[:32])])
    assert (a.length, b.length) == (34, 32)


def test_pages_come_back_when_a_sequence_is_closed() -> None:
    device = golden(checkpoint(), kv_pages=2)
    expected = logits(device, TEXT)
    for _ in range(20):
        np.testing.assert_array_equal(logits(device, TEXT[:40]), expected[:40])


class Counting(GoldenChip):
    """A chip with a cycle counter that reports progress, and that can be made to fail."""

    broken = False
    closed = False

    def run(
        self, program: int, descriptor: int, progress: Progress | None = None
    ) -> dict[Counter, int]:
        if progress:
            progress(17)
        if self.broken:
            raise DeviceFault("WATCHDOG")
        super().run(program, descriptor)
        return {Counter.CYCLES: 42}

    def close(self) -> None:
        self.closed = True


def test_counters_progress_and_faults_come_from_the_chip() -> None:
    device = Device(image(checkpoint()), Counting)
    chip = device.chip
    assert isinstance(chip, Counting)
    sequence = device.open_sequence()
    seen: list[int] = []
    result = device.step([RowRequest(sequence, [5])], progress=seen.append)
    assert (result.counters, seen) == ({Counter.CYCLES: 42}, [17])
    chip.broken = True
    with pytest.raises(DeviceFault):
        device.step([RowRequest(sequence, TEXT[:40])])
    assert (sequence.length, len(sequence.pages)) == (1, 1)
    chip.broken = False
    assert device.step([RowRequest(sequence, [6])]).rows == 1
    device.close()
    assert chip.closed
