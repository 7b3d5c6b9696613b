"""What to do when a function needs a thing that nobody provides."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Collection

from .parameter import Bound


def how_to_provide(needed: type, route: Bound, provided: Collection[type]) -> str:
    """The call that is missing and where it belongs; or which of the provided things may have been meant."""
    for other in provided:
        if other.__name__ == needed.__name__:
            return (
                f"{other.__module__}.{other.__qualname__} is provided, {needed.__module__}.{needed.__qualname__} is needed: "
                "import both from the same place"
            )
    for other in provided:
        if needed in other.__mro__:
            return (
                f"things are found by the type they are provided as: service.provide({needed.__name__}, ...), "
                f"or annotate the parameter with {other.__name__}"
            )
    return f"service.provide({_made(needed)}){_place(route)}"


def _made(needed: type) -> str:
    """How one is likely made: of a client when its constructor takes one, by a factory when it cannot be called."""
    name = needed.__name__
    if getattr(needed, "_is_protocol", False) or inspect.isabstract(needed):
        return f"{name}, open_{name.lower()}"
    try:
        parameters = list(inspect.signature(needed).parameters.values())
    except (TypeError, ValueError):
        return f"{name}(...)"
    if len(parameters) == 1:
        annotation = parameters[0].annotation
        if (annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")) == "Client":
            # the usual name for a peer's things is the peer's in the plural
            return f'{name}(service.client("{name.removesuffix("Client").removesuffix("s").lower()}"))'
    return f"{name}()" if not parameters else f"{name}(...)"


def _place(route: Bound) -> str:
    """The service module beside the function's file, when there is one in this program."""
    file = route.where.rpartition(":")[0]
    folder, _, base = file.replace("\\", "/").rpartition("/")
    module = getattr(route.function, "__module__", None) or ""
    package = module if base == "__init__.py" else module.rpartition(".")[0]
    if package and f"{package}.service" in sys.modules:
        return f" in {folder}/service.py" if folder else " in service.py"
    return " where the service is built"
