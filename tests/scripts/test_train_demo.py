"""The demo model's making (needs PyTorch) and the committed result (does not)."""

import ast
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from scripts.demo.bpe import SEPARATOR_ID, train_tokenizer
from scripts.demo.corpus import clean_source, read_corpus
from scripts.train_demo import main
from tests.scripts.llama_numpy import NumpyLlama

MODEL = Path(__file__).parents[2] / "models" / "demo"
CODE = """# licence
\"\"\"Docstring.\"\"\"
import os  # why


class Stack:
    '''Only a docstring.'''


def top(stack):
    \"\"\"Two
    lines.\"\"\"
    # a comment

    text = "# not a comment"
    return stack[-1], text
"""
UNSEEN = """
class Counter:
    def __init__(self, name):
        self.name = name
        self.count = 0

    def add(self, value):
        if value is None:
            raise ValueError('value must not be None')
        self.count += value
        return self.count
"""


@pytest.fixture(autouse=True)
def subnormals():
    """Training flushes them in this process; the tests behind it want them back."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)


def test_clean_source_keeps_code_only():
    text = clean_source(CODE.encode() + b"x = 1\n" * 100)
    assert text is not None
    assert text.startswith(
        "import os\n\n\nclass Stack:\n    pass\n\n\ndef top(stack):\n"
        '    text = "# not a comment"\n    return stack[-1], text\n'
    )
    ast.parse(text)


@pytest.mark.parametrize(
    "data",
    [b"def broken(:\n", b"x = 1\n", b"\xff\xfe", b"table = '" + b"a" * 900 + b"'\n"],
    ids=["syntax", "short", "encoding", "table"],
)
def test_clean_source_refuses(data):
    assert clean_source(data) is None


def test_tokenizer_cuts_a_prompt_as_it_cuts_the_text():
    tokenizer = train_tokenizer([CODE * 20], 300)
    prompt = "def top(stack):\n"
    rest = "    return stack[-1]\n"
    whole = tokenizer.encode(prompt + rest).ids
    parts = tokenizer.encode(prompt).ids + tokenizer.encode(rest, add_special_tokens=False).ids
    assert whole == parts
    assert whole[0] == SEPARATOR_ID
    assert tokenizer.decode(whole) == prompt + rest
    odd = "\tπ  x \n"
    assert tokenizer.decode(tokenizer.encode(odd).ids) == odd


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A folder of made-up modules, big enough for a vocabulary of 1024."""
    folder = tmp_path_factory.mktemp("source")
    random = np.random.default_rng(1)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(random.choice(letters, random.integers(3, 9))) for _ in range(600)]
    for number in range(60):
        functions = [
            f"def {a}({b}, {c}):\n    if {b}:\n        return {c}.{d}()\n    return {a}({c})\n"
            for a, b, c, d in random.choice(words, (20, 4))
        ]
        (folder / f"module{number}.py").write_text("\n\n".join(functions))
    return folder


def test_held_out_files_do_not_depend_on_the_others(source, tmp_path):
    corpus = read_corpus(source)
    assert len(corpus.train) + len(corpus.held_out) == 60
    assert corpus.held_out
    for path in sorted(source.iterdir())[::2]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    fewer = read_corpus(tmp_path)
    assert set(fewer.held_out) <= set(corpus.held_out)
    assert set(fewer.train) <= set(corpus.train)


def _run(source: Path, folder: Path, steps: int, capsys) -> dict:
    arguments = ["--source", source, "--out", folder / "out", "--checkpoint", folder / "state.pt"]
    options = ["--no-compile", "--precision", "fp32", "--batch", 2, "--context", 32]
    code = main([str(a) for a in ["--steps", steps, *arguments, *options]])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out.splitlines()[-1])


def test_training_learns_and_its_export_gives_the_same_loss(source, tmp_path, capsys):
    pytest.importorskip("torch", reason="training needs PyTorch")
    first = _run(source, tmp_path / "first", 1, capsys)
    trained = _run(source, tmp_path / "trained", 40, capsys)
    assert trained["held_out_nats_per_token"] < first["held_out_nats_per_token"] - 1.0

    out = tmp_path / "trained" / "out"
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    stream = [i for text in read_corpus(source).held_out for i in tokenizer.encode(text).ids]
    windows = [np.array(stream[s : s + 513]) for s in range(0, len(stream) - 512, 512)]
    assert windows
    model = NumpyLlama(out)
    nats = float(np.mean([model.nats(window) for window in windows]))
    assert nats == pytest.approx(trained["held_out_nats_per_token"], abs=0.01)


def test_a_resumed_run_equals_an_unbroken_one(source):
    torch = pytest.importorskip("torch", reason="training needs PyTorch")
    from scripts.demo.batches import HeldOut, TrainingBatches
    from scripts.demo.network import Llama, LlamaShape
    from scripts.demo.trainer import Trainer, TrainingPlan

    corpus = read_corpus(source)
    tokenizer = train_tokenizer(corpus.train[:10], 400)
    shape = LlamaShape(dim=32, layers=2, heads=2, kv_heads=1, head_dim=16, hidden=48, context=64)
    plan = TrainingPlan(steps=6, minutes=None, warmup_steps=2, bfloat16=False, compile=False)

    def trainer() -> Trainer:
        torch.manual_seed(3)
        batches = TrainingBatches(corpus.train, tokenizer, batch_rows=2, context=32, seed=3)
        return Trainer(Llama(shape), batches, HeldOut(corpus.held_out, tokenizer, 64), plan)

    whole = trainer()
    whole.run(60.0)
    state = source / "state.pt"
    broken = trainer()
    while broken.progress < 1.0:
        broken.run(0.0001)  # one step
        broken.save(state)
        broken = trainer()
        broken.load(state)
    for name, weight in whole.network.state_dict().items():
        assert torch.equal(weight, broken.network.state_dict()[name]), name


def test_a_checkpoint_of_another_run_is_refused(source, tmp_path, capsys):
    pytest.importorskip("torch", reason="training needs PyTorch")
    _run(source, tmp_path, 1, capsys)
    state, out = tmp_path / "state.pt", tmp_path / "not-written"
    arguments = ["--steps", 2, "--source", source, "--checkpoint", state, "--out", out]
    assert main([str(a) for a in [*arguments, "--seed", 5, "--no-compile"]]) == 2
    assert "other options; start over with --fresh" in capsys.readouterr().err


@pytest.fixture(scope="module")
def model() -> NumpyLlama:
    return NumpyLlama(MODEL)


def test_committed_model_is_small_and_consistent(model):
    size = sum((MODEL / name).stat().st_size for name in ("model.safetensors", "tokenizer.json"))
    assert size < 2_000_000
    config = model.config
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == config["vocab_size"]
    assert tokenizer.encode("x").ids[0] == config["bos_token_id"]
    dim, size = config["hidden_size"], config["head_dim"]
    shapes = {name: weight.shape for name, weight in model.weights.items()}
    assert shapes["model.embed_tokens.weight"] == (config["vocab_size"], dim)
    assert shapes["model.layers.0.self_attn.k_proj.weight"] == (
        config["num_key_value_heads"] * size,
        dim,
    )
    assert len(shapes) == 2 + 9 * config["num_hidden_layers"]
    assert all(np.isfinite(weight).all() for weight in model.weights.values())


def test_committed_model_predicts_code_it_has_not_seen(model):
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    tokens = np.array(tokenizer.encode(UNSEEN.lstrip()).ids)
    nats = model.nats(tokens)
    shuffled = np.random.default_rng(0).permutation(tokens[1:])
    assert nats < 2.5  # a uniform guess is 6.93
    assert model.nats(np.concatenate((tokens[:1], shuffled))) > nats + 3
