#!/usr/bin/env bash
# What `make chaos-bugs` runs: the services with one bug planted at a time, each of which chaos has to notice. Needs root.
#
#   chaos-bugs.sh FAULTS SEED [NAME...]    so many faults for each bug; loadtest/chaos-bugs/NAME.patch, all of them by default
#
# A bug is a patch on a copy of the tree, so that the services themselves have no switch for it.
set -euo pipefail
# shellcheck source=deploy/dev/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if [[ $(id -u) != 0 ]]; then
  warn "not run: chaos needs root, to cut networks and fill disks"
  exit "${REQUIRE_LIVE:-0}"
fi
(($# >= 2)) || die "which number of faults, and which seed?"
faults=$1 seed=$2
shift 2
names=("$@")
if (($# == 0)); then
  for file in loadtest/chaos-bugs/*.patch; do names+=("$(basename "$file" .patch)"); done
fi

deploy/dev/needs.sh build chaos
base=$root/target/chaos-bugs
mkdir -p "$base"
# What is compiled of other people's packages is used once more, without being copied.
if [[ ! -d $base/target && -d target/release ]]; then
  mkdir "$base/target"
  cp -al target/release "$base/target/release"
fi

# plant NAME: binaries with this bug in $base/NAME.
plant() {
  local name=$1 tree=$base/tree
  rm -rf "$tree" "${base:?}/$name"
  mkdir -p "$tree" "$base/$name"
  git ls-files -z | xargs -0 cp --parents --preserve=timestamps -t "$tree"
  # Not the repository around it: paths are the copy's own.
  (cd "$tree" && GIT_CEILING_DIRECTORIES=$base git apply -C1 "$root/loadtest/chaos-bugs/$name.patch") ||
    die "loadtest/chaos-bugs/$name.patch does not fit any more: plant the bug by hand and write the difference there"
  (cd "$tree" && CARGO_TARGET_DIR=$base/target \
    cargo build -q --locked --release -p driftline-enricher -p driftline-correlator -p driftline-loadtest)
  cp "$base"/target/release/driftline-{enricher,correlator,loadtest} "$base/$name"
}

missed=()
for name in "${names[@]}"; do
  say "=== $name: $(head -1 "loadtest/chaos-bugs/$name.patch")"
  plant "$name"
  code=0
  CHAOS_BINARIES=$base/$name CHAOS_OUT=$base/$name/out deploy/dev/chaos.sh --faults "$faults" --seed "$seed" || code=$?
  ((code == 1)) || missed+=("$name")
done
if ((${#missed[@]} > 0)); then die "not noticed: ${missed[*]}"; fi
say "chaos-bugs: ${#names[@]} planted, all noticed"
