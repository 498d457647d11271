#!/usr/bin/env bash
# What `make test-kubernetes` runs: the collector's Kubernetes client against a real kube-apiserver with a real etcd, both on
# loopback. The first run compiles kube-apiserver from its Go module, about ten minutes on two cores; it stays in
# target/kubernetes. Needs Go 1.24 or newer.
set -euo pipefail
# shellcheck source=deploy/dev/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

server=$root/target/kubernetes/kube-apiserver

deploy/dev/needs.sh build kubernetes
if [[ ! -x $server ]]; then
  say "compiling kube-apiserver from its module"
  (cd deploy/dev/kube-apiserver && go build -trimpath -ldflags '-s -w' -o "$server" .)
fi
DRIFTLINE_KUBE_APISERVER=$server cargo test --locked -p driftline-engines --test live -- --ignored real_api_server
