"""The command line on the golden device: what it prints and writes, and how it refuses.

Most cases call `scripts.main.main`, the whole of what `python -m scripts.main` does; some start a
process of their own, to see exit codes and streams as a user does.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from compiler.checkpoint import Checkpoint
from compiler.image import read_image
from runtime.chip import DeviceFault
from scripts.main import main
from tests.checkpoints import (
    SHARED_MODELS,
    random_tensors,
    small_config,
    write_gguf,
    write_huggingface,
    write_llama2c,
    write_tokenizer_bin,
)
from tests.devices import golden, logits

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ["run", "--device", "golden"]
IDS = ["--prompt-ids", "5,6,7"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small models, good and damaged."""
    folder = tmp_path_factory.mktemp("models")
    config, tensors = small_config(), random_tensors(small_config())
    write_huggingface(folder / "hf", config, tensors)
    gguf = write_gguf(folder / "model.gguf", config, tensors)
    write_llama2c(folder / "model.bin", config, tensors)
    (folder / "cut.gguf").write_bytes(gguf.read_bytes()[:-1000])
    (folder / "noise.bin").write_bytes(b"no model at all" * 40)
    cut = write_huggingface(folder / "cut", config, tensors) / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-500])
    other = folder / "gpt"
    write_huggingface(other, config, tensors, changes={"model_type": "gpt_neox"})
    (folder / "empty").mkdir()
    wide = small_config(head_dim=96)
    write_huggingface(folder / "wide", wide, random_tensors(wide))
    (folder / "with_text").mkdir()
    write_llama2c(folder / "with_text" / "model.bin", config, tensors)
    texts = ["<unk>", "\n<s>\n", "\n</s>\n", *[f"<0x{i:02X}>" for i in range(93)]]
    write_tokenizer_bin(folder / "with_text" / "tokenizer.bin", texts, [0.0] * len(texts))
    return folder


def call(*arguments: str | int | Path) -> int:
    return main([str(a) for a in arguments])


def process(*arguments: str | int | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.main", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


def expected_tokens(prompt: list[int], count: int) -> list[int]:
    config = small_config()
    base = Checkpoint(config, random_tensors(config), None, Path("m"))
    device, text = golden(base), list(prompt)
    for _ in range(count):
        text.append(int(logits(device, text)[-1].argmax()))
    return text[len(prompt) :]


# Runs that work -----------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["hf", "model.gguf", "model.bin"])
def test_every_format_gives_the_same_tokens(
    models: Path, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    assert call(*GOLDEN, "--model", models / name, *IDS, "--tokens", 4, "--json", out) == 0
    figures = json.loads(out.read_text())
    assert figures["tokens"] == expected_tokens([5, 6, 7], 4)
    assert " ".join(map(str, figures["tokens"])) in capsys.readouterr().out


def test_json_has_what_is_promised(models: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    more = ["--tokens", "3", "--preset", "tiny", "--seed", "7", "--json", str(out)]
    assert call(*GOLDEN, "--model", models / "hf", *IDS, *more) == 0
    figures = json.loads(out.read_text())
    promised = {"tokens", "text", "bit_exact", "simulated_cycles_per_second", "steps"}
    assert promised <= set(figures)
    assert (figures["preset"], figures["device"], figures["seed"]) == ("tiny", "golden", 7)
    assert (figures["text"], figures["bit_exact"]) == (None, None)
    assert figures["tokens_per_second"] > 0
    assert [(s["phase"], s["rows"]) for s in figures["steps"]] == [
        ("prefill", 3),
        ("decode", 1),
        ("decode", 1),
    ]
    step = {"rows", "cycles", "roofline_cycles", "efficiency", "mac_utilization"}
    step |= {"bandwidth_utilization", "bytes", "cycles_by_unit", "phase", "outputs", "bit_exact"}
    assert all(step <= set(s) for s in figures["steps"])
    assert all(s["roofline_cycles"] > 0 and s["cycles"] is None for s in figures["steps"])


def test_several_prompts_and_a_batch(models: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    prompts = ["--prompt-ids", "5,6,7", "--prompt-ids", "9"]
    assert call(*GOLDEN, "--model", models / "hf", *prompts, "--batch", 3, "--tokens", 4,
                "--json", out) == 0  # fmt: skip
    figures = json.loads(out.read_text())
    first, second = expected_tokens([5, 6, 7], 4), expected_tokens([9], 4)
    assert figures["tokens"] == [first, second, first]
    assert [s["prompt_ids"] for s in figures["sequences"]] == [[5, 6, 7], [9], [5, 6, 7]]


def test_sampling_repeats_by_seed(models: Path, tmp_path: Path) -> None:
    found = []
    for seed in (1, 1, 2):
        out = tmp_path / "out.json"
        more = ["--temperature", "1.5", "--top-p", "0.95", "--seed", str(seed), "--json", str(out)]
        assert call(*GOLDEN, "--model", models / "hf", *IDS, "--tokens", 12, *more) == 0
        found.append(json.loads(out.read_text())["tokens"])
    assert found[0] == found[1] != found[2]


def test_text_streams_to_stdout(models: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    model = models / "with_text" / "model.bin"
    done = process(*GOLDEN, "--model", model, "--prompt", "AB", "--tokens", 5, "--ignore-eos",
                   "--json", out)  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    assert done.stdout.startswith("AB" + figures["text"].replace("\r", "\n"))
    assert "5 tokens in" in done.stdout
    assert "logits not compared" in done.stdout


def test_an_image_runs_as_its_model_does(models: Path, tmp_path: Path) -> None:
    image, out = tmp_path / "model.image", tmp_path / "out.json"
    model = models / "with_text" / "model.bin"
    assert call("compile", "--model", model, "--preset", "tiny", "-o", image, "--context", 40) == 0
    assert read_image(image).memory.context == 40
    found = []
    sources: list[list[str | Path]] = [["--image", image], ["--model", model, "--preset", "tiny"]]
    for source in sources:
        assert call(*GOLDEN, *source, "--prompt", "AB", "--tokens", 6, "--json", out) == 0
        found.append(json.loads(out.read_text()))
    assert found[0]["tokens"] == found[1]["tokens"]
    assert found[0]["text"] == found[1]["text"]
    assert found[0]["preset"] == "tiny"
    assert call(*GOLDEN, "--image", image, "--prompt", "AB", "--tokens", 60) == 2
    assert call(*GOLDEN, "--image", image, "--prompt", "a", "--tokenizer", model) == 2


@pytest.mark.skipif(not (SHARED_MODELS / "stories260K").is_dir(), reason="no stories260K")
def test_a_story(capsys: pytest.CaptureFixture[str]) -> None:
    folder = SHARED_MODELS / "stories260K"
    files: list[str | Path] = [
        "--model",
        folder / "stories260K.bin",
        "--tokenizer",
        folder / "tok512.bin",
    ]
    assert call(*GOLDEN, *files, "--prompt", "Once upon a time", "--tokens", "24") == 0
    assert "Once upon a time, there was a" in capsys.readouterr().out


def test_quality(models: Path, tmp_path: Path) -> None:
    text, out = tmp_path / "text", tmp_path / "out.json"
    text.write_text("the quick brown fox jumps over the lazy dog\n" * 5)
    model = models / "with_text" / "model.bin"
    more = ["--windows", "2", "--tokens", "40", "--preset", "tiny"]
    assert call("quality", "--model", model, "--text", text, "--json", out, *more) == 0
    figures = json.loads(out.read_text())
    assert figures["tokens"] == 2 * 39
    assert 0 <= figures["kl"] < 0.1
    assert figures["perplexity_chip"] == pytest.approx(figures["perplexity_fp32"], rel=0.2)
    assert figures["top1_agreement"] > 0.6


def test_models_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("models") == 0
    out = capsys.readouterr().out
    assert "demo" in out
    assert "smollm2" in out


def test_a_fault_of_the_chip_is_exit_code_1(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> dict:
        raise DeviceFault("KV_OWNER: page 3 is 2's, not 1's")

    monkeypatch.setattr("runtime.golden_chip.GoldenChip.run", fail)
    assert call(*GOLDEN, "--model", models / "hf", *IDS, "--tokens", 2) == 1
    assert "the chip stopped: KV_OWNER: page 3 is 2's, not 1's" in capsys.readouterr().err


# Refusals -----------------------------------------------------------------------------------------
LAYER = ["bench", "layer", "--dim", "32", "--hidden", "64", "--heads", "2", "--kv-heads", "1",
         "--head-dim", "16"]  # fmt: skip
GEMM = ["bench", "gemm", "--m", "1", "--k", "32", "--n", "32"]
REFUSALS: dict[str, tuple[list[str], str]] = {
    "preset": ([*GOLDEN, "--preset", "huge"], "--preset huge: no such preset; choose from tiny"),
    "model path": ([*GOLDEN, "--model", "{models}/absent"], "no such file or directory"),
    "empty folder": ([*GOLDEN, "--model", "{models}/empty", *IDS], "no config.json and no GGUF"),
    "damaged GGUF": ([*GOLDEN, "--model", "{models}/cut.gguf", *IDS], "cut.gguf"),
    "damaged safetensors": ([*GOLDEN, "--model", "{models}/cut", *IDS], "model.safetensors"),
    "no model": ([*GOLDEN, "--model", "{models}/noise.bin", *IDS], "noise.bin"),
    "other model": ([*GOLDEN, "--model", "{models}/gpt", *IDS], "gpt_neox"),
    "head for tiny": (
        [*GOLDEN, "--model", "{models}/wide", *IDS, "--tokens", "2", "--preset", "tiny"],
        "head_dim 96 is more than preset tiny can hold",
    ),
    "no tokenizer": ([*GOLDEN, "--model", "{models}/hf", "--prompt", "a"], "has no tokenizer"),
    "absent tokenizer": (
        [*GOLDEN, "--model", "{models}/hf", "--tokenizer", "{models}/absent"],
        "no such tokenizer file",
    ),
    "no chat": (
        [*GOLDEN, "--model", "{models}/with_text/model.bin", "--chat", "--prompt", "a"],
        "no chat template",
    ),
    "ids": (
        [*GOLDEN, "--model", "{models}/hf", "--prompt-ids", "1,x"],
        "whole numbers with commas",
    ),
    "no ids": (
        [*GOLDEN, "--model", "{models}/hf", "--prompt-ids", ""],
        "whole numbers with commas",
    ),
    "id past the vocabulary": (
        [*GOLDEN, "--model", "{models}/hf", "--prompt-ids", "1,96"],
        "96 is outside 0 to 95",
    ),
    "negative id": ([*GOLDEN, "--model", "{models}/hf", "--prompt-ids=-1"], "-1 is outside 0"),
    "both prompts": (
        [*GOLDEN, "--model", "{models}/with_text/model.bin", "--prompt", "a", *IDS],
        "give one of the two",
    ),
    "text that is none": (
        [*GOLDEN, "--model", "{models}/with_text/model.bin", "--prompt", "a\udcff"],
        "not valid UTF-8",
    ),
    "no tokens": ([*GOLDEN, "--tokens", "0"], "--tokens 0: give a whole number from 1"),
    "too many tokens": (
        [*GOLDEN, "--model", "{models}/hf", *IDS, "--tokens", "63"],
        "3 prompt tokens and 63 new ones pass the context of 64",
    ),
    "short context": (
        [*GOLDEN, "--model", "{models}/hf", *IDS, "--tokens", "8", "--context", "9"],
        "passes the context of 9",
    ),
    "no context": (
        [*GOLDEN, "--model", "{models}/hf", *IDS, "--tokens", "1", "--context", "0"],
        "context 0",
    ),
    "batch": ([*GOLDEN, "--model", "{models}/hf", *IDS, "--batch", "0"], "--batch 0"),
    "temperature": ([*GOLDEN, "--temperature", "-1"], "temperature is -1.0"),
    "temperature that is none": ([*GOLDEN, "--temperature", "nan"], "temperature is nan"),
    "top-p": ([*GOLDEN, "--top-p", "0"], "top-p is 0.0"),
    "seed": ([*GOLDEN, "--seed", "-1"], "seed is -1"),
    "latency": ([*GOLDEN, "--latency", "0"], "--latency 0"),
    "stalls": ([*GOLDEN, "--stalls", "91"], "--stalls 91"),
    "memory": ([*GOLDEN, "--memory", "core"], "--memory core: choose from ideal, ddr4, lpddr4"),
    "bandwidth": ([*GOLDEN, "--bandwidth", "2"], "--bandwidth 2.0: give beats a cycle from 0.001"),
    "DRAM latency": (
        [*GOLDEN, "--memory", "ddr4", "--latency", "5"],
        "memory latency 5: DDR4-2400 at 1200 MHz alone takes 17; give at least 18",
    ),
    "JSON in no folder": ([*GOLDEN, "--json", "{models}/absent/x"], "there is no folder"),
    "JSON that is a folder": ([*GOLDEN, "--json", "{models}"], "this is a folder"),
    "image": ([*GOLDEN, "--image", "{models}/absent"], "no such image file"),
    "image that is none": (
        [*GOLDEN, "--image", "{models}/hf/model.safetensors"],
        "not a Serrano image",
    ),
    "unknown option": ([*GOLDEN, "--nope"], "No such option: --nope"),
    "no number": ([*GOLDEN, "--tokens", "many"], "'--tokens'"),
    "value missing": ([*GOLDEN, "--tokens"], "--tokens"),
    "unknown device": (
        ["run", "--device", "fpga"],
        "--device fpga: choose from rtl, golden, serial:PORT",
    ),
    "a port for golden": (["run", "--device", "golden:1"], "choose from rtl, golden, serial:PORT"),
    "no port": (["run", "--device", "serial:"], "name the board's port, as serial:/dev/ttyUSB0"),
    "a rate that is none": (
        ["run", "--device", "serial:/dev/x@fast"],
        "the rate is in baud, as serial:/dev/x@3000000",
    ),
    "too fast a line": (["board", "--baud", "30000000"], "choose at most 25000000 baud"),
    "no rate": (["board", "--baud", "0"], "--baud 0: give a whole number"),
    "too much noise": (["board", "--noise", "1"], "--noise 1.0: give a probability from 0 to 0.1"),
    "extra argument": ([*GOLDEN, "extra"], "extra"),
    "unknown command": (["walk"], "No such command 'walk'"),
    "missing option": (["bench", "gemm", "--m", "1"], "Missing option '--k'"),
    "no size": (["bench", "gemm", "--m", "0", "--k", "1", "--n", "1"], "--m 0"),
    "gemm preset": ([*GEMM, "--preset", "huge"], "no such preset"),
    "gemm JSON": ([*GEMM, "--json", "{models}/absent/x"], "there is no folder"),
    "rows and chunk": (
        [*LAYER, "--context", "1", "--rows", "1", "--chunk", "1"],
        "give either --rows or --chunk",
    ),
    "neither": ([*LAYER, "--context", "1"], "give either --rows or --chunk"),
    "context": ([*LAYER, "--context", "-1", "--rows", "1"], "--context -1"),
    "compile to no folder": (["compile", "-o", "{models}/absent/x"], "there is no folder"),
    "compile without output": (["compile"], "Missing option '-o'"),
    "compile sequences": (
        ["compile", "--model", "{models}/hf", "-o", "{models}/x", "--sequences", "0"],
        "sequences 0",
    ),
    "compile context": (
        ["compile", "--model", "{models}/hf", "-o", "{models}/x", "--context", "65"],
        "context 65",
    ),
    "verilog to no folder": (["verilog", "-o", "{models}/absent/x"], "there is no folder"),
    "verilog preset": (["verilog", "-o", "{models}/x", "--preset", "huge"], "no such preset"),
    "quality windows": (["quality", "--windows", "0"], "--windows 0"),
    "quality text": (
        [
            "quality",
            "--model",
            "{models}/with_text/model.bin",
            "--text",
            "{models}/absent",
            "--tokens",
            "32",
        ],
        "--text",
    ),
    "quality short text": (
        [
            "quality",
            "--model",
            "{models}/with_text/model.bin",
            "--text",
            "{models}/hf/config.json",
            "--tokens",
            "64",
            "--windows",
            "100",
        ],
        "give a longer text",
    ),
    "quality without tokenizer": (
        ["quality", "--model", "{models}/hf", "--tokens", "9"],
        "has no tokenizer",
    ),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_refusals_are_one_line_and_code_2(
    what: str, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, text = REFUSALS[what]
    code = call(*[a.format(models=models) for a in arguments])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    last = err.splitlines()[-1]
    assert last.startswith("serrano: ")
    assert text in last
    # Progress may stand before it, nothing else.
    assert all(line.startswith("compiling") for line in err.splitlines()[:-1])


@pytest.mark.parametrize("what", ["preset", "damaged safetensors", "ids", "unknown option"])
def test_refusals_of_a_process(what: str, models: Path) -> None:
    arguments, text = REFUSALS[what]
    done = process(*[a.format(models=models) for a in arguments])
    assert (done.returncode, done.stdout) == (2, "")
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_help_is_shown_and_no_command_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    assert call("--help") == 0
    assert "run" in capfd.readouterr().out
    assert call("run", "--help") == 0
    assert "--prompt-ids" in capfd.readouterr().out
    assert call() == 2
    assert call("bench") == 2
    found: Any = capfd.readouterr()
    assert "serrano:" not in found.err
