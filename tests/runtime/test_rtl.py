"""The verilated chip as a device: models, faults, recovery and cycles, against the golden model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from compiler.checkpoint import load_checkpoint
from compiler.compile import compile_checkpoint
from hdl.config import PRESETS
from hdl.control.dispatch import READ_AHEAD_WORDS
from hdl.isa import Counter, Opcode, encode
from runtime.chip import DeviceFault
from runtime.device import Device, RowRequest
from runtime.gemm import run_gemm
from runtime.generate import Request, generate
from runtime.golden_chip import GoldenChip
from runtime.layer import LayerShape, run_layer
from runtime.rtl_chip import RtlChip, build_chip
from runtime.sampling import Sampler
from sim.verilated.library import MemoryTiming
from tests.models import random_checkpoint

DEMO = Path(__file__).resolve().parents[2] / "models" / "demo"
STORIES = Path(__file__).resolve().parents[3] / "shared" / "models" / "stories260K"
STALLED = MemoryTiming(latency=37, stall_probability=0.2)


@pytest.fixture(scope="session", params=["tiny", "ulx3s", "edge"])
def chip(request):
    """(config, chip maker) of a preset; built once, cached by content."""
    return _chip(request.param)


@pytest.fixture(scope="session")
def edge():
    return _chip("edge")


@pytest.fixture(scope="session")
def tiny():
    return _chip("tiny")


def _chip(name):
    config = PRESETS[name]
    library = build_chip(config)

    def make(config, memory, timing=None, seed=1):
        return RtlChip(config, memory, library=library, timing=timing, seed=seed)

    return config, make


def _exact(device, checker, requests):
    done = generate(device, requests, checker=checker)
    assert done.bit_exact, str(done.mismatches[0])
    return done


def test_demo(chip):
    """The demo model, prompts of mixed lengths at once: every logit equal to the golden model's."""
    config, make = chip
    checkpoint = load_checkpoint(DEMO)
    image = compile_checkpoint(checkpoint, config, context=64, sequences=3)
    rng = np.random.default_rng(5)
    prompts = [rng.integers(3, 900, n).tolist() for n in (1, 9, 4)]
    requests = [Request(p, 3, Sampler()) for p in prompts]
    done = _exact(Device(image, make), Device(image, GoldenChip), requests)
    assert [len(t) for t in done.tokens] == [3, 3, 3]


def test_presets_agree():
    """The same text on every preset, to the bit of every logit."""
    checkpoint = random_checkpoint(3, heads=4, kv_heads=2, head_dim=10, layers=2)
    found = []
    for name in PRESETS:
        config, make = _chip(name)
        device = Device(compile_checkpoint(checkpoint, config), make)
        sequence = device.open_sequence()
        results = [device.step([RowRequest(sequence, [1, 2, 3], outputs=3)]).logits]
        for token in range(5):
            results.append(device.step([RowRequest(sequence, [token])]).logits)
        found.append(np.concatenate(results).view(np.uint32))
    for other in found[1:]:
        assert np.array_equal(found[0], other)


@pytest.mark.parametrize("timing", [None, STALLED], ids=["steady", "stalled"])
def test_stories(edge, timing):
    """A checkpoint that is not in the repository, batch of four, with and without stalls."""
    if not STORIES.is_dir():
        pytest.skip("../shared/models/stories260K is not there")
    config, make = edge
    checkpoint = load_checkpoint(STORIES / "stories260K.bin", STORIES / "tok512.bin")
    image = compile_checkpoint(checkpoint, config, context=64, sequences=4)
    rng = np.random.default_rng(1)
    requests = [
        Request([1, *rng.integers(3, 500, n).tolist()], 4, Sampler(0.8, 0.9, 7, i))
        for i, n in enumerate((2, 33, 5, 11))
    ]

    def stalled(config, memory):
        return make(config, memory, timing)

    _exact(Device(image, stalled), Device(image, GoldenChip), requests)


@pytest.mark.parametrize(
    ("shape", "context", "sequences", "chunk"),
    [
        (LayerShape(64, 96, 4, 2, 16), 31, 1, 2),  # a page boundary inside the chunk
        (LayerShape(40, 70, 6, 3, 18), 90, 2, 3),
        (LayerShape(96, 64, 2, 2, 50), 0, 1, 8),
        (LayerShape(32, 300, 8, 1, 4), 65, 4, 1),
    ],
)
def test_layers(tiny, shape, context, sequences, chunk):
    """Odd shapes, GQA and MHA, chunks and batches."""
    config, make = tiny
    rng = np.random.default_rng(context)
    figures = run_layer(
        config, make, shape, context=context, sequences=sequences, chunk=chunk, rng=rng
    )
    assert figures["bit_exact"]


@pytest.mark.parametrize(
    ("size", "least"),
    [((128, 128, 128, 16), 0.985), ((64, 64, 64, 16), 0.92), ((100, 77, 45, 8), 0.92)],
)
def test_gemm_efficiency(edge, size, least):
    """Products back to back keep the multipliers busy, start of the step included."""
    config, make = edge
    figures = run_gemm(config, make, *size, np.random.default_rng(0))
    assert figures["bit_exact"]
    assert figures["array_fed"] >= least


def test_layer_efficiency(edge):
    """Decode of one layer, dim 512: near the roofline at 60 cycles of latency."""
    config, make = edge
    figures = run_layer(
        config,
        make,
        LayerShape(512, 1536, 8, 4, 64),
        context=256,
        sequences=1,
        chunk=1,
        rng=np.random.default_rng(0),
    )
    assert figures["bit_exact"]
    assert figures["efficiency"] >= 0.97


@pytest.mark.parametrize("k", [4, 20, 32, 47, 64, 96])
def test_short_reductions(edge, k):
    """Short reductions back to back (a peer hangs below K = 48)."""
    config, make = edge
    figures = run_gemm(config, make, 64, k, 64, 8, np.random.default_rng(k))
    assert figures["bit_exact"]


def test_on_chip_kv():
    """Pages in an on-chip memory instead of external memory: the same bits."""
    config = replace(PRESETS["tiny"], name="tiny-kv", kv_on_chip_bytes=1 << 15)
    library = build_chip(config)
    image = compile_checkpoint(random_checkpoint(2, layers=2), config, context=64, sequences=2)
    device = Device(image, lambda c, memory: RtlChip(c, memory, library=library))
    rng = np.random.default_rng(2)
    requests = [Request(rng.integers(0, 50, n).tolist(), 5, Sampler()) for n in (37, 3)]
    _exact(device, Device(image, GoldenChip), requests)
    assert not device.memory[image.memory.kv_base : image.memory.kv_base + 4096].any()


@pytest.mark.parametrize(
    "change",
    [
        {"rows": 16, "cols": 16, "port_bytes": 8, "lanes": 8, "page_slots": 8, "tape_beats": 256},
        {"rows": 32, "cols": 32, "port_bytes": 32, "lanes": 16, "tape_beats": 256},
        {
            "rows": 8,
            "cols": 32,
            "port_bytes": 8,
            "lanes": 2,
            "row_group": 2,
            "panel_ring": 2,
            "tape_beats": 256,
        },
    ],
    ids=["8-byte-port", "32-byte-port", "two-lanes"],
)
def test_other_shapes(change):
    """Chips that are no preset: other ports, lanes, slots and rings."""
    config = replace(PRESETS["tiny"], name="other", row_capacity=12, **change)
    library = build_chip(config)

    def make(config, memory):
        return RtlChip(config, memory, library=library)

    rng = np.random.default_rng(3)
    shape = LayerShape(64, 96, 4, 2, 40)
    assert run_layer(config, make, shape, context=50, sequences=2, chunk=3, rng=rng)["bit_exact"]
    assert run_gemm(config, make, 20, 100, 70, 2, rng)["bit_exact"]


class Faulty:
    """A device with one sequence of a few tokens, to break and to check after."""

    def __init__(self, tiny):
        config, make = tiny
        self.image = compile_checkpoint(random_checkpoint(1), config, sequences=2)
        self.device = Device(self.image, make)
        self.golden = Device(self.image, GoldenChip)
        self.sequence = self.device.open_sequence()
        self.mirror = self.golden.open_sequence()
        self.good_step([1, 2, 3])

    def good_step(self, tokens):
        a = self.device.step([RowRequest(self.sequence, tokens)])
        b = self.golden.step([RowRequest(self.mirror, tokens)])
        assert np.array_equal(a.logits.view(np.uint32), b.logits.view(np.uint32))
        assert a.counters[Counter.CYCLES] > 0

    def fails(self, cause):
        with pytest.raises(DeviceFault, match=cause):
            self.device.step([RowRequest(self.sequence, [4])])

    def program(self, index, word):
        """Replace an instruction; gives the bytes that were there."""
        at = self.device.map.program + 16 * index
        old = self.device.memory[at : at + 16].copy()
        self.device.memory[at : at + 16] = np.frombuffer(word.to_bytes(16, "little"), np.uint8)
        return at, old


@pytest.fixture
def faulty(tiny):
    made = Faulty(tiny)
    yield made
    made.device.close()


@pytest.mark.parametrize(
    ("word", "cause"),
    [
        (0, "ILLEGAL_INSTRUCTION"),
        (encode(Opcode.MATMUL, activations=0, blocks=0, panels=1, rows=0), "BAD_OPERAND"),
        (
            encode(Opcode.MATMUL, activations=(1 << 20) - 1, blocks=9, panels=1, rows=0),
            "BAD_OPERAND",
        ),
        (encode(Opcode.STORE, source=0, blocks=1, address=1 << 39), "BAD_ADDRESS"),
        (encode(Opcode.TAPE, address=1 << 38, block_tiles=1), "BAD_ADDRESS"),
        (
            encode(Opcode.LOAD, source=0, target=1, destination=60000, blocks=9, address=4096),
            "BAD_OPERAND",
        ),
    ],
)
def test_bad_programs(faulty, word, cause):
    """A broken instruction stops the step with its cause; the next good step is right."""
    at, old = faulty.program(0, word)
    faulty.fails(cause)
    faulty.device.memory[at : at + 16] = old
    faulty.good_step([5])


@pytest.mark.parametrize("section", ["program", "descriptor", "norms", "tape", "kv_base", "rope"])
def test_read_errors(faulty, section):
    """SLVERR on a read of any kind: recorded, and the next good step is right."""
    start = faulty.image.manifest["memory"][section]
    sim = faulty.device.chip._sim
    # The step needs all of the first three, of the others something in the first 8 KiB.
    size = 64 if section in ("program", "descriptor", "norms") else 1 << 13
    if section == "program":
        start += 16 * READ_AHEAD_WORDS  # what is before it was read at the end of the last step
    sim.inject_errors(reads=[(start, start + size)])
    faulty.fails("READ_ERROR")
    sim.inject_errors()
    faulty.good_step([5, 6])


def test_read_errors_ahead(faulty):
    """SLVERR on the head of the program, read between steps: the step that needs it fails."""
    start = faulty.image.manifest["memory"]["program"]
    sim = faulty.device.chip._sim
    faulty.good_step([5])
    sim.inject_errors(reads=[(start, start + 64)])
    faulty.good_step([5])  # its program is on chip; the next step's is not
    for _ in range(2):
        faulty.fails("READ_ERROR")
    sim.inject_errors()
    faulty.good_step([5, 6])


@pytest.mark.parametrize("section", ["result", "kv_base"])
def test_write_errors(faulty, section):
    start = faulty.image.manifest["memory"][section]
    sim = faulty.device.chip._sim
    sim.inject_errors(writes=[(start, start + (1 << 14))])
    faulty.fails("WRITE_ERROR")
    sim.inject_errors()
    faulty.good_step([5])


def test_stolen_page(faulty):
    """A page that belongs to another sequence is never read."""
    at = faulty.device.map.kv_owners + 4 * faulty.sequence.pages[0]
    owner = faulty.device.memory[at]
    faulty.device.memory[at] = owner + 1
    faulty.fails("KV_OWNER")
    faulty.device.memory[at] = owner
    faulty.good_step([5])


def test_page_outside(faulty):
    """A page table entry past the KV memory is a fault."""
    table = faulty.device.pages.table_address(faulty.sequence)
    old = faulty.device.memory[table : table + 4].copy()
    faulty.device.memory[table : table + 4] = 255
    faulty.fails("KV_PAGE")
    faulty.device.memory[table : table + 4] = old
    faulty.good_step([5])


def test_hang_is_caught(faulty):
    """A wait that nobody answers ends at the watchdog."""
    from hdl.isa import HostRegister

    faulty.device.chip._write(HostRegister.WATCHDOG, 5000)
    at, old = faulty.program(16, encode(Opcode.PREPARE, wait=128))
    faulty.fails("WATCHDOG")
    faulty.device.memory[at : at + 16] = old
    faulty.good_step([5])
