"""Connection tracking and NAT for a Linux router, in userspace.

Each room imports only from the rooms before it; tests/test_layering.py enforces it.

    const      kernel numbers and names
    reasons    why a packet or a connection met its end
    wire       bytes <-> fields
    conntrack  tuples, connections, the table, expectations, events
    proto      one tracker a protocol          } these three
    nat        rules, ports, rewriting         } never import
    filter     match expressions and policy    } each other
    helpers    payload -> expectation
    engine     hooks in order: packet and time in, verdict out
    settings   the configuration file
    kernel     packet queues, addresses, steering rules
    service    the daemon: control socket, metrics, logs
    cli        the commands
    lab        namespaces and traffic

Everything up to engine is free of I/O, clocks and randomness, and is compiled by mypyc (setup.py).
"""

from typing import Final

__version__: Final = "0.1.0"

from conntrackd_py._build import check_required, is_compiled

compiled: Final = is_compiled()
check_required(compiled)
