"""``mizzen contract``: what a service promises its callers, as a document."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mizzen.words.errors import StartError

from .say import say
from .where import environment, open_system


def print_openapi(service: str, folder: str | None, output: str | None) -> int:
    """Print the OpenAPI document of a service, or write it to ``output``; the same contract gives the same bytes."""
    from mizzen.assembly.load import load_service
    from mizzen.tools.contract import openapi, unspoken
    from mizzen.tools.ship.version import release_of

    file = None if output is None else Path(output).absolute()  # entering the system changes the working directory
    system = open_system(folder, environment())
    system.service(service)
    loaded = load_service(system, service)
    document = openapi(loaded, version=release_of(system.folder))
    data = json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"
    if file is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
    else:
        _write(file, data)
    for what in unspoken(loaded):
        say(f"left out: {what}")
    return 0


def _write(file: Path, data: bytes) -> None:
    try:
        file.write_bytes(data)
    except OSError as error:
        raise StartError(f"{file} cannot be written: {error.strerror}", fix="--output FILE in a folder that is there") from None
