"""Drivers that read and write registries, one backend per file; each is handed the `Handler` to call it through."""

from typing import TYPE_CHECKING

from mizzen.words.lazy import lazily

if TYPE_CHECKING:
    from .consul import ConsulResolver
    from .consul_catalog import ConsulCatalogRegistrar
    from .consul_registrar import ConsulRegistrar
    from .dns import DnsResolver
    from .etcd import EtcdResolver
    from .etcd_registrar import EtcdRegistrar
    from .none import NoneResolver
    from .static import StaticResolver
else:
    __getattr__ = lazily(
        __name__,
        {
            ".consul": "ConsulResolver",
            ".consul_catalog": "ConsulCatalogRegistrar",
            ".consul_registrar": "ConsulRegistrar",
            ".dns": "DnsResolver",
            ".etcd": "EtcdResolver",
            ".etcd_registrar": "EtcdRegistrar",
            ".none": "NoneResolver",
            ".static": "StaticResolver",
        },
    )

__all__ = [
    "ConsulCatalogRegistrar",
    "ConsulRegistrar",
    "ConsulResolver",
    "DnsResolver",
    "EtcdRegistrar",
    "EtcdResolver",
    "NoneResolver",
    "StaticResolver",
]
