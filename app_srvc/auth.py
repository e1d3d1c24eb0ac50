"""Who may do what: the rules as data, and the comparison of tokens. Knows nothing of HTTP.

A view is closed unless it says `@open_to_all`. Bound to a loopback address, everything is open to
whoever calls it by a loopback name: a page of another site can make a browser send a request to
127.0.0.1, but not with that name in it.
"""

import hmac
from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar
from urllib.parse import urlsplit

from app_srvc.settings import Settings
from app_srvc.settings_values import is_loopback_host

View = TypeVar("View", bound=Callable[..., Any])

UNSAFE_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
DEFAULT_PORTS = {"http": 80, "https": 443}


class Access(StrEnum):
    """Who a view is for."""

    ALL = "all"
    KNOWN = "known"


def open_to_all(view: View) -> View:
    """Mark a view that asks for no credentials, wherever the service is bound."""
    view.__dict__["access"] = Access.ALL
    return view


def access_of(view: Callable[..., Any]) -> Access:
    """Who a view is for: callers with a credential, unless it says otherwise."""
    access: Access = getattr(view, "access", Access.KNOWN)
    return access


class Credentials:
    """What a caller must show."""

    def __init__(self, settings: Settings) -> None:
        self._is_loopback = settings.is_loopback
        token = settings.api_token
        self._token = token.get_secret_value().encode() if token is not None else None

    def is_open_to(self, host: str) -> bool:
        """Whether a request for this `Host` needs no credentials at all."""
        return self._is_loopback and is_loopback_host(_host_name(host))

    def is_host_expected(self, host: str) -> bool:
        """Whether a service bound as this one is would be called by that `Host`."""
        return not self._is_loopback or is_loopback_host(_host_name(host))

    def is_token_good(self, authorization: str) -> bool:
        """Whether an `Authorization` header has the token. Takes as long for every wrong one."""
        scheme, _, token = authorization.partition(" ")
        given = token.strip().encode("utf-8", "surrogateescape")
        is_same = hmac.compare_digest(given, self._token or b"")
        return is_same and self._token is not None and scheme.lower() == "bearer"


def is_foreign_origin(origin: str, host: str) -> bool:
    """Whether the page that sent a request came from another host than the request went to.

    Scheme is not compared: behind a proxy that ends TLS the two differ.
    """
    try:
        parts = urlsplit(origin)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return True
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        return True
    return (parts.hostname, port) != _host_and_port(host, DEFAULT_PORTS[parts.scheme])


def _host_and_port(host: str, default_port: int) -> tuple[str, int]:
    name = _host_name(host)
    port = host.rpartition(":")[2] if not host.endswith("]") and ":" in host else ""
    return name, int(port) if port.isdecimal() else default_port


def _host_name(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()
