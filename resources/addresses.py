"""Host and Origin headers: parsing, and the decision which of them a server accepts.

A browser sends requests of any web page to any address. `Host` contains the name that was requested, `Origin` the page
that sent the request. `irt_assets.webserver` handles the requests.
"""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}
_ADDRESS = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?", re.IGNORECASE | re.ASCII)
_ORIGIN = re.compile(r"(https?)://(.+)", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Address:
    """A host name in lower case, and a port if there is one."""

    host: str
    port: int | None = None

    @property
    def is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False


def parse_address(text: str) -> Address | None:
    """Parse `host`, `host:port` or `[::1]:port`. Returns None for anything else."""
    match = _ADDRESS.fullmatch(text)
    if match is None:
        return None
    host, port = match.groups()
    return Address(host.lower(), int(port) if port else None)


@dataclass(frozen=True)
class Origin:
    """The origin of a web page. Its address always has a port."""

    scheme: str
    address: Address


def parse_origin(text: str) -> Origin | None:
    """Parse `https://host` or `http://host:port`. Returns None for anything else, including `null`."""
    match = _ORIGIN.fullmatch(text)
    address = parse_address(match[2]) if match else None
    if match is None or address is None:
        return None
    scheme = match[1].lower()
    return Origin(scheme, Address(address.host, address.port or DEFAULT_PORTS[scheme]))


@dataclass(frozen=True)
class Names:
    """The names that a server accepts: loopback addresses, and the origin of the UI's URL (`home`)."""

    home: Origin | None = None

    @property
    def only_this_machine(self) -> bool:
        return self.home is None or self.home.address.is_loopback

    def answers_to(self, host: Address) -> bool:
        return host.is_loopback or (self.home is not None and self.home.address.host == host.host)

    def trusts(self, origin: Origin, host: Address) -> bool:
        """Whether a page of `origin` may send writes to `host`: only if both are the same page.

        A different port of this machine is a different page. A proxy may replace `Host`, so the origin of the UI's URL
        is always accepted.
        """
        if origin == self.home:
            return True
        ports = {host.port} if host.port is not None else {*DEFAULT_PORTS.values()}
        return origin.address.host == host.host and origin.address.port in ports


def split_url(url: str) -> tuple[Origin, str]:
    """Split a URL into its origin and its path, without a slash at the end.

    Raises ValueError if `url` is not an http or https address, or has a query or a fragment.
    """
    parts = urlsplit(url)
    origin = parse_origin(f"{parts.scheme}://{parts.netloc}")
    if origin is None or parts.query or parts.fragment:
        raise ValueError("must be an address such as https://irt.example.org or https://example.org/dagster")
    return origin, parts.path.rstrip("/")
