"""Login: the token that etcd gives for a user and a password, got anew when etcd no longer knows it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from mizzen.words.errors import PeerError

from .answers import PEER, Reply, decoded, decoder

PATH = "/v3/auth/authenticate"


class _Token(msgspec.Struct):
    token: str


_token = decoder(_Token)


class Login:
    """One user's token, shared by everything that talks to one cluster: it is good at every member.

    ``password`` is asked for at every login, since passwords are rotated. Tokens end by themselves (after 5 minutes), when
    the password changes, and when a member restarts: etcd says so, and nothing here has to guess when.
    """

    def __init__(self, user: str, password: Callable[[], str | None]) -> None:
        self.user = user
        self._password = password
        self._token: str | None = None  # "" where etcd asks nobody who they are
        self._under_way = asyncio.Lock()

    async def token(self, send: Callable[[bytes], Awaitable[Reply]]) -> str:
        """The token of now; ``send`` posts a login to a member. ``PeerError`` when etcd does not know the user."""
        if self._token is None:
            async with self._under_way:  # hashing a password takes etcd a tenth of a second: once, not once per watch
                if self._token is None:
                    self._token = await self._log_in(send)
        return self._token

    def forget(self, token: str) -> None:
        """etcd does not know ``token`` any more; one that was got meanwhile stays."""
        if self._token == token:
            self._token = None

    async def _log_in(self, send: Callable[[bytes], Awaitable[Reply]]) -> str:
        try:
            password = self._password()
        except OSError as error:
            raise PeerError(f"the password of etcd's user {self.user} cannot be read: {error}", peer=PEER) from None
        if not password:
            raise PeerError(
                f"etcd's user {self.user} has no password: set discovery.token_file, discovery.token,"
                f" or write etcd://{self.user}:password@…",
                peer=PEER,
            )
        reply = await send(msgspec.json.encode({"name": self.user, "password": password}))
        if reply.login_off:
            return ""
        return decoded(reply, _token, f"the login of {self.user}", user=self.user).token

    def __repr__(self) -> str:
        return f"<Login {self.user}{', logged in' if self._token else ''}>"
