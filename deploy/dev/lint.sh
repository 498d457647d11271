#!/usr/bin/env bash
# What `make lint` checks: formatting, clippy, and the rules of the code's shape that no compiler knows.
#
#   lint.sh            every check, to the end; fails when one failed
#   lint.sh NAME...    these checks only
#   lint.sh --list     their names
set -euo pipefail
# shellcheck source=deploy/dev/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# In the order in which they run, the quick ones first. Each is the function `check_NAME`, with
# underscores: it prints what is wrong and fails.
checks=(fmt shell traces kafka-version bugs file-length unsafe kafka-client avro-codec
  imports words pure-settings pure-dependencies licences clippy)

# Files of the repository, also those not yet added; the arguments are git's patterns.
files() {
  local file
  while IFS= read -r -d '' file; do
    [[ ! -f $file ]] || printf '%s\n' "$file"
  done < <(git ls-files -z --cached --others --exclude-standard -- "$@") | sort -u
}

# Fails when its input has lines, and shows them under the given words.
refuse() {
  local found
  found=$(cat)
  [[ -n $found ]] || return 0
  printf '%s\n%s\n' "$1:" "$found"
  return 1
}

# grep_files PATTERN: grep with numbers over the files named on standard input; none found is fine.
grep_files() {
  local listed
  mapfile -t listed
  ((${#listed[@]} == 0)) || grep -HnE -- "$1" "${listed[@]}" || (($? == 1))
}

# Drops lines that are comments only, from grep's FILE:LINE:TEXT.
without_comments() { grep -vE '^[^:]*:[0-9]+:[[:space:]]*(//|#)' || true; }

# --- tools -------------------------------------------------------------------------------------

check_fmt() { cargo fmt --all --check; }

# The same profile as build, test and demo, so that what they compiled is used.
check_clippy() { cargo clippy --workspace --all-targets --locked -- -D warnings; }

check_shell() {
  local scripts
  mapfile -t scripts < <(files '*.sh' .ci/run)
  shellcheck --external-sources "${scripts[@]}"
}

# --- the whole repository ----------------------------------------------------------------------

# Absolute paths of the machine where something was made do not help anybody else.
check_traces() {
  files ':!Cargo.lock' | grep_files '(^|[^A-Za-z0-9_.})>])/(work|root)/' | refuse "a path of one machine"
}

check_kafka_version() {
  local java docker
  java=$(sed -n 's/.*<kafka.version>\(.*\)<.*/\1/p' deploy/dev/kafka-pom.xml)
  docker=$(sed -n 's/^ *image: *apache\/kafka:\(.*\)$/\1/p' docker-compose.yml)
  [[ -n $java && $java == "$docker" ]] && return 0
  say "kafka-pom.xml pins Kafka '$java', docker-compose.yml '$docker'"
  return 1
}

# Bugs that chaos plants have to fit the sources they are planted in.
check_bugs() {
  local patch status=0
  for patch in loadtest/chaos-bugs/*.patch; do
    git apply --check "$patch" || status=1
  done
  return $status
}

# --- Rust sources ------------------------------------------------------------------------------

max_file_lines=500

# A file is as long as its code: a closing `#[cfg(test)] mod … { … }` does not count, nor do files of
# tests. One awk for all files; `ends` is where such a block, if it is the last thing, begins.
check_file_length() {
  local sources
  mapfile -t sources < <(files '*.rs' ':(exclude,glob)**/tests/**' ':(exclude,glob)**/tests.rs')
  ((${#sources[@]} > 0)) || return 0
  awk -v max="$max_file_lines" '
    function finish() {
      length_without = (state == "closed") ? begins - 1 : lines
      if (length_without > max) print "  " name ": " length_without
    }
    FNR == 1 { if (name != "") finish(); name = FILENAME; state = ""; lines = 0 }
    { lines = FNR }
    /^#\[cfg\(test\)\]/              { begins = FNR; state = "attribute"; next }
    state == "attribute" && /^#\[/   { next }
    state == "attribute"             { state = /^mod [a-z_]+ \{/ ? "open" : "" }
    state == "open" && /^\}/         { state = "closed"; next }
    state == "closed" && /[^ \t]/    { state = "" }
    END { finish() }
  ' "${sources[@]}" | refuse "more than $max_file_lines lines without tests"
}

check_unsafe() {
  files '*.rs' ':!collector/bpf/' | grep_files '\bunsafe\b' | without_comments |
    refuse "unsafe outside collector/bpf"
}

# Two files of a package that import each other are one file, or have a third in common. Tests may know anything.
check_imports() {
  local sources
  mapfile -t sources < <(files ':(glob)**/src/**/*.rs' ':(exclude,glob)**/tests/**' ':(exclude,glob)**/tests.rs')
  awk -f deploy/dev/imports.awk "${sources[@]}" | sort | refuse "files that import each other"
}

# Words that the project no longer uses in names, metrics and output, each for the folders of its section.
retired_words=deploy/dev/retired-words.txt

check_words() {
  local line folders=()
  while IFS= read -r line; do
    case $line in
      '' | '#'*) ;;
      '['*']') read -ra folders <<<"${line:1:-1}" ;;
      *) files "${folders[@]/%//*.rs}" | grep_files "$line" | grep_code "$line" ;;
    esac
  done <"$retired_words" | sort -u | refuse "retired words, see $retired_words"
}

# Of grep's FILE:LINE:TEXT the lines in which the pattern stands before any comment. Names and texts of schemas that are frozen stay.
grep_code() {
  sed -E 's,^([^:]*:[0-9]+:)(.*[[:space:]])?//.*,\1\2,; /serde\(rename|^schemas\/generate\/src\/tables\//d' | grep -E "^[^:]*:[0-9]+:.*($1)" || (($? == 1))
}

# One package speaks to the Kafka client, one to the Avro codec. The root's Cargo.toml names their
# versions for the workspace.
check_kafka_client() { only_in service/kafka 'rdkafka|rdkafka-sys|rdkafka_sys'; }
check_avro_codec() { only_in schemas 'serde_avro_fast|serde_avro_derive|apache_avro|apache-avro'; }

# only_in FOLDER NAMES
only_in() {
  {
    files '*Cargo.toml' ':!Cargo.toml' ":!$1/" | grep_files "(^|[^-_[:alnum:]])($2)([^-_[:alnum:]]|\$)"
    files '*.rs' ":!$1/" | grep_files "\b($2)(::|;| as )"
  } | without_comments | refuse "named outside $1"
}

# --- the pure packages -------------------------------------------------------------------------

# Directories of the packages that design calls pure: below a core/ directory, the detectors and the formats.
pure_packages() {
  files '*Cargo.toml' | sed -n 's|/Cargo\.toml$||p' | grep -E '(^|/)core(/|$)|^(correlator/formats|detection)$' || true
}

package_name() { sed -n '/^\[package\]/,/^\[[^p]/s/^name *= *"\(.*\)"/\1/p' "$1/Cargo.toml"; }

pure_settings=service/core/clippy.toml

check_pure_settings() {
  {
    local package
    for package in $(pure_packages); do
      cmp -s "$package/clippy.toml" "$pure_settings" ||
        say "  $package/clippy.toml: has to be a link to or a copy of $pure_settings"
    done
    # Clippy reads one file only, so the stricter one has to say again what the root's says.
    grep -vxFf <(entries "$pure_settings") <(entries .clippy.toml) |
      sed "s|.*|  $pure_settings: lacks the root's &|" || true
  } | refuse "clippy settings of the pure packages"
}

# The entries of a clippy.toml without their reasons.
entries() { sed -n 's/^ *{ *path = \("[^"]*"\).*/\1/p; s/^\([a-z-]* = [a-z0-9]*\)$/\1/p' "$1"; }

# What a pure package may name directly, besides other pure packages.
pure_allowed=' crc32fast driftline-schemas driftline-service-core indexmap memchr regex serde serde_bytes serde_json sha2 smallvec thiserror '
# What must not be reachable from one at all: I/O, runtimes, clients, stores, randomness.
pure_refused='(.*-sys|tokio(-.*)?|rdkafka|hyper(-.*)?|rand(_.*)?|getrandom|moka|redb|libc|nix|rustix)'

check_pure_dependencies() {
  local packages package dependency name names=' ' tree
  mapfile -t packages < <(pure_packages)
  for package in "${packages[@]}"; do names+="$(package_name "$package") "; done
  # One fixed target, or the answer would depend on the machine that asks.
  tree=(cargo tree --locked --edges normal --target x86_64-unknown-linux-gnu --prefix none --format '{p}')
  for name in $names; do
    # The lock file is checked here once more: a failing cargo must not look like an empty tree.
    "${tree[@]}" --package "$name" --depth 1 >"$scratch/direct"
    # The codec names rand for the sync markers of container files; schemas alone uses it, and not that.
    "${tree[@]}" --package "$name" --prune serde_avro_fast >"$scratch/all"
    while read -r dependency _; do
      [[ $pure_allowed$names == *" $dependency "* ]] || say "  $name names $dependency"
    done < <(tail -n +2 "$scratch/direct")
    cut -d' ' -f1 "$scratch/all" | sort -u | grep -xE "$pure_refused" | sed "s/^/  $name reaches /" || true
  done >"$scratch/impure"
  refuse "dependencies that a pure package must not have" <"$scratch/impure"
}

# --- licences ----------------------------------------------------------------------------------

# SPDX names that an Apache-2.0 project may link and ship.
licences_allowed='Apache-2.0 MIT MIT-0 BSD-2-Clause BSD-3-Clause ISC Zlib Unicode-3.0 Unicode-DFS-2016 CC0-1.0 Unlicense MPL-2.0 0BSD BSL-1.0 CDLA-Permissive-2.0 Apache-2.0_WITH_LLVM-exception'

check_licences() {
  cargo tree --locked --workspace --edges normal,build --prefix none --format '{p}|{l}' >"$scratch/licences"
  sed 's/ (\*)$//' "$scratch/licences" | sort -u | awk -F'|' -v allowed="$licences_allowed" '
    # SPDX: AND binds more tightly than OR; the old "/" means OR; "X WITH Y" is one licence.
    function any(  ok) { ok = every(); while (token[at] == "OR") { at++; if (every()) ok = 1 } return ok }
    function every(  ok) { ok = one(); while (token[at] == "AND") { at++; if (!one()) ok = 0 } return ok }
    function one(  ok) {
      if (token[at] != "(") return (token[at++] in fine)
      at++; ok = any(); ok = ok && token[at] == ")"; at++
      return ok
    }
    BEGIN { n = split(allowed, names, " "); for (i = 1; i <= n; i++) fine[names[i]] }
    $1 != "" {
      text = $2
      gsub(/\//, " OR ", text); gsub(/ WITH /, "_WITH_", text); gsub(/[()]/, " & ", text)
      delete token
      n = split(text, token, " "); at = 1
      if (n == 0 || !any() || at <= n) print "  " $1 ": " ($2 == "" ? "no licence stated" : $2)
    }' | refuse "licences outside the list in lint.sh"
}

# --- running -----------------------------------------------------------------------------------

# Seconds with one digit, from microseconds.
seconds() { printf '%d.%d s' $(($1 / 1000000)) $(($1 / 100000 % 10)); }

now_us() { printf '%s' "${EPOCHREALTIME/[.,]/}"; }

# Of each failed check; a first clippy run over new code can print far more than anybody reads.
max_shown_lines=400

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

if [[ ${1:-} == --list ]]; then
  printf '%s\n' "${checks[@]}"
  exit 0
fi
selected=("$@")
(($# > 0)) || selected=("${checks[@]}")
failed=()
for name in "${selected[@]}"; do
  [[ " ${checks[*]} " == *" $name "* ]] || die "no check '$name'; 'lint.sh --list' names them"
  printf '%-18s ' "$name"
  since=$(now_us)
  # A subshell of its own, not in a condition, keeps `set -e` working inside the check.
  set +e
  (
    set -e
    "check_${name//-/_}"
  ) >"$scratch/output" 2>&1
  code=$?
  set -e
  if ((code == 0)); then
    printf 'ok      %8s\n' "$(seconds $(($(now_us) - since)))"
  else
    printf 'FAILED  %8s\n' "$(seconds $(($(now_us) - since)))"
    sed -n "1,$max_shown_lines s/^/    /p" "$scratch/output"
    hidden=$(($(wc -l <"$scratch/output") - max_shown_lines))
    ((hidden <= 0)) || say "    ... $hidden more lines"
    failed+=("$name")
  fi
done
if ((${#failed[@]} > 0)); then
  say "lint: ${#failed[@]} of ${#selected[@]} checks failed: ${failed[*]}"
  exit 1
fi
say "lint: ${#selected[@]} checks passed"
