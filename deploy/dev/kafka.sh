#!/usr/bin/env bash
# The Kafka that development, tests and the demo use; called by the Makefile and the other scripts here.
#
#   kafka.sh up                 start it, or find it running; returns when a client gets metadata
#   kafka.sh status             say what runs (exit 1: nothing)
#   kafka.sh jars               print where Kafka's jars are, once they are there
#   kafka.sh bootstrap          print the address for clients (exit 1: none)
#   kafka.sh down               stop what `up` started, and nothing else; data and jars stay
#   kafka.sh down --delete-data the same, and delete the data
#   kafka.sh down --delete-own  the same, and delete the data unless it was there before that `up`
#
# Three modes, tried in this order unless KAFKA_MODE names one:
#   external  KAFKA_BOOTSTRAP is set: that Kafka is used, nothing is started
#   docker    the service of docker-compose.yml, when a Docker engine with compose answers and the
#             image is there or arrives within a minute
#   java      a single node run by this machine's Java, its jars resolved from Maven Central
# State, data and logs are under target/kafka, so each checkout has its own Kafka; KAFKA_STATE names another
# place, for one more (java mode only).
# KAFKA_PORT moves the first port tried (19092), KAFKA_HEAP_OPTS the JVM's heap.
set -euo pipefail
# shellcheck source=deploy/dev/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

state=${KAFKA_STATE:-$root/target/kafka}
jars=$root/target/kafka/jars
pom=$root/deploy/dev/kafka-pom.xml
compose_file=$root/docker-compose.yml
first_port=${KAFKA_PORT:-19092}

# A cold JVM on a busy two-core machine listens after 6 to 7 s; ten times that is a failure.
listen_timeout_s=60
metadata_timeout_s=60
# The broker flushes and closes its logs in about 2 s.
stop_timeout_s=30
# The whole download is 54 MB; with nothing cached it takes about 10 s on a fast line.
resolve_timeout_s=240
pull_timeout_s=60

usage() { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }

# --- what runs already -----------------------------------------------------------------------

recorded() { [[ -s $state/$1 ]] && cat "$state/$1"; }

# Prints the mode of the Kafka that this checkout started and that still runs.
running_mode() {
  case $(recorded mode) in
    java) recorded_pid "$state/broker" >/dev/null && echo java ;;
    docker) [[ -n $(bounded 20 docker ps -q --filter "label=com.docker.compose.project=$(project)" 2>/dev/null) ]] && echo docker ;;
    *) return 1 ;;
  esac
}

publish() {
  printf '%s\n' "$2" >"$state/bootstrap"
  printf '%s\n' "$1" >"$state/mode"
}

# --- which mode ------------------------------------------------------------------------------

# Sets `mode`, and `why`: what kept the earlier ones from being chosen.
choose_mode() {
  why=
  case ${KAFKA_MODE:-} in
    external)
      [[ -n ${KAFKA_BOOTSTRAP:-} ]] ||
        die "KAFKA_MODE=external needs KAFKA_BOOTSTRAP=host:port[,host:port]"
      mode=external
      ;;
    docker)
      docker_usable || die "KAFKA_MODE=docker is not possible: $docker_problem. Start or install the engine, or use KAFKA_MODE=java"
      mode=docker
      ;;
    java) mode=java ;;
    "")
      if [[ -n ${KAFKA_BOOTSTRAP:-} ]]; then
        mode=external
      elif docker_usable; then
        mode=docker why=" (external: KAFKA_BOOTSTRAP is not set)"
      else
        mode=java why=" (external: KAFKA_BOOTSTRAP is not set; docker: $docker_problem)"
      fi
      ;;
    *) die "KAFKA_MODE is '$KAFKA_MODE'; it can be external, docker or java, or stay unset" ;;
  esac
}

# --- waiting for metadata ----------------------------------------------------------------------

# Ready means that a client is told the cluster's topics, not that a line stands in a log.
driftline_binary() {
  local binary=${DRIFTLINE_BIN:-$bin_dir/driftline}
  [[ -x $binary ]] && printf '%s\n' "$binary"
}

# await_metadata MODE BOOTSTRAP
await_metadata() {
  local binary
  if binary=$(driftline_binary); then
    if KAFKA_BOOTSTRAP=$2 bounded $((metadata_timeout_s + 10)) \
      "$binary" topics wait --timeout-s "$metadata_timeout_s" >"$state/await.log" 2>&1; then
      return 0
    fi
    # A binary from an older checkout may not know the command; Kafka's own client then decides.
    [[ $1 != external ]] || { cat "$state/await.log" >&2 && return 1; }
  fi
  case $1 in
    java)
      printf 'default.api.timeout.ms=%s\n' $((metadata_timeout_s * 1000)) >"$state/client.properties"
      bounded $((metadata_timeout_s + 10)) "$java" -Xmx64m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC \
        -Dlog4j2.configurationFile="$state/log4j2.properties" -cp "$jars/*" \
        org.apache.kafka.tools.TopicCommand --bootstrap-server "$2" --list \
        --command-config "$state/client.properties" >"$state/await.log" 2>&1
      ;;
    docker)
      wait_until "$metadata_timeout_s" docker_lists_topics "$2" >"$state/await.log" 2>&1
      ;;
    external)
      # Without a client at hand the least that can be asked is that somebody listens.
      local first=${2%%,*}
      # shellcheck disable=SC2016 # expanded by the inner bash
      bounded 10 bash -c 'exec 3<>"/dev/tcp/$1/$2"' _ "${first%:*}" "${first##*:}" 2>"$state/await.log"
      ;;
  esac
}

# --- docker ------------------------------------------------------------------------------------

project() { printf 'driftline-%s\n' "$(printf '%s' "$root" | cksum | cut -d' ' -f1)"; }

# The engine's own plugin or the older separate program; both read the same file.
compose() {
  local tool=(docker compose)
  docker compose version >/dev/null 2>&1 || tool=(docker-compose)
  KAFKA_PORT=$port bounded 120 "${tool[@]}" -p "$(project)" -f "$compose_file" "$@"
}

docker_lists_topics() {
  compose exec -T kafka /opt/kafka/bin/kafka-topics.sh --bootstrap-server "$1" --list
}

# Sets `docker_problem` when it cannot be used.
docker_usable() {
  local image
  if ! command -v docker >/dev/null; then
    docker_problem="no docker command"
  elif ! bounded 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; then
    docker_problem="no Docker engine answers"
  elif ! docker compose version >/dev/null 2>&1 && ! docker-compose version >/dev/null 2>&1; then
    docker_problem="the engine answers, but there is neither 'docker compose' nor 'docker-compose'"
  else
    image=$(sed -n 's/^ *image: *\(apache\/kafka:.*\)$/\1/p' "$compose_file")
    bounded 10 docker image inspect "$image" >/dev/null 2>&1 && return 0
    say "kafka: pulling $image (at most $pull_timeout_s s)"
    bounded "$pull_timeout_s" docker pull -q "$image" >/dev/null 2>&1 && return 0
    docker_problem="the image $image is not here and did not arrive within $pull_timeout_s s"
  fi
  return 1
}

start_docker() {
  lock_ports
  port=$(free_port "$first_port" 10) || die "no free port from $first_port on"
  if [[ -z $(compose ps -aq 2>/dev/null) ]]; then : >"$state/data.own"; else rm -f "$state/data.own"; fi
  say "kafka: starting the service of docker-compose.yml on 127.0.0.1:$port"
  trap abandon_docker EXIT
  compose up -d || die "the service of docker-compose.yml could not be started; compose's words stand above"
  unlock_ports
  if ! await_metadata docker "127.0.0.1:$port"; then
    compose logs --tail 20 >&2 || true
    die "the container did not answer within $metadata_timeout_s s; its last lines stand above"
  fi
  publish docker "127.0.0.1:$port"
  trap - EXIT
}

# Whatever ended `up` before Kafka was ready: leave nothing behind.
abandon_docker() { compose down -v >/dev/null 2>&1 || true; }

# --- java --------------------------------------------------------------------------------------

resolve_jars() {
  local attempt pid started=$SECONDS log=$state/resolve.log
  # Which pom the jars came from: another one resolves anew.
  if [[ -f $jars/.resolved ]] && cmp -s "$jars/.resolved" "$pom"; then
    return 0
  fi
  say "kafka: resolving Kafka $(kafka_version) from Maven Central (about 54 MB, once)"
  for attempt in 1 2; do
    rm -rf "$jars"
    timeout "$resolve_timeout_s" mvn -B -f "$pom" dependency:copy-dependencies \
      -DincludeScope=runtime -DoutputDirectory="$jars" >"$log" 2>&1 </dev/null 8>&- 9>&- &
    pid=$!
    # shellcheck disable=SC2064 # this pid, now
    trap "kill $pid 2>/dev/null" EXIT
    while kill -0 "$pid" 2>/dev/null; do
      wait_until 3 not kill -0 "$pid" 2>/dev/null ||
        say "kafka:   $(grep -c Downloaded "$log" || true) files after $((SECONDS - started)) s"
    done
    trap - EXIT
    if wait "$pid"; then
      cp "$pom" "$jars/.resolved"
      say "kafka: $(find "$jars" -name '*.jar' | wc -l) jars in $((SECONDS - started)) s"
      return 0
    fi
    ((attempt == 2)) || say "kafka: that failed, trying once more"
  done
  grep -m 5 ERROR "$log" >&2 || tail -5 "$log" >&2
  rm -rf "$jars"
  die "Kafka could not be resolved; see $log, or set KAFKA_BOOTSTRAP to a Kafka that is there"
}

kafka_version() { sed -n 's/.*<kafka.version>\(.*\)<.*/\1/p' "$pom"; }

write_settings() {
  # One node: everything Kafka would replicate three times is kept once, in few partitions.
  # 12 MB for a message, so that a test can produce a hostile record of 10 MB.
  cat >"$state/server.properties" <<EOF
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller_port
advertised.listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller_port
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:$controller_port
log.dirs=$state/data
auto.create.topics.enable=false
message.max.bytes=12582912
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
EOF
  cat >"$state/log4j2.properties" <<'EOF'
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{ISO8601} %-5p %m (%c{1})%n
rootLogger.level=warn
rootLogger.appenderRef.console.ref=console
logger.server.name=kafka.server
logger.server.level=info
EOF
}

format_data() {
  local id
  rm -f "$state/data.own"
  [[ ! -e $state/data/meta.properties ]] || return 0
  : >"$state/data.own"
  # A cluster id is 16 random bytes in URL-safe base64; a leading '-' would read as an option.
  until id=$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=') && [[ $id != -* ]]; do :; done
  bounded 60 "$java" -Xmx64m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$jars/*" \
    kafka.tools.StorageTool format --standalone -t "$id" -c "$state/server.properties" \
    >"$state/format.log" 2>&1 ||
    die "the data directory could not be formatted; see $state/format.log"
}

start_java() {
  local heap pid
  "$root/deploy/dev/needs.sh" kafka
  java=$(find_java)
  resolve_jars
  read -ra heap <<<"${KAFKA_HEAP_OPTS:--Xms128m -Xmx256m}"

  lock_ports
  # Kept data remembers its port as the cluster's own address: take that one again when it is free.
  port=$(recorded port) && port_free "$port" && port_free $((port + 1)) || port=$first_port
  until port=$(free_port "$port" 10) && port_free $((port + 1)); do
    ((port < 65000)) || die "no free pair of ports from $first_port on"
    port=$((port + 10))
  done
  controller_port=$((port + 1))
  write_settings
  format_data
  say "kafka: starting Kafka $(kafka_version) on 127.0.0.1:$port with $java"

  # Its own session: an interrupt typed at the terminal stops the script, not the broker.
  setsid "$java" "${heap[@]}" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.awt.headless=true \
    -Dlog4j2.configurationFile="$state/log4j2.properties" -cp "$jars/*" \
    kafka.Kafka "$state/server.properties" </dev/null >"$state/broker.log" 2>&1 8>&- 9>&- &
  pid=$!
  trap abandon_java EXIT
  record_process "$state/broker" "$pid" || true
  wait_until "$listen_timeout_s" broker_listens_or_ended || true
  unlock_ports
  recorded_pid "$state/broker" >/dev/null || give_up "the broker ended at once"
  listens "$pid" "$port" || give_up "the broker did not listen within $listen_timeout_s s"
  await_metadata java "127.0.0.1:$port" || give_up "no client got metadata within $metadata_timeout_s s"
  printf '%s\n' "$port" >"$state/port"
  publish java "127.0.0.1:$port"
  trap - EXIT
}

broker_listens_or_ended() {
  local pid
  pid=$(recorded_pid "$state/broker") || return 0
  listens "$pid" "$port" && listens "$pid" "$controller_port"
}

give_up() {
  tail -20 "$state/broker.log" >&2
  die "$1; its last lines stand above, the rest in $state/broker.log"
}

# The same for the broker.
abandon_java() {
  stop_recorded "$state/broker" "$stop_timeout_s" || true
  forget_process "$state/broker"
}

# --- commands ----------------------------------------------------------------------------------

up() {
  local mode why running bootstrap docker_problem
  lock_state "$state"
  if running=$(running_mode); then
    bootstrap=$(recorded bootstrap)
    case ${KAFKA_MODE:-}:${KAFKA_BOOTSTRAP:-$bootstrap} in
      ":$bootstrap" | "external:$bootstrap" | "$running:"*)
        say "kafka: already running: $(describe "$running" "$bootstrap")"
        return 0
        ;;
      *) die "a Kafka of mode $running, started from here, still runs; 'deploy/dev/kafka.sh down' stops it" ;;
    esac
  fi
  # A broker whose `up` was killed half way, or only the traces of one that died.
  abandon_java
  rm -f "$state/mode" "$state/bootstrap"

  choose_mode
  say "kafka: mode $mode$why"
  case $mode in
    external)
      await_metadata external "$KAFKA_BOOTSTRAP" ||
        die "no Kafka answers at KAFKA_BOOTSTRAP=$KAFKA_BOOTSTRAP; start it, or unset KAFKA_BOOTSTRAP to have one started here"
      publish external "$KAFKA_BOOTSTRAP"
      ;;
    docker) start_docker ;;
    java) start_java ;;
  esac
  say "kafka: ready: $(describe "$mode" "$(recorded bootstrap)") after $SECONDS s"
}

describe() {
  case $1 in
    java) printf '%s (mode java, pid %s, log %s)' "$2" "$(recorded_pid "$state/broker")" "${state#"$root"/}/broker.log" ;;
    docker) printf '%s (mode docker, project %s)' "$2" "$(project)" ;;
    external) printf '%s (mode external)' "$2" ;;
  esac
}

down() {
  local keep=yes mode
  lock_state "$state"
  case ${1:-} in
    "") ;;
    --delete-data) keep=no ;;
    --delete-own) [[ ! -e $state/data.own ]] || keep=no ;;
    *) die "down takes --delete-data, --delete-own or nothing, not '$1'" ;;
  esac
  mode=$(recorded mode) || mode=none
  case $mode in
    external) say "kafka: external, left as it is" ;;
    docker)
      port=$(recorded bootstrap) && port=${port##*:}
      if [[ $keep == yes ]]; then
        compose stop
        printf '%s\n' "$port" >"$state/docker.kept"
      else
        compose down -v
        rm -f "$state/docker.kept"
      fi
      say "kafka: stopped"
      say_data "in the stopped container of project $(project)"
      ;;
    *)
      if recorded_pid "$state/broker" >/dev/null; then
        stop_recorded "$state/broker" "$stop_timeout_s" ||
          warn "the broker did not stop within $stop_timeout_s s and was killed"
        say "kafka: stopped after $SECONDS s"
      else
        say "kafka: not running"
      fi
      forget_process "$state/broker"
      if [[ $keep == no ]]; then
        rm -rf "$state/data" "$state/port"
        # A container that an earlier `down` has kept.
        if port=$(recorded docker.kept); then compose down -v && rm -f "$state/docker.kept"; fi
      fi
      [[ ! -e $state/data ]] || say_data "in ${state#"$root"/}/data"
      ;;
  esac
  [[ $keep == yes ]] || rm -f "$state/data.own"
  rm -f "$state/mode" "$state/bootstrap"
}

# Where the data is that was kept; `keep` is down's.
say_data() {
  [[ $keep == no ]] || say "kafka: its data stays $1; 'make down DATA=delete' deletes it"
}

status() {
  local running
  if running=$(running_mode); then
    say "kafka: running: $(describe "$running" "$(recorded bootstrap)")"
  elif [[ $(recorded mode) == external ]]; then
    say "kafka: $(describe external "$(recorded bootstrap)")"
  else
    say "kafka: not running"
    return 1
  fi
}

bootstrap() {
  if [[ -n ${KAFKA_BOOTSTRAP:-} && ${KAFKA_MODE:-external} == external ]]; then
    say "$KAFKA_BOOTSTRAP"
  elif running_mode >/dev/null || [[ $(recorded mode) == external ]]; then
    recorded bootstrap
  else
    die "no Kafka runs; start one with 'deploy/dev/kafka.sh up'"
  fi
}

# For who starts brokers of their own: nothing else is printed on standard output.
jars() {
  lock_state "$state"
  {
    "$root/deploy/dev/needs.sh" kafka
    resolve_jars
  } >&2
  say "$jars"
}

case ${1:-} in
  up | status | bootstrap | jars) "$1" ;;
  down) down "${2:-}" ;;
  -h | --help | help) usage ;;
  *)
    usage >&2
    exit 2
    ;;
esac
