"""Fit: whether an object is an ASGI 3 app, makes one, or is something else that can be named."""

from __future__ import annotations

import inspect
from typing import Any

APP, FACTORY = "app", "factory"

_OTHERS = {
    1: "it takes one argument, as apps of ASGI 2 do; asgiref.compatibility.guarantee_single_callable makes one of it",
    2: "it takes two arguments, as WSGI apps do; asgiref.wsgi.WsgiToAsgi or a2wsgi.WSGIMiddleware makes one of it",
}


def fit(candidate: Any) -> tuple[str, str]:
    """What ``candidate`` is: ``app``, which takes scope, receive and send; ``factory``, which is called without an
    argument to get one; or nothing, and then why not."""
    if not callable(candidate):
        return "", f"it is {_article(type(candidate).__name__)}, which cannot be called"
    try:
        signature = inspect.signature(candidate)
    except (TypeError, ValueError):  # written in C, and says nothing of itself
        return APP, ""
    if _takes(signature, 3):
        return APP, ""
    if _takes(signature, 0):
        return FACTORY, ""
    for count, why in _OTHERS.items():
        if _takes(signature, count):
            return "", why
    return "", f"it is called as {signature}, and not with scope, receive and send"


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def _article(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"
