#!/usr/bin/env bash
# What `make test-collector` runs: the collector's tests on a real Kafka, in real containers of podman, Docker and containerd.
# At the end: the tables of cases, what ran, what was left out and why, and the time it took.
#
#   DRIFTLINE_CHURN=5000  as many containers come and go, instead of 1,000
set -euo pipefail
# shellcheck source=deploy/dev/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

export DRIFTLINE_TABLE=$root/target/test-collector.tables
mkdir -p "$root/target"
: >"$DRIFTLINE_TABLE"
since=$SECONDS code=0
deploy/dev/test.sh -p driftline-collector-core -p driftline-engines -p driftline-collector || code=$?

printf '\nlive tests that ran, in containers or on this kernel:\n'
awk -F '\t' 'FILENAME == ARGV[1] { left_out[$1]; next } { name = $1; sub(/.*::/, "", name) } !(name in left_out) { print "  " $1 }' \
  target/test.skipped <(sed -n '/Running tests\/live/,/^test result/s/^test \(.*\) \.\.\. ok$/\1/p' target/test.log | sort)
printf '\n'
cat "$DRIFTLINE_TABLE"
printf 'left out:\n'
sed 's/^\([^\t]*\)\t/  \1: /' target/test.skipped
say "  a program that nsenter of the node runs in a container without joining its cgroup: it is a program of the node's"
say "  Docker's own daemon in a container: its overlay, cgroup and namespaces are made by hand; CRI-O: it cannot be had here"
say "test-collector: $(cat target/test.summary), $((SECONDS - since)) s"
exit "$code"
