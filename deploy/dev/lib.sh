# shellcheck shell=bash
# Shared by the scripts of deploy/dev, which source it after `set -euo pipefail`: where things are,
# which process is ours, which port is free. It prints nothing and starts nothing by itself.

# The checkout this file belongs to; every script works from there, wherever it was called from.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
cd "$root" || exit

# Where cargo puts the binaries of the profile that tests, lints and the demo share.
# shellcheck disable=SC2034 # used by the scripts that source this
bin_dir=${DRIFTLINE_BIN_DIR:-${CARGO_TARGET_DIR:-$root/target}/debug}

say() { printf '%s\n' "$*"; }
warn() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() {
  warn "$@"
  exit 1
}

# Is this a process that could load the collector's eBPF program?
can_load_ebpf() { [[ $(id -u) == 0 && -r /sys/kernel/btf/vmlinux ]]; }

# --- processes -------------------------------------------------------------------------------
# A pid alone does not say whose it is: after a reboot, or once it has been used again, it belongs
# to somebody else. So `BASE.pid` has the number (and nothing else, for `cat`), and `BASE.id` has
# the boot and the start time in ticks, which together name one process for ever.

# Prints the identity of a running process; fails when there is none (a zombie counts as none).
process_identity() {
  local stat fields boot
  { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
  # The command name, in parentheses, may itself hold spaces and parentheses: cut at the last one.
  read -ra fields <<<"${stat##*) }"
  [[ ${fields[0]} != [ZX] ]] || return 1
  boot=$(</proc/sys/kernel/random/boot_id)
  printf '%s %s\n' "$boot" "${fields[19]}"
}

# record_process BASE PID
record_process() {
  local identity
  identity=$(process_identity "$2") || return 1
  printf '%s\n' "$identity" >"$1.id"
  printf '%s\n' "$2" >"$1.pid"
}

# Prints the pid recorded under BASE if that very process still runs; fails otherwise.
recorded_pid() {
  local pid
  [[ -s $1.pid && -s $1.id ]] || return 1
  pid=$(<"$1.pid")
  [[ $pid =~ ^[0-9]+$ && $(process_identity "$pid") == "$(<"$1.id")" ]] || return 1
  printf '%s\n' "$pid"
}

forget_process() { rm -f "$1.pid" "$1.id"; }

# stop_recorded BASE SECONDS: SIGTERM, wait for the end, SIGKILL after SECONDS. Says nothing when it
# was not running; returns 1 when it had to be killed.
stop_recorded() {
  local base=$1 deadline=$((SECONDS + $2)) pid
  pid=$(recorded_pid "$base") || return 0
  kill -TERM "$pid" 2>/dev/null || true
  while recorded_pid "$base" >/dev/null; do
    if ((SECONDS >= deadline)); then
      kill -KILL "$pid" 2>/dev/null || true
      wait_until 5 not recorded_pid "$base" || true
      return 1
    fi
    sleep 0.1
  done
}

not() { ! "$@" >/dev/null; }

# wait_until SECONDS COMMAND...: polls until the command succeeds; fails when the time is over.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.1
  done
}

# --- ports -----------------------------------------------------------------------------------

port_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# free_port FIRST STEP: the first port from FIRST on, in steps of STEP, on which nobody listens.
free_port() {
  local port=$1 tries
  for ((tries = 0; tries < 200; tries++, port += $2)); do
    if port_free "$port"; then
      printf '%s\n' "$port"
      return 0
    fi
  done
  return 1
}

# listens PID PORT: does this process itself listen there? An answer on a port proves nothing when
# another checkout may have taken it first; the socket's owner does.
listens() {
  local hex inode
  printf -v hex '%04X' "$2"
  while read -r inode; do
    [[ -n $(find "/proc/$1/fd" -lname "socket:\[$inode\]" 2>/dev/null) ]] && return 0
  done < <(awk -v port=":$hex" \
    '$4 == "0A" && substr($2, length($2) - 4) == port { print $10 }' \
    "/proc/$1/net/tcp" "/proc/$1/net/tcp6" 2>/dev/null)
  return 1
}

# Between choosing a free port and listening on it another checkout could choose the same one. The
# callers hold this lock (one for each user of the machine) meanwhile; file descriptor 8.
lock_ports() {
  exec 8>"${XDG_RUNTIME_DIR:-/tmp}/driftline-ports-$(id -u).lock"
  flock -w 120 8 || die "another checkout has been starting for 120 s; look for a hanging kafka.sh or stack.sh"
}
unlock_ports() { exec 8>&-; }

# lock_state DIR: one `up` or `down` at a time in a checkout; file descriptor 9, held to the end.
lock_state() {
  mkdir -p "$1"
  exec 9>"$1/.lock"
  flock -w 180 9 || die "another ${0##*/} of this checkout has been busy for 180 s"
}

# bounded SECONDS COMMAND...: ends the command when the time is over. It stays in the foreground, so
# that an interrupt typed at the terminal reaches it, and it does not inherit the locks above, which
# would otherwise be held until the last child has gone.
bounded() { timeout --foreground "$@" 8>&- 9>&-; }

# --- Java ------------------------------------------------------------------------------------

# Prints the first Java of at least version 17; fails when there is none.
find_java() {
  local java version
  for java in ${JAVA_HOME:+"$JAVA_HOME/bin/java"} java /usr/lib/jvm/*/bin/java; do
    command -v "$java" >/dev/null || continue
    version=$("$java" -version 2>&1) || continue
    if [[ $version =~ version\ \"([0-9]+) ]] && ((BASH_REMATCH[1] >= 17)); then
      command -v "$java"
      return 0
    fi
  done
  return 1
}
