"""``mizzen call``: one call through the whole client, as a service would make it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from mizzen.rules.config import System, parse
from mizzen.words.clock import format_duration, parse_duration
from mizzen.words.errors import CallError
from mizzen.words.message import Headers

from .loop import run
from .say import Usage, say
from .where import FILE, environment, open_system, read_if_any


def call(
    service: str,
    method: str,
    path: str,
    *,
    data: str | None,
    headers: list[str],
    explain: bool,
    timeout: str | None,
    url: str | None,
    folder: str | None,
) -> int:
    """Make the call and print its body; with ``explain`` also how it went. 0 below status 400, else 1."""
    fields = _headers(headers)
    body = _body(data, fields)
    seconds = _seconds(timeout)
    if not path.startswith("/"):
        raise Usage(f"mizzen call: {path!r} is no path", fix=f"mizzen call {service} {method} /{path}")
    environ = environment()
    system = _system(folder, url, environ)

    from mizzen.assembly.call import call_once

    try:
        answer: Any = run(
            lambda: call_once(
                system,
                service,
                method.upper(),
                path,
                environ=environ,
                headers=fields,
                body=body,
                timeout=seconds,
                explain=explain,
                url=url,
            )
        )
    except CallError as error:
        if explain:
            print("\n".join(getattr(error, "__notes__", [])), flush=True)
        say(f"error: {service} {method.upper()} {path}: {error.detail}")
        return 1
    first = f"{answer.status} in {format_duration(answer.seconds)} of {format_duration(answer.timeout)}"
    if explain:
        print("\n".join([first, *answer.notes]))
        if answer.body:
            print()
    else:
        say(first)
    _print_body(answer.body)
    return 0 if answer.status < 400 else 1


def _system(folder: str | None, url: str | None, environ: dict[str, str]) -> System:
    """The system that resolves the name; with a URL there is nothing to resolve, so there need not be one."""
    if url is not None and read_if_any(folder, environ) is None:
        return parse("", Path.cwd() / FILE, {})
    return open_system(folder, environ)


def _headers(given: list[str]) -> dict[str, str]:
    fields = {}
    for item in given:
        name, mark, value = item.partition(":")
        if not mark:
            raise Usage(f"mizzen call: {item!r} is no header", fix='--header "name: value"')
        try:
            Headers([(name.strip(), value.strip())])
        except ValueError as error:
            raise Usage(f"mizzen call: {error}", fix='--header "name: value"') from None
        fields[name.strip()] = value.strip()
    return fields


def _body(data: str | None, fields: dict[str, str]) -> bytes | None:
    if data is None:
        return None
    if not any(name.lower() == "content-type" for name in fields):
        try:
            json.loads(data)
        except ValueError as error:
            raise Usage(
                f"mizzen call: --data is not JSON: {error}",
                fix='--data \'{"name": "value"}\', or say what it is: --header content-type:text/plain',
            ) from None
        fields["content-type"] = "application/json"
    return data.encode()


def _seconds(timeout: str | None) -> float | None:
    if timeout is None:
        return None
    try:
        return parse_duration(timeout)
    except ValueError as error:
        raise Usage(f"mizzen call: --timeout: {error}", fix="--timeout 2s") from None


def _print_body(body: bytes) -> None:
    """The body as it came; indented when it is JSON and a person looks."""
    if not body:
        return
    if sys.stdout.isatty():
        try:
            print(json.dumps(json.loads(body), indent=2, ensure_ascii=False))
        except ValueError:
            print(body.decode(errors="replace"))
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(body if body.endswith(b"\n") else body + b"\n")
    sys.stdout.flush()
