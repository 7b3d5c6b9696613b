"""The commands as data: their names, what they are for in one line, and which of them production needs."""

from __future__ import annotations

from msgspec import Struct


class Command(Struct, frozen=True):
    """One command of ``mizzen``."""

    name: str
    arguments: str
    about: str
    lean: bool = False
    """Whether it works without the ``cli`` extra, because a production image has it."""


COMMANDS = (
    Command("dev", "[DIR]", "every service of a system and a registry, restarted on change"),
    Command("run", "SERVICE", "one service, as in production", lean=True),
    Command("routes", "SERVICE", "what it serves: method, path, handler and where that stands"),
    Command("stack", "SERVICE [PEER]", "how it answers and how it calls, layer by layer, with the reasons"),
    Command("config", "SERVICE", "every setting with its value and where that came from"),
    Command("call", "SERVICE METHOD PATH", "one call through the whole client, explained with --explain"),
    Command("contract", "openapi SERVICE", "its OpenAPI 3.1 document, from routes, signatures and raises="),
    Command("health", "[URL]", "ask a service for its health: exit 0 when it is well, 1 when not", lean=True),
    Command("registry", "", "the embedded registry on its own, for development", lean=True),
    Command("version", "[SERVICE]", "the version of a service, and of Mizzen", lean=True),
)


def overview() -> str:
    """What ``mizzen --help`` says."""
    width = max(len(f"{command.name} {command.arguments}") for command in COMMANDS) + 2
    lines = [f"  {f'{command.name} {command.arguments}':<{width}}{command.about}".rstrip() for command in COMMANDS]
    return "\n".join(
        [
            "usage: mizzen COMMAND [ARGUMENTS]",
            "",
            *lines,
            "",
            "mizzen COMMAND --help says more. The system is the mizzen.toml in --dir DIR, else in the",
            "working directory or the nearest one above it.",
        ]
    )
