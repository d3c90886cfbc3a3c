"""How a receiver knows that a request came from us: HMAC signatures with the project's signing key.

Pure. Which requests are signed is decided where they are made. The URL must be the one the receiver sees
(:meth:`fsctl.web.Client.wire_url`), or nobody can check anything. Implements "webhooks: Signatures".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["body_sha256", "sign", "sign_form", "sign_form_body"]

SHA1_HEADER = "X-SignalWire-Signature"
SHA256_HEADER = "X-SignalWire-SHA256-Signature"
SCHEME_A = ((SHA1_HEADER, "sha1"), (SHA256_HEADER, "sha256"))


def sign(key: str, url: str, body: bytes) -> dict[str, str]:
    """Give the headers for a JSON request (scheme A): SHA-1 and SHA-256 in hex over URL and body.

    ``url`` has its query, but no credentials and no fragment; ``body`` is empty for GET.
    """
    message = url.encode() + body
    headers = {}
    for name, keyed in _keyed(key):
        code = keyed.copy()
        code.update(message)
        headers[name] = code.hexdigest()
    return headers


@lru_cache(maxsize=8)
def _keyed(key: str) -> tuple[tuple[str, hmac.HMAC], ...]:
    """Take the key in once; a copy of that costs half of what starting from the key does."""
    return tuple((name, hmac.new(key.encode(), digestmod=kind)) for name, kind in SCHEME_A)


def sign_form(key: str, url: str, fields: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
    """Give the header for a compatibility request (scheme B): SHA-1 in base64 over URL and form fields.

    ``fields`` are the posted pairs as they stand in the form; a repeated name keeps its order. There are none for GET,
    nor for a JSON body, whose hash is in the URL instead (:func:`body_sha256`).
    """
    message = url + "".join(name + value for name, value in sorted(fields, key=lambda field: field[0]))
    digest = hmac.digest(key.encode(), message.encode(), "sha1")
    return {SHA1_HEADER: base64.b64encode(digest).decode()}


def sign_form_body(key: str, url: str, body: bytes) -> dict[str, str]:
    """Give the same for a form in the encoding it is posted in; ``body`` is empty for GET."""
    return sign_form(key, url, parse_qsl(body.decode(), keep_blank_values=True))


def body_sha256(url: str, body: bytes) -> str:
    """Give the URL to ask when a JSON body goes to an endpoint of scheme B: with ``bodySHA256`` in its query."""
    return f"{url}{'&' if '?' in url else '?'}bodySHA256={hashlib.sha256(body).hexdigest()}"
