"""Code libraries for Numba's compiler that do each step once, for the whole kernel.

Numba's own library optimises every function when it is compiled, again inside every caller, and
makes machine code of each. A kernel made of fifty helpers then takes seven seconds. Here functions
stay as they were generated; the module of the finished kernel is optimised once, and `jit` makes
its machine code.
"""

from functools import cache
from typing import Any

from llvmlite import binding as llvm
from numba.core.codegen import CPUCodeLibrary


def _shareable(module: Any) -> Any:
    """Return a copy of a module that may be linked several times into one program."""
    copy = module.clone()
    for function in copy.functions:
        if not function.is_declaration and function.linkage == llvm.Linkage.external:
            function.linkage = llvm.Linkage.linkonce_odr
    return copy


class RawLibrary(CPUCodeLibrary):
    """The code of one function as generated, and the libraries that it calls."""

    _shared_module: Any

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def finalize(self) -> None:
        """Mark the library complete; nothing is linked or optimised."""
        self._finalized = True

    def callees(self) -> list[Any]:
        """Return all libraries that this one calls, each once."""
        found: dict[Any, None] = {}
        for library in self._linking_libraries:
            inner = library.callees() if isinstance(library, RawLibrary) else []
            found.update(dict.fromkeys([library, *inner]))
        return list(found)

    def link_callees(self, module: Any) -> None:
        """Link all that this library calls into `module`."""
        for library in self.callees():
            raw = isinstance(library, RawLibrary)
            other = library.own_module() if raw else library._get_module_for_linking()
            module.link_in(other, preserve=True)

    @cache  # noqa: B019  (libraries live as long as the process)
    def own_module(self) -> Any:
        """Return this library's function alone, to be linked."""
        return _shareable(self._final_module)

    def _get_module_for_linking(self) -> Any:
        """Return the function with all that it calls: what Numba's own libraries link."""
        if self._shared_module is None:
            self._shared_module = _shareable(self._final_module)
            self.link_callees(self._shared_module)
        return self._shared_module


class LinkedLibrary(RawLibrary):
    """A whole kernel as generated: it with all that it calls."""

    entries: tuple[str, ...] = ()  # functions to be called from outside

    def finalize(self) -> None:
        """Link."""
        self.link_callees(self._final_module)
        for function in self._final_module.functions:
            if not function.is_declaration and function.name not in self.entries:
                function.linkage = llvm.Linkage.internal
        self._final_module.verify()
        self._finalized = True


class KernelLibrary(LinkedLibrary):
    """A whole kernel, optimised for this machine."""

    def finalize(self) -> None:
        """Link and optimise."""
        super().finalize()
        self._optimize_final_module()
        self._final_module.verify()
