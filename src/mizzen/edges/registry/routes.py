"""Which path is answered by what."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from mizzen.words.message import Request, Response

from .about import About
from .agent import AgentApi
from .agent_checks import AgentChecksApi
from .catalog import CatalogApi
from .catalog_writes import CatalogWritesApi
from .refusal import unsupported
from .transactions import TransactionsApi

Endpoint = Callable[[Request, str], Awaitable[Response]]
"""Given the request, and the id or name at the end of its path."""


def routes(
    about: About,
    agent: AgentApi,
    checks: AgentChecksApi,
    catalog: CatalogApi,
    writes: CatalogWritesApi,
    transactions: TransactionsApi,
) -> dict[str, dict[str, Endpoint]]:
    """Every endpoint by path and method; a path that ends in a slash takes an id or a name after it."""
    return {
        "/v1/agent/self": {"GET": about.itself},
        "/v1/agent/members": {"GET": about.members},
        "/v1/agent/maintenance": {"PUT": agent.maintenance},
        "/v1/agent/services": {"GET": agent.services},
        "/v1/agent/service/": {"GET": agent.service},
        "/v1/agent/service/register": {"PUT": agent.register},
        "/v1/agent/service/deregister/": {"PUT": agent.deregister},
        "/v1/agent/service/maintenance/": {"PUT": agent.maintenance},
        "/v1/agent/checks": {"GET": checks.checks},
        "/v1/agent/check/register": {"PUT": checks.register},
        "/v1/agent/check/deregister/": {"PUT": checks.deregister},
        "/v1/agent/check/pass/": {"PUT": checks.passing},
        "/v1/agent/check/warn/": {"PUT": checks.warning},
        "/v1/agent/check/fail/": {"PUT": checks.critical},
        "/v1/agent/check/update/": {"PUT": checks.update},
        "/v1/health/service/": {"GET": catalog.health_service},
        "/v1/health/checks/": {"GET": catalog.health_checks},
        "/v1/health/node/": {"GET": catalog.health_node},
        "/v1/health/state/": {"GET": catalog.health_state},
        "/v1/catalog/services": {"GET": catalog.services},
        "/v1/catalog/service/": {"GET": catalog.service},
        "/v1/catalog/nodes": {"GET": catalog.nodes},
        "/v1/catalog/node/": {"GET": catalog.node},
        "/v1/catalog/node-services/": {"GET": catalog.node_services},
        "/v1/catalog/register": {"PUT": writes.register},
        "/v1/catalog/deregister": {"PUT": writes.deregister},
        "/v1/catalog/datacenters": {"GET": about.datacenters},
        "/v1/txn": {"PUT": transactions.run},
        "/v1/status/leader": {"GET": about.leader},
        "/v1/status/peers": {"GET": about.peers},
    }


async def elsewhere(request: Request, _rest: str) -> Response:
    """Whatever Consul serves and this registry does not."""
    raise unsupported(f"{request.method} {request.path}")
