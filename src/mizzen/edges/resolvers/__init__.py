"""Drivers that read and write registries, one backend per file; each is handed the `Handler` to call it through."""

from typing import TYPE_CHECKING

from mizzen.words.lazy import lazily

if TYPE_CHECKING:
    from .consul import ConsulResolver
    from .consul_registrar import ConsulRegistrar
    from .none import NoneResolver
    from .static import StaticResolver
else:
    __getattr__ = lazily(
        __name__,
        {
            ".consul": "ConsulResolver",
            ".consul_registrar": "ConsulRegistrar",
            ".none": "NoneResolver",
            ".static": "StaticResolver",
        },
    )

__all__ = ["ConsulRegistrar", "ConsulResolver", "NoneResolver", "StaticResolver"]
