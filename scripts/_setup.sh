# Shared by the scripts of this directory; sourced, never run. Needs bash.
#
# .venv           editable and pure: runs the source as it is, for development and `pytest`
# .venv-compiled  an ordinary installation, compiled by mypyc, for the lab and the compiled test run
#
# Each is built again when its sources change; .setup holds their hashes. So compiled code is never
# older than its source, and a second run takes well under a second.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
STAMPS="$ROOT/.setup"
PYTHON=/usr/bin/python3 # Debian's own: python3-dev below belongs to it

# Python must not import the checkout from its working directory.
export PYTHONSAFEPATH=1
# Output is buffered, as it is for users. Code that works only unbuffered must fail here.
unset PYTHONUNBUFFERED

INSTALL_PACKAGES=(python3 python3-venv python3-dev gcc libnetfilter-queue-dev iptables libnftables1)
RUN_PACKAGES=("${INSTALL_PACKAGES[@]}" iproute2 conntrack iputils-ping traceroute tcpdump curl ethtool nftables procps)
TEST_PACKAGES=(prometheus openssl zsh fish groff-base debootstrap git vsftpd tftpd-hpa tftp-hpa
    sip-tester coturn stun-client redis-server keepalived logrotate)

if [ -t 1 ]; then say() { printf '\033[1m==> %s\033[0m\n' "$*"; }; else say() { printf '==> %s\n' "$*"; }; fi
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

need_root() {
    [ "$(id -u)" = 0 ] || die "needs root${1:+ $1}: sudo ${0##*/}"
}

# An exclusive lock while building, a shared lock while running what was built.
# The lock is held while descriptor 9 is open, also across exec.
lock_setup() {
    mkdir -p "$STAMPS"
    exec 9>"$STAMPS/lock"
    flock -n 9 || { say "waiting: another command builds or uses this checkout"; flock 9; }
}

share_setup() { flock -s 9; }

need_packages() { # name...
    local missing=() name
    for name in "$@"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$name" 2>/dev/null | grep -qx installed || missing+=("$name")
    done
    [ ${#missing[@]} = 0 ] && return
    need_root "to install: ${missing[*]}"
    say "apt-get install ${missing[*]}"
    DEBIAN_FRONTEND=noninteractive apt-get -q update
    DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends "${missing[@]}"
    # The tests need the programs of these packages, not their services.
    for name in prometheus vsftpd tftpd-hpa coturn redis-server keepalived; do
        if [ -d /run/systemd/system ] && [[ " ${missing[*]} " == *" $name "* ]]; then
            systemctl disable --now "$name.service"
        fi
    done
}

hash_of() { # path...
    (cd "$ROOT" && find "$@" -type f -not -path '*/__pycache__/*' -print0 2>/dev/null |
        LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1; "$PYTHON" -V)
}

fresh() { # stamp hash
    [ "$(cat "$STAMPS/$1" 2>/dev/null)" = "$2" ]
}

need_venv() { # directory
    say "building $1"
    [ -x "$ROOT/$1/bin/python" ] || "$PYTHON" -m venv --clear "$ROOT/$1"
}

need_pure() {
    local hash
    hash=$(hash_of pyproject.toml setup.py)
    [ -x "$ROOT/.venv/bin/python" ] && fresh pure "$hash" && return
    need_venv .venv
    CONNTRACKD_PY_PURE=1 "$ROOT/.venv/bin/python" -m pip install -q -e "$ROOT[dev]"
    echo "$hash" >"$STAMPS/pure"
}

need_compiled() {
    local hash
    hash=$(hash_of pyproject.toml setup.py conntrackd_py share config)
    [ -x "$ROOT/.venv-compiled/bin/python" ] && fresh compiled "$hash" && return
    need_venv .venv-compiled
    rm -rf "$STAMPS/compiled" "$ROOT/build" # setuptools would include the files of an older build
    CONNTRACKD_PY_REQUIRE_COMPILED=1 "$ROOT/.venv-compiled/bin/python" -m pip install -q "$ROOT[dev]"
    echo "$hash" >"$STAMPS/compiled"
}
