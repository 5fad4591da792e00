"""A cache of compiled kernels that loads a kernel without the parts of numba that only compilation needs."""

import gc
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import numba
from numba import types
from numba.core import event
from numba.core.caching import FunctionCache
from numba.core.runtime.nrt import rtsys

KNOWN_NUMBA = (0, 68)
"""The version of numba for whose internals `KernelCache` is written. Other versions use their own, slower cache."""


class KernelCache(FunctionCache):
    """A cache that does not load numba's registries, which saves a fifth of a second.

    Only compilation needs the registries, and numba loads them when it compiles.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        rtsys.initialize(target_context)
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)


class Compilation(event.Listener):
    """Kernels that numba has compiled in this process.

    The garbage collector is paused meanwhile: it would visit millions of objects of numba, and free few.

    Attributes:
        kernels: number of kernels.
        seconds: time that their compilation took.
    """

    PATIENCE = 1.0
    """Seconds of compilation after which a person who waits is told why."""

    def __init__(self) -> None:
        self.kernels, self.seconds = 0, 0.0
        self._begun: list[float] = []
        self._is_told = False
        self._collects_garbage = False

    def on_start(self, event: Any) -> None:
        if not self._is_kernel(event):
            return
        if not self._begun:
            self._collects_garbage = gc.isenabled()
            gc.disable()
        self._begun.append(time.monotonic())

    def on_end(self, event: Any) -> None:
        if not self._is_kernel(event):
            return
        begun = self._begun.pop()
        if not self._begun and self._collects_garbage:
            gc.enable()
        self.kernels += 1
        now = time.monotonic()
        self.seconds += 0 if self._begun else now - begun  # kernels that a kernel calls are in its time
        so_far = self.seconds + (now - self._begun[0] if self._begun else 0)
        if so_far > self.PATIENCE and not self._is_told and _is_watched():
            self._is_told = True
            sys.stderr.write(
                "irt_psychometrics: compiling for this computer, once for each kind of analysis;"
                f" {so_far:.0f} s so far, usually 3 to 10 s. Command for all: python -m irt_psychometrics warm-up\n"
            )

    @staticmethod
    def _is_kernel(event: Any) -> bool:
        """Check whether a kernel of this package is compiled, not a function of numba that a kernel calls."""
        return str(event.data["dispatcher"].py_func.__module__).startswith("irt_psychometrics.")


COMPILATION = Compilation()
event.register("numba:compile", COMPILATION)


def _is_watched() -> bool:
    """Check whether a person reads standard error: in a terminal or a notebook."""
    return sys.stderr is not None and (sys.stderr.isatty() or "ipykernel" in sys.modules)


def compile_kernel(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    """The numba dispatcher of `function`.

    Compiled code is kept on disk across processes if a cache directory is writable, otherwise in memory only.
    """
    dispatcher = numba.njit(**options)(function)
    cache = KernelCache if numba.version_info.short == KNOWN_NUMBA else FunctionCache
    with suppress(RuntimeError):  # "no locator available": neither the package nor the home directory is writable
        dispatcher._cache = cache(function)
    dispatcher.get_call_template = partial(_call_template, dispatcher, dispatcher.get_call_template)
    return dispatcher


def _call_template(dispatcher: Any, template: Callable[..., Any], args: Any, kws: Any) -> Any:
    """Resolve a call from another kernel. A literal argument counts as its type, so that a kernel is compiled once."""
    found = template([types.unliteral(argument) for argument in args], kws)
    if not dispatcher.targetoptions["_nrt"] and any("array" in str(s.return_type) for s in found[0].cases):
        raise TypeError(f"{dispatcher.py_func.__name__} returns an array: it must be a kernel that counts references")
    return found
