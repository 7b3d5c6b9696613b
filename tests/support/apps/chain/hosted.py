"""The services that tests run under other servers, as their commands name them."""

from __future__ import annotations

import mizzen

from .steps import Settings
from .steps import build as build_steps

served = mizzen.asgi("served")
steps = mizzen.asgi("steps")


def quiet() -> object:
    """A service object that leaves logging alone; a factory, since servers have an option for that."""
    return mizzen.asgi(build_steps(Settings(diary="/dev/null")), logs=False)
