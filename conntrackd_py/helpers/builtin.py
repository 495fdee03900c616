"""The helpers of the daemon, by the name that `helper` of a raw rule has."""

from typing import Final

from conntrackd_py.helpers.amanda import Amanda
from conntrackd_py.helpers.ftp import Ftp
from conntrackd_py.helpers.helper import Helper
from conntrackd_py.helpers.irc import Irc
from conntrackd_py.helpers.netbios import NetbiosNs
from conntrackd_py.helpers.pptp import Pptp
from conntrackd_py.helpers.sane import Sane
from conntrackd_py.helpers.sip.sip import Sip
from conntrackd_py.helpers.tftp import Tftp

BUILTIN: Final[dict[str, type[Helper]]] = {
    "amanda": Amanda,
    "ftp": Ftp,
    "irc": Irc,
    "netbios-ns": NetbiosNs,
    "pptp": Pptp,
    "sane": Sane,
    "sip": Sip,
    "tftp": Tftp,
}
# The usual ports of control connections, by tuples.service(). They assign nothing.
PORTS: Final = {
    port.to_bytes(2, "big") + bytes([protonum]): name
    for name, port in (
        ("amanda", 10080),
        ("ftp", 21),
        ("irc", 6667),
        ("pptp", 1723),
        ("sane", 6566),
        ("sip", 5060),
        ("tftp", 69),
    )
    for protonum in (BUILTIN[name].protonum, BUILTIN[name].other_protonum)
    if protonum
}
