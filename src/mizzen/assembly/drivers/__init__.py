"""Drivers: which registry a URL means, made ready to resolve and to register; one file per scheme that takes some making."""

from .backend import BACKEND_TIMEOUT, Backend
from .drivers import Drivers, discover

__all__ = ["BACKEND_TIMEOUT", "Backend", "Drivers", "discover"]
