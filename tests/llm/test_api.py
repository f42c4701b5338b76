"""Loading, closing, texts and chats: the rest of the public API."""

import copy
import gc
import os
import pickle
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driver import devices
from models import model_path
from tiny import conformance_model, write_gguf

import jitllm
from jitllm.llm.loaders.gguf import GGUFFile, StringArray

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
    "{% if think is defined %}<think>{% endif %}{# </think> #}"
)


def test_facts(stories: jitllm.Model) -> None:
    assert stories.n_vocab == 512
    assert stories.n_ctx == 512
    assert stories.config.num_hidden_layers == 5
    assert stories.metadata["general.architecture"] == "llama"
    for fact in ("llama", "0.26 M", "F32 100%", f"device {stories.device}", "n_ctx 512"):
        assert fact in repr(stories)
    assert stories.identity.nbytes == 1040128
    assert set(stories.memory()) == {"weights", "caches", "buffers", "caches_used"}


def test_tokens_and_back(stories: jitllm.Model) -> None:
    ids = stories.tokenize("Once upon a time")
    assert ids[0] == 1
    assert stories.tokenize("Once upon a time", add_special=False) == ids[1:]
    assert stories.detokenize(ids[1:]) == "Once upon a time"
    tokenizer = jitllm.load_tokenizer(model_path("stories260K"))
    assert tokenizer.encode("Once upon a time") == ids
    assert tokenizer.decode(ids[1:]) == "Once upon a time"


def test_forward_rows(stories: jitllm.Model) -> None:
    logits = stories.forward("Once upon a time")
    assert logits.shape == (5, 512) and logits.dtype == np.float32
    assert logits.flags.c_contiguous and logits.flags.writeable
    for rows in (slice(-1, None), slice(None, None, 2), [0, 3], [3, 0, 3], np.array([2]), -2):
        np.testing.assert_allclose(
            stories.forward("Once upon a time", rows=rows),
            np.atleast_2d(logits[rows]),
            atol=0 if stories.device == "cpu" else 2e-3,
        )
    chosen = stories.forward("Once upon a time", rows=np.array([True, False, False, True, False]))
    assert len(chosen) == 2
    with pytest.raises(IndexError, match=r"rows from -2 to 1, the tokens being 2; got \[7\]"):
        stories.forward("Once"[:4], rows=[7])
    for wrong in (True, "1", 0.5):
        with pytest.raises(TypeError, match="expected rows as a slice"):
            stories.forward("Once", rows=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected tokens, got none"):
        stories.forward([])


@pytest.mark.parametrize("device", devices())
def test_a_file_without_tokenizer_takes_ids(tmp_path: Path, device: str) -> None:
    path = conformance_model("llama-dense", tmp_path / "m.gguf")
    with jitllm.load(path, device=device, progress=False) as model:
        assert model.tokenizer is None
        assert model.forward([1, 2, 3]).shape == (3, 128)
        result = model.generate([1, 2, 3], max_tokens=4, temperature=0)
        assert (len(result.token_ids), result.text) == (4, "")
        for use in (
            lambda: model.generate("a"),
            lambda: model.tokenize("a"),
            lambda: model.detokenize([1]),
            lambda: model.generate([1], stop="a"),
            lambda: model.chat([{"role": "user", "content": "a"}]),
        ):
            with pytest.raises(jitllm.UnsupportedTokenizer, match="expected token ids, got"):
                use()


@pytest.fixture(scope="module")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The story model with a chat template and sampling defaults."""
    path = tmp_path_factory.mktemp("model") / "chatty.gguf"
    with GGUFFile(model_path("stories260K")) as file:
        metadata: dict[str, Any] = {
            key: list(value) if isinstance(value, StringArray) else value
            for key, value in file.metadata.items()
        }
        tensors = {
            name: file.data(name).view(np.float32).reshape(info.shape)
            for name, info in file.tensors.items()
        }
        metadata |= {"tokenizer.chat_template": TEMPLATE, "general.sampling.temp": 0.0}
        return write_gguf(path, metadata, tensors)


def test_chat(chatty: Path) -> None:
    messages = [{"role": "user", "content": "A dog"}]
    with jitllm.load(chatty, device="reference", progress=False) as model:
        assert "chat template yes" in repr(model)
        prompt = model.apply_chat_template(messages)
        assert prompt == "<s>[user]A dog[assistant]"
        ids = model.apply_chat_template(messages, tokenize=True)
        assert ids[0] == 1 and ids.count(1) == 1
        result = model.chat(messages, max_tokens=6)
        assert result.prompt_token_ids == ids
        assert result.message == {"role": "assistant", "content": result.text}
        assert result.reasoning is None
        assert result.token_ids == model.generate(ids, max_tokens=6).token_ids
        chunks = list(model.chat(messages, max_tokens=6, stream=True))
        assert "".join(chunk.text for chunk in chunks) == result.text
        thinking = model.chat(messages, max_tokens=6, template_kwargs={"think": True})
        assert thinking.reasoning == thinking.text.strip()
        assert thinking.message["content"] == ""
        several: Any = model.chat(messages, max_tokens=3, n=2)
        assert [str(r) for r in several] == [result.text[: len(str(several[0]))]] * 2
        assert model.apply_chat_template(messages, add_generation_prompt=False) == "<s>[user]A dog"


def test_sampling_defaults_come_from_the_file(chatty: Path) -> None:
    with jitllm.load(chatty, device="reference", progress=False) as model:
        result = model.generate("Once", max_tokens=5)
        assert result.provenance["params"]["temperature"] == 0.0
        assert result.token_ids == model.generate("Once", max_tokens=5, seed=9).token_ids
        warm = model.generate("Once", max_tokens=1, temperature=1.5)
        assert warm.provenance["params"]["temperature"] == 1.5


def test_a_model_without_template(reference: jitllm.Model) -> None:
    with pytest.raises(jitllm.ChatTemplateError, match="it has none"):
        reference.chat([{"role": "user", "content": "hi"}])


def test_a_template_can_be_given(reference: jitllm.Model) -> None:
    messages = [{"role": "user", "content": "A dog"}]
    with pytest.raises(jitllm.ChatTemplateError, match="give the text of one as template="):
        reference.apply_chat_template(messages)
    assert reference.apply_chat_template(messages, template=TEMPLATE) == "<s>[user]A dog[assistant]"
    ids = reference.apply_chat_template(messages, True, template=TEMPLATE)
    result = reference.chat(messages, template=TEMPLATE, max_tokens=2)
    assert result.prompt_token_ids == ids
    with pytest.raises(TypeError, match="expected the text of a template, got PosixPath|WindowsP"):
        reference.chat(messages, template=Path("x"))


@pytest.mark.parametrize(
    ("messages", "kind", "words"),
    [
        ("hello", TypeError, r'a list of messages such as \[\{"role": .*got str'),
        (None, TypeError, "got NoneType"),
        ({"role": "user", "content": "a"}, TypeError, "got one mapping"),
        (["hello"], TypeError, "message 0: expected a mapping .*got 'hello'"),
        ([], jitllm.ChatTemplateError, "expected messages such as .*got none"),
        ([{}], jitllm.ChatTemplateError, "message 0: expected a role"),
        (
            [{"role": "user"}],
            jitllm.ChatTemplateError,
            "message 0: expected its content .*got none",
        ),
        ([{"role": "user", "content": 5}], jitllm.ChatTemplateError, "content .*got int"),
        (
            [{"role": "user", "content": [{"type": "image_url"}]}],
            jitllm.ChatTemplateError,
            "message 0: expected parts .*got 'image_url'; models here read only text",
        ),
    ],
)
def test_wrong_messages(
    reference: jitllm.Model, messages: Any, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        reference.chat(messages, template=TEMPLATE)


def test_content_in_parts_and_calls_without_content(reference: jitllm.Model) -> None:
    parts = [{"type": "text", "text": "A"}, {"type": "text", "text": "dog"}]
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": parts},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
    ]
    template = "{% for m in messages %}[{{ m.content }}]{% endfor %}"
    assert reference.apply_chat_template(messages, template=template) == "[A\ndog][None]"
    assert messages[0]["content"] is parts


def test_arguments_of_wrong_types(reference: jitllm.Model) -> None:
    load: Any = jitllm.load
    for use, words in (
        (lambda m: m.tokenize(5), "expected a text, got 5"),
        (lambda m: m.generate(b"abc"), "a text or token ids, got b'abc'"),
        (lambda m: m.generate({1: 2}), "a text or token ids"),
        (lambda m: m.generate("a", logits_processors=[5]), r"called f\(ids, logits\), got 5"),
        (lambda m: load(None), "a path or a reference as text, got None"),
        (lambda m: load(b"x.gguf"), "a path or a reference as text, got b'x.gguf'"),
        (lambda m: load("x", n_ctx=None), "n_ctx as an int.*got None"),
        (lambda m: load("x", n_ctx="512"), "n_ctx as an int.*got '512'"),
        (lambda m: load("x", n_ctx=True), "n_ctx as an int.*got True"),
        (copy.copy, "neither copied nor pickled"),
        (copy.deepcopy, "neither copied nor pickled"),
        (pickle.dumps, r"load it there: jitllm.load\('.*stories260K.gguf'\)"),
    ):
        with pytest.raises(TypeError, match=words):
            use(reference)
    with pytest.raises(ValueError, match="expected a prompt with tokens, got an empty prompt"):
        reference.generate([])
    with pytest.raises(ValueError, match="got none in prompt 1"):
        reference.generate([[1], []])


def test_one_logits_processor_may_come_alone(reference: jitllm.Model) -> None:
    seen = []
    reference.generate("a", max_tokens=2, logits_processors=lambda ids, logits: seen.append(1))
    assert len(seen) == 2


def test_printed_forms_are_short(reference: jitllm.Model) -> None:
    assert len(repr(reference.config)) < 1000
    assert "num_attention_heads=5 * (8,)" in repr(reference.config)
    stream = reference.stream("Once", max_tokens=2, temperature=0)
    assert repr(stream) == "<GenerationStream: '', 0 tokens, open>"
    text = stream.finish().text
    assert repr(stream) == f"<GenerationStream: {text!r}, 2 tokens, length>"


def test_a_longer_context_than_trained_for(caplog: pytest.LogCaptureFixture) -> None:
    path = model_path("stories260K")
    with jitllm.load(path, n_ctx=10**8, device="reference", progress=False) as model:
        assert "n_ctx=100000000 is more than the 512 tokens" in caplog.text
        with model.sequence([1] * 600) as sequence:
            assert len(sequence) == 600 and sequence.nbytes < 1 << 20
    caplog.clear()
    jitllm.load(path, device="reference", progress=False).close()
    assert caplog.text == ""
    with pytest.raises(ValueError, match="at most 2147483647, got 2147483648"):
        jitllm.load(path, n_ctx=2**31)


def test_many_long_sequences_fit() -> None:
    with jitllm.load(
        model_path("stories260K"), n_ctx=8192, device="cpu", n_threads=1, progress=False
    ) as model:
        held = [model.engine.new_cells() for _ in range(16)]
        for cells in held:  # pages only: nothing is computed
            cells.prepare(0, model.n_ctx)
        for cells in held:
            cells.release()


def test_wrong_loading(tmp_path: Path) -> None:
    path = model_path("stories260K")
    with pytest.raises(jitllm.ModelNotFoundError):
        jitllm.load(tmp_path / "none.gguf", device="reference")
    with pytest.raises(jitllm.BackendError, match="device must be one of"):
        jitllm.load(path, device="gpu9")
    with pytest.raises(ValueError, match="n_ctx of at least 0"):
        jitllm.load(path, n_ctx=-1, device="reference")
    for option in ({"kv_dtype": "q8"}, {"precision": "half"}):
        with pytest.raises(ValueError, match=next(iter(option))):
            jitllm.load(path, device="reference", **option)  # type: ignore[arg-type]


def test_closed_models_say_so() -> None:
    with jitllm.load(model_path("stories260K"), device="reference", progress=False) as model:
        sequence = model.sequence("Once")
        stream = model.stream("Once")
        next(stream)
    for use in (
        lambda: model.forward("a"),
        lambda: model.generate("a"),
        lambda: model.tokenize("a"),
        lambda: model.chat([{"role": "user", "content": "a"}]),
        lambda: model.sequence(),
        lambda: model.memory(),
        lambda: sequence.logits,
        lambda: sequence.append("a"),
        lambda: next(stream),
    ):
        with pytest.raises(jitllm.ClosedError):
            use()
    model.close()
    sequence.close()
    assert "closed" in repr(model) and model.tokenizer is None
    assert len(stream.result.token_ids) == 1 and stream.result.pieces[0] != ""


@pytest.mark.parametrize("device", devices())
def test_a_dropped_model_is_freed(device: str) -> None:
    model = jitllm.load(model_path("stories260K"), device=device, progress=False)
    result = model.generate("Once", max_tokens=2)
    engine, gone = model.engine, weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None and engine.closed
    assert result.provenance["device"] == device


def _resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("device", devices())
def test_loading_again_and_again_takes_no_memory(device: str) -> None:
    def once() -> None:
        with jitllm.load(model_path("stories260K"), device=device, progress=False) as model:
            model.generate("Once", max_tokens=2)
            model.run_with_cache("Once", "blocks.0.hook_resid_post")

    for _ in range(4):
        once()
    gc.collect()
    before = _resident_bytes()
    for _ in range(20):
        once()
    gc.collect()
    assert _resident_bytes() - before < 4 << 20


def test_html_is_escaped(tmp_path: Path) -> None:
    path = conformance_model("llama-dense", tmp_path / "m.gguf")
    with jitllm.load(path, device="reference", progress=False) as model:
        model.identity.name = "<img src=x onerror=alert(1)>"
        assert "<img" not in model._repr_html_()
        assert "&lt;img" in model._repr_html_()


def test_sequence_html_shows_its_text(reference: jitllm.Model) -> None:
    with reference.sequence("a <b> c") as sequence:
        assert "&lt;b&gt;" in sequence._repr_html_()
        assert "<b>" not in sequence._repr_html_()
