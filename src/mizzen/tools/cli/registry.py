"""``mizzen registry``: the embedded registry on its own."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import signal
from pathlib import Path

from mizzen.rules.config import RegistryConfig
from mizzen.words.errors import ConfigError

from .loop import run
from .say import say
from .where import environment, read_if_any


def registry(*, host: str | None, port: int | None, token_file: str | None, folder: str | None) -> int:
    """Serve the registry until SIGINT or SIGTERM; arguments override mizzen.toml, which need not exist."""
    system = read_if_any(folder, environment())
    config = system.registry if system is not None else RegistryConfig()
    token = _token(token_file)
    chosen = config.port if port is None else port
    run(lambda: _serve(host or config.host, chosen, token, token_file))
    return 0


async def _serve(host: str, port: int, token: str | None, token_file: str | None) -> None:
    from mizzen.assembly.registry import serve_registry

    def ready(bound: int) -> None:
        address = RegistryConfig(host=host, port=bound).address
        say(f"registry on http://{address}: keeps nothing, for development")
        shown = f' and discovery.token_file = "{token_file}"' if token_file else ""
        say(f'  services find it by discovery.url = "consul://{address}"{shown}')
        header = f'-H "X-Consul-Token: $(cat {shlex.quote(token_file)})" ' if token_file else ""
        say(f"  curl {header}http://{address}/v1/catalog/services")

    serving = asyncio.ensure_future(serve_registry(host, port, token=token, ready=ready))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, serving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serving


def _token(file: str | None) -> str | None:
    if file is None:
        return None
    try:
        token = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the token file {file} cannot be read: {error}", fix="--token-file FILE that exists") from None
    if not token:
        raise ConfigError(f"the token file {file} is empty", fix="put the token into it, or leave --token-file out")
    return token
