"""The stand-in of Metal ends a process that uses it wrongly, and says why."""

import subprocess
import sys

import driver
import metal_standin
import pytest

assert driver  # which makes the stand-in
pytestmark = pytest.mark.skipif(
    not metal_standin.is_used(), reason="no stand-in: Linux with gcc and g++ has it"
)
_BEFORE = f"""
import sys
sys.path.insert(0, {str(metal_standin.SOURCES)!r})
from messages import *
device, pool = make_device(), push()
queue, fence, options = send(device, "newCommandQueue"), send(device, "newFence"), make_options()
commands = send(queue, "commandBuffer")
encoder = make_encoder(commands)
def set_pipeline(encoder):
    send(encoder, "setComputePipelineState:", make_pipeline(device, options))
def end():
    send(encoder, "endEncoding")
def commit():
    send(commands, "commit")
"""
WRONG = {
    "release of a freed MTLFence": 'send(fence, "release"); send(fence, "release")',
    "name of a freed MTLDevice": 'send(device, "release"); send(device, "name")',
    "-[MTLFence name]: unrecognized selector": 'send(fence, "name")',
    "+[NSString UTF8String]: unrecognized": 'send(named(b"NSString"), "UTF8String")',
    "autorelease of a NSString without a pool": 'end(); pop(pool); send(device, "name")',
    "a pool is popped that is not the last one": "push(); pop(pool)",
    "expected a MTLFence, got a MTLDevice": 'send(encoder, "waitForFence:", Id(device))',
    "expected a MTLFence, got nil": 'send(encoder, "waitForFence:", NIL)',
    "commit before endEncoding": "commit()",
    "commands are committed twice": "end(); commit(); commit()",
    "waitUntilCompleted before commit": 'end(); send(commands, "waitUntilCompleted")',
    "an encoder goes away before endEncoding": "pop(pool)",
    "a second encoder": "make_encoder(commands)",
    "setBytes:length:atIndex: after endEncoding": "end(); bind(encoder)",
    "4097 bytes, of 1 to 4096": "bind(encoder, 4097)",
    "without a pipeline": "dispatch(encoder)",
    "binding 0 of main0 has 0 of 4 bytes": "set_pipeline(encoder); dispatch(encoder)",
    "binding 0 of main0 has 3 of 4 bytes": (
        "set_pipeline(encoder); bind(encoder, 3); dispatch(encoder)"
    ),
    "2048 threads of a workgroup": (
        "set_pipeline(encoder); bind(encoder); dispatch(encoder, threads=2048)"
    ),
    "an empty grid": "set_pipeline(encoder); bind(encoder); dispatch(encoder, groups=0)",
    "fast ones were asked for": (
        'send(options, "setFastMathEnabled:", 1); make_pipeline(device, options)'
    ),
    "commands do not wait for those before them": (
        'send(encoder, "updateFence:", Id(fence)); end(); commit()\n'
        'commands = send(queue, "commandBuffer")\n'
        "encoder = make_encoder(commands); end(); commit()"
    ),
}
_RIGHT = """
set_pipeline(encoder); bind(encoder); dispatch(encoder)
send(encoder, "updateFence:", Id(fence)); end(); commit()
second = send(queue, "commandBuffer")
encoder = make_encoder(second)
send(encoder, "waitForFence:", Id(fence))
set_pipeline(encoder); bind(encoder); dispatch(encoder); end(); send(second, "commit")
send(second, "waitUntilCompleted")
assert send(commands, "status") == send(second, "status") == 4
pop(pool)
for each in (fence, options, queue, device):
    send(each, "release")
print(RUNTIME.standin_live())
"""


def _run(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-S", "-c", _BEFORE + code]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("message", WRONG)
def test_what_is_wrong_ends_the_process(message: str) -> None:
    run = _run(WRONG[message])
    assert run.returncode < 0
    assert run.stderr.startswith("Metal stand-in: ") and message in run.stderr


def test_what_is_right_runs() -> None:
    run = _run(_RIGHT)
    assert (run.returncode, run.stderr) == (0, "")
    assert int(run.stdout) == 6  # library, function and pipeline of each dispatch
