"""Pages and views: the contract between `server` and the views.

A view's `page` takes a `ViewRequest` and returns a `Page`. It runs in a thread and reads with `asked.reader`. It raises
`NotFound` for an item, month or learner that does not exist, and `NotAllowed` if the page needs a higher role.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from htmltools import TagChild
from shiny import Inputs, Outputs, Session

from services.dashboard.data_access import Reader
from services.jwt_verifier.tokens import Identity


class NotFound(Exception):
    """Something that the address names does not exist. The message names it, and says where to look instead."""


class NotAllowed(Exception):
    """The page needs a higher role, which the message names."""


@dataclass(frozen=True)
class ViewRequest:
    """A request for a view: who sends it, and the fields of the page's address."""

    view: str
    fields: Mapping[str, str]
    identity: Identity
    reader: Reader

    def field(self, name: str, default: str = "") -> str:
        return self.fields.get(name, "").strip() or default


@dataclass(frozen=True)
class Page:
    """A page. `title`: its heading."""

    title: str
    body: TagChild


@dataclass(frozen=True)
class View:
    """A kind of page.

    Attributes:
        name: value of `view=` in the address.
        menu: name in the menu; empty if the view is not in it. Its pages then belong to the last view in the menu
            before it.
        group: heading above the view in the menu.
        server: Shiny's server function for events on the page after it is shown. Most pages have none.
    """

    name: str
    page: Callable[[ViewRequest], Page]
    menu: str = ""
    group: str = ""
    server: Callable[[ViewRequest, Inputs, Outputs, Session], None] | None = None
