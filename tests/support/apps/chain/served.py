"""One service for every server: a route for each thing that a server and a service have to agree on."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec

import mizzen
from mizzen import Conflict, Header, NotFound, Request, Response, Router, ServerSentEvent, Service, current

FOREVER = 3600.0
LARGE = 64 << 20
PIECE = b"0123456789abcdef" * 4096
"""64 KiB."""


class Item(msgspec.Struct):
    name: str
    count: Annotated[int, msgspec.Meta(ge=1)] = 1


class Seen(msgspec.Struct):
    id: int
    limit: int
    tags: list[str]
    tenant: str


class Taken(msgspec.Struct):
    size: int
    sha256: str


class Diary:
    """What happened to handlers; asked for with ``GET /diary``."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.go_on = asyncio.Event()


async def get_item(
    id: int,
    limit: int = 10,
    tags: list[str] = [],  # noqa: B006  # nobody changes it
    tenant: Annotated[str, Header("x-tenant")] = "none",
) -> Seen:
    if id == 404:
        raise NotFound("no item 404")
    return Seen(id, limit, tags, tenant)


async def post_item(item: Item) -> Item:
    if item.name == "taken":
        raise Conflict("that name is taken", headers={"retry-after": "7"})
    return item


async def delete_item(id: int) -> None: ...


async def get_file(rest: str) -> str:
    return rest


def in_thread(name: str) -> str:
    return f"{name} in a thread"


async def get_large(size: int) -> bytes:
    return bytes(size)


async def stream(count: int) -> AsyncIterator[bytes]:
    for number in range(count):
        await asyncio.sleep(0)
        yield f"piece {number}\n".encode()


async def rows(count: int) -> AsyncIterator[Item]:
    for number in range(1, count + 1):
        yield Item("row", number)


async def events(count: int) -> AsyncIterator[ServerSentEvent]:
    for number in range(count):
        yield ServerSentEvent(data={"number": number}, event="counted", id=str(number))


async def sized() -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"abc"
        yield b"def"

    return Response(200, pieces(), headers={"content-length": "6"}, content_type="text/plain")


async def broken() -> AsyncIterator[bytes]:
    yield b"the beginning"
    await asyncio.sleep(0.01)
    raise RuntimeError("the secret of the stream")


async def endless(diary: Diary) -> AsyncIterator[bytes]:
    try:
        while True:
            await asyncio.sleep(0)
            yield PIECE
    finally:
        diary.counts["endless ended"] += 1


async def silent(diary: Diary) -> AsyncIterator[bytes]:
    try:
        yield b"hello\n"
        await asyncio.sleep(FOREVER)
    finally:
        diary.counts["silent ended"] += 1


async def hang(diary: Diary) -> None:
    diary.counts["hang began"] += 1
    try:
        await asyncio.sleep(FOREVER)
    except asyncio.CancelledError:
        diary.counts["hang cancelled"] += 1
        raise


async def upload(body: AsyncIterator[bytes], diary: Diary) -> Taken:
    size, digest = 0, hashlib.sha256()
    diary.counts["upload began"] += 1
    try:
        async for piece in body:
            size += len(piece)
            digest.update(piece)
    except (asyncio.CancelledError, mizzen.BadRequest):
        diary.counts["upload ended"] += 1
        raise
    return Taken(size, digest.hexdigest())


async def upload_slowly(body: AsyncIterator[bytes], diary: Diary) -> Taken:
    first = await anext(body)
    await diary.go_on.wait()
    diary.go_on.clear()
    rest = 0
    async for piece in body:
        rest += len(piece)
    return Taken(len(first) + rest, "")


async def go_on(diary: Diary) -> None:
    diary.go_on.set()


async def echo(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for piece in body:
        yield piece.upper()


async def post_large(request: Request) -> Taken:
    data = await request.read()
    return Taken(len(data), hashlib.sha256(data).hexdigest())


async def post_small(request: Request) -> int:
    return len(await request.read())


async def crash() -> None:
    raise RuntimeError("the secret of the handler")


async def trace() -> dict[str, Any]:
    context = current()
    left = context.remaining() if context else None
    return {"trace_id": context.trace_id if context else "", "hurried": left is not None and left < 1}


async def fields() -> Response:
    response = Response(200, b"ok", content_type="text/plain")
    response.headers.add("set-cookie", "a=1")
    response.headers.add("set-cookie", "b=2; path=/")
    for name, value in (("connection", "close"), ("keep-alive", "timeout=1"), ("x-rejected", "shed"), ("x-own", "yes")):
        response.headers.add(name, value)
    return response


async def status(code: int) -> Response:
    return Response(code, b"" if code in (204, 304) else b"x", content_type="text/plain")


async def request_fields(rest: str, request: Request) -> dict[str, Any]:
    return {
        "method": request.method,
        "path": request.path,
        "rest": rest,
        "query": request.query,
        "own": request.headers.all("x-own"),
        "peer": bool(request.peer),
    }


async def read_diary(diary: Diary) -> dict[str, int]:
    return dict(diary.counts)


def register_handlers(router: Router) -> None:
    router.get("/items/{id}", get_item, raises=[NotFound])
    router.post("/items", post_item, status=201, raises=[Conflict])
    router.delete("/items/{id}", delete_item)
    router.get("/files/{rest:path}", get_file)
    router.get("/thread/{name}", in_thread)
    router.get("/large/{size}", get_large)
    router.get("/stream/{count}", stream)
    router.get("/rows/{count}", rows)
    router.get("/events/{count}", events)
    router.get("/sized", sized)
    router.get("/broken", broken)
    router.get("/endless", endless)
    router.get("/silent", silent)
    router.get("/hang", hang, timeout="1h")
    router.post("/upload", upload, max_body=LARGE)
    router.post("/upload/slowly", upload_slowly, max_body=LARGE)
    router.post("/go-on", go_on)
    router.post("/echo", echo)
    router.post("/large", post_large, max_body=LARGE)
    router.post("/small", post_small, max_body=10)
    router.get("/crash", crash)
    router.get("/trace", trace)
    router.get("/fields", fields)
    router.get("/status/{code}", status)
    router.get("/request/{rest:path}", request_fields)
    router.get("/diary", read_diary)


def build() -> Service:
    service = Service("served")
    service.provide(Diary())
    service.mount(register_handlers)
    return service
