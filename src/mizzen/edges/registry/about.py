"""``/v1/agent/{self,members}`` and ``/v1/status``: what clients ask to find out whom they talk to."""

from __future__ import annotations

from mizzen.words.message import Request, Response

from .model import ADDRESS, DATACENTER, NODE, NODE_ID
from .query import Query
from .refusal import Refusal
from .state import State

VERSION = "1.19.2"
"""The Consul whose answers these are compared with: clients that decide by version must find one."""
RPC = f"{ADDRESS}:8300"
"""Where a Consul server answers its like; nobody does here."""


class About:
    """The endpoints, each given the request and the rest of its path."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def itself(self, request: Request, rest: str) -> Response:
        Query(request.query, ("pretty",))
        config = {
            "Datacenter": DATACENTER,
            "PrimaryDatacenter": DATACENTER,
            "NodeName": NODE,
            "NodeID": NODE_ID,
            "Revision": "mizzen",
            "Server": True,
            "Version": VERSION,
            "BuildDate": "1970-01-01T00:00:01Z",
        }
        local = self._state.local
        agent = {"checks": str(len(local.checks) - 1), "services": str(len(local.services))}  # less the agent's own check
        consul = {"leader": "true", "leader_addr": RPC, "server": "true", "known_datacenters": "1"}
        return Response.json_of(
            {
                "Config": config,
                "DebugConfig": {},
                "Coord": {"Vec": [0] * 8, "Error": 1.5, "Adjustment": 0, "Height": 1e-05},
                "Member": _member(),
                "Stats": {"agent": agent, "build": {"version": VERSION, "revision": "mizzen"}, "consul": consul},
                "Meta": {"consul-network-segment": "", "embedded": "mizzen"},
            }
        )

    async def members(self, request: Request, rest: str) -> Response:
        query = Query(request.query, ("pretty", "wan", "segment"))
        if query.text("segment") not in ("", "_all"):
            raise Refusal(400, f"the embedded registry has no segment {query.text('segment')!r}")
        return Response.json_of([_member()])

    async def leader(self, request: Request, rest: str) -> Response:
        Query(request.query, ("pretty", "dc"))
        return Response.json_of(RPC)

    async def peers(self, request: Request, rest: str) -> Response:
        Query(request.query, ("pretty", "dc"))
        return Response.json_of([RPC])

    async def datacenters(self, request: Request, rest: str) -> Response:
        Query(request.query, ("pretty",))
        return Response.json_of([DATACENTER])


def _member() -> dict[str, object]:
    """The one there is, as the gossip of a Consul server has it."""
    tags = {
        "acls": "0", "build": f"{VERSION}:mizzen", "dc": DATACENTER, "id": NODE_ID, "port": "8300", "raft_vsn": "3",
        "role": "consul", "segment": "", "vsn": "2", "vsn_max": "3", "vsn_min": "2",
    }  # fmt: skip
    return {
        "Name": NODE,
        "Addr": ADDRESS,
        "Port": 8301,
        "Tags": tags,
        "Status": 1,
        "ProtocolMin": 1,
        "ProtocolMax": 5,
        "ProtocolCur": 2,
        "DelegateMin": 2,
        "DelegateMax": 5,
        "DelegateCur": 4,
    }
