"""The tests of billing itself, as people write them: with the framework's own client, and without a server."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from billing import main


@pytest.fixture
def http() -> Iterator[TestClient]:
    """The app with its lifespan."""
    with TestClient(main.app) as client:
        yield client


def test_an_invoice_is_found(http: TestClient) -> None:
    """An invoice is given with the currency that the caller prefers."""
    answer = http.get("/invoices/1", headers={"accept-currency": "CHF"})
    assert answer.status_code == 200
    assert answer.json()["currency"] == "CHF"
    assert answer.headers["x-stamp"] == "billing"
    assert answer.headers["x-quick"] == "True"


def test_an_unknown_invoice_is_404(http: TestClient) -> None:
    """What is not there is a 404 with its reason."""
    answer = http.get("/invoices/none")
    assert (answer.status_code, answer.headers["x-reason"]) == (404, "unknown")
    assert answer.json() == {"detail": "no invoice none"}


def test_a_wrong_invoice_is_422(http: TestClient) -> None:
    """The framework's own validation answers."""
    answer = http.post("/invoices", json={"id": "2", "lines": [{"item": "tea", "cents": 0}]})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "lines", 0, "cents"]


def test_a_background_task_runs(http: TestClient) -> None:
    """What is left for later is done, sooner or later."""
    assert http.post("/invoices", json={"id": "2", "lines": []}).status_code == 201
    ends = time.monotonic() + 10
    while http.get("/log").json() != ["sent 2"]:
        assert time.monotonic() < ends
    assert http.delete("/invoices/2").status_code == 204


def test_a_dependency_is_overridden(http: TestClient) -> None:
    """A dependency of the app is replaced while it is served."""
    ledger = main.Ledger()
    ledger.invoices["9"] = main.Invoice(id="9", lines=[])
    main.app.dependency_overrides[main.get_ledger] = lambda: ledger
    try:
        assert http.get("/invoices/9").status_code == 200
    finally:
        main.app.dependency_overrides.clear()
    assert http.get("/invoices/9").status_code == 404


def test_a_file_is_uploaded(http: TestClient) -> None:
    """A form with a file and a field arrives whole."""
    answer = http.post("/upload", files={"file": ("a.bin", bytes(range(256)), "image/png")}, data={"note": "hi"})
    assert answer.json() == {"name": "a.bin", "type": "image/png", "size": 256, "sum": 32640, "note": "hi"}


def test_an_export_is_streamed(http: TestClient) -> None:
    """A streamed answer arrives whole."""
    with http.stream("GET", "/export", params={"rows": 50}) as answer:
        assert answer.headers["content-type"].startswith("text/csv")
        assert len([line for line in answer.iter_lines() if line]) == 50


def test_a_redirect_is_followed(http: TestClient) -> None:
    """A redirect leads to where it points."""
    answer = http.get("/old", follow_redirects=True)
    assert answer.url.path == "/items"
    assert len(answer.json()) == 2


def test_the_admin_part_answers(http: TestClient) -> None:
    """A mounted app answers below its path."""
    assert http.get("/admin/users/ada").json() == {"admin": "ada"}


def test_people_talk(http: TestClient) -> None:
    """Text and bytes go both ways, and the other side says goodbye."""
    with http.websocket_connect("/talk/ada", subprotocols=["chat"]) as socket:
        assert socket.accepted_subprotocol == "chat"
        socket.send_text("hello")
        assert socket.receive_json() == {"name": "ada", "said": "hello"}
        socket.send_bytes(b"abc")
        assert socket.receive_bytes() == b"cba"
        socket.send_text("bye")
        assert socket.receive() == {"type": "websocket.close", "code": 4000, "reason": "see you"}


def test_the_app_is_opened_and_closed() -> None:
    """The lifespan is around all of it."""
    with TestClient(main.app) as client:
        assert client.get("/items").status_code == 200
        assert main.app.state.opened is True
    assert main.app.state.opened is False
