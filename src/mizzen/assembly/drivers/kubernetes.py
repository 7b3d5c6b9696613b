"""``kubernetes:``, ``kubernetes:headless``, ``kubernetes:endpointslices``: the three ways to find a Service in a cluster.

The first asks the cluster's DNS for the Service's virtual address, the second for that of every pod (SRV), the third
follows the API server. The folder and the variables of a pod: https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mizzen.assembly.identity import is_loopback
from mizzen.edges.resolvers.kubernetes.names import ClusterIpResolver, full_name
from mizzen.rules.config import hide_password
from mizzen.rules.discovery import Resolver
from mizzen.words.errors import StartError
from mizzen.words.lazy import pattern

from .backend import Backend, Means, options_of, switch

if TYPE_CHECKING:
    from re import Pattern

WAYS: Mapping[str, tuple[str, ...]] = {
    "": ("namespace", "service", "port", "domain", "tls"),
    "headless": ("namespace", "service", "port", "domain", "tls"),
    "endpointslices": ("namespace", "service", "port", "tls", "zone", "server", "token_file", "ca", "cert", "key"),
}
"""Each with the options that it takes."""
FOLDER = "var/run/secrets/kubernetes.io/serviceaccount"
"""Where every container of a pod has its service account, unless that is switched off."""
RESOLV_CONF = "etc/resolv.conf"
DOMAIN = "cluster.local"
"""What clusters are called that nobody gave a name."""
PORTS = {False: 80, True: 443}
"""Where a Service listens that says nothing else, without and with TLS."""
OUTSIDE = "in a pod, else kubernetes:endpointslices?server=https://…&token_file=…&ca=…&namespace=…"

_LABEL = pattern(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DOMAIN = pattern(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*\.?")
_PORT = pattern(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SEARCHED = pattern(r"(?m)^search\s.*?(?<!\S)([-a-z0-9]+)\.svc\.([-.a-z0-9]+?)\.?(?!\S)")


def kubernetes(url: str, means: Means, *, root: Path | None = None) -> Backend:
    """The cluster that ``url`` means; ``StartError`` for what is wrong with it. ``root`` is where the files of a pod are."""
    shown = hide_password(url)
    way, options = _parts(url, shown)
    pod = _Pod(root or Path("/"), means.environ)
    namespace = _given(options, "namespace", _LABEL, shown) or pod.namespace()
    if not namespace:
        what = f"{shown} does not say which namespace, and this is no pod that knows its own"
        raise StartError(what, fix="kubernetes:?namespace=shop")
    name = _naming(options, shown)
    tls, port = switch(options, "tls", shown), _given(options, "port", _PORT, shown)
    if port.isdigit() and not 0 < int(port) < 65536:
        raise StartError(f"{shown} has port={port}", fix="it takes a number below 65536, or the name of a port")
    if way == "endpointslices":
        return _slices(shown, options, means, pod, namespace, name, port, tls)
    domain = _given(options, "domain", _DOMAIN, shown) or pod.domain() or DOMAIN
    resolver: Resolver
    if way == "headless":
        resolver = _headless(shown, means, lambda service: full_name(name(service), namespace, domain), port, tls)
    elif port and not port.isdigit():
        raise StartError(f"{shown} has port={port}", fix="DNS tells no ports of a virtual address: give its number")
    else:
        resolver = ClusterIpResolver(namespace=namespace, domain=domain, port=int(port or PORTS[tls]), tls=tls, name=name)
    return Backend(_told(way, options, namespace), resolver, None, pod.server())


def _headless(shown: str, means: Means, host: Callable[[str], str], port: str, tls: bool) -> Resolver:
    from .dns import names

    scheme = "https" if tls else "http"
    if port.isdigit():  # the address of every pod; SRV records are for ports that have a name
        return names(shown, host, means, port=int(port), scheme=scheme)
    return names(shown, lambda service: f"_{port or scheme}._tcp.{host(service)}", means, scheme=scheme)


def _slices(
    shown: str,
    options: Mapping[str, str],
    means: Means,
    pod: _Pod,
    namespace: str,
    name: Callable[[str], str],
    port: str,
    tls: bool,
) -> Backend:
    from mizzen.edges.resolvers.kubernetes.api import TokenFile
    from mizzen.edges.resolvers.kubernetes.resolver import KubernetesResolver
    from mizzen.edges.resolvers.kubernetes.slices import Choice

    own = "server" not in options
    scheme, host, at = _server(options, shown, pod)
    token = None
    if "token_file" in options or (own and "cert" not in options):
        path = Path(options.get("token_file") or pod.folder / "token")
        if not path.is_file():
            what = f"{shown} needs the token of a service account, and there is none at {path}"
            raise StartError(what, fix=f"do not set automountServiceAccountToken: false {OUTSIDE}")
        if scheme == "http" and not is_loopback(host):
            raise StartError(f"{shown} would send a token in clear to {host}", fix="write https:// in server=")
        token = TokenFile(str(path), clock=means.clock)
    certificates = None
    if scheme == "https":
        from mizzen.edges.http import Certificates, TlsFiles

        ca = options.get("ca") or (str(pod.folder / "ca.crt") if own else None)
        settings = {part: f"{part}= of {shown.partition('?')[0]}" for part in ("ca", "cert", "key")}
        files = TlsFiles(ca=ca, cert=options.get("cert"), key=options.get("key"), settings=settings)
        certificates = Certificates(files, server=False)
    told = _told("endpointslices", options, namespace)
    call, pool = means.connection(host, at, told, certificates)
    resolver = KubernetesResolver(
        call,
        namespace=namespace,
        token=token,
        sleep=means.sleep,
        random=means.random,
        choice=Choice(port=port, tls=tls, zone=options.get("zone", means.zone)),
        name=name,
        clock=means.clock,
    )
    return Backend(told, resolver, None, (host, at), pool.close)


def _parts(url: str, shown: str) -> tuple[str, dict[str, str]]:
    try:
        parts = urlsplit(url)
        way = (parts.netloc + parts.path).strip("/")
    except ValueError:
        way = "?"
    else:
        if way in WAYS:
            return way, options_of(parts.query, shown, WAYS[way])
    ways = ", ".join(f"kubernetes:{way}" for way in WAYS)
    raise StartError(f"{shown!r} is no way to find services in Kubernetes", fix=f"there are {ways}")


def _given(options: Mapping[str, str], name: str, form: Pattern[str], shown: str) -> str:
    value = options.get(name, "")
    if value and not form.fullmatch(value):
        raise StartError(f"{shown} has {name}={value}", fix="it takes small letters, digits and - as names in Kubernetes do")
    return value


def _naming(options: Mapping[str, str], shown: str) -> Callable[[str], str]:
    """What the Service of a peer is called: the same, unless ``service`` says otherwise."""
    template = options.get("service", "{service}")
    if not _LABEL.fullmatch(template.replace("{service}", "x")):
        raise StartError(f"{shown} has service={template}", fix="it takes the name of a Service, or such as {service}-api")
    return lambda service: template.replace("{service}", service)


def _server(options: Mapping[str, str], shown: str, pod: _Pod) -> tuple[str, str, int]:
    if "server" not in options:
        own = pod.server()
        if own is None:
            raise StartError(f"{shown} is for pods, and KUBERNETES_SERVICE_HOST is not set", fix=OUTSIDE)
        return "https", *own
    server = options["server"]
    try:
        parts = urlsplit(server)
        host, port = parts.hostname, parts.port or PORTS[parts.scheme == "https"]
        if parts.path.strip("/") or parts.query or parts.username or parts.scheme not in ("http", "https"):
            host = None
    except ValueError:
        host, port, parts = None, 0, urlsplit("")
    if not host:
        fix = "such as https://10.0.0.1:6443, or http://127.0.0.1:8001 of kubectl proxy"
        raise StartError(f"{shown}: {hide_password(server)!r} is not the address of an API server", fix=fix)
    return parts.scheme, host, port


def _told(way: str, options: Mapping[str, str], namespace: str) -> str:
    """How logs and errors call it: an empty answer is most often one of the wrong namespace."""
    service = f"&service={options['service']}" if "service" in options else ""
    return f"kubernetes:{way}?namespace={namespace}{service}"


class _Pod:
    """What a container of a pod finds around it."""

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        self.folder = root / FOLDER
        self._resolv_conf = root / RESOLV_CONF
        self._environ = environ

    def server(self) -> tuple[str, int] | None:
        """Where the API server is; None outside of pods."""
        host = self._environ.get("KUBERNETES_SERVICE_HOST")
        if not host:
            return None
        port = self._environ.get("KUBERNETES_SERVICE_PORT", "")
        return host, int(port) if port.isdigit() else PORTS[True]

    def namespace(self) -> str:
        """Our own: of the service account, else, where pods have none of it, of their DNS."""
        return _text(self.folder / "namespace").strip() or self._searched()[0]

    def domain(self) -> str:
        """The cluster's, as its DNS says."""
        return self._searched()[1]

    def _searched(self) -> tuple[str, str]:
        if self.server() is None:  # some other machine's search list
            return "", ""
        found = _SEARCHED.search(_text(self._resolv_conf))
        return (found[1], found[2]) if found else ("", "")


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
