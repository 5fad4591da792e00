"""The cache of compiled kernels, which loads a kernel without all that numba needs to compile one."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numba
from numba.core.caching import FunctionCache
from numba.core.runtime.nrt import rtsys

KNOWN_NUMBA = (0, 68)
"""The version whose internals `KernelCache` knows. Another one has its own cache, which is slower."""


class KernelCache(FunctionCache):
    """Numba's own loads its registries first, at the cost of a fifth of a second, and they serve compilation alone.
    A compilation loads them itself."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        rtsys.initialize(target_context)
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)


def compiled(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    """numba's dispatcher of `function`. Kept on disk across processes where any cache directory is writable, in memory
    only where none is."""
    dispatcher = numba.njit(**options)(function)
    cache = KernelCache if numba.version_info.short == KNOWN_NUMBA else FunctionCache
    with suppress(RuntimeError):  # "no locator available": neither the package nor the home directory is writable
        dispatcher._cache = cache(function)
    return dispatcher
