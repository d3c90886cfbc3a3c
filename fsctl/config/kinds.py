"""The kinds of value a setting can have: how each is read, written and shown.

A kind takes what YAML gives (or, for text kinds, an environment variable) and returns the value checked, or raises
:class:`Unusable` with what is wrong; what would be right is the kind's ``accepts``. Pure: nothing here looks at the
disk or the network.
"""

from __future__ import annotations

import ipaddress
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from fsctl.log import redact

__all__ = [
    "SCOPES",
    "Address",
    "DialRoute",
    "Kind",
    "Route",
    "Token",
    "Unusable",
    "address",
    "base_url",
    "choice",
    "dial_route",
    "document",
    "flag",
    "list_of",
    "mapping_of",
    "multiple",
    "network",
    "optional_address",
    "optional_path",
    "path",
    "plain",
    "printable",
    "route",
    "scalar",
    "seconds",
    "shown",
    "stream_mode",
    "text",
    "token_text",
    "tokens",
    "url",
    "uuid_text",
    "whole",
]


class Unusable(ValueError):
    """A value cannot be a setting's; the text says why."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How a value is read: ``read`` returns it checked or raises ValueError; ``accepts`` is the end of "expected …".

    ``raw`` kinds take the text of an environment variable as it stands; the others read it as YAML.
    """

    accepts: str
    read: Callable[[Any], Any]
    raw: bool = False


class Address(NamedTuple):
    """Where to listen; as a tuple it is what sockets take."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Route:
    """Calls whose whole called number matches ``number`` run ``document`` (a file name or URL)."""

    number: re.Pattern[str]
    document: str

    def __repr__(self) -> str:
        return f"Route({self.number.pattern!r}, {redact(self.document)!r})"


@dataclass(frozen=True, slots=True)
class DialRoute:
    """Calls to a number that ``number`` matches as a whole go to ``endpoint``, at ``price`` per minute.

    In ``endpoint``, FreeSWITCH's dial string, ``{0}`` is the number and ``{1}`` … are the expression's groups.
    """

    number: re.Pattern[str]
    endpoint: str
    price: float = 0.0
    caller_id: str = ""

    def fill(self, match: re.Match[str]) -> str:
        """The dial string for a number that matched. Groups that matched nothing are empty."""
        parts = (match[0], *(group or "" for group in match.groups()))
        return _PLACE.sub(lambda place: parts[int(place[1])], self.endpoint)


SCOPES: Final = ("read", "control", "dial")


@dataclass(frozen=True, slots=True)
class Token:
    """Opens the REST API for one program: ``name`` is what logs call it, ``scopes`` what it may do.

    What the program sends is ``token``, or stands in ``token_file``; where both are empty it is systemd's credential
    ``api.tokens.NAME``. It is in no repr.
    """

    name: str
    scopes: tuple[str, ...]
    token: str = field(default="", repr=False)
    token_file: Path | None = None


# --- Text -------------------------------------------------------------------------------------------------------------


def _name(value: Any) -> str:
    """Say the value as the operator wrote it, or what it is where that would be long or unsafe."""
    if value is None:
        return "an empty value"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, str):
        return repr(redact(value))
    return "a list" if isinstance(value, list) else "a mapping" if isinstance(value, dict) else "this value"


def printable(value: Any) -> str:
    """Read one line of text."""
    if not isinstance(value, str):
        hint = "; put it in quotes" if isinstance(value, (int, float)) else ""
        raise Unusable(f"{_name(value)} is not text{hint}")
    if not value.isprintable():
        raise Unusable("has a line break or another character that cannot be printed")
    return value


def text(accepts: str = "text", pattern: str = r".*") -> Kind:
    """Accept one line of text that matches ``pattern`` as a whole."""

    def read(value: Any) -> str:
        if not re.fullmatch(pattern, line := printable(value)):
            raise Unusable(f"{_name(line)} does not fit")
        return line

    return Kind(accepts, read, raw=True)


def choice(*words: str) -> Kind:
    """Accept one of the words."""

    def read(value: Any) -> str:
        if value not in words:
            raise Unusable(f"{_name(value)} is not known")
        return str(value)

    return Kind("one of " + ", ".join(words), read, raw=True)


def stream_mode() -> Kind:
    """Accept how streams travel."""
    return choice("direct", "hub")


def uuid_text() -> Kind:
    """Accept a UUID, in its usual form."""

    def read(value: Any) -> str:
        try:
            return str(uuid.UUID(printable(value)))
        except ValueError:
            raise Unusable(f"{_name(value)} is no UUID") from None

    return Kind("a UUID", read, raw=True)


# --- Numbers ----------------------------------------------------------------------------------------------------------


def _check_range(value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise Unusable(f"{value} is too {'large' if value > high else 'small'}")


def whole(low: int, high: int, unit: str) -> Kind:
    """Accept a whole number of ``unit``."""

    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Unusable(f"{_name(value)} is not a whole number")
        _check_range(value, low, high)
        return value

    return Kind(f"a whole number of {unit} from {low} to {high}", read)


def multiple(step: int, low: int, high: int, unit: str) -> Kind:
    """Accept a whole number of ``unit`` that ``step`` divides."""
    number = whole(low, high, unit)

    def read(value: Any) -> int:
        if number.read(value) % step:
            raise Unusable(f"{value} is not a multiple of {step}")
        return int(value)

    return Kind(f"a number of {unit} from {low} to {high}, a multiple of {step}", read)


def seconds(low: float, high: float, unit: str = "seconds") -> Kind:
    """Accept a duration, or another quantity that need not be whole."""

    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise Unusable(f"{_name(value)} is not a number")
        _check_range(value, low, high)
        return float(value)

    return Kind(f"{unit} from {low:g} to {high:g}", read)


def flag() -> Kind:
    """Accept true or false."""

    def read(value: Any) -> bool:
        if not isinstance(value, bool):
            raise Unusable(f"{_name(value)} is neither true nor false")
        return value

    return Kind("true or false", read)


# --- Places -----------------------------------------------------------------------------------------------------------


def address() -> Kind:
    """Accept an :class:`Address`."""

    def read(value: Any) -> Address:
        host, colon, port = printable(value).rpartition(":")
        if not (colon and host) or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
            raise Unusable(f"{_name(value)} is no address with a port")
        if host.startswith("[") and host.endswith("]"):
            return Address(str(ipaddress.IPv6Address(host[1:-1])), int(port))
        if not re.fullmatch(r"[A-Za-z0-9._-]+", host):
            raise Unusable(f"{_name(value)} has no usable host; an IPv6 address goes in brackets")
        return Address(host, int(port))

    return Kind("host:port, such as 127.0.0.1:8084 or [::1]:8084", read, raw=True)


def optional_address() -> Kind:
    """Accept an :class:`Address`; None, written "", for none."""
    some = address()
    return Kind(f"{some.accepts}, or '' for none", lambda value: None if value == "" else some.read(value), raw=True)


def _check_url(line: str) -> str:
    try:
        parts = urlsplit(line)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a broken IPv6 address
        usable = False
    if not usable or " " in line:
        raise Unusable(f"{_name(line)} is no http or https URL")
    return line


def url() -> Kind:
    """Accept a web address, or "" for none."""

    def read(value: Any) -> str:
        return _check_url(line) if (line := printable(value)) else ""

    return Kind("an http or https URL, or '' for none", read, raw=True)


def base_url() -> Kind:
    """Accept a web address that paths are put behind; a slash at its end is dropped."""

    def read(value: Any) -> str:
        parts = urlsplit(line := _check_url(printable(value)))
        if parts.query or parts.fragment or "@" in parts.netloc:
            raise Unusable(f"{_name(line)} has a query, a fragment or a password")
        return line.rstrip("/")

    return Kind("an http or https URL without query and fragment", read, raw=True)


def _read_document(value: Any) -> str:
    line = printable(value)
    if "://" in line:
        return _check_url(line)
    if line.startswith("/") or ".." in line.split("/"):
        raise Unusable(f"{_name(line)} leaves documents.directory")
    return line


def document() -> Kind:
    """Accept where a document is: a file name or a URL."""
    accepts = "a file name below documents.directory, an http or https URL, or '' for none"
    return Kind(accepts, _read_document, raw=True)


def route(value: Any) -> Route:
    """Read one entry of ``documents.routes``."""
    if not isinstance(value, dict) or set(value) != {"number", "document"}:
        raise Unusable("a route has exactly the keys number and document")
    number = printable(value["number"])
    try:
        pattern = re.compile(number)
    except re.error as error:
        raise Unusable(f"the number {number!r} is no regular expression ({error})") from None
    if not (source := _read_document(value["document"])):
        raise Unusable(f"the route for {number!r} names no document")
    return Route(pattern, source)


_PLACE = re.compile(r"\{(\d)\}")
_DIAL_STRING = re.compile(r"[A-Za-z][A-Za-z0-9_.]*/[^\s,|\[\]<>'\"\\]+")


def dial_route(value: Any) -> DialRoute:
    """Read one entry of ``dial.routes``."""
    if not isinstance(value, dict) or not {"number", "endpoint"} <= set(value) <= set(_DIAL_ROUTE):
        raise Unusable("a route has the keys number and endpoint, and may have caller_id and price_per_minute")
    number = printable(value["number"])
    try:
        pattern = re.compile(number)
    except re.error as error:
        raise Unusable(f"the number {number!r} is no regular expression ({error})") from None
    endpoint = printable(value["endpoint"])
    if not _DIAL_STRING.fullmatch(endpoint) or ":_:" in endpoint:
        raise Unusable(f"{endpoint!r} is no single FreeSWITCH endpoint such as sofia/gateway/carrier/{{0}}")
    if any(int(place) > pattern.groups for place in _PLACE.findall(endpoint)):
        raise Unusable(f"{endpoint!r} uses a group that the number {number!r} does not have")
    price = value.get("price_per_minute", 0.0)
    if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < 1e6:
        raise Unusable("price_per_minute is no amount")
    caller_id = printable(value.get("caller_id", ""))
    if not re.fullmatch(r"\+?[0-9A-Za-z_.-]{0,64}", caller_id):
        raise Unusable(f"{caller_id!r} is no caller id")
    return DialRoute(pattern, endpoint, float(price), caller_id)


_DIAL_ROUTE = ("number", "endpoint", "caller_id", "price_per_minute")


def path() -> Kind:
    """Accept a file or directory."""

    def read(value: Any) -> Path:
        found = Path(printable(value))
        if not found.is_absolute():
            raise Unusable(f"{_name(value)} is not an absolute path")
        return found

    return Kind("an absolute path", read, raw=True)


def optional_path() -> Kind:
    """Accept a file or directory; None, written "", for none."""
    absolute = path()
    return Kind(
        "an absolute path, or '' for none", lambda value: None if value == "" else absolute.read(value), raw=True
    )


def network(value: Any) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Read one network, such as 10.1.0.0/16."""
    return ipaddress.ip_network(printable(value))


# --- Several ----------------------------------------------------------------------------------------------------------


def list_of(item: Callable[[Any], Any], accepts: str) -> Kind:
    """Accept a list of what ``item`` reads, as a tuple."""

    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise Unusable(f"{_name(value)} is not a list")
        return tuple(map(item, value))

    return Kind(accepts, read)


def mapping_of(item: Callable[[Any], Any], accepts: str) -> Kind:
    """Accept names, each with what ``item`` reads."""

    def read(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise Unusable(f"{_name(value)} is not a mapping")
        return {printable(name): item(entry) for name, entry in value.items()}

    return Kind(accepts, read)


def scalar(value: Any) -> str | int | float | bool:
    """Read text, a number or true or false."""
    if not isinstance(value, (str, int, float, bool)):
        raise Unusable("a value is neither text, a number nor true or false")
    return value


# --- Access -----------------------------------------------------------------------------------------------------------

# Nothing below quotes what it was given: any part of it may be a token in the wrong place.


def token_text(value: Any) -> str:
    """Read what a client of the REST API sends as its password."""
    if not isinstance(value, str) or not re.fullmatch(r"[!-~]{16,512}", value):
        hint = "; put it in quotes" if isinstance(value, (int, float)) else ""
        raise Unusable(f"a token has 16 to 512 ASCII characters and no spaces{hint}")
    return value


def _token(value: Any) -> Token:
    keys = {"name", "token", "token_file", "scopes"}
    if not isinstance(value, dict) or not {"name", "scopes"} <= set(value) <= keys:
        raise Unusable("a token has the keys name, scopes and one of token and token_file")
    name, scopes = value["name"], value["scopes"]
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise Unusable("the name of a token has up to 64 letters, digits, dots, dashes and underscores")
    if not isinstance(scopes, list) or not scopes or any(scope not in SCOPES for scope in scopes):
        raise Unusable(f"the scopes of {name!r} are not a list of {', '.join(SCOPES)}")
    if "token" in value and "token_file" in value:
        raise Unusable(f"{name!r} has both token and token_file; keep one")
    try:
        text = token_text(value["token"]) if "token" in value else ""
    except Unusable as error:
        raise Unusable(f"{name!r}: {error}") from None
    source = Path(file) if isinstance(file := value.get("token_file"), str) and file.isprintable() else None
    if "token_file" in value and not (source and source.is_absolute()):
        raise Unusable(f"the token_file of {name!r} is not an absolute path")
    return Token(name, tuple(scope for scope in SCOPES if scope in scopes), text, source)


def tokens() -> Kind:
    """Accept the tokens of the REST API."""

    def read(value: Any) -> tuple[Token, ...]:
        if not isinstance(value, list):
            raise Unusable("is not a list")
        found = tuple(map(_token, value))
        names = [token.name for token in found]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise Unusable(f"two tokens are named {twice!r}; rename one")
        return found

    return Kind(f"a list of {{name, token or token_file, scopes: [{', '.join(SCOPES)}]}}", read)


# --- Showing ----------------------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """Turn the value into what YAML and JSON know: an address, a path, a route or a token as written."""
    if value is None:
        return ""
    if isinstance(value, (Address, Path, ipaddress.IPv4Network, ipaddress.IPv6Network)):
        return str(value)
    if isinstance(value, Route):
        return {"number": value.number.pattern, "document": value.document}
    if isinstance(value, DialRoute):
        optional = {"caller_id": value.caller_id} if value.caller_id else {}
        optional |= {"price_per_minute": value.price} if value.price else {}  # type: ignore[dict-item]
        return {"number": value.number.pattern, "endpoint": value.endpoint, **optional}
    if isinstance(value, Token):
        source = {"token": value.token} if value.token else {}
        source |= {"token_file": str(value.token_file)} if value.token_file else {}
        return {"name": value.name, **source, "scopes": list(value.scopes)}
    if isinstance(value, tuple):
        return [plain(entry) for entry in value]
    return dict(value) if isinstance(value, Mapping) else value


def shown(value: Any, *, secret: bool = False) -> Any:
    """Like :func:`plain`, fit to be seen: ``(set)`` for secrets, no passwords in URLs."""
    if isinstance(value, tuple) and any(isinstance(entry, Token) for entry in value):
        return [plain(entry) | ({"token": "(set)"} if entry.token else {}) for entry in value]
    if not secret:
        return redact(plain(value))
    return dict.fromkeys(value, "(set)") if isinstance(value, Mapping) else "(set)" if value else ""
