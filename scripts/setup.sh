#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Install what is missing to build (setup.sh build), to test (setup.sh test, setup.sh rdma), or to
# draw plots (setup.sh plots), saying so.
# Debian 12, or an Ubuntu of that age or later. Without the right to install: say what is missing.
set -eu

BUILD="gcc libc6-dev libcurl4-openssl-dev libjansson-dev libsmartcols-dev libsodium-dev meson
    ninja-build pkg-config"
TEST="$BUILD binutils g++ libcmocka-dev python3 util-linux"
# Without one of these the tests that need it are skipped, with the reason.
OPTIONAL="abigail-tools clang-14 clang-format-14 cmake codespell debhelper dpkg-dev
    etcd-client etcd-server gnuplot-nox ibverbs-providers iproute2 libclang-rt-14-dev libibverbs-dev
    libibverbs1 libucx-dev libucx0 ucx-utils valgrind"
# The crates of NIXL want a newer cargo than Debian 12's, and bindgen wants libclang. Whoever has a
# cargo has chosen it.
command -v cargo >/dev/null || OPTIONAL="$OPTIONAL cargo-web"
OPTIONAL="$OPTIONAL libclang1-14 python3-numpy python3-pip python3-pytest"
# The suite rdma, and its virtual machine: without them it fails.
MACHINE="busybox-static ibverbs-providers iproute2 libibverbs-dev qemu-system-x86"
PLOTS="gnuplot-nox python3"
# What Debian asks before it starts a service; the tests have their own in its place.
POLICY=${POLICY_RC_D:-/usr/sbin/policy-rc.d}

case "${1:-build}" in
build)
    wanted=$BUILD
    optional=
    ;;
test)
    wanted=$TEST
    optional="$OPTIONAL $MACHINE"
    ;;
rdma)
    wanted="$TEST $MACHINE"
    optional=
    ;;
plots)
    wanted=$PLOTS
    optional=
    ;;
*)
    echo "usage: $0 build|test|rdma|plots" >&2
    exit 2
    ;;
esac

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "setup: no apt-get here; these Debian packages, or their like, are needed: $wanted" >&2
    exit 0
fi

# pkg-config is provided by pkgconf in later releases.
is_installed() {
    dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null | grep -q '^ii' ||
        { [ "$1" = pkg-config ] && command -v pkg-config >/dev/null; }
}

is_known() {
    apt-cache show --no-all-versions "$1" >/dev/null 2>&1
}

missing_of() {
    for package in "$@"; do
        is_installed "$package" || printf ' %s' "$package"
    done
}

# The words of these lists are meant to be split.
# shellcheck disable=SC2086
missing=$(missing_of $wanted)
# shellcheck disable=SC2086
missing_optional=$(missing_of $optional)
[ -n "$missing$missing_optional" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    if [ -n "$missing" ]; then
        echo "setup: these packages are missing, and only root may install them:$missing" >&2
        echo "setup: as root: apt-get install --no-install-recommends$missing" >&2
        exit 1
    fi
    echo "setup: not installed, so that some tests will be skipped:$missing_optional"
    exit 0
fi

log=$(mktemp)
is_policy_ours=no
leave() {
    rm -f "$log"
    [ $is_policy_ours = no ] || rm -f "$POLICY"
}
trap leave EXIT
trap 'exit 130' HUP INT TERM

update() {
    echo "setup: fetching the package lists (apt-get update)"
    apt-get update >"$log" 2>&1 || {
        cat "$log" >&2
        exit 1
    }
}

# The tests run etcd by themselves, and nobody has asked for a service: while apt-get runs it is not
# to be started. Whoever has a policy has decided that, and keeps it.
forbid_service() {
    if [ $is_policy_ours = no ] && (set -C && cat >"$POLICY") 2>/dev/null <<'END'; then
#!/bin/sh
# Of scripts/setup.sh of lend, and gone with it.
case " $* " in
*" etcd "* | *" etcd.service "*) exit 101 ;;
esac
exit 0
END
        is_policy_ours=yes
        chmod 755 "$POLICY"
    fi
}

# And not at the next start of the machine either.
disable_service() {
    ! command -v systemctl >/dev/null || systemctl disable etcd >/dev/null 2>&1 || :
}

install() {
    case " $* " in
    *" etcd-server "*) forbid_service ;;
    esac
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >"$log" 2>&1 ||
        return 1
    case " $* " in
    *" etcd-server "*) disable_service ;;
    esac
}

is_updated=no
if ! is_known gcc; then
    update
    is_updated=yes
fi

for package in $missing_optional; do
    if is_known "$package"; then
        missing="$missing $package"
    else
        echo "setup: this release has no $package; the tests that need it will be skipped"
    fi
done
[ -n "$missing" ] || exit 0

echo "setup: installing with apt-get:$missing"
# shellcheck disable=SC2086
if install $missing; then
    exit 0
fi
# Lists that are old are the usual reason for a first failure.
if [ $is_updated = no ]; then
    update
    # shellcheck disable=SC2086
    if install $missing; then
        exit 0
    fi
fi
cat "$log" >&2
echo "setup: apt-get could not install:$missing" >&2
exit 1
