"""Saying no, in words."""

from __future__ import annotations

from mizzen.words.message import Headers, Response


class Refusal(Exception):
    """An answer that is not what was asked for; plain text, as Consul's own."""

    def __init__(self, status: int, text: str, *, allow: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self._allow = allow

    def response(self) -> Response:
        headers = Headers.of([(b"content-type", b"text/plain; charset=utf-8")])
        if self._allow:
            headers.add("allow", self._allow)
        return Response(self.status, self.text.encode(), headers=headers)


ELSEWHERE = "; it is for development: run a Consul agent and set discovery.url to consul://host:8500 for it"


def unsupported(what: str, status: int = 501) -> Refusal:
    """The refusal of something that Consul has and this registry has not."""
    return Refusal(status, f"the embedded registry does not support {what}{ELSEWHERE}")
