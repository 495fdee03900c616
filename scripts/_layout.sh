# The paths that scripts/install and scripts/uninstall share; sourced, never run.

UNIT=conntrackd-py.service
COMMANDS="conntrackd-py conntrack-py"
LOCAL=/usr/local
ETC=/etc/conntrackd-py
SAMPLE=conntrackd.toml
STATE=/var/lib/conntrackd-py
LOGS=/var/log/conntrackd-py
LOGROTATE=/etc/logrotate.d/conntrackd-py
DEFAULT_PREFIX=/opt/conntrackd-py
MANIFEST=installed-files # in the virtual environment: the list of files outside it, then of directories

# Prints the prefix of the installation; prints nothing if there is none.
installed_prefix() {
    local command
    command=$(readlink "$LOCAL/sbin/conntrackd-py") || return 0
    printf '%s\n' "${command%/bin/conntrackd-py}"
}

unedited() { # prefix: true if the configuration is the sample as it was installed
    [ -e "$1/$SAMPLE.sum" ] && [ -e "$ETC/$SAMPLE" ] && [ "$(sha256sum <"$ETC/$SAMPLE")" = "$(cat "$1/$SAMPLE.sum")" ]
}
