"""Configuration: mizzen.toml and the environment, typed and checked, each setting with its origin."""

from typing import TYPE_CHECKING

from mizzen.words.lazy import lazily

from .parse import parse

if TYPE_CHECKING:
    from .listing import CODE, DEFAULT, Setting, masked, origins, shown
    from .records import (
        REGISTRY_PORT,
        UNIX,
        AdminConfig,
        BreakerConfig,
        ClientConfig,
        ClientTlsConfig,
        DiscoveryConfig,
        LimitsConfig,
        LogConfig,
        RegistryConfig,
        ServiceConfig,
        StopConfig,
        System,
        TlsConfig,
    )
    from .secrets import hide_password, is_secret
    from .source import short_variable, variable
    from .typed import settings
    from .units import Secret, format_size, parse_size
else:
    __getattr__ = lazily(
        __name__,
        {
            ".listing": "CODE DEFAULT Setting masked origins shown",
            ".records": """
                REGISTRY_PORT UNIX AdminConfig BreakerConfig ClientConfig ClientTlsConfig DiscoveryConfig LimitsConfig
                LogConfig RegistryConfig ServiceConfig StopConfig System TlsConfig
            """,
            ".secrets": "hide_password is_secret",
            ".source": "short_variable variable",
            ".typed": "settings",
            ".units": "Secret format_size parse_size",
        },
    )

__all__ = [
    "CODE",
    "DEFAULT",
    "REGISTRY_PORT",
    "UNIX",
    "AdminConfig",
    "BreakerConfig",
    "ClientConfig",
    "ClientTlsConfig",
    "DiscoveryConfig",
    "LimitsConfig",
    "LogConfig",
    "RegistryConfig",
    "Secret",
    "ServiceConfig",
    "Setting",
    "StopConfig",
    "System",
    "TlsConfig",
    "format_size",
    "hide_password",
    "is_secret",
    "masked",
    "origins",
    "parse",
    "parse_size",
    "settings",
    "short_variable",
    "shown",
    "variable",
]
