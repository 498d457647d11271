#!/usr/bin/env bash
# What `make test-images` runs: random stacks of layers against podman and umoci, planted merge bugs that have to be
# noticed on the way, then the indexer's integration tests. Needs root: devices are made and images mounted.
#
#   test-images.sh STACKS [SEED]    so many stacks; or this one alone, with its members
set -euo pipefail
# shellcheck source=deploy/dev/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

stacks=${1:-2000} seed=${2:-}

if [[ $(id -u) != 0 ]]; then
  warn "not run: comparing images needs root, to make devices and to mount"
  exit "${REQUIRE_LIVE:-0}"
fi

deploy/dev/needs.sh build live images
cargo build -q --locked -p driftline-test-images
# Memory is three times as fast as a disk for what is written and removed at once.
scratch=/dev/shm
[[ -w $scratch ]] || scratch=${TMPDIR:-/tmp}

if [[ -n $seed ]]; then
  exec target/debug/driftline-test-images --scratch "$scratch" --seed "$seed" --verbose
fi
target/debug/driftline-test-images --scratch "$scratch" --seeds "$stacks" --plant all
cargo test -q --locked -p driftline-indexer --test indexer
