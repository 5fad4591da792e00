"""What a page is and what it is made from: the contract between `server` and the views.

A view is a function of `Asked` that returns a `Page`; it runs in a thread, reads with `asked.reader`, and raises
`NotFound` for an item, month or learner that does not exist, `NotAllowed` for a page of a higher role. What does not
belong here: any view.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from htmltools import TagChild
from shiny import Inputs, Outputs, Session

from services.dashboard.reader import Reader
from services.jwt_verifier.tokens import Identity


class NotFound(Exception):
    """What the address names does not exist; the message says what, and where to look instead."""


class NotAllowed(Exception):
    """The page needs a higher role; the message says which."""


@dataclass(frozen=True)
class Asked:
    """A request for a view: who sends it, and the fields of the page's address."""

    view: str
    fields: Mapping[str, str]
    identity: Identity
    reader: Reader

    def field(self, name: str, otherwise: str = "") -> str:
        return self.fields.get(name, "").strip() or otherwise


@dataclass(frozen=True)
class Page:
    """`title` is the heading; `wide`: tables may need the whole width of the window; `as_of`: of its overview."""

    title: str
    body: TagChild
    wide: bool = False
    as_of: datetime | None = None


@dataclass(frozen=True)
class View:
    """A kind of page. `name` is `view=` in its address; `menu`: its name in the menu, where it has a place there.

    `server` handles what happens on the page after it is shown, as in Shiny; most pages have none.
    """

    name: str
    page: Callable[[Asked], Page]
    menu: str = ""
    server: Callable[[Asked, Inputs, Outputs, Session], None] | None = None
