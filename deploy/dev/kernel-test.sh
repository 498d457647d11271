#!/usr/bin/env bash
# What `make test-kernels` runs: Debian's kernels, booted under emulation, run the collector's self-test, once as on a
# host and once as in a container (an overlay as root, sixty cgroups below one with a container's name).
#
#   kernel-test.sh             the kernels of Debian 11, 12 and 13
#   kernel-test.sh SUITE...    of these suites: bullseye bookworm trixie sid
#
# Kernels are fetched with apt-get from the mirror this machine uses, unpacked below target/kernels and never installed. A
# suite that the mirror does not have is said and counted as skipped. Logs: target/kernels/SUITE.log.
set -euo pipefail
# shellcheck source=deploy/dev/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# A boot takes 15 s on one idle core without KVM; two cores that others use need their time.
boot_seconds=240
memory_mib=768
package=linux-image-cloud-amd64

suites=("$@")
(($# > 0)) || suites=(bullseye bookworm trixie)
work=$root/target/kernels
mkdir -p "$work"

if [[ $(uname -m) != x86_64 ]]; then
  warn "not run: made for x86_64 kernels, and this is $(uname -m)"
  exit "${REQUIRE_LIVE:-0}"
fi
if ! command -v apt-get >/dev/null; then
  warn "not run: the kernels are Debian's, and this system has no apt-get"
  exit "${REQUIRE_LIVE:-0}"
fi
deploy/dev/needs.sh build kernels
cargo build -q --locked -p driftline-collector

# --- kernels -----------------------------------------------------------------------------------

keyring=/usr/share/keyrings/debian-archive-keyring.gpg
# shellcheck disable=SC2016 # names of apt
mirror=$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL)' 2>/dev/null |
  awk '$2 == "Debian" && $3 == "Debian" { print $1; exit }')
: "${mirror:=http://deb.debian.org/debian}"

# apt_for SUITE COMMAND...: apt with this one suite, and lists and cache of its own.
apt_for() {
  local suite=$1 own=$work/$1.apt
  shift
  mkdir -p "$own/lists/partial" "$own/cache/archives/partial"
  printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$mirror" "$suite" >"$own/sources.list"
  "$1" -qq -o Dir::Etc::sourcelist="$own/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$own/lists" \
    -o Dir::Cache="$own/cache" -o APT::Sandbox::User= -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false \
    -o Acquire::http::Timeout=30 -o Acquire::Retries=2 "${@:2}"
}

# fetch SUITE: unpacks the suite's kernel to $work/SUITE, once.
fetch() {
  local suite=$1 image
  [[ ! -e $work/$suite/.complete ]] || return 0
  apt_for "$suite" apt-get update >/dev/null || return 1
  image=$(apt_for "$suite" apt-cache show "$package" | sed -n 's/^Depends:.*\(linux-image-[0-9][^ ]*\) .*/\1/p' | head -1)
  [[ -n $image ]] || return 1
  rm -rf "${work:?}/$suite" && mkdir -p "$work/$suite/deb"
  (cd "$work/$suite/deb" && apt_for "$suite" apt-get download "$image") || return 1
  dpkg-deb -x "$work/$suite"/deb/*.deb "$work/$suite" && rm -r "$work/$suite/deb" && touch "$work/$suite/.complete"
}

# --- what runs in the guest --------------------------------------------------------------------

guest_init() {
  cat <<'INIT'
#!/bin/busybox sh
export PATH=/bin
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t cgroup2 cgroup /sys/fs/cgroup
ifconfig lo up
insmod /overlay.ko
echo "GUEST $(uname -r) after $(cut -d' ' -f1 /proc/uptime) s"
/driftline-collector self-test
echo "GUEST host $?"
# As a runtime does it: a cgroup with a container's name, an overlay as root. Nearly as deep below it as is looked.
id=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
cgroup=/sys/fs/cgroup/libpod-$id
for level in $(seq 60); do cgroup=$cgroup/$level; done
mkdir -p $cgroup /c
mount -t tmpfs layers /c
mkdir /c/upper /c/work /c/root
mount -t overlay overlay -o lowerdir=/,upperdir=/c/upper,workdir=/c/work /c/root
for each in proc sys dev tmp; do mount --move /$each /c/root/$each; done
cd /c/root
/bin/busybox mount --move . /
exec /bin/busybox chroot . /bin/busybox sh -c '
  echo $$ >'$cgroup'/cgroup.procs
  grep -q libpod /proc/self/cgroup && echo "GUEST root has magic $(stat -f -c %t /) in $(cat /proc/self/cgroup)"
  /driftline-collector self-test
  echo "GUEST container $?"
  poweroff -f
'
INIT
}

# make_guest SUITE: an initramfs with busybox, the collector and its libraries, and the overlay module.
make_guest() {
  local guest=$work/$1.guest module library
  rm -rf "$guest" && mkdir -p "$guest"/{bin,proc,sys,dev,tmp}
  cp "$(command -v busybox)" "$guest/bin/busybox"
  strip -o "$guest/driftline-collector" "$bin_dir/driftline-collector"
  while read -r library; do
    mkdir -p "$guest${library%/*}" && cp -L "$library" "$guest$library"
  done < <(ldd "$bin_dir/driftline-collector" | grep -o '/[^ ]*')
  module=$(find "$work/$1" -name 'overlay.ko*' | head -1)
  case $module in
    *.xz) xz -dc "$module" >"$guest/overlay.ko" ;;
    *.zst) zstd -qdc "$module" >"$guest/overlay.ko" ;;
    *) cp "$module" "$guest/overlay.ko" ;;
  esac
  guest_init >"$guest/init" && chmod +x "$guest/init"
  (cd "$guest" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$work/$1.initrd"
  rm -rf "$guest"
}

# boot SUITE: its console goes to the log.
boot() {
  local kernel
  kernel=$(find "$work/$1/boot" -name 'vmlinuz-*' | head -1)
  bounded "$boot_seconds" qemu-system-x86_64 -accel tcg -cpu max -smp 2 -m "$memory_mib" -display none -nic none -no-reboot \
    -serial stdio -monitor none -kernel "$kernel" -initrd "$work/$1.initrd" \
    -append "console=ttyS0 panic=-1 quiet" </dev/null 2>&1 | tr -d '\r' >"$work/$1.log"
}

# --- all of them -------------------------------------------------------------------------------

passed=0 failed=0 skipped=0
lines=()
for suite in "${suites[@]}"; do
  if ! fetch "$suite"; then
    lines+=("$(printf '%-10s %-26s %s' "$suite" - "not tried: the mirror has no $package of it")")
    ((skipped += 1))
    continue
  fi
  say "=== $suite"
  make_guest "$suite"
  since=$SECONDS
  boot "$suite" || true
  log=$work/$suite.log
  release=$(sed -n 's/^GUEST \([^ ]*\) after.*/\1/p' "$log")
  if grep -q '^GUEST host 0$' "$log" && grep -q '^GUEST root has magic 794c7630' "$log" &&
    grep -q '^GUEST container 0$' "$log" && ! grep -q 'not tried' "$log"; then
    sed -n '/^GUEST/,$p' "$log" | grep -vE '^\[ '
    lines+=("$(printf '%-10s %-26s ok, %d s' "$suite" "$release" $((SECONDS - since)))")
    ((passed += 1))
  else
    cat "$log"
    lines+=("$(printf '%-10s %-26s FAILED, %d s: %s' "$suite" "${release:-did not start}" $((SECONDS - since)) "target/kernels/$suite.log")")
    ((failed += 1))
  fi
  rm -f "$work/$suite.initrd"
done

printf '\n%-10s %-26s %s\n' SUITE KERNEL "SELF-TEST AS ON A HOST AND AS IN A CONTAINER"
printf '%s\n' "${lines[@]}"
say "not tried: 5.15, 6.6, kernels of Red Hat, SUSE and Ubuntu, of cloud providers, arm64, cgroup version 1"
say "$passed passed, $failed failed, $skipped skipped"
((failed == 0 && (passed > 0 || skipped == 0))) && [[ ${REQUIRE_LIVE:-} != 1 || $passed -gt 0 ]]
