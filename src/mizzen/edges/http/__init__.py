"""HTTP/1.1 on both sides: a server's connections, and a client's pool of them."""

from __future__ import annotations

from .limits import Limits, PoolLimits
from .server import Server
from .transport import Connector, Pool, connect

__all__ = ["Connector", "Limits", "Pool", "PoolLimits", "Server", "connect"]
