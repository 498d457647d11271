#!/usr/bin/env bash
# What `make chaos` runs: three enrichers and three correlators on three brokers of their own, faults from a seed, and an
# oracle. Needs root: brokers get networks and disks that can be taken from them.
#
#   chaos.sh --faults N --seed N [ARG...]    see `driftline-loadtest chaos --help`
#
# CHAOS_PROFILE=debug runs the binaries that the tests use, instead of release ones; CHAOS_BINARIES names a directory with
# others. Everything is in namespaces of its own, so nothing of it outlives the run. Results, and logs of batches that
# failed, are under target/chaos, or CHAOS_OUT. Exit code 1: something is wrong with the services; 2: the run failed.
set -euo pipefail
# shellcheck source=deploy/dev/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if [[ $(id -u) != 0 ]]; then
  warn "not run: chaos needs root, to cut networks and fill disks"
  exit "${REQUIRE_LIVE:-0}"
fi

deploy/dev/needs.sh build chaos
jars=$(deploy/dev/kafka.sh jars)
profile=${CHAOS_PROFILE:-release}
binaries=${CHAOS_BINARIES:-}
if [[ -z $binaries ]]; then
  case $profile in
    release) cargo build -q --locked --release -p driftline-enricher -p driftline-correlator -p driftline-loadtest ;;
    debug) cargo build -q --locked --workspace ;;
    *) die "CHAOS_PROFILE is '$profile'; it can be release or debug" ;;
  esac
  binaries=${CARGO_TARGET_DIR:-$root/target}/$profile
  # Seeds that find a planted bug are no reason to look at them again.
  set -- --failed-seeds "$root/loadtest/chaos-seeds.txt" "$@"
fi

out=${CHAOS_OUT:-$root/target/chaos}
mkdir -p "$out"
# A run that was stopped goes on only with the same sources.
build=$(git rev-parse HEAD 2>/dev/null || echo none)-$(git diff HEAD 2>/dev/null | cksum | cut -d' ' -f1)-$profile
exec unshare --net --mount --pid --fork --mount-proc --kill-child "$binaries/driftline-loadtest" chaos \
  --java "$(find_java)" --jars "$jars" --out "$out" --build "$build" "$@"
