"""Every registry that the fault matrix breaks; each is a column of its table."""

from .consul import ConsulClusterRig, ConsulRig
from .dns import DnsRig, DnsSrvRig
from .embedded import EmbeddedRig
from .etcd import Etcd35Rig, EtcdClusterRig, EtcdRig
from .kubernetes import KubernetesRig
from .rig import Rig

RIGS: tuple[type[Rig], ...] = (
    EmbeddedRig,
    ConsulRig,
    ConsulClusterRig,
    Etcd35Rig,
    EtcdRig,
    EtcdClusterRig,
    KubernetesRig,
    DnsRig,
    DnsSrvRig,
)

__all__ = [
    "RIGS",
    "ConsulClusterRig",
    "ConsulRig",
    "DnsRig",
    "DnsSrvRig",
    "EmbeddedRig",
    "Etcd35Rig",
    "EtcdClusterRig",
    "EtcdRig",
    "KubernetesRig",
    "Rig",
]
