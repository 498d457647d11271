#!/usr/bin/env bash
# Installs what is missing for a piece of work, and says nothing when nothing is.
#
#   needs.sh WHAT...    with WHAT one of
#     build   C compiler, make, pkg-config, clang with the bpf target, libbpf, OpenSSL and zlib headers
#     kafka   Java 17 or newer, Maven
#     chaos   kafka, ip and unshare
#     live    a container runtime (podman with runc or crun, or a Docker that answers)
#             and a static busybox for the images that tests build; musl, whose dynamic loader is one of two that are tried;
#             podman's init program
#     images  skopeo and umoci, with which tests compare the indexer; a registry, which tests fill; containerd and
#             Docker, whose stores it reads
#     peers   bpftrace and libbpf-tools, with which the collector's bench compares
#     kernels an emulator for x86 machines, and what goes into its guests
#     kubernetes  etcd, and Go to compile a kube-apiserver
#     lint    shellcheck, rustfmt, clippy
#     demo    build, and live where the demo can load eBPF (root and BTF)
#     validate  Python with venv, for the independent OCSF validator
#
# Installs with apt-get (Debian 12, Ubuntu 22.04 and 24.04) as root; otherwise prints the command and
# exits 3. Rust is not installed: `cargo` has to be there.
set -euo pipefail
# shellcheck source=deploy/dev/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }

runs() { "$@" >/dev/null 2>&1; }

# Things are checked by running them: a package may be installed and of no use, or be there without
# a package. `packages` gathers what to install, `by_hand` what no package can mend.
packages=()
by_hand=()
need() {
  local package
  for package in "$@"; do
    [[ " ${packages[*]} " == *" $package "* ]] || packages+=("$package")
  done
}

# --- build -------------------------------------------------------------------------------------

# The oldest clang whose BPF output carries all the relocations (enum values, type sizes) we use.
min_clang=14

# clang_compiles_bpf CODE
clang_compiles_bpf() { printf '%s\n' "$1" | clang -target bpf -O2 -x c -c - -o /dev/null >/dev/null 2>&1; }

check_build() {
  check_rust
  { runs cc --version && runs c++ --version && runs make --version; } || need build-essential
  runs pkg-config --version || need pkg-config
  pkg-config --exists openssl 2>/dev/null || need libssl-dev
  pkg-config --exists zlib 2>/dev/null || need zlib1g-dev
  # __clang_major__ is compared by clang itself, in the one run that also proves the target.
  local version_ok="_Static_assert(__clang_major__ >= $min_clang, \"too old\");"
  local header_there='#if !__has_include(<bpf/bpf_helpers.h>)
#error
#endif'
  clang_compiles_bpf "$version_ok
$header_there" && return 0
  clang_compiles_bpf "$version_ok" || need clang
  printf '%s\n' "$header_there" | cc -E -x c - >/dev/null 2>&1 || need libbpf-dev
}

check_rust() {
  local wanted have
  [[ " ${by_hand[*]} " != *Rust* ]] || return 0
  wanted=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' Cargo.toml 2>/dev/null) || wanted=
  if ! have=$(rustc --version 2>/dev/null) || ! command -v cargo >/dev/null; then
    by_hand+=("Rust is missing: install cargo and rustc ${wanted:-(stable)} or newer, for example with rustup")
  elif [[ -n $wanted && $(printf '%s\n' "$wanted" "$(cut -d' ' -f2 <<<"$have")" | sort -V | head -1) != "$wanted" ]]; then
    by_hand+=("Rust is too old: $have; Cargo.toml asks for rust-version $wanted, for example with 'rustup update stable'")
  fi
}

# --- kafka -------------------------------------------------------------------------------------

check_kafka() {
  # Running mvn starts a JVM and takes a second, so its presence has to do.
  find_java >/dev/null || need java
  command -v mvn >/dev/null || need maven
}

# --- chaos -------------------------------------------------------------------------------------

# Brokers have networks of their own.
check_chaos() {
  check_kafka
  runs ip -V || need iproute2
  runs unshare --version || need util-linux
}

# --- live --------------------------------------------------------------------------------------

check_live() {
  if ! { runs podman --version && { runs runc --version || runs crun --version; }; } &&
    ! runs timeout 5 docker version --format '{{.Server.Version}}'; then
    runs podman --version || need podman
    runs runc --version || runs crun --version || need runc
  fi
  # An image made of busybox alone has no libraries, so a dynamic one would not start in it.
  { runs busybox true && ! ldd "$(command -v busybox)" 2>/dev/null | grep -q '=>'; } || need busybox-static
  runs musl-gcc --version || need musl-tools
  # What podman run --init mounts into a container.
  command -v catatonit >/dev/null || need catatonit
}

# --- images ------------------------------------------------------------------------------------

# Independent tools that tests compare the indexer with; a registry with passwords, tokens and TLS, and engines, which
# tests start for themselves.
check_images() {
  runs docker-registry --version || need docker-registry
  command -v htpasswd >/dev/null || need apache2-utils
  runs openssl version || need openssl
  runs skopeo --version || need skopeo
  runs umoci --version || need umoci
  runs containerd --version || need containerd
  runs dockerd --version || need docker.io
}

# --- peers -------------------------------------------------------------------------------------

check_peers() {
  runs bpftrace --version || need bpftrace
  PATH=$PATH:/usr/sbin runs execsnoop --version || need libbpf-tools
}

# --- kernels -----------------------------------------------------------------------------------

check_kernels() {
  runs qemu-system-x86_64 --version || need qemu-system-x86
  { runs busybox true && ! ldd "$(command -v busybox)" 2>/dev/null | grep -q '=>'; } || need busybox-static
  runs strip --version || need binutils
  runs xz --version || need xz-utils
  runs zstd --version || need zstd
}

# --- kubernetes --------------------------------------------------------------------------------

check_kubernetes() {
  runs etcd --version || need etcd-server
  runs curl --version || need curl
  runs openssl version || need openssl
  # Debian 12's own is too old for the module.
  local have
  have=$(go env GOVERSION 2>/dev/null) || have=
  [[ -n $have && $(printf '%s\n' go1.24 "$have" | sort -V | head -1) == go1.24 ]] ||
    by_hand+=("Go 1.24 or newer is missing (found '${have:-none}'): install it by hand")
}

# --- lint --------------------------------------------------------------------------------------

check_lint() {
  check_rust
  runs shellcheck --version || need shellcheck
  ! command -v cargo >/dev/null || { runs cargo fmt --version && runs cargo clippy --version; } ||
    by_hand+=("rustfmt or clippy is missing: 'rustup component add rustfmt clippy'")
}

check_demo() {
  check_build
  ! can_load_ebpf || check_live
}

# --- validate ---------------------------------------------------------------------------------

# Debian packs the part of venv that brings pip by itself.
check_validate() { runs python3 -c 'import venv, ensurepip' || need python3-venv; }

# --- installing --------------------------------------------------------------------------------

check_all() {
  local what
  packages=() by_hand=()
  for what in "$@"; do
    case $what in
      build | kafka | chaos | live | images | kernels | kubernetes | peers | lint | demo | validate) "check_$what" ;;
      *) die "unknown need '$what'; known: build kafka chaos live images kernels kubernetes peers lint demo validate" ;;
    esac
  done
}

# Releases differ in the Java they carry; 17 is the oldest that runs Kafka 4. With no package lists
# yet, nothing is known of any, and 17 is the best guess.
java_package() {
  local package
  for package in openjdk-17-jre-headless openjdk-21-jre-headless default-jre-headless; do
    if apt-cache show "$package" >/dev/null 2>&1; then
      printf '%s\n' "$package"
      return 0
    fi
  done
  printf 'openjdk-17-jre-headless\n'
}

# The lock may be held by another installation, a server may stall: both waits end.
apt=(apt-get -qq -y -o DPkg::Lock::Timeout=120 -o Acquire::http::Timeout=30 -o Acquire::Retries=2)

# Sets `wanted` from `packages`, as far as the package lists know by now.
resolve_packages() {
  local package
  wanted=()
  for package in "${packages[@]}"; do
    [[ $package != java ]] || package=$(java_package)
    wanted+=("$package")
  done
}

apt_install() { DEBIAN_FRONTEND=noninteractive "${apt[@]}" install --no-install-recommends "${wanted[@]}" 2>&1; }

install_packages() {
  local wanted output
  resolve_packages
  if ! command -v apt-get >/dev/null; then
    warn "missing: ${packages[*]} (names as in Debian); this system has no apt-get, so install them its own way"
    exit 3
  fi
  if [[ $(id -u) != 0 ]]; then
    warn "missing: ${wanted[*]}; install with"
    say "  sudo apt-get update && sudo apt-get install -y --no-install-recommends ${wanted[*]}" >&2
    exit 3
  fi
  say "needs: installing ${wanted[*]}"
  # Package lists may be absent (a fresh container) or too old; only then are they fetched.
  output=$(apt_install) && return 0
  output=$("${apt[@]}" update 2>&1) || die "apt-get update failed:"$'\n'"$output"
  resolve_packages
  output=$(apt_install) || die "apt-get could not install ${wanted[*]}:"$'\n'"$output"
}

(($# > 0)) || {
  usage >&2
  exit 2
}
case $1 in -h | --help | help) usage && exit 0 ;; esac

check_all "$@"
((${#by_hand[@]} == 0)) || printf 'needs.sh: %s\n' "${by_hand[@]}" >&2
if ((${#packages[@]} > 0)); then
  install_packages
  check_all "$@"
  ((${#packages[@]} == 0)) || die "installed, yet these still do not work: ${packages[*]}"
fi
((${#by_hand[@]} == 0)) || exit 3
