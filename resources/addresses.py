"""Names under which the page is asked for: Host and Origin headers, and which of them count.

A browser sends requests of any web page to any address, and says in `Host` under which name it asked and in `Origin`
which page asked. What does not belong here: the handling of a request (see `irt_assets.webserver`).
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
    """A host name in lower case, and a port where one is named."""

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
    """`host`, `host:port` or `[::1]:port`; None for anything else."""
    found = _ADDRESS.fullmatch(text)
    if found is None:
        return None
    host, port = found.groups()
    return Address(host.lower(), int(port) if port else None)


@dataclass(frozen=True)
class Origin:
    """Where a web page comes from. Its address always has a port."""

    scheme: str
    address: Address


def parse_origin(text: str) -> Origin | None:
    """`https://host` or `http://host:port`; None for anything else, `null` as well."""
    found = _ORIGIN.fullmatch(text)
    address = parse_address(found[2]) if found else None
    if found is None or address is None:
        return None
    scheme = found[1].lower()
    return Origin(scheme, Address(address.host, address.port or DEFAULT_PORTS[scheme]))


@dataclass(frozen=True)
class Names:
    """The names under which the page answers: this machine's own, and `home`, the UI's URL."""

    home: Origin | None = None

    @property
    def only_this_machine(self) -> bool:
        return self.home is None or self.home.address.is_loopback

    def answers_to(self, host: Address) -> bool:
        return host.is_loopback or (self.home is not None and self.home.address.host == host.host)

    def trusts(self, origin: Origin, host: Address) -> bool:
        """Whether a page of `origin` may write to the page requested as `host`: only if it is that page itself.

        Another port of this machine is another page. Behind a proxy that hands on a Host of its own, the page is known
        by the UI's URL.
        """
        if origin == self.home:
            return True
        ports = {host.port} if host.port is not None else {*DEFAULT_PORTS.values()}
        return origin.address.host == host.host and origin.address.port in ports


def split_url(url: str) -> tuple[Origin, str]:
    """Where a page is reached: its origin, and the path before all of its paths, without a slash at the end.

    Raises ValueError where `url` is not such an address.
    """
    parts = urlsplit(url)
    origin = parse_origin(f"{parts.scheme}://{parts.netloc}")
    if origin is None or parts.query or parts.fragment:
        raise ValueError("must be an address such as https://irt.example.org or https://example.org/dagster")
    return origin, parts.path.rstrip("/")
