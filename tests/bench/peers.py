"""Peers of the daemon, small enough to read: each takes every packet of queue 0 in this process.

    peers.py accept          NetfilterQueue, accepts
    peers.py scapy INSIDE OUTSIDE   a NAT as tutorials write it, with scapy

INSIDE is the one inner host, OUTSIDE the router's outer address. Prints "ready" when bound.
"""

import sys

from netfilterqueue import NetfilterQueue

PRE_ROUTING, POST_ROUTING = 0, 4


def accept(packet) -> None:  # type: ignore[no-untyped-def]
    packet.accept()


def scapy_nat(inside: str, outside: str):  # type: ignore[no-untyped-def]
    from scapy.layers.inet import IP, TCP, UDP

    def translate(packet) -> None:  # type: ignore[no-untyped-def]
        ip = IP(packet.get_payload())
        if packet.hook == POST_ROUTING and ip.src == inside:
            ip.src = outside
        elif packet.hook == PRE_ROUTING and ip.dst == outside:
            ip.dst = inside
        else:
            packet.accept()
            return
        del ip.chksum
        for layer in (TCP, UDP):
            if layer in ip:
                del ip[layer].chksum
        packet.set_payload(bytes(ip))
        packet.accept()

    return translate


def main() -> None:
    callback = accept if sys.argv[1] == "accept" else scapy_nat(*sys.argv[2:4])
    queue = NetfilterQueue()
    queue.bind(0, callback, 8192, sock_len=16 << 20)
    print("ready", flush=True)
    queue.run()


if __name__ == "__main__":
    main()
