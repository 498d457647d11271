#!/usr/bin/env bash
# What `make test` runs: every test of the workspace, on a real Kafka and, where this machine can load
# eBPF, on live containers. The last line is 'N passed, N failed, N skipped'.
#
#   test.sh            the whole workspace
#   test.sh ARG...     `cargo test` with these instead of --workspace, for example -p driftline-schemas
#
# A test that cannot run here says so by appending `name<TAB>reason` to the file $DRIFTLINE_SKIPPED and
# returning; with REQUIRE_LIVE=1 that is a failure. Leaves target/test.log, target/test.skipped and
# target/test.summary (the last line).
set -euo pipefail
# shellcheck source=deploy/dev/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

log=$root/target/test.log
summary=$root/target/test.summary
export DRIFTLINE_SKIPPED=$root/target/test.skipped

selection=("$@")
(($# > 0)) || selection=(--workspace)

mkdir -p "$root/target"
rm -f "$summary"
: >"$DRIFTLINE_SKIPPED"

needs=(build)
! can_load_ebpf || needs+=(live)
# Installing takes root; without it the tests that need them say so.
[[ $(id -u) != 0 ]] || needs+=(images)
deploy/dev/needs.sh "${needs[@]}"

started_kafka=no
if ! deploy/dev/kafka.sh status >/dev/null; then
  started_kafka=yes
  trap 'deploy/dev/kafka.sh down --delete-own' EXIT
  deploy/dev/kafka.sh up
fi
KAFKA_BOOTSTRAP=$(deploy/dev/kafka.sh bootstrap)
export KAFKA_BOOTSTRAP
say "test: Kafka at $KAFKA_BOOTSTRAP, log in target/test.log"

# Tests start the services as processes, and a test run alone does not build every binary.
cargo build --workspace --locked

# Every test runs even when an early one fails: the last line counts them all.
cargo_code=0
cargo test "${selection[@]}" --locked --no-fail-fast 2>&1 | tee "$log" || cargo_code=$?
# Now rather than in the trap, because the counts have to be the last line.
if [[ $started_kafka == yes ]]; then
  deploy/dev/kafka.sh down --delete-own
  trap - EXIT
fi

# "test result: ok. 5 passed; 0 failed; 1 ignored; ..." once for each test binary.
read -r passed failed ignored < <(
  awk '/^test result: / { p += $4; f += $6; i += $8 } END { print p + 0, f + 0, i + 0 }' "$log"
)
# One line for each test, even if it was run twice.
sort -t $'\t' -k1,1 -u -o "$DRIFTLINE_SKIPPED" "$DRIFTLINE_SKIPPED"
skipped=$(wc -l <"$DRIFTLINE_SKIPPED")

say ""
if ((skipped + ignored > 0)); then
  say "tests that did not run:"
  sed 's/^\([^\t]*\)\t/  \1: /' "$DRIFTLINE_SKIPPED"
  sed -n 's/^test \(.*\) \.\.\. \(ignored.*\)$/  \1: \2/p' "$log"
fi
# To cargo a test that skipped itself has passed.
((passed = passed > skipped ? passed - skipped : 0)) || true
if [[ ${REQUIRE_LIVE:-} == 1 ]] && ((skipped > 0)); then
  say "REQUIRE_LIVE=1: a test that skipped itself has failed"
  ((failed += skipped, skipped = 0)) || true
fi
if ((cargo_code != 0 && failed == 0)); then
  say "cargo test failed before or beside the tests, with code $cargo_code: see target/test.log"
  failed=1
elif ((passed + failed + skipped == 0)); then
  say "no test ran"
  failed=1
fi
say "$passed passed, $failed failed, $((skipped + ignored)) skipped" | tee "$summary"
((failed == 0))
