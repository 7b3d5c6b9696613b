"""Configuration: mizzen.toml and the environment, typed and checked, each setting with its origin."""

from .origins import CODE, DEFAULT, Setting, masked, origins, shown
from .parse import parse
from .records import (
    REGISTRY_PORT,
    AdminConfig,
    BreakerConfig,
    ClientConfig,
    DiscoveryConfig,
    LimitsConfig,
    LogConfig,
    RegistryConfig,
    ServiceConfig,
    StopConfig,
    System,
)
from .secrets import hide_password, is_secret
from .source import short_variable, variable
from .typed import settings
from .units import Secret, format_size, parse_size

__all__ = [
    "CODE",
    "DEFAULT",
    "REGISTRY_PORT",
    "AdminConfig",
    "BreakerConfig",
    "ClientConfig",
    "DiscoveryConfig",
    "LimitsConfig",
    "LogConfig",
    "RegistryConfig",
    "Secret",
    "ServiceConfig",
    "Setting",
    "StopConfig",
    "System",
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
