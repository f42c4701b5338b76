"""`inline` and `helper`: functions that kernels call, compiled as cheaply as Numba can.

`numba.njit` would make machine code of each helper, with wrappers for the interpreter. Here a
helper stays a plain Python function; when a kernel that calls it is compiled, its code is generated
and becomes part of the kernel.
"""

from numba.core import compiler, types
from numba.core.registry import cpu_target
from numba.core.typing.templates import AbstractTemplate, infer_global

from jitllm.kernels.library import RawLibrary


class _Key:
    """What the code generator finds a compiled helper by."""


def _compile(function, args, force):
    flags = compiler.Flags()
    flags.nrt = False
    flags.no_compile = True
    flags.no_cpython_wrapper = True
    flags.no_cfunc_wrapper = True
    flags.error_model = "numpy"
    flags.forceinline = force
    typing, target = cpu_target.typing_context, cpu_target.target_context
    library = RawLibrary(target.codegen(), function.__qualname__)
    compiled = compiler.compile_extra(typing, target, function, args, None, flags, {}, library)
    key = _Key()
    target.insert_user_function(key, compiled.fndesc, [compiled.library])
    return compiled.signature, key


def inline(function):
    """Make a plain function callable from kernels; its code becomes part of the caller's."""
    return _register(function, force=True)


def helper(function):
    """Make a plain function callable from kernels; LLVM decides whether it stays a function."""
    return _register(function, force=False)


def _register(function, force):
    compiled = {}

    class Template(AbstractTemplate):
        key = function

        def generic(self, args, kws):
            if kws:
                raise TypeError(f"{function.__name__} takes no keyword arguments in a kernel")
            kinds = tuple(types.unliteral(a) for a in args)
            if kinds not in compiled:
                compiled[kinds] = _compile(function, kinds, force)
            return compiled[kinds][0]

        def get_impl_key(self, sig):
            return compiled[sig.args][1]

    infer_global(function, types.Function(Template))
    return function
