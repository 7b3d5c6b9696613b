"""The commands for people, through Typer and Rich: dev, routes, stack, config, call, contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from .commands import COMMANDS
from .say import Usage

Service = Annotated[str, typer.Argument(metavar="SERVICE", help="one of mizzen.toml", show_default=False)]
Dir = Annotated[str | None, typer.Option("--dir", metavar="DIR", help="the folder of the system's mizzen.toml")]


def dev(
    folder: Annotated[
        str | None, typer.Argument(metavar="[DIR]", help="the folder of the system's mizzen.toml", show_default=False)
    ] = None,
) -> int:
    from mizzen.tools.dev import develop

    from .where import environment, open_system

    environ = environment()
    return develop(open_system(folder, environ), environ)


def routes(service: Service, folder: Dir = None) -> int:
    from .show import show_routes

    return show_routes(service, folder)


def stack(
    service: Service,
    peer: Annotated[str | None, typer.Argument(metavar="[PEER]", help="only how it calls that one", show_default=False)] = None,
    folder: Dir = None,
) -> int:
    from .show import show_stack

    return show_stack(service, peer, folder)


def config(service: Service, folder: Dir = None) -> int:
    from .show import show_config

    return show_config(service, folder)


def call(
    service: Service,
    method: Annotated[str, typer.Argument(metavar="METHOD", show_default=False)],
    path: Annotated[str, typer.Argument(metavar="PATH", help="with its query, if any", show_default=False)],
    data: Annotated[str | None, typer.Option("--data", metavar="JSON", help="the body")] = None,
    header: Annotated[list[str] | None, typer.Option("--header", metavar="K:V", help="may be given again")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="say what every attempt came to")] = False,
    timeout: Annotated[str | None, typer.Option("--timeout", metavar="2s", help="for all attempts together")] = None,
    url: Annotated[str | None, typer.Option("--url", metavar="URL", help="call there instead of asking discovery")] = None,
    folder: Dir = None,
) -> int:
    from .call import call as run_call

    return run_call(
        service, method, path, data=data, headers=header or [], explain=explain, timeout=timeout, url=url, folder=folder
    )


def openapi(
    service: Service,
    output: Annotated[str | None, typer.Option("--output", metavar="FILE", help="write it there instead of to stdout")] = None,
    folder: Dir = None,
) -> int:
    from .contract import print_openapi

    return print_openapi(service, folder, output)


_COMMANDS: dict[str, Callable[..., int]] = {"dev": dev, "routes": routes, "stack": stack, "config": config, "call": call}


def app() -> typer.Typer:
    """The Typer application of these commands, their help from the one list of commands."""
    made = typer.Typer(name="mizzen", add_completion=False, pretty_exceptions_enable=False, no_args_is_help=False)
    about = {command.name: command.about for command in COMMANDS}
    for name, function in _COMMANDS.items():
        made.command(name, help=about[name])(function)
    contract = typer.Typer()
    contract.command("openapi", help=about["contract"])(openapi)
    made.add_typer(contract, name="contract", help="what a service promises its callers")
    return made


def run_full(name: str, arguments: list[str]) -> int:
    """Parse and run one of these commands; returns its exit code."""
    try:
        code: Any = app()(args=[name, *arguments], prog_name="mizzen", standalone_mode=False)
    except Exception as error:
        # Typer's own errors moved between packages with its versions; they are told by what they can do
        if type(error).__name__ == "Abort":
            raise KeyboardInterrupt from None
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        text = str(message()).strip().rstrip(".")
        command = getattr(getattr(error, "ctx", None), "command_path", f"mizzen {name}")
        raise Usage(f"{command}: {text[:1].lower()}{text[1:]}", fix=f"{command} --help") from None
    return code if isinstance(code, int) else 0
