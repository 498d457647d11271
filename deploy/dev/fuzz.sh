#!/usr/bin/env bash
# Feeds the indexer's readers with arbitrary bytes, which is `make fuzz`: each target of loadtest/fuzz/ for some seconds, from
# its corpus. What is found on the way is kept in target/fuzz-work/, so that the next run goes on from there.
#
#   fuzz.sh            every target for 60 s, or SECONDS_EACH
#   fuzz.sh TARGET...  these only
#
# Exits 1 when an input failed, which is then named, and 3 when nothing could be run for want of a tool.
set -euo pipefail
# shellcheck source=deploy/dev/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

targets=("$@")
((${#targets[@]} > 0)) || targets=(tar documents chunks registry)

missing() {
  echo "not run: $1" >&2
  exit 3
}
cargo +nightly --version >/dev/null 2>&1 || missing "no nightly Rust: rustup toolchain install nightly"
cargo +nightly fuzz --version >/dev/null 2>&1 ||
  cargo install --locked cargo-fuzz ||
  missing "no cargo-fuzz: cargo install --locked cargo-fuzz"

# The code is without unsafe, so what an address sanitizer could find is not worth half the speed.
cargo +nightly fuzz build --fuzz-dir loadtest/fuzz --sanitizer none --target-dir target/fuzz
host=$(rustc +nightly -vV | sed -n 's/^host: //p')

failed=0
for target in "${targets[@]}"; do
  work=target/fuzz-work/$target
  mkdir -p "$work/found"
  echo "==> $target for ${SECONDS_EACH:-60} s"
  if "target/fuzz/$host/release/$target" "$work/found" "loadtest/fuzz/corpus/$target" \
    -max_total_time="${SECONDS_EACH:-60}" -timeout=10 -rss_limit_mb=1024 -max_len=16384 \
    -artifact_prefix="$work/" -print_final_stats=1 >"$work/log" 2>&1; then
    grep -E 'stat::(number_of_executed_units|average_exec_per_sec|peak_rss_mb)' "$work/log"
  else
    grep -E 'panicked at|ERROR|SUMMARY|Test unit written' -A 2 "$work/log" || tail -n 20 "$work/log"
    failed=1
  fi
done
exit "$failed"
