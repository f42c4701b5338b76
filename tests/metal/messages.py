"""Messages to the stand-in of Metal without the backend, for what the backend never does."""

import ctypes
import os
from typing import Any

TEXT = b"""#include <metal_stdlib>
using namespace metal;
kernel void main0(constant uint& x [[buffer(0)]], uint3 at [[thread_position_in_threadgroup]]) {
}"""
RUNTIME = ctypes.CDLL(os.environ["JITLLM_METAL_RUNTIME"])
NIL = ctypes.c_void_p()
Id = ctypes.c_void_p


class Size(ctypes.Structure):
    """MTLSize."""

    _fields_ = [(name, ctypes.c_ulong) for name in ("width", "height", "depth")]


def function(name: str, *types: Any) -> Any:
    """Return a function of the runtime that gives an object."""
    found = getattr(RUNTIME, name)
    found.restype, found.argtypes = Id, types
    return found


named = function("objc_getClass", ctypes.c_char_p)
registered = function("sel_registerName", ctypes.c_char_p)
push = function("objc_autoreleasePoolPush")
pop = function("objc_autoreleasePoolPop", Id)
make_device = function("MTLCreateSystemDefaultDevice")


def send(receiver: Any, selector: str, *arguments: Any) -> Any:
    """Send a message; ints are NSUInteger, bytes are texts, objects must be made `Id`."""
    kinds = {int: ctypes.c_ulong, bytes: ctypes.c_char_p}
    types = [kinds.get(type(each), type(each)) for each in arguments]
    call = ctypes.CFUNCTYPE(Id, Id, Id, *types)(("objc_msgSend", RUNTIME))
    return call(receiver, registered(selector.encode()), *arguments)


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
