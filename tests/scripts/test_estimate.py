"""`serrano estimate`: what it prints and writes, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.main import main
from tests.checkpoints import random_tensors, small_config, write_gguf

LLAMA_8B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "bos_token_id": 128000,
    "eos_token_id": 128001,
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "llama-8b.json"
    path.write_text(json.dumps(LLAMA_8B))
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["estimate", *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_8b_on_a_server(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a config.json alone: decode and prefill, the bound, memories, and that it projects."""
    file = tmp_path / "figures.json"
    asked = ["--model", str(config), "--preset", "server", "--batch", "16", "--context", "2048"]
    code, out, _ = run(capsys, *asked, "--json", str(file))
    assert code == 0
    out = " ".join(out.split())
    for text in (
        "8.03 G weights",
        "a projection: the RTL builds arrays up to 32 x 32",
        "tokens/s in all",
        "activation memory",
        "KV cache of 16",
        "a prompt of 2,048 tokens",
    ):
        assert text in out
    figures = json.loads(file.read_text())
    decode, prefill = figures["decode"], figures["prefill"]
    assert decode["rows"] == 16
    assert decode["tokens_per_second"] == pytest.approx(16 / decode["seconds"])
    assert prefill["rows"] == 256
    assert prefill["bound"] == "macs"
    steps = 2048 // 256
    assert figures["prompt_seconds"] < steps * prefill["seconds"]
    assert figures["prompt_seconds"] > 0.8 * steps * prefill["seconds"]
    assert decode["bytes"]["tape"] > 8e9 * 33 / 32 - 128256 * 4096 * 1.1


def test_clock_and_memory_are_the_users(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half the bandwidth takes a memory-bound step twice as long; a clock keeps memory's time."""
    found = {}
    for name, more in {
        "plain": [],
        "half": ["--memory-bandwidth", "1.6"],
        "fast": ["--clock", "400", "--memory-bandwidth", "3.2"],
    }.items():
        file = tmp_path / f"{name}.json"
        code, _, _ = run(capsys, "--model", str(config), "--json", str(file), *more)
        assert code == 0
        found[name] = json.loads(file.read_text())
    seconds = {name: f["decode"]["seconds"] for name, f in found.items()}
    assert seconds["half"] / seconds["plain"] == pytest.approx(2, rel=0.01)
    assert seconds["fast"] == pytest.approx(seconds["plain"], rel=0.01)
    assert found["fast"]["latency"] == 2 * found["plain"]["latency"]


def test_a_name_and_a_file_do_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--model", "demo", "--preset", "ulx3s", "--context", "100")[0] == 0
    shape = small_config()
    gguf = write_gguf(tmp_path / "model.gguf", shape, random_tensors(shape))
    code, out, _ = run(capsys, "--model", str(gguf), "--preset", "tiny", "--context", "8")
    assert code == 0
    assert f"{shape.layers} layers of {shape.dim}" in out


@pytest.mark.parametrize(
    ("changes", "arguments", "text"),
    [
        ({"model_type": "mixtral"}, [], "mixtral"),
        ({"hidden_act": "gelu"}, [], "gelu"),
        ({}, ["--preset", "huge"], "no such preset; choose from tiny, ulx3s, edge, server"),
        ({}, ["--context", "9000"], "the model takes 8192 tokens"),
        ({}, ["--batch", "0"], "--batch 0"),
        ({}, ["--clock", "0"], "--clock 0"),
        ({}, ["--memory-bandwidth", "-1"], "--memory-bandwidth -1"),
    ],
)
def test_refusals(
    config: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict,
    arguments: list[str],
    text: str,
) -> None:
    """One line that names the feature or the option, and code 2."""
    config.write_text(json.dumps(LLAMA_8B | changes))
    code, out, err = run(capsys, "--model", str(config), *arguments)
    assert code == 2
    assert out == ""
    assert text in err
    assert len(err.strip().splitlines()) == 1


def test_what_does_not_fit_is_said(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--model", str(config), "--preset", "ulx3s")
    assert code == 0
    assert "does not fit" in out
    assert "larger preset" in " ".join(out.split())


def test_no_such_file(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "--model", "nowhere/config.json")
    assert code == 2
    assert "no such file" in err
