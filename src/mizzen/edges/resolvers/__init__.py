"""Drivers that read and write registries, one folder for each; they are handed the `Handler` to call it through."""

from typing import TYPE_CHECKING

from mizzen.words.lazy import lazily

if TYPE_CHECKING:
    from .consul.catalog import ConsulCatalogRegistrar
    from .consul.registrar import ConsulRegistrar
    from .consul.resolver import ConsulResolver
    from .dns.resolver import DnsResolver
    from .etcd.registrar import EtcdRegistrar
    from .etcd.resolver import EtcdResolver
    from .none import NoneResolver
    from .static import StaticResolver
else:
    __getattr__ = lazily(
        __name__,
        {
            ".consul.resolver": "ConsulResolver",
            ".consul.catalog": "ConsulCatalogRegistrar",
            ".consul.registrar": "ConsulRegistrar",
            ".dns.resolver": "DnsResolver",
            ".etcd.resolver": "EtcdResolver",
            ".etcd.registrar": "EtcdRegistrar",
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
