"""The installation that a command works on: its settings and its database.

Commands get both from here and not from `resources`, which they would import for `irt --help`, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resources.database import Database
    from resources.settings import Settings


def current_settings() -> Settings:
    from resources.settings import get_settings

    return get_settings()


def current_database() -> Database:
    from resources.database import Database

    return Database(current_settings())
