"""Keeping secrets out of texts: passwords in URLs, and what is given under a name like ``password``.

It errs on the side of hiding: rather a harmless word replaced than a password shown.
"""

from __future__ import annotations

import re

__all__ = ["HIDDEN", "is_secret_name", "mask"]

HIDDEN = "•••"

WORDS = (
    "password",
    "passwd",
    "pwd",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "access_key",
)
"""What stands under a name that ends with one of these is a secret."""

# A password may hold anything but blanks, an @ or a / too. What follows the colon of a host is no password but a
# port, if nothing but digits comes before the path.
_USER_AND_PASSWORD = re.compile(
    r"://([^\s/?#@:\[\]]{0,256}):(?!\d{1,5}(?:[/?#\s\"'<>,;)\]}]|$))(?:(?!://)\S){0,1024}@"
)
_LONG_USER = re.compile(r"://[^\s/?#@:\"'\[\]]{20,1024}@")
"""A token in place of a user's name."""

_NAMES = "|".join(WORDS)
_QUOTED = r"\"(?:[^\"\\]|\\.)*\"?|'(?:[^'\\]|\\.)*'?"
_ASSIGNED = re.compile(rf"((?:{_NAMES})=)(?:b?(?:{_QUOTED})|[^\s&\"']+)", re.IGNORECASE)
_KEYED = re.compile(
    rf"((?:{_NAMES})[\"']\s*[:,]\s*)(?:b?(?:{_QUOTED})|[^\s,}}\])]+)", re.IGNORECASE
)
_AUTHORIZATION = re.compile(
    r"(authorization[\"']?\s*[:=,]\s*b?[\"']?)(?:[a-z]+\s+)?[^\s\"',;]+", re.IGNORECASE
)


def mask(text: str) -> str:
    """The text without its secrets."""
    if "@" in text and "://" in text:
        text = _USER_AND_PASSWORD.sub(rf"://\1:{HIDDEN}@", text)
        text = _LONG_USER.sub(f"://{HIDDEN}@", text)
    lower = text.lower()
    if any(word in lower for word in WORDS):
        text = _ASSIGNED.sub(rf"\1{HIDDEN}", text)
        text = _KEYED.sub(rf"\1{HIDDEN}", text)
    if "authorization" in lower:
        text = _AUTHORIZATION.sub(rf"\1{HIDDEN}", text)
    return text


def is_secret_name(name: str) -> bool:
    """Whether the value under this name is a secret."""
    return name.lower().endswith((*WORDS, "authorization"))
