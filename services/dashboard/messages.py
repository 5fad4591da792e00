"""Check the messages of the pages' WebSockets before Shiny reads them: invalid ones would cause tracebacks in Shiny."""

import logging
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError, model_validator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOG = logging.getLogger("services.dashboard")
INVALID_DATA = 1007
"""Close code of a WebSocket whose data does not fit the type of its message."""
ADDRESS = ".clientdata_url_search"
BUTTON = "shiny.action"
"""The only input type on our pages. In a message it follows the input's name and a colon."""


class InputMessage(BaseModel):
    """The inputs of a page: all of them at first, then the changed ones.

    Requests with `tag` and `args` are not accepted: no page uploads files or edits tables.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    method: Literal["init", "update"]
    data: dict[str, JsonValue]

    @model_validator(mode="after")
    def _fits_our_pages(self) -> Self:
        for key, value in self.data.items():
            _name, colon, kind = key.partition(":")
            if colon and (kind != BUTTON or type(value) is not int):
                raise ValueError("an input has a type or a value that no page has")
        if type(self.data.get(ADDRESS, None if self.method == "init" else "")) is not str:
            raise ValueError("the address of the page is absent or no text")
        return self


def read_message(message: Message, *, is_first: bool) -> InputMessage:
    """Parse a message. Raises ValueError with the reason, which repeats nothing of the message."""
    text = message.get("text")
    if text is None:
        raise ValueError("it is binary")
    try:
        parsed = InputMessage.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(error.errors(include_input=False, include_url=False)[0]["msg"]) from None
    if (parsed.method == "init") != is_first:
        raise ValueError("a page starts with one init, followed by updates")
    return parsed


class MessageFilter:
    """Middleware that passes only messages of our pages to `app`. Any other message closes its connection."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_first = True

        async def receive_checked() -> Message:
            nonlocal is_first
            message = await receive()
            if message["type"] != "websocket.receive":
                return message
            try:
                parsed = read_message(message, is_first=is_first)
            except ValueError as error:
                LOG.warning("closed a WebSocket whose message no page sends: %s", error)
                await send({"type": "websocket.close", "code": INVALID_DATA, "reason": "unexpected message"})
                return {"type": "websocket.disconnect", "code": INVALID_DATA}
            is_first = False
            return {"type": "websocket.receive", "text": parsed.model_dump_json()}

        await self.app(scope, receive_checked if scope["type"] == "websocket" else receive, send)
