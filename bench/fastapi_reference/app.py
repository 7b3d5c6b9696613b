"""The two measured services as many teams build them: FastAPI on uvicorn with the usual parts.

Prometheus by prometheus-fastapi-instrumentator, a request id by asgi-correlation-id, one JSON line per request by
structlog; the call by one pooled httpx client with stamina's retries and purgatory's breaker.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import stamina
import structlog
import uvicorn
from asgi_correlation_id import CorrelationIdMiddleware, correlation_id
from fastapi import FastAPI, HTTPException, Response
from prometheus_fastapi_instrumentator import Instrumentator
from purgatory import AsyncCircuitBreakerFactory
from pydantic import BaseModel, Field

structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.JSONRenderer(),
    ],
    logger_factory=structlog.PrintLoggerFactory(sys.stdout),
)
log = structlog.get_logger()
INSTANCE = f"127.0.0.1-{sys.argv[-1]}"


class AccessLog:
    """One line per request; plain ASGI, which costs less than FastAPI's own middleware class."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status, sent = time.perf_counter(), 500, 0

        async def watched(message: Any) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                sent += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            route, peer = scope.get("route"), scope.get("client") or ("", 0)
            message = f"{scope['method']} {scope['path']} {status}"
            log.info(
                message,
                logger="access",
                service="reference",
                version="1.0.0",
                instance=INSTANCE,
                trace_id=correlation_id.get(),
                method=scope["method"],
                route=getattr(route, "path", "unmatched"),
                path=scope["path"],
                status=status,
                duration_ms=round((time.perf_counter() - started) * 1000, 3),
                bytes=sent,
                peer=f"{peer[0]}:{peer[1]}",
            )


class User(BaseModel):
    """45 bytes of JSON."""

    id: str
    name: str
    email: str


class NewUser(BaseModel):
    """What has to be checked of a user."""

    name: str = Field(min_length=1, max_length=100)
    email: str = Field(pattern=r"^[^@\s]+@[^@\s]+$")
    age: int = Field(ge=0, le=150)


class OrderUser(BaseModel):
    """A user, in the words of orders."""

    id: str
    name: str


class Order(BaseModel):
    """An order with its user."""

    id: str
    quantity: int
    user: OrderUser | None = None


PICTURE = b"x" * (100 << 10)
USERS = {str(number): User(id=str(number), name=f"user {number}", email=f"u{number}@a.de") for number in range(1000)}
QUANTITIES = {str(number): number for number in range(1000)}
peer: dict[str, Any] = {}


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """One pooled client and one breaker for the life of the process."""
    # The default of 20 kept connections makes a new one for every third call under load.
    limits = httpx.Limits(max_connections=1024, max_keepalive_connections=1024, keepalive_expiry=30.0)
    async with httpx.AsyncClient(base_url=os.environ.get("USER_URL", ""), timeout=2.0, limits=limits) as client:
        peer["client"] = client
        peer["breaker"] = await AsyncCircuitBreakerFactory().get_breaker("user", threshold=5, ttl=30)
        yield


app = FastAPI(lifespan=lifespan)
app.add_middleware(AccessLog)
app.add_middleware(CorrelationIdMiddleware)
Instrumentator().instrument(app).expose(app)


@app.get("/users/{id}")
async def get_user(id: str) -> User:
    """One user."""
    if (user := USERS.get(id)) is None:
        raise HTTPException(404)
    return user


@app.get("/remote/{id}")
async def get_remote(id: str) -> User:
    """One user, waited for as for the answer of a database's driver."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[User | None] = loop.create_future()
    loop.call_soon(arrived.set_result, USERS.get(id))
    if (user := await arrived) is None:
        raise HTTPException(404)
    return user


@app.get("/picture")
async def get_picture() -> Response:
    """100 KiB."""
    return Response(PICTURE, media_type="application/octet-stream")


@app.post("/users", status_code=201)
async def post_user(user: NewUser) -> User:
    """A user whose every field was checked."""
    return User(id="1000", name=user.name, email=user.email)


@stamina.retry(on=httpx.TransportError, attempts=3)
async def find_user(id: str) -> OrderUser | None:
    """The user of that id, if there is one."""
    async with peer["breaker"]:
        answer = await peer["client"].get(f"/users/{id}", headers={"x-request-id": correlation_id.get() or ""})
    if answer.status_code == 404:
        return None
    answer.raise_for_status()
    return OrderUser.model_validate_json(answer.content)


@app.get("/orders/{id}")
async def get_order(id: str) -> Order:
    """One order with its user."""
    if (quantity := QUANTITIES.get(id)) is None:
        raise HTTPException(404)
    return Order(id=id, quantity=quantity, user=await find_user(id))


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_level="warning",
        timeout_keep_alive=75, backlog=4096,
    )  # fmt: skip
