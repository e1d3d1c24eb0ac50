"""What makes a single setting good, and how a bad one is put into words.

A check raises ValueError with the words that follow "must be" in the sentence that the operator
reads. It never puts the value into those words, since the value may be a secret.
"""

import argparse
import ipaddress
import re
import shlex
from typing import Any, Literal, get_args, get_origin
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from pydantic import SecretStr
from pydantic.fields import FieldInfo

TLS_OPTIONS = frozenset({"ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"})
SENTINEL_OPTIONS = frozenset({"sentinel_username", "sentinel_password"})
REDIS_URL_OPTIONS = frozenset({"db", "username", "password"}) | TLS_OPTIONS | SENTINEL_OPTIONS
# Names the source that comes with the service and needs no network.
DEMO_SOURCE = "demo:"

SENTINEL_SCHEMES = ("redis+sentinel", "rediss+sentinel")
TLS_SCHEMES = ("rediss", "rediss+sentinel")
REDIS_SCHEMES = ("redis", "rediss", "unix", *SENTINEL_SCHEMES)
POSTGRES_SCHEMES = ("postgres", "postgresql", "postgresql+psycopg")

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?")
_QUEUE = re.compile(r"[A-Za-z0-9_.-]{1,100}")


# --- single values ------------------------------------------------------------------------------


def check_host(value: str) -> str:
    value = value.strip()
    if not _is_host(value):
        raise ValueError("a host name or an IP address, without scheme or port")
    return value.strip("[]")


def check_queue_name(value: str) -> str:
    if not _QUEUE.fullmatch(value):
        raise ValueError("1 to 100 letters, digits, dots, dashes or underscores")
    if value.endswith(("-high", "-low")):
        raise ValueError("a name without the endings -high and -low, which are for priorities")
    return value


def check_gunicorn_args(value: str) -> str:
    try:
        gunicorn_hosts(value)
    except ValueError:
        raise ValueError("options of gunicorn, quoted as in a shell") from None
    return value


def check_module(value: str) -> str:
    if not re.fullmatch(r"\w+(\.\w+)*(:\w+)?", value, re.ASCII):
        raise ValueError("the dotted name of a Python module, such as app_srvc.webapp")
    return value


def check_script(value: str) -> str:
    if not re.fullmatch(r"\w[\w-]*\.py", value, re.ASCII):
        raise ValueError("the name of a script, without folders, such as usrregworker.py")
    return value


def check_token(secret: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~]+", secret.get_secret_value()):
        raise ValueError("printable ASCII without spaces and line ends, since a header carries it")
    return secret


def check_source_url(value: str) -> str:
    if value == DEMO_SOURCE:
        return value
    url = _split(value)
    if url is None or url.scheme not in ("http", "https") or not _is_host(url.hostname or ""):
        raise ValueError(
            f"a URL that begins with http:// or https:// and has a host, or {DEMO_SOURCE}"
        )
    if url.username or url.password:
        raise ValueError("a URL without user and password (a token goes into SOURCE_TOKEN)")
    return value


def check_redis_url(secret: SecretStr) -> SecretStr:
    url = _split(secret.get_secret_value())
    if url is None or url.scheme not in REDIS_SCHEMES:
        raise ValueError("a URL that begins with " + _either(f"{s}://" for s in REDIS_SCHEMES))
    if url.scheme == "unix" and not url.path.startswith("/"):
        raise ValueError(
            "unix:// and the absolute path of a socket, such as unix:///run/redis.sock"
        )
    if url.scheme != "unix":
        _check_hosts(url, several=url.scheme in SENTINEL_SCHEMES)
        _check_redis_path(url)
    _check_redis_options(url.scheme, {name for name, _ in parse_qsl(url.query)})
    return secret


def _check_redis_options(scheme: str, given: set[str]) -> None:
    if given - REDIS_URL_OPTIONS:
        raise ValueError(
            f"a URL with no other options than {', '.join(sorted(REDIS_URL_OPTIONS))} (certificates "
            "are always verified; ssl_ca_certs names the file of your own authority)"
        )
    if given & TLS_OPTIONS and scheme not in TLS_SCHEMES:
        raise ValueError(
            f"a URL that begins with {_either(f'{s}://' for s in TLS_SCHEMES)} where it has options "
            "of TLS, such as ssl_ca_certs: with this beginning nothing would be encrypted"
        )
    if given & SENTINEL_OPTIONS and scheme not in SENTINEL_SCHEMES:
        raise ValueError("a URL of Sentinels where it has sentinel_username or sentinel_password")


def check_database_url(secret: SecretStr) -> SecretStr:
    value = secret.get_secret_value()
    url = _split(value)
    if url is not None and url.scheme == "sqlite":
        if not re.fullmatch(r"sqlite:///[^?]*[^?/]", value) or value.endswith(":memory:"):
            raise ValueError("sqlite:/// and the path of a file, which all processes can share")
        return secret
    if url is None or url.scheme not in POSTGRES_SCHEMES:
        raise ValueError("a URL that begins with postgresql:// or sqlite:///")
    if "host" not in dict(parse_qsl(url.query)):
        _check_hosts(url, several=True)
    if not url.path.strip("/"):
        raise ValueError("a URL that ends with the name of a database")
    return secret


def _check_redis_path(url: SplitResult) -> None:
    parts = [part for part in url.path.split("/") if part]
    sentinel = url.scheme in SENTINEL_SCHEMES
    if sentinel and not parts:
        raise ValueError("redis+sentinel://host:port,host:port/service/db, with the service named")
    database = parts[1:] if sentinel else parts
    if len(database) > 1 or not all(part.isdecimal() for part in database):
        raise ValueError("a URL whose database is a number, such as redis://host:6379/0")


def _check_hosts(url: SplitResult, *, several: bool) -> None:
    hosts = host_list(url)
    if not hosts or (len(hosts) > 1 and not several):
        raise ValueError("a URL with a host" if not hosts else "a URL with one host")
    for host, port in hosts:
        if not _is_host(host):
            raise ValueError("a URL with a host name or an IP address as host")
        if port is not None and not 1 <= port <= 65535:
            raise ValueError("a URL with a port from 1 to 65535")


def host_list(url: SplitResult) -> list[tuple[str, int | None]]:
    """Return (host, port) for each host of a URL; a port that is no number is 0."""
    hosts = []
    for one in filter(None, url.netloc.rpartition("@")[2].split(",")):
        match = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::(.*))?", one)
        host, port = match.groups() if match else ("", None)
        number = None if not port else int(port) if port.isdecimal() else 0
        hosts.append((unquote(host).strip("[]"), number))
    return hosts


def _split(value: str) -> SplitResult | None:
    try:
        return urlsplit(value)
    except ValueError:
        return None


def _is_host(value: str) -> bool:
    try:
        ipaddress.ip_address(value.strip("[]"))
    except ValueError:
        return len(value) <= 253 and _HOST.fullmatch(value) is not None
    return True


def is_loopback_host(host: str) -> bool:
    """Whether only this machine reaches the address. Names are not looked up: only localhost is."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def gunicorn_hosts(arguments: str) -> tuple[str, ...]:
    """Return the hosts after --bind in gunicorn's arguments; a Unix socket counts as localhost."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("-b", "--bind", action="append", default=[])
    try:
        known, _ = parser.parse_known_args(shlex.split(arguments))
    except argparse.ArgumentError as error:
        raise ValueError(str(error)) from error
    return tuple(_bound_host(address) for address in known.bind)


def _bound_host(address: str) -> str:
    if address.startswith("unix:"):
        return "localhost"
    if address.startswith("fd://"):
        return address  # a socket that was passed in: who reaches it cannot be known
    host = address.removeprefix("tcp://")
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0] or "0.0.0.0"  # noqa: S104 - what gunicorn does


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def sqlalchemy_url(value: str) -> str:
    """Return a database URL in the form that SQLAlchemy and psycopg take.

    Several hosts become `host` options: SQLAlchemy does not read them in libpq's place.
    """
    url = urlsplit(value)
    if url.scheme not in POSTGRES_SCHEMES:
        return value
    credentials, at, netloc = url.netloc.rpartition("@")
    query = url.query
    if "," in netloc:
        hosts = [("host", f"{bracketed(h)}:{p or 5432}") for h, p in host_list(url)]
        query = urlencode(parse_qsl(query) + hosts, quote_via=quote)
        netloc = ""
    return f"postgresql+psycopg://{credentials}{at}{netloc}{url.path}" + (query and f"?{query}")


# --- words --------------------------------------------------------------------------------------


def problem(name: str, field: FieldInfo, error: Any, value: str) -> str:
    """Say what a setting must be, what it is unless that is secret, and what to do."""
    cause = error.get("ctx", {}).get("error")
    expected = str(cause) if isinstance(cause, ValueError) else expectation(field)
    got = "a value that is not shown here" if is_secret(field) else repr(_shortened(value))
    default = "" if field.default in (None, "") else f" to use {plain(field.default)}"
    return f"{name.upper()} must be {expected}, got {got}. Set it, or remove it{default}."


def expectation(field: FieldInfo) -> str:
    """Say what a field takes: its words, or its range and type."""
    if get_origin(field.annotation) is Literal:
        return _either(get_args(field.annotation))
    if field.annotation is bool:
        return "true or false"
    limits = limits_of(field)
    if "min_length" in limits or "max_length" in limits:
        return f"{limits.get('min_length', 0)} to {limits['max_length']} characters"
    if "le" in limits:
        lowest = f"from {limits['ge']}" if "ge" in limits else f"above {limits['gt']}"
        return f"a number {lowest} {'to' if 'ge' in limits else 'and at most'} {limits['le']}"
    return "text"


def plain(value: Any) -> str:
    """Return a value as it is written into a variable: 10.0 is how a program writes ten seconds."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def limits_of(field: FieldInfo) -> dict[str, Any]:
    """Return ge, gt, le, min_length and max_length, as far as the field has them."""
    metadata = list(field.metadata)
    for inner in get_args(field.annotation):  # `Port | None` keeps its limits inside
        metadata += [m for one in getattr(inner, "__metadata__", ()) for m in _unfolded(one)]
    names = ("ge", "gt", "le", "min_length", "max_length")
    return {name: getattr(m, name) for m in metadata for name in names if hasattr(m, name)}


def _unfolded(metadata: Any) -> list[Any]:
    return list(metadata.metadata) if isinstance(metadata, FieldInfo) else [metadata]


def is_secret(field: FieldInfo) -> bool:
    return "SecretStr" in f"{field.annotation} {field.metadata}"


def _shortened(value: str) -> str:
    return value if len(value) <= 80 else value[:77] + "..."


def _either(words: Any) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}"
