"""ASGI: a service under another server (``outward``)."""

from .outward import Outward
from .outward_app import Application
from .types import App, Receive, Scope, Send

__all__ = ("App", "Application", "Outward", "Receive", "Scope", "Send")
