"""The document against the server: whatever an operation answers, its document says."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import jsonschema_rs
import msgspec
import pydantic
import pytest

from mizzen import Client, Conflict, Header, NotFound, Response, Service, Unavailable, testing
from mizzen.testing import run
from mizzen.tools.contract import openapi


class Item(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(min_length=1)]
    count: Annotated[int, msgspec.Meta(ge=0)] = 0


class Model(pydantic.BaseModel):
    number: int = pydantic.Field(alias="no", ge=0)


class Stock:
    """What this service calls another one through."""

    def __init__(self, client: Client) -> None:
        self.client = client


async def item(item: Item) -> Item:
    return item


async def model(model: Model) -> list[Model]:
    return [model]


async def text(name: str) -> str:
    return name


async def literal() -> Literal["a"]:
    return "a"


async def data(body: bytes) -> bytes:
    return body


async def lines() -> AsyncIterator[Item]:
    yield Item("tea")
    yield Item("rope")


async def maybe(there: bool = True) -> Item | None:
    return Item("tea") if there else None


async def made(item: Item) -> Annotated[Response, Item, Header("location")]:
    answer = Response.json_of(item, 201)
    answer.headers.set("location", "/items/1")
    return answer


async def number(id: int, limit: Annotated[int, msgspec.Meta(le=10)] = 5, tag: list[str] = []) -> dict[str, int]:  # noqa: B006
    return {"id": id, "limit": limit}


async def price(price: float) -> float:
    return price


async def header(who: Annotated[int, Header("x-who")]) -> int:
    return who


async def absent(kind: str) -> None:
    raise {"absent": NotFound, "conflict": Conflict, "away": Unavailable}.get(kind, ValueError)("no")


async def call(stock: Stock, path: str = "/") -> Response:
    return await stock.client.get(path)


async def slow() -> None:
    import asyncio

    await asyncio.sleep(60)


def shop() -> Service:
    service = Service("shop")
    router = service.router
    service.provide(Stock(service.client("stock")))
    router.post("/item", item, max_body=100)
    router.post("/model", model)
    router.get("/text/{name}", text)
    router.get("/literal", literal)
    router.put("/data", data)
    router.get("/lines", lines)
    router.get("/maybe", maybe)
    router.post("/made", made, status=201)
    router.get("/number/{id}", number)
    router.get("/price", price)
    router.get("/header", header)
    router.get("/absent/{kind}", absent, raises=[NotFound, Conflict])
    router.get("/call", call)
    router.get("/slow", slow, timeout="1s")
    return service


JSON = {"content-type": "application/json"}
CASES: dict[str, tuple[str, str, str, int, dict[str, Any]]] = {
    "json": ("POST", "/item", "/item", 200, {"json": {"name": "tea"}}),
    "pydantic": ("POST", "/model", "/model", 200, {"json": {"no": 3}}),
    "text": ("GET", "/text/{name}", "/text/caf%C3%A9", 200, {}),
    "literal": ("GET", "/literal", "/literal", 200, {}),
    "bytes": ("PUT", "/data", "/data", 200, {"body": b"\x00\xff"}),
    "no bytes": ("PUT", "/data", "/data", 200, {}),
    "lines": ("GET", "/lines", "/lines", 200, {}),
    "there": ("GET", "/maybe", "/maybe", 200, {}),
    "not there": ("GET", "/maybe", "/maybe?there=false", 204, {}),
    "made": ("POST", "/made", "/made", 201, {"json": {"name": "tea"}}),
    "number": ("GET", "/number/{id}", "/number/7?tag=a&tag=b", 200, {}),
    "header": ("GET", "/header", "/header", 200, {"headers": {"x-who": "7"}}),
    "a body that is no JSON": ("POST", "/item", "/item", 400, {"body": b"{", "headers": JSON}),
    "a body that is no text": ("POST", "/item", "/item", 400, {"body": b'"\xff"', "headers": JSON}),
    "a lone surrogate": ("POST", "/item", "/item", 400, {"body": b'{"name": "\\ud800"}', "headers": JSON}),
    "pydantic, no JSON": ("POST", "/model", "/model", 400, {"body": b"{", "headers": JSON}),
    "nested too deeply": ("POST", "/model", "/model", 400, {"body": b"[" * 100_000, "headers": JSON}),
    "a path that is no text": ("GET", "/text/{name}", "/text/%ff", 400, {}),
    "a query that is no text": ("GET", "/number/{id}", "/number/7?tag=%ff", 400, {}),
    "a body too large": ("POST", "/item", "/item", 413, {"json": {"name": "a" * 100}}),
    "a target too long": ("GET", "/text/{name}", f"/text/{'a' * 9000}", 414, {}),
    "another media type": ("POST", "/item", "/item", 415, {"body": b"a", "headers": {"content-type": "text/plain"}}),
    "a body that does not fit": ("POST", "/item", "/item", 422, {"json": {"name": "", "count": -1}}),
    "a model that does not fit": ("POST", "/model", "/model", 422, {"json": {"no": -1}}),
    "no body": ("POST", "/made", "/made", 422, {}),
    "no number": ("GET", "/number/{id}", "/number/x?limit=11", 422, {}),
    "a number beyond all": ("GET", "/number/{id}", f"/number/{'9' * 5000}", 422, {}),
    "no end": ("GET", "/price", "/price?price=nan", 422, {}),
    "one given twice": ("GET", "/number/{id}", "/number/1?limit=1&limit=2", 422, {}),
    "no header": ("GET", "/header", "/header", 422, {}),
    "headers too large": ("GET", "/header", "/header", 431, {"headers": {"x-who": "1" * 40_000}}),
    "raised": ("GET", "/absent/{kind}", "/absent/absent", 404, {}),
    "raised as well": ("GET", "/absent/{kind}", "/absent/conflict", 409, {}),
    "a dependency that is away": ("GET", "/absent/{kind}", "/absent/away", 503, {}),
    "a defect": ("GET", "/absent/{kind}", "/absent/defect", 500, {}),
    "a peer that is well": ("GET", "/call", "/call", 204, {}),
    "a peer's odd answer": ("GET", "/call", "/call?path=/nowhere", 502, {}),
    "a peer that is away": ("GET", "/call", "/call?path=/away", 503, {}),
    "too late": ("GET", "/slow", "/slow", 504, {}),
    "too late on arrival": ("GET", "/slow", "/slow", 504, {"headers": {"x-request-timeout-ms": "0"}}),
}


def misfits(document: Any, operation: Any, response: Response) -> list[str]:
    """What a document does not say about an answer of one of its operations."""
    found = operation["responses"].get(str(response.status))
    if found is None:
        return [f"status {response.status}: {response.text}"]
    found = resolved(document, found)
    wrong = [
        f"no header {name}"
        for name, header in found["headers"].items()
        if resolved(document, header).get("required") and name not in response.headers
    ]
    content = found.get("content", {})
    kind = response.headers.get("content-type", "").partition(";")[0]  # type: ignore[union-attr]
    if not response.body:
        return wrong
    if kind not in content and "*/*" not in content:
        return [*wrong, f"content-type {kind!r}"]
    if "json" in kind and "ndjson" not in kind and (schema := content.get(kind, {}).get("schema")) is not None:
        validator = jsonschema_rs.Draft202012Validator({"components": document["components"], **schema})
        wrong += [error.message for error in validator.iter_errors(json.loads(response.body))]
    return wrong


def resolved(document: Any, part: Any) -> Any:
    found = document
    if "$ref" not in part:
        return part
    for step in part["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return found


@pytest.mark.parametrize("name", CASES)
def test_an_answer_is_documented(name: str) -> None:
    """Status, media type, headers and body of each answer, plain or not, are as its operation's document says."""
    method, template, path, status, options = CASES[name]

    async def away() -> None:
        raise Unavailable("closed")

    async def well() -> None: ...

    async def main() -> None:
        stock = Service("stock")
        stock.router.get("/", well)
        stock.router.get("/away", away)
        service = shop()
        document = openapi(service, version="1")
        async with testing.client(service, peers={"stock": stock}) as http:
            answer = await http.request(method, path, **options)
            assert answer.status == status, answer.text
            operation = document["paths"][template][method.lower()]
            if template != "/call" or status >= 400:  # a peer's answer that is handed on is the peer's
                assert misfits(document, operation, answer) == []

    run(main())


def test_what_is_not_documented_is_found() -> None:
    """The judge of the other tests is not blind: an answer with another status, media type or body is told."""
    document = openapi(shop(), version="1")
    operation = document["paths"]["/made"]["post"]
    trace = {"x-trace-id": "0" * 32, "location": "/"}
    assert misfits(document, operation, Response(418, headers=trace)) == ["status 418: "]
    assert misfits(document, operation, Response(201, b"a", headers={**trace, "content-type": "text/csv"})) == [
        "content-type 'text/csv'"
    ]
    assert misfits(document, operation, Response(201, b"{}", headers={"content-type": "application/json"})) == [
        "no header x-trace-id", "no header location", '"name" is a required property',
    ]  # fmt: skip


def test_every_documented_failure_is_met() -> None:
    """Each failure that the server gives by itself is one of the answers above, but for a body that stops arriving."""
    met = {status for _, _, _, status, _ in CASES.values() if status >= 400}
    documented = {
        int(status)
        for operations in openapi(shop(), version="1")["paths"].values()
        for operation in operations.values()
        for status in operation["responses"]
        if int(status) >= 400
    }
    assert documented - met == {408}
