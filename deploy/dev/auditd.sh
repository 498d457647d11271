#!/usr/bin/env bash
# What bench-collector compares with as "auditd": the kernel's audit with a rule for every exec, and its daemon writing to a
# file, until it is ended. The packages are fetched with apt-get, unpacked below target/peers and never installed, because
# installing them would start the daemon for good. Says "attached" when it is.
set -euo pipefail
# shellcheck source=deploy/dev/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

work=target/peers/auditd
if [[ ! -e $work/.complete ]]; then
  rm -rf "$work" && mkdir -p "$work/deb"
  (cd "$work/deb" && apt-get -qq download auditd libauparse0 libwrap0 >/dev/null 2>&1)
  for package in "$work"/deb/*.deb; do dpkg-deb -x "$package" "$work"; done
  touch "$work/.complete"
fi
LD_LIBRARY_PATH=$(find "$PWD/$work" -name '*.so.*' -printf '%h\n' | sort -u | paste -sd:)
export LD_LIBRARY_PATH
[[ $("$work/sbin/auditctl" -s) == *"enabled 0"* ]] || die "audit is in use on this machine already"

config=$(mktemp -d)
mkdir "$config/plugins.d"
cat >"$config/auditd.conf" <<END
log_file = $config/audit.log
log_format = RAW
flush = NONE
num_logs = 2
max_log_file = 100
max_log_file_action = ROTATE
space_left = 2
admin_space_left = 1
plugin_dir = $config/plugins.d
END

daemon=
stop() {
  trap - EXIT INT TERM
  "$work/sbin/auditctl" -D >/dev/null || true
  "$work/sbin/auditctl" -e 0 >/dev/null || true
  [[ -z $daemon ]] || { kill "$daemon" && wait "$daemon"; } || true
  rm -rf "$config"
}
trap stop EXIT
trap 'exit 0' INT TERM

"$work/sbin/auditd" -n -c "$config" &
daemon=$!
until [[ -s $config/audit.log ]]; do
  kill -0 "$daemon"
  sleep 0.1
done
"$work/sbin/auditctl" -b 8192 >/dev/null
"$work/sbin/auditctl" -a always,exit -F arch=b64 -S execve -S execveat
"$work/sbin/auditctl" -e 1 >/dev/null
echo attached
wait "$daemon"
