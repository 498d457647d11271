#!/usr/bin/env bash
# What `make bench-collector` runs: a Kafka, and in turn the workload under nobody, the collector, and what else this
# distribution has. Needs root and BTF; says so where they are missing.
#
#   bench-collector.sh ROUNDS EXECS [JSON]
set -euo pipefail
# shellcheck source=deploy/dev/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

rounds=${1:-5} execs=${2:-20000} json=${3:-}

if ! can_load_ebpf; then
  warn "not run: loading eBPF needs root and a kernel with BTF"
  exit "${REQUIRE_LIVE:-0}"
fi
deploy/dev/needs.sh build kafka live peers
cargo build --release --locked -p driftline-collector -p driftline-loadtest
running=no
! deploy/dev/kafka.sh status >/dev/null || running=yes
trap '[[ $running == yes ]] || deploy/dev/kafka.sh down --delete-own >/dev/null' EXIT
deploy/dev/kafka.sh up
KAFKA_BOOTSTRAP=$(deploy/dev/kafka.sh bootstrap) DRIFTLINE_PARTITIONS=3 DRIFTLINE_TOPIC_PREFIX=bench \
  target/release/driftline-loadtest bench-collector --rounds "$rounds" --execs "$execs" ${json:+--json "$json"}
