"""The verbs of a client, typed: what each takes and what it gives, so that a type checker catches a typo."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any, TypedDict, TypeVar, Unpack, overload

from mizzen.words.message import Response

T = TypeVar("T")
D = TypeVar("D")


class ReadOptions(TypedDict, total=False):
    """What every call may say besides its template; see ``Client.call``."""

    path: Mapping[str, Any]
    query: Mapping[str, Any]
    headers: Mapping[str, str]
    statuses: Collection[int]
    timeout: float
    idempotent: bool


class SendOptions(ReadOptions, total=False):
    """The same for calls that carry a body."""

    body: Any


class Verbs(ABC):
    """One method per HTTP method over a single ``call``; POST, PUT, PATCH and DELETE are never resent by themselves."""

    @abstractmethod
    async def call(self, method: str, template: str, **options: Any) -> Any:
        """Send one call and give its typed answer."""

    @overload
    async def get(self, template: str, *, into: type[T], absent: D, **options: Unpack[ReadOptions]) -> T | D: ...
    @overload
    async def get(self, template: str, *, into: type[T], **options: Unpack[ReadOptions]) -> T: ...
    @overload
    async def get(self, template: str, *, absent: D, **options: Unpack[ReadOptions]) -> Response | D: ...
    @overload
    async def get(self, template: str, **options: Unpack[ReadOptions]) -> Response: ...
    def get(self, template: str, **options: Any) -> Any:
        """GET, sent again where that is safe; ``absent`` is returned for a 404."""
        return self.call("GET", template, **options)

    async def head(self, template: str, **options: Unpack[ReadOptions]) -> Response:
        """HEAD, sent again where that is safe."""
        response: Response = await self.call("HEAD", template, **options)
        return response

    @overload
    async def post(self, template: str, *, into: type[T], **options: Unpack[SendOptions]) -> T: ...
    @overload
    async def post(self, template: str, **options: Unpack[SendOptions]) -> Response: ...
    def post(self, template: str, **options: Any) -> Any:
        """POST, sent once."""
        return self.call("POST", template, **options)

    @overload
    async def put(self, template: str, *, into: type[T], **options: Unpack[SendOptions]) -> T: ...
    @overload
    async def put(self, template: str, **options: Unpack[SendOptions]) -> Response: ...
    def put(self, template: str, **options: Any) -> Any:
        """PUT, sent once."""
        return self.call("PUT", template, **options)

    @overload
    async def patch(self, template: str, *, into: type[T], **options: Unpack[SendOptions]) -> T: ...
    @overload
    async def patch(self, template: str, **options: Unpack[SendOptions]) -> Response: ...
    def patch(self, template: str, **options: Any) -> Any:
        """PATCH, sent once."""
        return self.call("PATCH", template, **options)

    @overload
    async def delete(self, template: str, *, into: type[T], **options: Unpack[SendOptions]) -> T: ...
    @overload
    async def delete(self, template: str, **options: Unpack[SendOptions]) -> Response: ...
    def delete(self, template: str, **options: Any) -> Any:
        """DELETE, sent once."""
        return self.call("DELETE", template, **options)
