"""HTTP/1.1 on both sides: a server's connections, and a client's pool of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mizzen.words.lazy import lazily

if TYPE_CHECKING:
    from .certificates import Certificates, TlsFiles
    from .limits import Limits, PoolLimits
    from .securing import Tls, secured
    from .server import Server
    from .transport import Connector, Pool, connect
else:
    __getattr__ = lazily(
        __name__,
        {
            ".certificates": "Certificates TlsFiles",
            ".limits": "Limits PoolLimits",
            ".securing": "Tls secured",
            ".server": "Server",
            ".transport": "Connector Pool connect",
        },
    )

__all__ = ["Certificates", "Connector", "Limits", "Pool", "PoolLimits", "Server", "Tls", "TlsFiles", "connect", "secured"]
