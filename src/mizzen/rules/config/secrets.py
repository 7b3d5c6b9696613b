"""What must not be printed: settings whose name says so, and passwords inside URLs."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mizzen.words.lazy import pattern

MASK = "***"
_SECRET = {"password", "passwords", "passwd", "passphrase", "pwd", "secret", "secrets", "token", "tokens", "key", "keys",
           "apikey", "credential", "credentials"}  # fmt: skip
_PLACE = {"file", "path"}
"""``token_file`` says where a secret is, which is no secret."""
_WORDS = pattern(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+")
# user:password@ of a URL's authority; the user name may be empty, and the password may hold an unescaped @
_PASSWORD = pattern(r"(?<=://)([^/?#\s:@]*):([^/?#\s]+)@")
_IN_QUERY = pattern(r"(?<=[?&])((?:[A-Za-z0-9_.-]*[_.-])?(?:password|passwd|secret|token|key)=)[^&#\s]+", re.IGNORECASE)


def is_secret(path: Sequence[str | int]) -> bool:
    """Whether a setting of that path is one by its name, or stands in a table that is; a service may be called ``token``."""
    words = list(path)
    if words[-2:] == ["tls", "key"] and words[:1] == ["services"] and "settings" not in words[2:3]:
        return False  # it names a file
    if words[:1] == ["services"]:
        if words[2:3] == ["clients"]:
            del words[3:4]
        del words[1:2]
    return any(_says_secret(word) for word in words if isinstance(word, str))


def hide_password(text: str) -> str:
    """The same text with the passwords of its URLs masked, in their authority and in their query."""
    return _IN_QUERY.sub(rf"\1{MASK}", _PASSWORD.sub(rf"\1:{MASK}@", text))


def _says_secret(name: str) -> bool:
    words = [word.lower() for word in _WORDS.findall(name)]
    return bool(words) and words[-1] not in _PLACE and not _SECRET.isdisjoint(words)
