"""Mizzen: small services with explicit boundaries, calls that fail on purpose, and one way to run them."""

from mizzen.assembly.client import Client
from mizzen.assembly.service import Service
from mizzen.rules.binding import Header
from mizzen.rules.router import Router
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
    StartError,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UnsupportedMedia,
)
from mizzen.words.handler import Handler, Layer
from mizzen.words.message import Headers, Request, Response
from mizzen.words.outcome import Outcome, classify

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
    "Response",
    "Router",
    "Service",
    "StartError",
    "TooLarge",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "UnsupportedMedia",
    "classify",
    "current",
)
