"""NAT rules for both families: out by source translation, in by a forwarded port to the client."""

from conntrackd_py.lab.namespaces import CLIENT, CLIENT6, INSIDE6, ROUTER, ROUTER6
from conntrackd_py.lab.steps import EXCHANGE_PORT

IN_PORT = 8099

IN_AND_OUT = f"""
[[nat]]
out_interface = "wan0"
source = "{INSIDE6}"
action = "SNAT"
to = "{ROUTER6}"
[[nat]]
in_interface = "wan0"
destination = "{ROUTER}"
dport = {IN_PORT}
proto = "tcp"
action = "DNAT"
to = "{CLIENT}:{EXCHANGE_PORT}"
[[nat]]
in_interface = "wan0"
destination = "{ROUTER6}"
dport = {IN_PORT}
proto = "tcp"
action = "DNAT"
to = "[{CLIENT6}]:{EXCHANGE_PORT}"
"""
