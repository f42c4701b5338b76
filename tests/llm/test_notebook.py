"""A real notebook kernel: interrupts, live text, a running event loop."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from models import model_path

pytestmark = pytest.mark.slow

SLOW = "def slow(ids, logits):\n    time.sleep(0.002)\n"


@pytest.fixture
def kernel() -> Iterator[Any]:
    """A client of a kernel in which `m` is a loaded model."""
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel()
    load = f"m = jitllm.load({str(model_path('stories260K'))!r}, device='reference')\n"
    client.execute_interactive(f"import time, jitllm\n{load}{SLOW}", timeout=60)
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def _run(client: Any, code: str, interrupt: Any = None) -> tuple[Any, list[Any], float]:
    """Return the reply, the outputs, and the seconds from the interrupt to the reply."""
    outputs: list[Any] = []
    sent = 0.0

    def hook(message: Any) -> None:
        nonlocal sent
        outputs.append(message)
        if interrupt and message["msg_type"] in ("stream", "display_data") and not sent:
            time.sleep(0.2)
            sent = time.perf_counter()
            interrupt()

    reply = client.execute_interactive(code, timeout=60, output_hook=hook)
    return reply["content"], outputs, time.perf_counter() - sent


def test_interrupt(kernel: Any) -> None:
    manager, client = kernel
    code = (
        "print('go', flush=True)\ns = m.sequence('Once')\n"
        "for _ in range(1000): s.truncate(2).generate(ignore_eos=True)"
    )
    reply, _, seconds = _run(client, code, manager.interrupt_kernel)
    assert reply["ename"] == "KeyboardInterrupt"
    assert seconds < 0.5
    code = (
        "import numpy as np\nassert m.last_result.finish_reason == 'cancelled'\n"
        "assert np.allclose(s.logits, m.forward(s.token_ids, rows=-1)[0], atol=2e-3)"
    )
    assert _run(client, code)[0]["status"] == "ok"


def test_show_updates_one_display_and_can_be_interrupted(kernel: Any) -> None:
    manager, client = kernel
    code = "s = m.stream('Once', ignore_eos=True, logits_processors=slow)\ns.show()"
    reply, outputs, seconds = _run(client, code, manager.interrupt_kernel)
    assert reply["status"] == "ok"
    assert seconds < 0.5
    shown = [m["content"] for m in outputs if m["msg_type"].endswith("display_data")]
    assert not [m for m in outputs if m["msg_type"] == "execute_result"]
    assert len({content["transient"]["display_id"] for content in shown}) == 1
    assert 2 < len(shown) < 20
    code = "import html; r = s.result; print(r.finish_reason); print(html.escape(r.text))"
    _, outputs, _ = _run(client, code)
    printed = "".join(m["content"]["text"] for m in outputs if m["msg_type"] == "stream")
    reason, _, text = printed.partition("\n")
    assert reason == "cancelled"
    assert text.rstrip("\n") in shown[-1]["data"]["text/html"]


def test_inside_a_running_loop(kernel: Any) -> None:
    _, client = kernel
    code = (
        "a = m.generate('Once', max_tokens=4, seed=1)\n"
        "b = await m.agenerate('Once', max_tokens=4, seed=1)\n"
        "c = [x.text async for x in m.agenerate('Once', max_tokens=4, seed=1)]\n"
        "assert a.text == b.text == ''.join(c)"
    )
    assert _run(client, code)[0]["status"] == "ok"
