"""The command line: what goes to stdout and stderr, and with which exit code it ends."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from models import model_path
from tiny import write_gguf
from variants.encoders import encoder_model

import jitllm
from jitllm.llm.cli import cli, main
from jitllm.llm.commands import chat as chat_module
from jitllm.llm.commands._options import ModelOptions
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.loaders.strings import StringArray
from jitllm.llm.state.sequence import Sequence

STORIES = str(model_path("stories260K"))
REFERENCE = ["--device", "reference", "-c", "128"]
GREEDY = [*REFERENCE, "--temp", "0", "-n", "12"]
COMMANDS = cli.list_commands(cli.make_context("jitllm", ["run"]))
TEMPLATE = "{% for m in messages %}{{ m.role }}:{{ m.content }}</s>{% endfor %}assistant:"

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def model() -> Iterator[jitllm.Model]:
    with jitllm.load(STORIES, device="reference", n_ctx=128, progress=False) as model:
        yield model


@pytest.fixture(scope="module")
def expected(model: jitllm.Model) -> str:
    result = model.generate("Once upon", temperature=0, max_tokens=12)
    assert isinstance(result, jitllm.Generation)
    return result.text


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model with a chat template."""
    with GGUFFile(STORIES) as file:
        metadata = {k: v.tolist() if isinstance(v, StringArray) else v
                    for k, v in file.metadata.items()}  # fmt: skip
        metadata["tokenizer.chat_template"] = TEMPLATE
        tensors = {name: file.data(name).view("float32").reshape(info.shape)
                   for name, info in file.tensors.items()}  # fmt: skip
        return write_gguf(tmp_path_factory.mktemp("chat") / "chat.gguf", metadata, tensors)


def test_run_writes_the_text_and_nothing_else(capsys: Capture, expected: str) -> None:
    assert main(["run", STORIES, "Once upon", *GREEDY]) == 0
    out, err = capsys.readouterr()
    assert out == expected + "\n"
    assert err.startswith("Once upon") and "t/s" in err


@pytest.mark.parametrize(
    "args",
    [["-m", STORIES, "-p", "Once upon"], ["--model=" + STORIES, "Once upon"],
     ["-hf", STORIES, "Once upon"],
     ["--prompt", "Once upon", "--model", STORIES], ["-q", "-m", STORIES, "--", "Once upon"]],
)  # fmt: skip
def test_run_takes_spellings_of_llama_cpp(args: list[str], capsys: Capture, expected: str) -> None:
    given = [*GREEDY, "--predict", "12"]
    assert main(["run", *given, *args]) == 0
    assert capsys.readouterr().out == expected + "\n"


def test_quiet_run_leaves_stderr_empty(capsys: Capture, expected: str) -> None:
    assert main(["run", STORIES, "Once upon", *GREEDY, "-q"]) == 0
    assert capsys.readouterr() == (expected + "\n", "")


def test_run_as_json(capsys: Capture, expected: str) -> None:
    assert main(["run", STORIES, "Once upon", *GREEDY, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["text"] == expected
    assert (answer["finish_reason"], answer["completion_tokens"]) == ("length", 12)


def test_run_reads_a_file_or_stdin(
    tmp_path: Path, capsys: Capture, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "prompt.txt"
    path.write_text("Once upon")
    assert main(["run", STORIES, "-f", str(path), *GREEDY, "-q"]) == 0
    with path.open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert main(["run", STORIES, "-", *GREEDY, "-q"]) == 0
    assert capsys.readouterr().out == 2 * (expected + "\n")


def test_a_missing_prompt_is_told_before_the_model_loads(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ModelOptions, "load", lambda options: pytest.fail("loaded"))
    empty = tmp_path / "empty"
    empty.touch()
    with empty.open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert main(["run", STORIES]) == 2
    assert "give a PROMPT: there is none on stdin" in capsys.readouterr().err


def test_seed_makes_a_run_repeatable(capsys: Capture) -> None:
    texts = []
    for seed in ("7", "7", "8"):
        args = ["run", STORIES, "Once", "--seed", seed, "--temp", "1.5", "-n", "20", "-q"]
        assert main([*args, *REFERENCE]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("args", [[], ["cache"]])
def test_without_a_command_there_is_help(args: list[str], capsys: Capture) -> None:
    assert main(args) == 2
    out, err = capsys.readouterr()
    assert out == "" and "\nCommands:\n" in err and "error" not in err


def test_warnings_are_shown(expected: str) -> None:
    args = ["run", STORIES, "Once upon", "--device", "reference", "-c", "600", "--temp", "0"]
    done = _run([*args, "-n", "12"])
    assert done.stdout == expected + "\n"
    assert "jitllm.api: n_ctx=600 is more than the 512 tokens" in done.stderr
    assert _run([*args, "-n", "12", "-q"]).stderr == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, capsys: Capture) -> None:
    assert main([name, "--help"]) == 0
    assert f"Usage: jitllm {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["run", "./no-such.gguf", "x"], 1, "no-such.gguf"),
        (["run", STORIES, "x", "--device", "abacus"], 1, "abacus"),
        (["run", STORIES, "x", "--top-p", "7", *REFERENCE], 1, "top_p"),
        (["run", STORIES, "x", "-p", "y"], 2, "one prompt"),
        (["run"], 2, "REF"),
        (["bench", STORIES, "-n", "many"], 2, "many"),
        (["bench", STORIES, "-n", "0", "-p", "0"], 2, "above 0"),
        (["perplexity", STORIES], 2, "FILE"),
        (["chat", STORIES, *REFERENCE], 1, "template"),
        (["sing"], 2, "sing"),
        (["cache", "rm"], 2, "--all"),
    ],
)
def test_errors_are_one_line(args: list[str], code: int, words: str, capsys: Capture) -> None:
    assert main([*args]) == code
    out, err = capsys.readouterr()
    last = err.strip().splitlines()[-1]
    assert out == "" and last.startswith("error: ") and words in last
    assert err.count("error:") == 1 and "Traceback" not in err


def test_verbose_shows_where_an_error_came_from() -> None:
    done = _run(["run", "./no-such.gguf", "x", "-v"])
    assert done.returncode == 1
    assert "Traceback" in done.stderr and done.stderr.splitlines()[-1].startswith("error: ")


def test_interrupt_is_130(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(options: ModelOptions) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ModelOptions, "load", interrupted)
    assert main(["run", STORIES, "x"]) == 130
    assert capsys.readouterr().err.strip() == ""


def _command(args: list[str]) -> list[str]:
    return [sys.executable, "-P", "-m", "jitllm", *args]


def _run(args: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _command(args), capture_output=True, text=True, env=os.environ | env, check=False
    )


def test_closed_pipe_is_silent() -> None:
    command = _command(["run", STORIES, "x", "-n", "400", "-q", "--device", "reference"])
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_a_run_imports_nothing_heavy() -> None:
    heavy = ["numba", "jinja2", "tqdm", "huggingface_hub", "gguf", "matplotlib", "pip"]
    code = (
        "import sys; from jitllm.llm.cli import main; "
        f"main(['run', {STORIES!r}, 'x', '-n', '1', '--device', 'reference']); "
        f"print(sorted(set({heavy}) & set(sys.modules)))"
    )
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_bench_table_has_the_columns_of_llama_bench(capsys: Capture) -> None:
    args = ["bench", STORIES, "-p", "8,0", "-n", "2", "-d", "0,4", "-r", "2", *REFERENCE]
    assert main(args) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["model", "size", "params", "backend", "threads", "test", "t/s"]
    assert [row[5] for row in cells[2:]] == ["pp8", "tg2", "pp8 @ d4", "tg2 @ d4"]
    assert all("±" in row[6] and row[0] == "llama 260K F32" for row in cells[2:])
    assert len({len(line) for line in lines}) == 1


def test_bench_as_json(capsys: Capture) -> None:
    assert main(["bench", STORIES, "-p", "8", "-n", "0", "-r", "3", "--json", *REFERENCE]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["n_prompt"], row["n_gen"], row["model_n_params"]) == (8, 0, 260032)
    assert len(row["samples_ts"]) == 3
    assert row["avg_ts"] == pytest.approx(sum(row["samples_ts"]) / 3)


def test_inspect_shows_metadata_and_types(capsys: Capture) -> None:
    assert main(["inspect", STORIES, "--tensors"]) == 0
    out = capsys.readouterr().out
    assert "260,032" in out and "47 tensors" in out
    assert "512 x ['<unk>', '<s>'" in out
    assert "blk.0.attn_q.weight" in out


def test_inspect_as_json(capsys: Capture) -> None:
    assert main(["inspect", "-m", STORIES, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["types"] == {"F32": {"n_tensors": 47, "n_params": 260032, "n_bytes": 1040128}}
    assert len(facts["metadata"]["tokenizer.ggml.tokens"]) == 512
    assert facts["tensors"][0]["shape"]


def test_tokenize(capsys: Capture, model: jitllm.Model) -> None:
    assert main(["tokenize", STORIES, "hello", "--ids"]) == 0
    assert json.loads(capsys.readouterr().out) == model.tokenize("hello")
    assert main(["tokenize", STORIES, "-p", "hello", "--no-bos"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [int(line.split("->")[0]) for line in lines] == model.tokenize("hello")[1:]
    assert main(["tokenize", STORIES, "hello", "--json"]) == 0
    pieces = [row["piece"] for row in json.loads(capsys.readouterr().out)]
    assert "".join(pieces[1:]).strip() == "hello"


def test_embed(capsys: Capture, monkeypatch: pytest.MonkeyPatch, model: jitllm.Model) -> None:
    texts = ["Once upon", "a time"]
    assert main(["embed", STORIES, *texts, "--pooling", "mean", *REFERENCE]) == 0
    lines = capsys.readouterr().out.splitlines()
    expected = model.embed(texts, pooling="mean")
    np.testing.assert_array_equal([np.float32(json.loads(line)) for line in lines], expected)
    monkeypatch.setattr("sys.stdin", io.StringIO("Once upon\na time\n"))
    assert main(["embed", STORIES, "--no-normalize", *REFERENCE]) == 0
    lines = capsys.readouterr().out.splitlines()
    expected = model.embed(texts, normalize=False)
    np.testing.assert_array_equal([np.float32(json.loads(line)) for line in lines], expected)


def test_warmup_of_an_encoder(capsys: Capture, tmp_path: Path) -> None:
    path = encoder_model("bert", tmp_path / "bert.gguf")
    assert main(["warmup", str(path), "--device", "reference"]) == 0
    assert "0 kernels compiled" in capsys.readouterr().err


def test_perplexity(capsys: Capture, tmp_path: Path, model: jitllm.Model) -> None:
    text = "Once upon a time there was a little girl who lived in a big house. " * 12
    path = tmp_path / "text.txt"
    path.write_text(text)
    args = [STORIES, str(path), "-c", "64", "--device", "reference", "--chunks", "2"]
    assert main(["perplexity", *args, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["value"] == float(model.perplexity(text, n_ctx=64, n_chunks=2))
    assert answer["n_chunks"] == 2
    assert main(["perplexity", *args]) == 0
    assert capsys.readouterr().out.startswith(f"{answer['value']:.4f} +/- ")


def test_chat_from_a_pipe(chat_model: Path, tmp_path: Path) -> None:
    args = ["chat", str(chat_model), *GREEDY, "-sys", "Be brief."]
    done = subprocess.run(
        _command(args), input="Hi\n/what\n/reset\nHi\n/exit\nnot read\n", capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    half = len(done.stdout) // 2
    assert done.stdout[:half] == done.stdout[half:] != "\n"  # the same answer after a reset
    assert "unknown command '/what'" in done.stderr


def test_chat_with_a_template_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "template.jinja"
    path.write_text(TEMPLATE)
    args = ["chat", STORIES, *GREEDY, "-q", "--chat-template-file", str(path)]
    done = subprocess.run(_command(args), input="Hi\n", capture_output=True, text=True, check=True)
    with jitllm.load(STORIES, device="reference", progress=False) as model:
        message = {"role": "user", "content": "Hi"}
        answer = model.chat([message], template=TEMPLATE, max_tokens=12, temperature=0)
    assert (done.stdout, done.stderr) == (answer.text + "\n", "")


def test_conversation_reads_only_what_is_new(
    chat_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    lengths: list[tuple[int, int]] = []
    append = Sequence.append

    def counted(self: Sequence, tokens: list[int]) -> Sequence:
        lengths.append((len(self), len(tokens)))
        return append(self, tokens)

    monkeypatch.setattr(Sequence, "append", counted)
    with jitllm.load(chat_model, device="reference", progress=False) as model:
        talk = chat_module.Conversation(model, None, {"max_tokens": 6, "temperature": 0.0})
        talk.ask("One")
        first = talk.sequence.token_ids
        talk.ask("Two")
        assert talk.sequence.token_ids[: len(first)] == first
        talk.messages[0]["content"] = "Three"  # history that changes is read again
        talk.ask("Four")
        whole = model.apply_chat_template(talk.messages[:-1], tokenize=True)
        assert talk.sequence.token_ids[: len(whole)] == whole
    assert lengths[0][0] == 0 and lengths[1][0] == len(first) and lengths[2][0] < len(first)


def test_interrupted_answer_stays_in_the_conversation(
    chat_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    written: list[str] = []

    def interrupted(text: str) -> None:
        written.append(text)
        if len(written) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(chat_module, "write_chunk", interrupted)
    with jitllm.load(chat_model, device="reference", progress=False) as model:
        talk = chat_module.Conversation(model, None, {"max_tokens": 20, "temperature": 0.0})
        talk.ask("One")
        assert talk.messages[-1]["role"] == "assistant"
        assert talk.messages[-1]["content"] == "".join(written)
        talk.ask("Two")
        assert len(talk.messages) == 4


def test_a_message_too_long_is_taken_back(chat_model: Path) -> None:
    with jitllm.load(chat_model, device="reference", n_ctx=32, progress=False) as model:
        talk = chat_module.Conversation(model, None, {"max_tokens": 4})
        with pytest.raises(jitllm.ContextLengthExceeded):
            talk.ask("word " * 200)
        assert talk.messages == []


def test_cache_is_listed_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("JITLLM_CACHE", str(tmp_path))
    for name in ("kernels/old", "models/a==1"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_bytes(bytes(2048))
    assert main(["cache", "path"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path)
    assert main(["cache", "ls", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(r["name"], r["bytes"]) for r in rows] == [("kernels/old", 2048), ("models/a==1", 2048)]
    with open(os.devnull) as nobody:  # asking needs a terminal
        monkeypatch.setattr(sys, "stdin", nobody)
        assert main(["cache", "rm", "kernels"]) == 1
    assert main(["cache", "rm", "models/b==2", "--yes"]) == 1
    assert (tmp_path / "kernels/old/file").exists()
    assert main(["cache", "rm", "kernels", "--yes"]) == 0
    assert [p.name for p in tmp_path.glob("*/*")] == ["a==1"]
    assert main(["cache", "rm", "--all", "-y"]) == 0
    assert list(tmp_path.glob("*/*")) == []


@pytest.mark.slow
def test_warmup_compiles_everything_a_run_needs(tmp_path: Path) -> None:
    env = {"JITLLM_CACHE": str(tmp_path)}
    first, second = (_run(["warmup", STORIES], **env).stderr for _ in range(2))
    assert "0 kernels compiled" not in first.splitlines()[-1]
    assert "0 kernels compiled" in second
    code = (f"import sys; from jitllm.llm.cli import main; main(['run', {STORIES!r}, 'Once upon a "
            "time', '-n', '8', '-q']); print('numba' in sys.modules)")  # fmt: skip
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True,
                          env=os.environ | env, check=True)  # fmt: skip
    assert done.stdout.splitlines()[-1] == "False"
