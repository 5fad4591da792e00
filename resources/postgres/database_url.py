"""Parsing of DATABASE_URL, as libpq parses it. Messages name the fault and never contain a part of the value."""

import re
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from resources.failures import PermanentFailure
from resources.postgres.own_schema import path_option

ENCODE = "in the user name and the password write @ as %40, : as %3A, / as %2F, ? as %3F, # as %23 and % as %25"
LIBPQ_HINTS = (
    (re.compile(r"percent-encoded|forbidden value"), f"has a % that begins no percent-encoded character: {ENCODE}"),
    (re.compile(r"IPv6|\]"), "has a [ without its ] around the host's address"),
    (re.compile(r"query parameter"), "has something after its ? that is not NAME=VALUE with an option of libpq"),
)
REFUSED_VALUE = re.compile(
    r"invalid (?:(\w+) value|port number|integer value .* for connection option \"(\w+)\")", re.S
)
MAX_PORT = 65535
TIMEOUTS = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "25000",
}
"""Defaults that DATABASE_URL may override. A vanished host, which refuses nothing, is given up after 25 s, by a new
connection after 10 s; with the system's own limits that takes minutes or hours."""


def read_database_url(text: str) -> str:
    """`text` as `postgresql://…`. Raises PermanentFailure, which names the fault without quoting the value."""
    scheme, separator, rest = text.strip().partition("://")
    if not separator or scheme.partition("+")[0] not in ("postgres", "postgresql") or not rest:
        raise PermanentFailure("DATABASE_URL must start with postgresql:// (or postgres://)")
    if not rest.isprintable() or " " in rest:
        raise _fault("has a space or a control character in it: write a space as %20")
    url = f"postgresql://{rest}"
    try:
        parts = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    except psycopg.ProgrammingError as error:
        message = str(error)
        fault = next((fault for words, fault in LIBPQ_HINTS if words.search(message)), f"is not an address: {ENCODE}")
        raise _fault(fault) from None
    if "@" in parts.get("host", "") + parts.get("dbname", ""):
        raise _fault(f"has an @ too many: {ENCODE}")
    for port in filter(None, parts.get("port", "").split(",")):
        if not (port.isascii() and port.isdigit() and 0 < int(port) <= MAX_PORT):
            raise _fault(f"has no number from 1 to {MAX_PORT} as its port; {ENCODE}")
    return url


def parameters(url: str) -> dict[str, Any]:
    """The parameters of `url` by libpq's names, with the defaults of TIMEOUTS."""
    return TIMEOUTS | {name: str(value) for name, value in conninfo_to_dict(url).items()}


def for_sqlalchemy(url: str, driver: str) -> str:
    """`url` for SQLAlchemy, which accepts one host and a numeric port, so they are passed in the query."""
    import sqlalchemy as sa  # takes longer to load than most commands take

    parts = parameters(url)
    user, password, database = (parts.pop(name, None) for name in ("user", "password", "dbname"))
    address = sa.URL.create(f"postgresql+{driver}", user, password, database=database, query=parts)
    return address.render_as_string(hide_password=False)


def with_search_path(url: str, schema: str) -> str:
    """`url` with an additional option: its connections see only this schema."""
    options = f"{parameters(url).get('options', '')} {path_option(schema)}".strip()
    address, _, query = url.partition("?")
    others = [part for part in query.split("&") if part and not part.startswith("options=")]
    return f"{address}?{'&'.join([*others, f'options={quote(options)}'])}"


def refusal_of_value(error: psycopg.OperationalError) -> PermanentFailure | None:
    """The failure if libpq rejects an option's value, which libpq's message would show. None for other errors."""
    match = REFUSED_VALUE.search(str(error))
    return _fault(f"gives {match[1] or match[2] or 'port'} a value that libpq does not accept") if match else None


def _fault(fault: str) -> PermanentFailure:
    return PermanentFailure(f"DATABASE_URL {fault}")
