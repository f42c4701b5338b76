"""The one module that drives Numba's compiler: a Python function in, LLVM IR out."""

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from jitllm.kernels import level as levels


def configure() -> None:
    """Aim Numba's code generator at the current level; it reads these once, on first use.

    The first `njit` of an imported kernel is a first use: call this before importing kernels.
    """
    from numba.core import config

    level = levels.current()
    if levels.is_foreign(level):
        config.CPU_NAME, config.CPU_FEATURES = "generic", ""  # `jit.compile_object` retargets
    elif level.cpu:
        config.CPU_NAME = level.cpu
        config.CPU_FEATURES = level.features


def compile_ir(
    source: Callable[..., Any], signature: tuple[str, tuple[str, ...]], symbol: str
) -> str:
    """Compile `source` and return the IR of a module whose `symbol` calls it.

    The entry has C linkage and plain integer arguments. Kernels raise nothing (`error_model`
    numpy, no bounds checks), so the status that Numba functions return is dropped and the code
    refers to no symbol of the interpreter.
    """
    configure()
    from numba.core import types
    from numba.core.compiler_lock import global_compiler_lock

    from jitllm.kernels.library import KernelLibrary

    kinds = {"void": types.void, "intp": types.intp, "float32": types.float32}
    result, arguments = kinds[signature[0]], tuple(kinds[a] for a in signature[1])
    with global_compiler_lock:
        return _compile(source, result, arguments, symbol, KernelLibrary)


def linked_ir(
    source: Callable[..., Any], result: Any, arguments: tuple[Any, ...], symbol: str
) -> str:
    """Return what Numba generates for `source` and all that it calls, not optimised.

    `result` and `arguments` are Numba types; the entry takes and returns their values.
    """
    configure()
    from numba.core.compiler_lock import global_compiler_lock

    from jitllm.kernels.library import LinkedLibrary

    with global_compiler_lock:
        return _compile(source, result, arguments, symbol, LinkedLibrary)


def _compile(
    source: Callable[..., Any], result: Any, arguments: Any, symbol: str, library_class: Any
) -> str:
    from numba.core import compiler, registry

    from jitllm.kernels.library import RawLibrary

    typing, target = registry.cpu_target.typing_context, registry.cpu_target.target_context
    flags = compiler.Flags()
    flags.nrt = False
    flags.no_cpython_wrapper = True
    flags.error_model = "numpy"
    flags.boundscheck = False
    flags.no_compile = True
    function = getattr(source, "py_func", source)
    typing.refresh()
    target.refresh()
    library = RawLibrary(target.codegen(), function.__qualname__)
    compiled = compiler.compile_extra(
        typing, target, function, arguments, result, flags, {}, library
    )
    whole = library_class(target.codegen(), symbol)
    whole.entries = (symbol,)
    whole.add_ir_module(_entry(target, whole, compiled, result, arguments, symbol))
    whole.add_linking_library(compiled.library)
    whole.finalize()
    return str(whole.get_llvm_str())


def _entry(
    target: Any, library: Any, compiled: Any, result: Any, arguments: Any, symbol: str
) -> Any:
    """Return a module whose `symbol` calls the compiled function."""
    module = library.create_ir_module(symbol)
    returns_value = result.name != "none"
    kind = target.get_value_type(result) if returns_value else ir.VoidType()
    entry_type = ir.FunctionType(kind, [target.get_value_type(a) for a in arguments])
    entry = ir.Function(module, entry_type, name=symbol)
    builder = ir.IRBuilder(entry.append_basic_block("entry"))
    callee = target.declare_function(module, compiled.fndesc)
    _, value = target.call_conv.call_function(builder, callee, result, arguments, entry.args)
    if returns_value:
        builder.ret(value)
    else:
        builder.ret_void()
    return module
