"""What every request to a Kubernetes API server has: the token of the moment, a limit in time, and what a refusal means."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlencode

import msgspec

from mizzen.words.clock import Clock, monotonic
from mizzen.words.errors import PeerError
from mizzen.words.handler import Handler
from mizzen.words.lazy import pattern
from mizzen.words.message import Call, Headers, Request, Response

PEER = "kubernetes"
TIMEOUT = 10.0
"""Seconds for the head of an answer. A server that is behind the version we ask for waits up to 3 s for it by itself."""
TOKEN_AGE = 60.0
"""Seconds until a token is read anew: kubelets replace one at 80 % of its hour, and client-go looks as often."""
STATUS = 64 * 1024
"""Bytes that are read of a refusal which comes as a stream, as all do to a watch."""
MESSAGE, PAGE = 1000, 200
"""Characters of what a refusal says that errors and logs hold: of Kubernetes' own words, which name who may not do what,
and of a page that something between us sent."""
RETRY_AFTER_MOST = 60.0
"""Seconds; what is asked of us beyond it would be an outage of its own."""

ROLE = "mizzen-discovery"
_RBAC = "rbac.authorization.k8s.io"
_NOBODY = "system:anonymous"
# in a form that neither a shell nor YAML takes for more than a name
_USER = pattern(r'User "([A-Za-z0-9][A-Za-z0-9@._:/-]*[A-Za-z0-9])"')


class TokenFile:
    """The token that a file holds, read anew every ``TOKEN_AGE`` seconds and whenever it was refused."""

    def __init__(self, path: str, *, clock: Clock = monotonic) -> None:
        self.path = path
        self._clock = clock
        self._token = ""
        self._read_at: float | None = None

    def read(self) -> str:
        """The token of the moment; ``PeerError`` when there never was one."""
        now = self._clock()
        if self._read_at is None or now - self._read_at >= TOKEN_AGE:
            try:
                token = Path(self.path).read_text().strip()
                if not token:  # it is being written; without one we would be nobody, who is not told to come back
                    raise ValueError(f"{self.path} is empty")
            except (OSError, ValueError) as error:
                if not self._token:
                    raise PeerError(f"the token for Kubernetes cannot be read: {error}", peer=PEER) from None
                return self._token  # good for minutes yet, and the file is looked for again with every request
            self._token, self._read_at = token, now
        return self._token

    def refused(self) -> None:
        """Read it anew the next time, whatever its age."""
        self._read_at = None

    def __repr__(self) -> str:
        return f"<TokenFile {self.path}>"


class Api:
    """Requests to one API server."""

    def __init__(self, call: Handler, *, token: TokenFile | None, timeout: float = TIMEOUT, clock: Clock = monotonic) -> None:
        self._call = call
        self._token = token
        self._timeout = timeout
        self._clock = clock

    async def get(self, path: str, query: dict[str, str], *, stream: bool = False) -> Response:
        """An answer of 200, whole or as it arrives; ``Refused`` for any other, ``CallError`` when there is none."""
        token = self._token.read() if self._token is not None else None
        response = await self._send(path, query, token, stream)
        if response.status == 401 and self._token is not None:
            self._token.refused()
            if (new := self._token.read()) != token:  # it was replaced since we looked
                await response.close()
                response = await self._send(path, query, new, stream)
        if response.status != 200:
            raise refused(response, await self._beginning(response))
        return response

    async def _beginning(self, response: Response) -> bytes:
        """What comes of a body in time, as far as it is of use."""
        if isinstance(response.body, bytes):
            return response.body
        said = b""
        try:
            async with asyncio.timeout(self._timeout):  # that of the call is over with the head of a stream
                async for piece in response.body:
                    said += piece
                    if len(said) > STATUS:
                        break
        except TimeoutError:
            pass
        finally:
            await response.close()
        return said

    async def _send(self, path: str, query: dict[str, str], token: str | None, stream: bool) -> Response:
        headers = Headers({"accept": "application/json", "user-agent": "mizzen"})
        if token:
            headers.add("authorization", f"Bearer {token}")
        now = self._clock()
        call = Call(idempotent=True, timeout=self._timeout, started=now, deadline=now + self._timeout)
        request = Request("GET", path, query=urlencode(query), headers=headers, call=call)
        request.stream = stream
        response = await self._call(request)
        if not stream:
            await response.read()
        return response


class Refused(PeerError):
    """An answer other than 200. ``wait`` is how many seconds the server asks for, 0 when it does not."""

    wait = 0.0
    reason = ""
    """As Kubernetes has it: ``Expired``, ``Forbidden``."""

    @property
    def gone(self) -> bool:
        """Whether the version that we asked for is not kept any more."""
        return self.status == 410 or self.reason in ("Expired", "Gone")


class _Cause(msgspec.Struct):
    reason: str = ""


class _Details(msgspec.Struct, rename="camel"):
    retry_after_seconds: int | None = None
    causes: list[_Cause] | None = None


class Status(msgspec.Struct):
    """How Kubernetes says no, as the body of an answer or within a watch."""

    code: int | None = None
    reason: str | None = None
    message: str | None = None
    details: _Details | None = None


_status = msgspec.json.Decoder(Status).decode


def refused(response: Response, body: bytes) -> Refused:
    """What an answer other than 200 means."""
    try:
        said = _status(body)
    except (ValueError, RecursionError):  # a proxy's page, or "404 page not found"
        said = Status(message=body.decode("utf-8", "replace").strip()[:PAGE])
    said.code = response.status  # of the two the one that proxies see
    return refusal(said, response.headers.get("retry-after"))


def refusal(said: Status, retry_after: str | None = None) -> Refused:
    """What a ``Status`` means; ``retry_after`` is the header's, where there was one."""
    status, message = said.code or 0, (said.message or said.reason or "no reason given")[:MESSAGE]
    error = Refused(f"kubernetes answered {status}: {message}{_hint(status)}", peer=PEER, status=status)
    error.reason = said.reason or ""
    if said.details is not None:
        if said.details.retry_after_seconds:
            retry_after = retry_after or str(said.details.retry_after_seconds)
        if any(cause.reason == "ResourceVersionTooLarge" for cause in said.details.causes or ()):
            error.reason = "Expired"  # its versions went back: what we know is from another life of it
    if retry_after and retry_after.isascii() and retry_after.isdigit():  # the other form, a date, needs both clocks
        error.wait = min(float(retry_after), RETRY_AFTER_MOST)
    return error


def _hint(status: int) -> str:
    if status == 401:
        return " (the token is no token of this cluster, or has expired and nobody replaces it)"
    if status == 404:
        return " (this is no Kubernetes API server, or one before 1.21)"
    return ""


def forbidden(error: Refused, namespace: str) -> Refused:
    """The same refusal with the Role that is missing, ready to be applied."""
    found = _USER.search(error.detail)
    user = found[1] if found else "system:serviceaccount:NAMESPACE:NAME"
    if user == _NOBODY:  # rights for it would be rights for everybody
        fix = "it took us for nobody: no token reached it, or none of this cluster; fix: token_file=, or a service account"
    else:
        fix = f"fix: echo '{role(user, namespace)}' | kubectl apply -f -"
    told = Refused(
        f"kubernetes does not let {user} read EndpointSlices in namespace {namespace} (403): that takes a Role with "
        f"apiGroup discovery.k8s.io, resource endpointslices, verbs get, list, watch; {fix}",
        peer=PEER,
        status=error.status,
    )
    told.wait, told.reason = error.wait, error.reason
    return told


def role(user: str, namespace: str) -> str:
    """A Role and its binding to ``user``: YAML in one line and without quotes, so that a log line in JSON leaves it as it is.

    Each user has a binding of its own: applying the one of a second service would take the rights of the first.
    """
    parts = user.split(":")
    if len(parts) == 4 and parts[:2] == ["system", "serviceaccount"]:
        subject = f"kind: ServiceAccount, name: {parts[3]}, namespace: {parts[2]}"
        whose = parts[3] if parts[2] == namespace else f"{parts[2]}-{parts[3]}"
    else:
        subject = f"kind: User, apiGroup: {_RBAC}, name: {user}"
        whose = user.replace("/", "-")
    version = f"apiVersion: {_RBAC}/v1"
    rules = "rules: [{apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, watch]}]"
    reference = f"roleRef: {{apiGroup: {_RBAC}, kind: Role, name: {ROLE}}}"
    return (
        f"{{apiVersion: v1, kind: List, items: ["
        f"{{{version}, kind: Role, metadata: {{name: {ROLE}, namespace: {namespace}}}, {rules}}}, "
        f"{{{version}, kind: RoleBinding, metadata: {{name: {ROLE}-{whose}, namespace: {namespace}}}, "
        f"{reference}, subjects: [{{{subject}}}]}}]}}"
    )
