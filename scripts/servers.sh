#!/bin/sh
# Build the real registries that the tests talk to, by pinned module versions, into a cache outside this tree.
#
#   scripts/servers.sh          builds what is missing (about 15 minutes the first time) and prints the folder
#   scripts/servers.sh where    prints the folder only
#
# A server is built again when its recipe (scripts/servers/NAME) changes. MIZZEN_SERVERS names another folder, for
# machines that bring their own binaries: consul, etcd, coredns, kube-apiserver, prometheus.
set -eu
cd "$(dirname "$0")/servers"

cache=${MIZZEN_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/mizzen/servers}
if [ "${1:-}" = where ]; then
    echo "$cache"
    exit
fi
mkdir -p "$cache"

command -v go >/dev/null || {
    echo 'error: no go found; the servers are built from their Go modules' >&2
    echo "  fix: install Go 1.24 or later, or put consul, etcd, coredns, kube-apiserver and prometheus into $cache" >&2
    exit 1
}
# A server's own processes must not hold the machine's C library: CGO off makes static executables.
# -mod=readonly: a build takes what go.mod and go.sum name, and changes neither.
GOFLAGS='-trimpath -buildvcs=false -mod=readonly' CGO_ENABLED=0 GOWORK=off
export GOFLAGS CGO_ENABLED GOWORK

build() {
    name=$1 package=$2 tags=${3:-}
    recipe="$(cat "$name"/go.mod "$name"/*.go | cksum)$tags"
    if [ -x "$cache/$name" ] && [ "$(cat "$cache/.$name.recipe" 2>/dev/null)" = "$recipe" ]; then return; fi
    echo "building $name" >&2
    # Built beside its place and moved there: an interrupted build leaves no half of a server.
    (cd "$name" && go build -tags "$tags" -ldflags '-s -w' -o "$cache/.$name.new" "$package")
    mv "$cache/.$name.new" "$cache/$name"
    printf '%s' "$recipe" >"$cache/.$name.recipe"
}

build coredns .
build etcd .
build consul github.com/hashicorp/consul
build kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver
build prometheus github.com/prometheus/prometheus/cmd/prometheus 'remove_all_sd enable_consul_sd'
echo "$cache"
