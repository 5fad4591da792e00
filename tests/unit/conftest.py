"""Search for garbage less often: tests that read the whole source make millions of objects and hardly any cycle."""

from __future__ import annotations

import gc

gc.set_threshold(20_000, 20, 20)
