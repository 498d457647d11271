#!/usr/bin/env bash
# Runs driftline's services on this node as separate background processes, on the Kafka of kafka.sh.
#
#   stack.sh up               create the topics, start the parts, return when each is ready
#   stack.sh status [--json]  say what runs (exit 1: nothing runs, or a part is not ready)
#   stack.sh down             stop them, the source of the data first; reports bad exit codes
#
# STACK_PARTS="indexer enricher correlator collector" selects parts; the collector and the node's
# indexer need root and BTF and are left out without. STACK_DIR (target/stack) holds for each part
# NAME.log, NAME.pid and NAME.telemetry (the URL). Where podman has no service yet, one is started for the
# collector, which may not run podman's command. DRIFTLINE_BIN_DIR (target/debug) has the binaries.
# Settings, passed on as they are when set: DRIFTLINE_TOPIC_PREFIX (driftline), DRIFTLINE_CLUSTER
# (dev), DRIFTLINE_NODE (this node's name), DRIFTLINE_PARTITIONS (3), DRIFTLINE_REPLICATION (1) and
# any other DRIFTLINE_*.
set -euo pipefail
# shellcheck source=deploy/dev/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

state=${STACK_DIR:-$root/target/stack}
all_parts=(indexer enricher correlator collector)
# The first port tried for a part's telemetry is this plus its place in the list above.
first_port=9461

ready_timeout_s=60
# A service has this long after SIGTERM to finish its work and leave its groups.
stop_timeout_s=20

usage() { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }

# --- one part ----------------------------------------------------------------------------------

telemetry() { [[ -s $state/$1.telemetry ]] && cat "$state/$1.telemetry"; }

# http_ok URL: 200 within two seconds.
http_ok() {
  local address path status
  if command -v curl >/dev/null; then
    [[ $(curl -s -m 2 -o /dev/null -w '%{http_code}' "$1") == 200 ]]
    return
  fi
  address=${1#http://} path=${1#http://*/}
  address=${address%%/*}
  # shellcheck disable=SC2016 # expanded by the inner bash
  status=$(timeout 2 bash -c 'exec 3<>"/dev/tcp/$1/$2" && printf "GET /%s HTTP/1.0\r\n\r\n" "$3" >&3 && read -r line <&3 && echo "$line"' \
    _ "${address%:*}" "${address#*:}" "$path" 2>/dev/null) || return 1
  [[ $status == "HTTP/1."?" 200"* ]]
}

# Prints ready, starting, exited(CODE) or stopped.
part_state() {
  local pid url
  if pid=$(recorded_pid "$state/$1"); then
    # The port's owner is asked for too: another checkout's service may answer on a port we lost.
    if url=$(telemetry "$1") && listens "$pid" "${url##*:}" && http_ok "$url/readyz"; then
      echo ready
    else
      echo starting
    fi
  elif [[ -s $state/$1.exit ]]; then
    echo "exited($(<"$state/$1.exit"))"
  else
    echo stopped
  fi
}

# Starts a binary and stays as its parent, so that its exit code can be told later by `down`.
# Arguments: the binary, and the base of the files about it.
# shellcheck disable=SC2016 # expanded by the inner bash
keep_exit_code='
  "$1" </dev/null >"$2.log" 2>&1 &
  echo $! >"$2.pid.new"
  mv "$2.pid.new" "$2.pid"
  code=0
  wait $! || code=$?
  echo "$code" >"$2.exit"'

start_part() {
  local name=$1 base=$state/$1 port
  forget_process "$base"
  rm -f "$base.exit" "$base.telemetry"
  port=$(free_part_port "$name") || die "no free port for the telemetry of $name"
  printf 'http://127.0.0.1:%s\n' "$port" >"$base.telemetry"
  # Its own session: an interrupt typed at the terminal stops the script, not the services.
  DRIFTLINE_TELEMETRY_ADDR=127.0.0.1:$port DRIFTLINE_STORE_DIR=${DRIFTLINE_STORE_DIR:-$state/images} \
    DRIFTLINE_SPOOL_DIR=${DRIFTLINE_SPOOL_DIR:-$state/spool} \
    setsid bash -c "$keep_exit_code" "driftline-$name (parent)" "$bin_dir/driftline-$name" "$base" \
    </dev/null >/dev/null 2>&1 8>&- 9>&- &
  wait_until 5 test -s "$base.pid" || die "driftline-$name could not be started"
  # Fails when it has ended already; its exit code then tells.
  record_process "$base" "$(<"$base.pid")" || wait_until 5 test -s "$base.exit" || true
}

# The parts are ten ports apart from their own next choice, so they do not take each other's.
free_part_port() {
  local i
  for i in "${!all_parts[@]}"; do
    [[ ${all_parts[i]} != "$1" ]] || free_port $((first_port + i)) 10
  done
}

# podman's command needs more capabilities than the collector keeps; podman's service does not run it.
start_podman_service() {
  local base=$state/podman-service socket=$state/podman.sock
  [[ -z ${DRIFTLINE_PODMAN_SOCKET:-} && ! -S /run/podman/podman.sock ]] || return 0
  command -v podman >/dev/null && [[ $(id -u) == 0 ]] || return 0
  export DRIFTLINE_PODMAN_SOCKET=$socket
  recorded_pid "$base" >/dev/null && return 0
  rm -f "$socket"
  setsid podman system service --time=0 "unix://$socket" </dev/null >"$base.log" 2>&1 8>&- 9>&- &
  record_process "$base" "$!" || return 0
  wait_until 10 test -S "$socket" || warn "podman's service does not answer; see $(shown "$base.log")"
}

stop_podman_service() {
  stop_recorded "$state/podman-service" 5 || true
  forget_process "$state/podman-service"
  rm -f "$state/podman.sock"
}

# --- the table -----------------------------------------------------------------------------------

# Paths inside the checkout are shown as one would type them there.
shown() { printf '%s' "${1#"$root"/}"; }

table_row() { printf "%-11s %-11s %-8s %-${log_width}s %s\n" "$@"; }

table_head() {
  log_width=$(shown "$state/correlator.log" | wc -m)
  table_row PART STATE PID LOG TELEMETRY
}

part_row() {
  table_row "$1" "$2" "$(recorded_pid "$state/$1" || echo -)" \
    "$(shown "$state/$1.log")" "$(telemetry "$1" || echo -)"
}

part_json() {
  printf '{"part":"%s","state":"%s","pid":%s,"log":"%s","telemetry":"%s"}' "$1" "$2" \
    "$(recorded_pid "$state/$1" || echo null)" \
    "$(printf '%s' "$state/$1.log" | sed 's/[\"]/\\&/g')" "$(telemetry "$1" || true)"
}

# --- commands ------------------------------------------------------------------------------------

# Sets `parts` in the order of all_parts.
select_parts() {
  local part
  parts=()
  for part in ${STACK_PARTS-${all_parts[*]}}; do
    [[ " ${all_parts[*]} " == *" $part "* ]] || die "STACK_PARTS has '$part'; the parts are: ${all_parts[*]}"
  done
  for part in "${all_parts[@]}"; do
    if [[ " ${STACK_PARTS-${all_parts[*]}} " == *" $part "* ]]; then parts+=("$part"); fi
  done
  if [[ -z ${STACK_PARTS+set} ]] && ! can_load_ebpf; then
    say "stack: no root or no BTF (/sys/kernel/btf/vmlinux): without the collector and the node's indexer"
    parts=(enricher correlator)
  fi
  ((${#parts[@]} > 0)) || die "STACK_PARTS selects nothing"
}

check_binaries() {
  local name
  for name in driftline "${parts[@]/#/driftline-}"; do
    [[ -x $bin_dir/$name ]] || die "$(shown "$bin_dir/$name") is missing; build it, for example with 'make up'"
  done
}

create_topics() {
  if ! bounded 70 "$bin_dir/driftline" topics create >"$state/topics.log" 2>&1; then
    cat "$state/topics.log" >&2
    die "the topics could not be created"
  fi
}

up() {
  local part parts bootstrap started=() waiting=() next
  select_parts
  check_binaries
  lock_state "$state"
  bootstrap=$("$root/deploy/dev/kafka.sh" bootstrap) || exit 1
  export KAFKA_BOOTSTRAP=$bootstrap
  export DRIFTLINE_TOPIC_PREFIX=${DRIFTLINE_TOPIC_PREFIX:-driftline}
  export DRIFTLINE_CLUSTER=${DRIFTLINE_CLUSTER:-dev}
  export DRIFTLINE_NODE=${DRIFTLINE_NODE:-$(uname -n)}
  export DRIFTLINE_PARTITIONS=${DRIFTLINE_PARTITIONS:-3}
  export DRIFTLINE_REPLICATION=${DRIFTLINE_REPLICATION:-1}
  create_topics

  trap 'stop_started "${started[@]}"' EXIT
  # Held to the end of the script, when every part has long been listening.
  lock_ports
  [[ " ${parts[*]} " != *" collector "* ]] || start_podman_service
  for part in "${parts[@]}"; do
    recorded_pid "$state/$part" >/dev/null && continue
    started+=("$part")
    start_part "$part"
  done
  table_head
  waiting=("${parts[@]}")
  local deadline=$((SECONDS + ready_timeout_s))
  while ((${#waiting[@]} > 0)); do
    next=()
    for part in "${waiting[@]}"; do
      case $(part_state "$part") in
        ready) part_row "$part" ready ;;
        starting) next+=("$part") ;;
        *) show_failure "$part" "ended before it was ready" ;;
      esac
    done
    waiting=("${next[@]}")
    ((${#waiting[@]} == 0 || SECONDS < deadline)) ||
      show_failure "${waiting[0]}" "was not ready within $ready_timeout_s s"
    ((${#waiting[@]} == 0)) || sleep 0.2
  done
  trap - EXIT
}

show_failure() {
  part_row "$1" "$(part_state "$1")"
  {
    say "--- the last lines of $(shown "$state/$1.log"):"
    tail -20 "$state/$1.log"
    say "---"
  } >&2
  die "$1 $2; the parts started now are stopped again"
}

# Whatever ended `up` before all was ready: stop what it started.
stop_started() {
  local part
  for part in "$@"; do
    stop_recorded "$state/$part" "$stop_timeout_s" || true
    forget_process "$state/$part"
    rm -f "$state/$part.exit" "$state/$part.telemetry"
  done
  [[ " $* " != *" collector "* ]] || stop_podman_service
}

down() {
  local part code failed=0 any=no
  lock_state "$state"
  # As the data flows, so that what the collector still sends is worked through.
  for part in collector indexer enricher correlator; do
    [[ -e $state/$part.pid ]] || continue
    any=yes
    stop_part "$part" || failed=1
  done
  stop_podman_service
  [[ $any == yes ]] || say "stack: nothing runs"
  return "$failed"
}

stop_part() {
  local base=$state/$1 since=$SECONDS ran=no killed=no code=
  if recorded_pid "$base" >/dev/null; then
    ran=yes
    stop_recorded "$base" "$stop_timeout_s" || killed=yes
  fi
  # Its parent writes the code a moment after the end. After a reboot there is none.
  [[ $ran == no ]] || wait_until 2 test -s "$base.exit" || true
  [[ ! -s $base.exit ]] || code=$(<"$base.exit")
  forget_process "$base"
  rm -f "$base.exit" "$base.telemetry"
  if [[ $killed == yes ]]; then
    say "stack: $1 did not stop within $stop_timeout_s s and was killed; see $(shown "$base.log")"
    return 1
  elif [[ ${code:-0} != 0 ]]; then
    [[ $ran == yes ]] || say "stack: $1 was not running any more"
    say "stack: $1 ended with exit code $code; see $(shown "$base.log")"
    return 1
  elif [[ $ran == yes ]]; then
    say "stack: $1 stopped after $((SECONDS - since)) s"
  else
    say "stack: $1 was not running"
  fi
}

status() {
  local part state_now any=no ready=yes rows=()
  [[ ${1:-} == --json || -z ${1:-} ]] || die "status takes --json or nothing, not '$1'"
  [[ -n ${1:-} ]] || table_head
  for part in "${all_parts[@]}"; do
    state_now=$(part_state "$part")
    # A part that was not selected does not count.
    if [[ -e $state/$part.pid ]]; then
      any=yes
      [[ $state_now == ready ]] || ready=no
    fi
    if [[ -n ${1:-} ]]; then
      rows+=("$(part_json "$part" "$state_now")")
    else
      part_row "$part" "$state_now"
    fi
  done
  [[ -z ${1:-} ]] || (IFS=, && printf '[%s]\n' "${rows[*]}")
  [[ $any == yes && $ready == yes ]]
}

case ${1:-} in
  up | down) "$1" ;;
  status) status "${2:-}" ;;
  -h | --help | help) usage ;;
  *)
    usage >&2
    exit 2
    ;;
esac
