"""Messages to the stand-in of Metal without the backend, for what the backend never does."""

import ctypes
import os
from typing import Any

TEXT = b"""#include <metal_stdlib>
using namespace metal;
kernel void main0(constant uint& x [[buffer(0)]], uint3 at [[thread_position_in_threadgroup]]) {
}"""
RUNTIME = ctypes.CDLL(os.environ.get("JITLLM_METAL_RUNTIME"))
NIL = ctypes.c_void_p()
Id = ctypes.c_void_p


class Size(ctypes.Structure):
    """MTLSize."""

    _fields_ = [(name, ctypes.c_ulong) for name in ("width", "height", "depth")]


def call(name: str, *arguments: Any) -> Any:
    """Call a function of the runtime that gives an object."""
    function = getattr(RUNTIME, name)
    function.restype, function.argtypes = Id, [_kind(each) for each in arguments]
    return function(*arguments)


def _kind(value: Any) -> Any:
    return {int: ctypes.c_ulong, bytes: ctypes.c_char_p}.get(type(value), type(value))


def named(name: bytes) -> Id:
    """Return a class."""
    return Id(call("objc_getClass", name))


def push() -> Id:
    """Begin a pool of objects."""
    return Id(call("objc_autoreleasePoolPush"))


def pop(pool: Id) -> None:
    """End a pool."""
    call("objc_autoreleasePoolPop", pool)


def make_device() -> Any:
    """Return the system's device."""
    return call("MTLCreateSystemDefaultDevice")


def send(receiver: Any, selector: str, *arguments: Any) -> Any:
    """Send a message; ints are NSUInteger, bytes are texts, objects must be made `Id`."""
    registered = Id(call("sel_registerName", selector.encode()))
    method = ctypes.CFUNCTYPE(Id, Id, Id, *map(_kind, arguments))(("objc_msgSend", RUNTIME))
    return method(receiver, registered, *arguments)


def string(text: bytes) -> Id:
    """Return a text of the runtime."""
    return Id(send(named(b"NSString"), "stringWithCString:encoding:", text, 4))


def make_options() -> Any:
    """Return what a kernel is compiled with."""
    options = send(send(named(b"MTLCompileOptions"), "alloc"), "init")
    send(options, "setLanguageVersion:", 0x30000)
    return options


def make_pipeline(device: Any, options: Any) -> Id:
    """Return a kernel that does nothing, made of three objects that stay."""
    new_library = "newLibraryWithSource:options:error:"
    library = send(device, new_library, string(TEXT), Id(options), NIL)
    main = send(library, "newFunctionWithName:", string(b"main0"))
    return Id(send(device, "newComputePipelineStateWithFunction:error:", Id(main), NIL))


def make_encoder(commands: Any) -> Any:
    """Return an encoder that lets dispatches run side by side."""
    return send(commands, "computeCommandEncoderWithDispatchType:", 1)


def bind(encoder: Any, size: int = 4) -> None:
    """Give the kernel its argument."""
    send(encoder, "setBytes:length:atIndex:", b"x" * size, size, 0)


def dispatch(encoder: Any, threads: int = 64, groups: int = 1) -> None:
    """Run workgroups of the pipeline that was set."""
    selector = "dispatchThreadgroups:threadsPerThreadgroup:"
    send(encoder, selector, Size(groups, 1, 1), Size(threads, 1, 1))
