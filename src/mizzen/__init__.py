"""Mizzen: small services with explicit boundaries, calls that fail on purpose, and one way to run them."""

from typing import TYPE_CHECKING

from mizzen.words.lazy import lazily

if TYPE_CHECKING:
    from mizzen.assembly.client import Client
    from mizzen.assembly.service import Service
    from mizzen.rules.binding import Header
    from mizzen.rules.router import Router
    from mizzen.tools.asgi import asgi
    from mizzen.words.context import Context, current
    from mizzen.words.errors import (
        Answer,
        BadRequest,
        BreakerOpen,
        CallError,
        CallTimeout,
        ConfigError,
        Conflict,
        ConnectFailed,
        ConnectionLost,
        DeadlinePassed,
        Fault,
        Forbidden,
        Invalid,
        MethodNotAllowed,
        MizzenError,
        NoInstances,
        NotFound,
        PeerError,
        Problem,
        RequestTimeout,
        StartError,
        TooLarge,
        TooManyRequests,
        Unauthorized,
        Unavailable,
        UnsupportedMedia,
    )
    from mizzen.words.handler import Handler, Layer
    from mizzen.words.message import Headers, Request, Response
    from mizzen.words.outcome import Outcome, Resend, Verdict, classify
    from mizzen.words.sse import ServerSentEvent
else:
    __getattr__ = lazily(
        __name__,
        {
            "mizzen.assembly.client": "Client",
            "mizzen.assembly.service": "Service",
            "mizzen.rules.binding.parameter": "Header",
            "mizzen.rules.router": "Router",
            "mizzen.tools.asgi": "asgi",
            "mizzen.words.context": "Context current",
            "mizzen.words.errors": """
                Answer BadRequest BreakerOpen CallError CallTimeout ConfigError Conflict ConnectFailed ConnectionLost
                DeadlinePassed Fault Forbidden Invalid MethodNotAllowed MizzenError NoInstances NotFound PeerError Problem
                RequestTimeout StartError TooLarge TooManyRequests Unauthorized Unavailable UnsupportedMedia
            """,
            "mizzen.words.handler": "Handler Layer",
            "mizzen.words.message": "Headers Request Response",
            "mizzen.words.outcome": "Outcome Resend Verdict classify",
            "mizzen.words.sse": "ServerSentEvent",
        },
    )

__all__ = (
    "Answer",
    "BadRequest",
    "BreakerOpen",
    "CallError",
    "CallTimeout",
    "Client",
    "ConfigError",
    "Conflict",
    "ConnectFailed",
    "ConnectionLost",
    "Context",
    "DeadlinePassed",
    "Fault",
    "Forbidden",
    "Handler",
    "Header",
    "Headers",
    "Invalid",
    "Layer",
    "MethodNotAllowed",
    "MizzenError",
    "NoInstances",
    "NotFound",
    "Outcome",
    "PeerError",
    "Problem",
    "Request",
    "RequestTimeout",
    "Resend",
    "Response",
    "Router",
    "ServerSentEvent",
    "Service",
    "StartError",
    "TooLarge",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "UnsupportedMedia",
    "Verdict",
    "asgi",
    "classify",
    "current",
)
