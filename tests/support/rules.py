"""The NAT rules of most conversations: what leaves by wan is masqueraded, ports of the router lead to a host inside."""

from conntrackd_py.nat.rules import NAT_DNAT, NAT_MASQUERADE, Interface, NatRule, Ports
from tests.support.packets import address
from tests.support.play import CLIENT, Host


def masquerade() -> NatRule:
    return NatRule(NAT_MASQUERADE, out_interface=Interface("wan"), label="nat[0]")


def forward(
    family: int, ports: Ports, to_port: int = 0, *, protonum: int = 17, host: Host = CLIENT, label: str = ""
) -> NatRule:
    """What comes in by wan to these ports goes to the host, to to_port if it is not 0."""
    to = address(host.v4 if family == 4 else host.v6)
    return NatRule(
        NAT_DNAT,
        in_interface=Interface("wan"),
        protonum=protonum,
        dport=ports,
        to_low=to,
        to_high=to,
        port_low=to_port,
        port_high=to_port,
        family=family,
        label=label,
    )


def web_server_inside(family: int) -> NatRule:
    """Port 8080 of the router is port 80 of the client."""
    return forward(family, Ports(8080, 8080), 80, protonum=6, label="nat[1]")
