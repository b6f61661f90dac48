"""native/cli: the program without Python cuts text into the same tokens and tells the same stories, bit for bit."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tinylm.config import GenerateOptions, ModelConfig, parse
from tinylm.engine import load_engine
from tinylm.interop.imports import import_model
from tinylm.modelfile import TokenizerKind, random_weights
from tinylm.progress import NullProgress
from tinylm.quantize import write_model
from tinylm.stories.generate import generate_file
from tinylm.stories.job import GenerateJob
from tinylm.tokenizer import TokenizerConfig, load_tokenizer, train_tokenizer

NATIVE = Path(__file__).resolve().parents[2] / "native"
WORDS = [
    "the",
    "little",
    "don't",
    "we'll",
    "I'VE",
    "naïve",
    "日本",
    "🎈",
    "12",
    "½",
    "<s>",
    "</s>",
    "<0x41>",
    "<|endoftext|>",
    "▁",
]
SPACES = [" ", "  ", "     ", "\n", "\n\n", "\t", "\u00a0", "\u3000", " \u2028", "-", "'", "!"]


@pytest.fixture(scope="session")
def program() -> Path:
    if not shutil.which("make") or not shutil.which("g++"):
        pytest.skip("building tinylm-cli needs make and g++")
    subprocess.run(["make", "-s", "-j2", "-C", NATIVE, "tinylm-cli"], check=True, capture_output=True)
    return NATIVE / "build" / "tinylm-cli"


def run(program: Path, *words: object, text: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([program, *map(str, words)], input=text, capture_output=True, check=False, timeout=60)


def story_texts() -> list[str]:
    rng = random.Random(2)
    parts = [*WORDS[:9], *("".join(rng.choices(("ba", "ko", "lin", "mé", "u"), k=3)) for _ in range(150))]
    return ["".join(rng.choice(parts) + rng.choice(SPACES[:5]) for _ in range(40)) for _ in range(200)]


def trained_sentencepiece(folder: Path) -> bytes:
    train_tokenizer(TokenizerConfig(vocab_size=500), story_texts(), folder, NullProgress())
    return (folder / "tokenizer.model").read_bytes()


def trained_byte_level(prefix: bool) -> bytes:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    settings = {"vocab_size": 600, "special_tokens": ["<|endoftext|>"], "initial_alphabet": alphabet}
    tokenizer.train_from_iterator(story_texts(), trainers.BpeTrainer(show_progress=False, **settings))
    return bytes(tokenizer.to_str().encode())


def tiny_model(path: Path, tokenizer: bytes, kind: TokenizerKind, vocab_size: int) -> Path:
    config = ModelConfig(
        vocab_size=vocab_size, context_length=512, n_layers=1, n_heads=1, n_kv_heads=1, d_model=16, d_ff=16
    )
    write_model(path, config, random_weights(config, 1), tokenizer, kind, None, None, "f32", {})
    return path


def odd_lines(count: int) -> list[str]:
    rng = random.Random(11)
    lines = []
    for _ in range(count):
        pieces = [rng.choice(SPACES + WORDS) for _ in range(rng.randint(1, 25))]
        pieces += [chr(rng.choice([rng.randint(33, 0x2FF), rng.randint(0x370, 0xD7FF), rng.randint(0xE000, 0x1FFFF)]))]
        rng.shuffle(pieces)
        lines.append("".join(pieces).replace("\\", "/").replace("\ufeff", ""))
    return lines


@pytest.mark.parametrize("name", ["ours", "foreign", "byte-level", "byte-level-prefix"])
def test_tokens_equal_the_packages_on_any_text(name: str, program: Path, tmp_path: Path, request: Any) -> None:
    kind: TokenizerKind = "hf" if name.startswith("byte") else "sentencepiece"
    if name == "ours":
        model = trained_sentencepiece(tmp_path)
    elif name == "foreign":
        model = (request.getfixturevalue("shared_data") / "stories260K" / "tok512.model").read_bytes()
    else:
        model = trained_byte_level(prefix=name.endswith("prefix"))
    tokenizer = load_tokenizer(model)
    path = tiny_model(tmp_path / "model.safetensors", model, kind, tokenizer.vocab_size)
    lines = odd_lines(1500)
    written = "".join(line.replace("\n", "\\n") + "\n" for line in lines)
    done = run(program, path, "--prompts", "-", "--token-ids", "--max-new-tokens", 0, text=written.encode())
    rows = [json.loads(line) for line in done.stdout.decode().split("\n")[:-1]]
    assert [row["prompt"] for row in rows] == lines
    for line, row in zip(lines, rows, strict=True):
        if line.strip():
            assert row["prompt_token_ids"] == tokenizer.encode(line), repr(line)


@pytest.fixture(scope="session")
def published(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "model.safetensors"
    import_model(shared_data / "stories260K" / "stories260K.bin", path, precision="int8")
    return path


def test_the_published_text_is_printed(program: Path, shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "stories260K"
    import_model(source / "stories260K.bin", tmp_path / "model.safetensors", precision="f32")
    done = run(program, tmp_path / "model.safetensors", "", 256, "--temperature", 0)
    assert (done.returncode, done.stdout) == (0, (source / "expected_greedy.txt").read_bytes())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 1.7, "top_k": 0, "top_p": 0.7, "seed": 123456789012345},
        {"top_p": 1.0, "min_p": 0.1, "repetition_penalty": 1.3, "ignore_eos": True},
        {"stop": ("day", "dog"), "max_new_tokens": 200},
    ],
)
def test_one_story_is_the_packages_story(options: dict[str, Any], program: Path, published: Path) -> None:
    prompt = "Lily saw a naïve 🎈 and"
    settings = parse(GenerateOptions, {"max_new_tokens": 120, **options})
    with load_engine(published, replicas=1) as engine:
        expected = prompt + "".join(engine.stream(prompt, settings)) + "\n"
    words: list[object] = []
    for name, value in {"max_new_tokens": 120, **options}.items():
        flag = "--" + name.replace("_", "-")
        words += (
            [flag]
            if value is True
            else [w for v in (value if isinstance(value, tuple) else [value]) for w in (flag, v)]
        )
    done = run(program, published, prompt, *words)
    assert done.stdout.decode() == expected


def test_a_prompts_file_is_answered_as_the_package_answers_it(program: Path, published: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_bytes(b"Once upon a time\r\n\nThe cat\\nsat\n\xff\xfe\nTom \xe2\x96\x81 ran" + b"\nOne day" * 20)
    settings = {"prompts": [str(prompts)], "model": str(published), "samples": 2}
    job = {**settings, "output": str(tmp_path / "package.jsonl"), "options": {"max_new_tokens": 40, "seed": 9}}
    generate_file(parse(GenerateJob, job, "generate"))
    done = run(
        program, published, "--prompts", prompts, "--samples", 2, "--max-new-tokens", 40, "--seed", 9, "--max-batch", 3,
        "--out", tmp_path / "program.jsonl",
    )  # fmt: skip
    assert done.returncode == 2  # two lines cannot be used
    package, own = (
        [json.loads(line) for line in (tmp_path / name).read_text().split("\n")[:-1]]
        for name in ("package.jsonl", "program.jsonl")
    )
    names = ("row", "sample", "finish_reason", "prompt_tokens", "output_tokens", "seed")
    assert [[row[name] for name in names] for row in own] == [[row[name] for name in names] for row in package]
    assert [row["text"] for row in own] == [row["text"] or "" for row in package]
    assert ["error" in row for row in own] == [row["error"] is not None for row in package]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((), "MODEL is missing"),
        (("absent.safetensors",), "absent.safetensors"),
        (("model", "--top-k", "-1"), "--top-k: expected a whole number"),
        (("model", "--top-p", "0"), "--top-p: expected a number above 0"),
        (("model", "--temperature", "warm"), "found 'warm'"),
        (("model", "--seed"), "a value is missing"),
        (("model", "--colour", "red"), "no such option"),
        (("model", "a", "1", "b"), "one word too many"),
        (("model", "a", "--prompts", "b"), "either PROMPT or --prompts"),
        (("model", "a", "--samples", "2"), "need --prompts"),
        ((__file__, "x"), "header"),
    ],
)
def test_bad_usage_says_what_is_wrong(words: tuple[str, ...], reason: str, program: Path) -> None:
    done = run(program, *words)
    assert (done.returncode, done.stdout) == (2, b"")
    assert reason in done.stderr.decode()


def test_an_endless_line_costs_only_itself(program: Path, published: Path) -> None:
    text = b"Tom\n" + b"a" * (5 << 20) + b"\nLily\n"
    done = run(program, published, "--prompts", "-", "--max-new-tokens", 3, text=text)
    rows = [json.loads(line) for line in done.stdout.decode().split("\n")[:-1]]
    assert [row.get("error") for row in rows] == [None, "line of 5242880 bytes; at most 4194304", None]
    assert len(rows[1]["prompt"]) == 200


@pytest.mark.parametrize("isa", ["avx9", ""])
def test_an_unknown_instruction_set_is_refused(isa: str, program: Path, published: Path) -> None:
    assert run(program, published, "x", "--isa", isa).returncode == 2


@pytest.mark.parametrize("kind", ["sentencepiece", "hf"])
def test_a_damaged_tokenizer_is_a_named_error(kind: TokenizerKind, program: Path, tmp_path: Path) -> None:
    good = trained_sentencepiece(tmp_path) if kind == "sentencepiece" else trained_byte_level(prefix=False)
    rng = random.Random(4)
    damaged = [good[:size] for size in (0, 1, 7, 100, len(good) // 2, len(good) - 1)]
    for _ in range(25):
        at = rng.randrange(len(good))
        damaged.append(good[:at] + bytes([rng.randrange(256)]) + good[at + 1 :])
    for tokenizer in damaged:
        path = tiny_model(tmp_path / "model.safetensors", tokenizer, kind, 700)
        done = run(program, path, "a story", 3)
        assert done.returncode in (0, 2), done.stderr  # some single bytes make another, still valid, vocabulary
        assert done.returncode == 0 or b"token" in done.stderr
