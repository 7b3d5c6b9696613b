"""A FastAPI app as people write them: every kind of answer that the framework gives."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import (
    APIRouter,
    BackgroundTasks,
    Depends,
    FastAPI,
    File,
    Form,
    Header,
    HTTPException,
    Request,
    Response,
    UploadFile,
    WebSocket,
    WebSocketDisconnect,
)
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse
from pydantic import BaseModel, Field
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from billing.admin import admin


class Line(BaseModel):
    item: str
    cents: int = Field(gt=0)


class Invoice(BaseModel):
    id: str
    lines: list[Line]


class Ledger:
    """Where invoices are kept."""

    def __init__(self) -> None:
        self.invoices = {"1": Invoice(id="1", lines=[Line(item="tea", cents=300)])}
        self.log: list[str] = []


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    app.state.opened = True
    yield {"ledger": Ledger()}
    app.state.opened = False


def get_ledger(request: Request) -> Ledger:
    ledger: Ledger = request.state.ledger
    return ledger


def get_currency(accept_currency: Annotated[str, Header()] = "EUR") -> Iterator[str]:
    yield accept_currency


Books = Annotated[Ledger, Depends(get_ledger)]


class Stamp:
    """A middleware in plain ASGI: it stamps every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-stamp", b"billing")]
            await send(message)

        await self.app(scope, receive, stamped)


class Measured(BaseHTTPMiddleware):
    """A middleware of the kind that runs the app in a task of its own."""

    async def dispatch(self, request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        began = time.monotonic()
        response = await call_next(request)
        response.headers["x-quick"] = str(time.monotonic() - began < 5)
        return response


app = FastAPI(title="billing", lifespan=lifespan)
app.add_middleware(Stamp)
app.add_middleware(Measured)
app.mount("/admin", admin)
invoices = APIRouter(prefix="/invoices", tags=["invoices"])


@invoices.get("/{id}")
async def get_invoice(id: str, ledger: Books, currency: Annotated[str, Depends(get_currency)]) -> dict[str, Any]:
    if id not in ledger.invoices:
        raise HTTPException(404, f"no invoice {id}", headers={"x-reason": "unknown"})
    return {"invoice": ledger.invoices[id], "currency": currency}


@invoices.post("", status_code=201)
async def post_invoice(invoice: Invoice, ledger: Books, background: BackgroundTasks) -> Invoice:
    ledger.invoices[invoice.id] = invoice
    background.add_task(ledger.log.append, f"sent {invoice.id}")
    return invoice


@invoices.delete("/{id}", status_code=204)
def delete_invoice(id: str, ledger: Books) -> None:
    ledger.invoices.pop(id, None)


app.include_router(invoices)


@app.get("/log")
def read_log(ledger: Books) -> list[str]:
    return ledger.log


@app.get("/items", response_model=list[Line])
async def list_items(limit: int = 2) -> list[Line]:
    return [Line(item=f"item {number}", cents=number + 1) for number in range(limit)]


@app.get("/export")
async def export(rows: int = 3) -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        for number in range(rows):
            yield f"{number};{'x' * 1000}\n"
            await asyncio.sleep(0)

    return StreamingResponse(lines(), media_type="text/csv", headers={"content-disposition": "attachment"})


@app.get("/events")
async def events(count: int = 3) -> StreamingResponse:
    async def stream() -> AsyncIterator[str]:
        for number in range(count):
            yield f"event: tick\ndata: {json.dumps({'n': number})}\n\n"
            await asyncio.sleep(0.01)

    return StreamingResponse(stream(), media_type="text/event-stream", headers={"cache-control": "no-store"})


@app.post("/upload")
async def upload(file: Annotated[UploadFile, File()], note: Annotated[str, Form()]) -> dict[str, Any]:
    content = await file.read()
    return {"name": file.filename, "type": file.content_type, "size": len(content), "sum": sum(content), "note": note}


@app.post("/sum")
async def add_up(request: Request) -> dict[str, int]:
    sizes = [len(piece) async for piece in request.stream()]
    return {"size": sum(sizes)}


@app.post("/mirror")
async def mirror(request: Request) -> StreamingResponse:
    async def pieces() -> AsyncIterator[bytes]:
        async for piece in request.stream():
            yield piece

    return StreamingResponse(pieces(), media_type="application/octet-stream")


@app.get("/cookies")
def cookies() -> Response:
    response = JSONResponse({"set": 2})
    response.set_cookie("a", "1")
    response.set_cookie("b", "2", httponly=True)
    return response


@app.head("/report")
@app.get("/report")
def report() -> PlainTextResponse:
    return PlainTextResponse("all is well", headers={"etag": '"7"'})


@app.get("/old")
def old() -> RedirectResponse:
    return RedirectResponse("/items", status_code=301)


@app.get("/not-modified")
def not_modified() -> Response:
    return Response(status_code=304, headers={"etag": '"7"'})


@app.get("/boom")
async def boom() -> None:
    raise RuntimeError("a secret that nobody should read")


@app.get("/after")
async def after(ledger: Books) -> JSONResponse:
    return JSONResponse({"later": True}, background=BackgroundTask(ledger.log.append, "after"))


@app.get("/scope")
async def scope(request: Request) -> dict[str, Any]:
    shown = {key: request.scope[key] for key in ("type", "http_version", "method", "path", "root_path", "scheme")}
    raw_path, query = request.scope["raw_path"], request.scope["query_string"]
    return {**shown, "raw_path": raw_path.decode(), "query": query.decode(), "client": request.scope["client"][0]}


@app.get("/any/{rest:path}")
async def anything(rest: str, request: Request) -> dict[str, Any]:
    return {"rest": rest, "raw": request.scope["raw_path"].decode(), "url": request.url.path}


@app.websocket("/talk/{name}")
async def talk(socket: WebSocket, name: str) -> None:
    if name == "nobody":
        await socket.close(4403)
        return
    offered = socket.scope["subprotocols"]
    await socket.accept(subprotocol=offered[0] if offered else None, headers=[(b"x-room", name.encode())])
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("bytes") is not None:
                await socket.send_bytes(message["bytes"][::-1])
            elif message["text"] == "bye":
                await socket.close(4000, "see you")
                return
            else:
                await socket.send_json({"name": name, "said": message["text"]})
    except WebSocketDisconnect:
        return


@app.websocket("/denied")
async def denied(socket: WebSocket) -> None:
    await socket.send_denial_response(JSONResponse({"why": "closed"}, status_code=451))
