"""Handler, Layer and stacks of layers, whose order is data that is checked when a stack is built."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct

from .message import Request, Response

Handler = Callable[[Request], Awaitable[Response]]
"""A thing that answers."""

Layer = Callable[[Handler], Handler]
"""A thing that changes how it is answered."""


class Place(Struct, frozen=True):
    """A layer's place in a stack, and why it stands there."""

    name: str
    why: str


CLIENT_ORDER = (
    Place("edge", "sees the whole call, retries included: one end to its time, one record, one metric, one error"),
    Place("breaker", "above retry, so that five failures mean five failed calls and not two calls and their retries"),
    Place("retry", "above attempt, so that the next one may go to another instance"),
    Place("hedge", "one more attempt is still an attempt: it draws on the retry budget"),
    Place("attempt", "one try: picks an endpoint, limits its time and judges it, directly above its connections"),
)

SERVER_ORDER = (
    Place("edge", "counts and logs every answer, refusals included"),
    Place("shed", "refuses before any work is done"),
    Place("deadline", "work that nobody waits for any more is not begun"),
    Place("route", "finds the handler and its template"),
    Place("layers", "what a route or a domain adds"),
)


class Stack:
    """Layers by name, outermost first, around an innermost handler; compiled once, then only described."""

    __slots__ = ("handler", "layers")

    def __init__(self, order: Sequence[Place], layers: Sequence[tuple[str, Layer | None]], innermost: Handler) -> None:
        """Check ``layers`` against ``order`` and compile them; a layer that is off is None and costs nothing."""
        names = [place.name for place in order]
        known = [name for name, _ in layers]
        if unknown := [name for name in known if name not in names]:
            raise ValueError(f"no place in this stack for {', '.join(unknown)}; it has {', '.join(names)}")
        if known != [name for name in names if name in known]:
            raise ValueError(f"layers stand as {' > '.join(known)}; the order is {' > '.join(names)}")
        handler = innermost
        for _, layer in reversed(layers):
            if layer is not None:
                handler = layer(handler)
        self.handler = handler
        self.layers = tuple(name for name, layer in layers if layer is not None)

    def describe(self) -> list[str]:
        """The layers that are on, outermost first."""
        return list(self.layers)

    def __repr__(self) -> str:
        return f"<Stack {' > '.join(self.layers)}>"
