"""A cache of compiled kernels that loads a kernel without the parts of numba that only compilation needs."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numba
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


def compile_kernel(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    """The numba dispatcher of `function`.

    Compiled code is kept on disk across processes if a cache directory is writable, otherwise in memory only.
    """
    dispatcher = numba.njit(**options)(function)
    cache = KernelCache if numba.version_info.short == KNOWN_NUMBA else FunctionCache
    with suppress(RuntimeError):  # "no locator available": neither the package nor the home directory is writable
        dispatcher._cache = cache(function)
    return dispatcher
