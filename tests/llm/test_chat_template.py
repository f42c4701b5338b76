"""Chat templates: those of real models, each feature, and attacks."""

import json
import re
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llm_sources import download_sources
from vocabularies import DATA, built, spm_metadata

from jitllm.llm.errors import ChatTemplateError
from jitllm.llm.tokenizer import ChatTemplate
from jitllm.llm.tokenizer.chat_template import chat_template_names

USER = [{"role": "user", "content": "Hi"}]
CHAT = [
    {"role": "system", "content": "Be brief."},
    *USER,
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "Bye"},
]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Météo",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "where"}},
            "required": ["city"],
        },
    },
}
CALL = [
    *USER,
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {
                "id": "123456789",
                "type": "function",
                "function": {"name": "weather", "arguments": {"city": "Wien"}},
            }
        ],
    },
    {"role": "tool", "name": "weather", "tool_call_id": "123456789", "content": "sunny"},
]
# the one raises on purpose (it wants roles to alternate), the other wants arguments as text
NO_CALLS = {"google-gemma-2-2b-it", "meetkai-functionary-medium-v3.2"}


def render(source: str, messages: Any = USER, **variables: Any) -> str:
    return ChatTemplate(source, bos="<s>", eos="</s>").render(messages, **variables)


def of_model(name: str) -> str:
    sources: dict[str, str] = json.loads((DATA / "chat_templates.json").read_text("utf-8"))
    return sources[name]


def test_smollm2() -> None:
    assert render(of_model("smollm2")) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        "<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert render(of_model("smollm2"), CHAT, add_generation_prompt=False) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
    )


@pytest.mark.parametrize("name", ["qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"])
def test_qwen(name: str) -> None:
    assert render(of_model(name), CHAT) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    text = render(of_model(name), CALL, tools=[TOOL])
    assert json.dumps(TOOL, ensure_ascii=False) in text
    assert '<tool_call>\n{"name": "weather", "arguments": {"city": "Wien"}}\n</tool_call>' in text
    assert text.endswith(
        "<|im_start|>user\n<tool_response>\nsunny\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}", "<s>Hi</s>"),
        ("  {% if true %}\nx\n  {% endif %}\ny\n", "x\ny"),
        ("{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}", "012"),
        ("{% for i in [1, 2] %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}", "2"),
        ("a{% generation %}{{ messages[0].role }}{% endgeneration %}b", "auserb"),
        ("{{ {'k': ['é', '<', none]} | tojson }}", '{"k": ["é", "<", null]}'),
        ("{{ {'b': 1, 'a': 2} | tojson(indent=1) }}", '{\n "b": 1,\n "a": 2\n}'),
        ("{{ 'é' | tojson(ensure_ascii=true) }}", '"\\u00e9"'),
        ("{{ messages | map(attribute='role') | tojson }}", '["user"]'),
        ("{{ tools | tojson }}", "null"),
        ("{% if tools is none %}a{% endif %}{% if tools is defined %}b{% endif %}", "a"),
        ("{% if tools is not none %}a{% endif %}{% if tools == none %}b{% endif %}", "b"),
        ("{% for tool in tools %}x{% endfor %}{{ documents | length }}", "0"),
        ("{% set l = [] %}{% set _ = l.append(1) %}{{ l | length }}", "1"),
        ("{% set ns = namespace(n=0) %}{% for m in [3, 4] %}{% set ns.n = ns.n + m %}{% endfor %}"
         "{{ ns.n }}", "7"),
        ("{% macro f(x, y=2) %}<{{ x }}{{ y }}>{% endmacro %}{{ f(1) ~ f('a', y=[3]) }}",
         "<12><a[3]>"),
        ("{% macro f(x) %}{{ caller(x) }}{% endmacro %}{% call(v) f(4) %}v{{ v }}{% endcall %}",
         "v4"),
        ("{% for m in [[1, [2]]] recursive %}{% if m is iterable %}({{ loop(m) }})"
         "{% else %}{{ m }}{% endif %}{% endfor %}", "(1(2))"),
        ("{% for m in messages %}{{ loop.index }}{{ loop.last }}{% endfor %}", "1True"),
        ("{{ 'a-b'.split('-') | join('+') }}{{ ' x '.strip() }}{{ 'aa'.replace('a', 'b') }}",
         "a+bxbb"),
        ("{{ '%s=%d' % ('a', 1) }}{{ '{}{}'.format(1, 2) }}{{ 2 * 3 }}{{ 7 % 4 }}{{ 2 ** 3 }}",
         "a=112638"),
        ("{{ messages[0]['missing'] is defined }}{{ enable_thinking }}", "False"),
        ("{{ messages[::-1][0].content[:1] }}{{ 'x' * 3 }}{{ [1] + [2] }}", "Hxxx[1, 2]"),
        ("{{ functions }}|", "|"),
        ("{%- set x %}{{ 1 }}{% endset -%}{{ x }}{% filter upper %}q{% endfilter %}", "1Q"),
    ],
)  # fmt: skip
def test_features(source: str, expected: str) -> None:
    assert render(source) == expected


def test_variables_reach_the_template() -> None:
    source = "{{ x }}{{ tools[0].function.name }}{{ documents[0] }}{{ add_generation_prompt }}"
    text = render(source, x=1, tools=[TOOL], documents=[{"a": 1}], add_generation_prompt=False)
    assert text == "1weather{'a': 1}False"
    assert json.loads(render("{{ functions }}", tools=[TOOL])) == [TOOL]


def test_the_time_is_now() -> None:
    before = datetime.now().strftime("%Y-%m-%d")
    text = render("{{ strftime_now('%Y-%m-%d') }}")
    assert before <= text <= datetime.now().strftime("%Y-%m-%d")
    assert re.fullmatch(r"\w+ \d\d \d{4} [\d:]{8}", render("{{ datetime }}"))


def test_the_messages_stay_as_they_were() -> None:
    messages = [{"role": "user", "content": ["a"]}]
    source = "{% set _ = messages.append(1) %}{% set _ = messages[0].content.append(2) %}"
    render(source + "{% set _ = messages[0].update({'x': 1}) %}", messages)
    assert messages == [{"role": "user", "content": ["a"]}]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(["role", "content"]), st.text()), max_size=4))
def test_content_is_printed_as_it_is(messages: list[dict[str, str]]) -> None:
    source = "{% for m in messages %}[{{ m.role }}]{{ m['content'] }}{% endfor %}"
    expected = "".join(f"[{m.get('role', '')}]{m.get('content', '')}" for m in messages)
    assert render(source, messages) == expected


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ raise_exception('roles must alternate') }}", "refused the chat: roles must alternate"),
        ("a\n{% if %}", "does not compile at line 2"),
        ("{{ missing() }}", "'missing' is undefined"),
        ("{% include 'x' %}", "no loader"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "recursion"),
    ],
)
def test_errors_say_why(source: str, message: str) -> None:
    with pytest.raises(ChatTemplateError, match=message):
        render(source)


def test_only_plain_data_gets_in() -> None:
    with pytest.raises(
        ChatTemplateError, match=r"messages\[0\].content: expected text.*got .*Path"
    ):
        render("", [{"role": "user", "content": Path()}])
    with pytest.raises(ChatTemplateError, match="f: expected .* got function"):
        render("", f=render)
    deep: list[Any] = []
    deep.append(deep)
    with pytest.raises(ChatTemplateError, match="at most 100 levels"):
        render("", deep)
    with pytest.raises(ChatTemplateError, match="at most 1048576 characters"):
        ChatTemplate("x" * 2_000_000)


@pytest.mark.parametrize(
    "expression",
    [
        "''.__class__.__mro__",
        "().__class__.__bases__[0].__subclasses__()",
        "messages|attr('__class__')|string",
        "''['__class__']",
        "messages|map(attribute='__class__')|first",
        "'{0.__class__}'.format(messages)",
        "'{0.__class__.__mro__}'.format(messages)",
        "raise_exception.__globals__",
        "strftime_now.__globals__['json']",
        "cycler.__init__.__globals__",
        "namespace.__init__",
        "self.__init__.__globals__",
        "self._TemplateReference__context",
        "messages.append.__self__.__class__",
        "loop.__class__",
        "environment",
        "range.__class__",
    ],
)
def test_no_way_out_of_the_sandbox(expression: str) -> None:
    try:
        text = render("{{ " + expression + " }}")
    except ChatTemplateError:
        return
    assert text == "" or text == "Undefined"


DOUBLE = "{% set n = namespace(x='a', y='a') %}{% for i in range(99) %}BODY{% endfor %}"


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
        "{% for i in range(99999) %}" + "x" * 1000 + "{% endfor %}",
        "{% for i in range(99999) %}{{ '" + "x" * 1000 + "' }}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{{ ('a' * 10 ** 10)|length }}",
        "{{ ([1] * 10 ** 10)|length }}",
        "{{ 10 ** 100000 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%*d' % (1000000000, 1) }}",
        "{{ '%1000000000d'|format(1) }}",
        "{{ '{:1000000000d}'.format(1) }}",
        "{{ '{:{}}'.format(1, 1000000000) }}",
        "{{ 'a'|center(1000000000) }}",
        "{{ 'a'.center(1000000000) }}",
        "{{ 'a'.ljust(1000000000) }}",
        "{{ 'a'|indent(1000000000, true) }}",
        "{{ [1]|tojson(indent=1000000000) }}",
        "{{ [1]|batch(1000000000, 0)|list }}",
        "{{ [1]|slice(1000000000)|list }}",
        "{{ (1).to_bytes(1000000000, 'big') }}",
        "{{ ('a' * 9999999)|replace('a', 'b' * 999) }}",
        "{{ ('a' * 9999999).replace('a', 'b' * 999) }}",
        "{{ (['a' * 9999999] * 999)|join }}",
        "{{ ''.join(['a' * 9999999] * 999) }}",
        "{{ [[1] * 999999] * 999|sum(start=[]) }}",
        "{{ strftime_now('%1000000000d') }}",
        DOUBLE.replace("BODY", "{% set n.x = n.x + n.x %}"),
        DOUBLE.replace("BODY", "{% set n.x = n.x ~ n.x %}"),
        DOUBLE.replace("BODY", "{% set v %}{{ n.x }}{{ n.x }}{% endset %}{% set n.x = v %}"),
        DOUBLE.replace("BODY", "{% set n.x = [n.x, n.x] %}") + "{{ n.x }}",
        DOUBLE.replace("BODY", "{% set n.x = [n.x, n.x] %}") + "{{ n.x|tojson }}",
        DOUBLE.replace("BODY", "{% set n.x = [n.x, n.x] %}") + "{{ n.x|string|length }}",
        DOUBLE.replace("BODY", "{% set n.x = [n.x, n.x] %}{% set n.y = [n.y, n.y] %}")
        + "{{ n.x == n.y }}",
        "{% set l = [1] %}{% for i in range(99) %}{% set _ = l.extend(l) %}{% endfor %}",
    ],
)
def test_work_and_size_have_bounds(source: str) -> None:
    start = time.monotonic()
    with pytest.raises(ChatTemplateError, match="expected|recursion|Range too big"):
        render(source)
    assert time.monotonic() - start < 20


def test_bounds_start_anew_with_each_chat(monkeypatch: pytest.MonkeyPatch) -> None:
    template = ChatTemplate("{% for i in range(50000) %}{{ i }}{% endfor %}")
    budget = sum(len(str(i)) for i in range(50000))
    monkeypatch.setattr("jitllm.llm.tokenizer.template_limits.MAX_CHARS", budget)
    assert {len(template.render([])) for _ in range(3)} == {budget}


def test_templates_of_a_file_have_names() -> None:
    data = spm_metadata()
    data["tokenizer.chat_template"] = "{{ bos_token }}a"
    data["tokenizer.chat_template.tool_use"] = "b{{ eos_token }}"
    assert chat_template_names(data) == ["default", "tool_use"]
    tokenizer = built(data)
    assert tokenizer.chat_template().render(USER) == "<s>a"
    assert tokenizer.chat_template("default").render(USER) == "<s>a"
    assert tokenizer.chat_template("tool_use").render(USER) == "b</s>"
    assert repr(tokenizer.chat_template("tool_use")) == "<ChatTemplate tool_use: 16 characters>"
    with pytest.raises(ChatTemplateError, match="'rag' in the file, it has default, tool_use"):
        tokenizer.chat_template("rag")


def test_a_missing_template_says_what_to_do() -> None:
    with pytest.raises(ChatTemplateError, match="it has none; give the text of one"):
        built(spm_metadata()).chat_template()


def test_jinja_is_imported_at_the_first_rendering() -> None:
    code = (
        "import sys; from jitllm.llm.tokenizer import ChatTemplate; t = ChatTemplate('x');"
        "before = 'jinja2' in sys.modules; t.render([]); print(before, 'jinja2' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


@pytest.mark.slow
def test_all_templates_of_llama_cpp(tmp_path: Path) -> None:
    paths = sorted(download_sources(tmp_path).glob("models/templates/*.jinja"))
    assert len(paths) == 70
    for path in paths:
        source = path.read_text("utf-8")
        assert "Hi" in render(source), path.name
        assert "Hi" in render(source, tools=[TOOL]), path.name
        if path.stem in NO_CALLS:
            with pytest.raises(ChatTemplateError, match="alternate|concatenate"):
                render(source, CALL, tools=[TOOL])
        else:
            assert "Hi" in render(source, CALL, tools=[TOOL]), path.name


def test_a_name_in_place_of_a_template() -> None:
    template = ChatTemplate.from_metadata({"tokenizer.chat_template": "rwkv-world"})
    messages = [
        {"role": "system", "content": "Be brief. "},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": " Hello"},
        {"role": "user", "content": "Who?"},
    ]
    text = "System: Be brief.\n\nUser: Hi\n\nAssistant: Hello\n\nUser: Who?\n\nAssistant:"
    assert template.render(messages, add_generation_prompt=True) == text
