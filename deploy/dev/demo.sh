#!/usr/bin/env bash
# What `make demo` runs: from nothing to an alert. Installs what is missing, starts Kafka, indexer, enricher,
# correlator and collector as separate processes, runs programs in a fresh container, and compares the findings
# and alerts with what was done. Stops what it started.
#
# OUT=DIR keeps findings.jsonl, alerts.jsonl and alerts.ocsf.jsonl there (otherwise target/demo/out).
# VALIDATE=1 also has the OCSF messages validated by something that is not ours (needs Python and its registry).
# RECORDING=DIR also keeps the run as a recording there, with what it did and where it was made; nothing else may run in
# containers of this machine meanwhile.
# Without root or BTF the collector cannot run; a committed recording of a real run then takes its place.
set -euo pipefail
# shellcheck source=deploy/dev/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

out=${OUT:-$root/target/demo/out}
commit=$(git describe --always --dirty 2>/dev/null || echo unknown)
recording=loadtest/testdata/first-alert
export STACK_DIR=$root/target/demo/stack
# A prefix of its own, so that a stack that already runs on this Kafka does not mix in; a short session gap, so that
# the final revision comes while somebody watches.
DRIFTLINE_TOPIC_PREFIX=demo-$$-$(date +%s)
export DRIFTLINE_TOPIC_PREFIX
[[ -z ${RECORDING:-} ]] || export DRIFTLINE_NODE=node-1
export DRIFTLINE_CLUSTER=demo DRIFTLINE_PARTITIONS=3 DRIFTLINE_REPLICATION=1 DRIFTLINE_SESSION_GAP_S=${DRIFTLINE_SESSION_GAP_S:-4}

stop() {
  local code=$?
  trap - EXIT
  say "==> stopping what was started"
  # The services first: one that loses its topics ends with an error.
  deploy/dev/stack.sh down || code=1
  [[ -z ${KAFKA_BOOTSTRAP:-} ]] || "$bin_dir/driftline-loadtest" delete-topics 2>/dev/null || true
  [[ ${started_kafka:-no} == no ]] || deploy/dev/kafka.sh down --delete-own || code=1
  exit "$code"
}

# Keeps the topics that a replay needs, what was done, and where: DIR/{recording.avro,expected.json,PROVENANCE.md}.
keep_recording() {
  mkdir -p "$1"
  "$bin_dir/driftline" record --force "$1/recording.avro"
  cp "$out/expected.json" "$1/expected.json"
  cat >"$1/PROVENANCE.md" <<END
# Where this recording comes from

A run of the demo on a real machine, kept for machines that cannot load eBPF.

- made: $(date -u +%Y-%m-%d)
- command: \`RECORDING=${1#"$root/"} make demo\`
- commit: $commit
- kernel: $(uname -sr), $(uname -m)
- runtime: $(podman --version 2>/dev/null || docker --version)
- content: topics images, image-layers and exec-events, bytes verbatim; expected.json is what the run did
- scrubbed: the node is called node-1; no other host name is in it
END
}

deploy/dev/needs.sh demo
say "==> building (about ten minutes the first time)"
cargo build --workspace --locked

trap stop EXIT
started_kafka=no
if ! deploy/dev/kafka.sh status >/dev/null 2>&1; then
  started_kafka=yes
  deploy/dev/kafka.sh up
fi
KAFKA_BOOTSTRAP=$(deploy/dev/kafka.sh bootstrap)
export KAFKA_BOOTSTRAP

if can_load_ebpf; then
  deploy/dev/stack.sh up
  "$bin_dir/driftline-loadtest" demo --out "$out"
  [[ -z ${RECORDING:-} ]] || keep_recording "$RECORDING"
else
  say "==> not live: loading eBPF needs root and /sys/kernel/btf/vmlinux (user $(id -un), BTF" \
    "$([[ -r /sys/kernel/btf/vmlinux ]] && echo there || echo missing)); replaying the recording in $recording instead"
  STACK_PARTS="enricher correlator" deploy/dev/stack.sh up
  "$bin_dir/driftline" --prefix "$DRIFTLINE_TOPIC_PREFIX" replay "$recording/recording.avro"
  "$bin_dir/driftline-loadtest" demo-replayed "$recording/expected.json" --out "$out"
fi

if [[ ${VALIDATE:-} == 1 ]]; then
  say "==> the OCSF messages, read with another Kafka client, by an independent validator"
  deploy/dev/validate-ocsf.sh "$KAFKA_BOOTSTRAP" "$DRIFTLINE_TOPIC_PREFIX"
fi

say "==> the alert, as \`driftline alerts show\` prints it"
say ""
"$bin_dir/driftline" alerts show "$(<"$out/alert-id")"
say ""
say "==> look further: \`make up\`, then target/debug/driftline alerts tail (findings tail, topics list, --help)"
