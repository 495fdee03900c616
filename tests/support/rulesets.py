"""Rulesets as routers and programs have them, in our own words: the same chains, the rules that matter to the doctor.

ROUTER is the configuration of the daemon beside them.
"""

ROUTER = """
[[nat]]
out_interface = "wan0"
source = "192.168.1.0/24"
action = "MASQUERADE"

[[nat]]
in_interface = "wan0"
proto = "tcp"
dport = 8080
action = "DNAT"
to = "192.168.1.10:80"
"""

IPTABLES = """\
*mangle
:PREROUTING ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
-A PREROUTING -i lan0 -p tcp -m tcp --dport 80 -j MARK --set-xmark 0x1/0xff
-A PREROUTING -i lan1 -j MARK --set-xmark 0x2/0xffffffff
-A FORWARD -m connmark --mark 0x7 -j CONNMARK --restore-mark
-A FORWARD -m mark --mark 0x2 -j ACCEPT
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -i wan0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 192.168.1.10:80
-A PREROUTING -i wan0 -p tcp -m tcp --dport 2222 -j DNAT --to-destination 192.168.1.11:22
-A POSTROUTING -s 192.168.1.0/24 -o wan0 -j MASQUERADE
COMMIT
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -i lan0 -p tcp -m tcp --dport 22 -j ACCEPT
-A FORWARD -m conntrack --ctstate INVALID -j DROP
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i lan0 -o wan0 -j ACCEPT
-A FORWARD -i wan0 -m conntrack --ctstate DNAT -j ACCEPT
COMMIT
"""

BY_MARK = """\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -m mark --mark 0xb00/0xf00 -j ACCEPT
-A FORWARD -m mark --mark 0x800/0xf00 -j ACCEPT
-A FORWARD -m mark --mark 0xb00/0xf00 -j ACCEPT
-A FORWARD -i lan0 -m mark --mark 0xa00/0xf00 -j ACCEPT
-A FORWARD -m mark --mark 0x1/0xff -j ACCEPT
COMMIT
"""

NFT = """
table inet router {
    chain dispatch {
        ct state vmap { established : accept, related : accept, invalid : drop }
    }
    chain input {
        type filter hook input priority filter; policy drop;
        iifname "lo" accept
        jump dispatch
        iifname "lan0" tcp dport 22 accept
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
        jump dispatch
        iifname "lan0" oifname "wan0" accept comment "lan out"
        iifname "wan0" ct status dnat accept
    }
    chain marks {
        type filter hook prerouting priority mangle;
        iifname "lan1" meta mark set 2
        iifname "lan0" meta mark set meta mark and 0xffffff00 or 1
        meta mark set ct mark
    }
    chain untrack {
        type filter hook prerouting priority raw;
        udp dport 4789 notrack
    }
    chain late {
        type filter hook postrouting priority 200;
        oifname "wan0" ip saddr 10.0.0.0/8 drop
        oifname "wan1" drop
    }
    chain dstnat {
        type nat hook prerouting priority dstnat;
        iifname "wan0" tcp dport 8080 dnat ip to 192.168.1.10:80
    }
    chain srcnat {
        type nat hook postrouting priority srcnat;
        oifname "wan0" ip saddr 192.168.1.0/24 masquerade
        oifname "wan0" ip saddr 10.9.0.0/16 masquerade
    }
    chain unused {
        ct state new drop
    }
}
"""

DOCKER = """\
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8081 -j DNAT --to-destination 172.17.0.2:80
COMMIT
"""

UFW = """\
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:ufw-before-input - [0:0]
:ufw-before-forward - [0:0]
:ufw-before-output - [0:0]
:ufw-track-output - [0:0]
:ufw-logging-deny - [0:0]
:ufw-user-limit - [0:0]
-A INPUT -j ufw-before-input
-A FORWARD -j ufw-before-forward
-A OUTPUT -j ufw-before-output
-A OUTPUT -j ufw-track-output
-A ufw-before-input -i lo -j ACCEPT
-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-input -m conntrack --ctstate INVALID -j ufw-logging-deny
-A ufw-before-input -m conntrack --ctstate INVALID -j DROP
-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-output -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-track-output -p tcp -m conntrack --ctstate NEW -j ACCEPT
-A ufw-logging-deny -m limit --limit 3/min --limit-burst 10 -j LOG --log-prefix "[UFW BLOCK] "
-A ufw-user-limit -m conntrack --ctstate NEW -j REJECT
COMMIT
"""

FIREWALLD = """
table inet firewalld {
    ct helper helper-netbios-ns-udp {
        type "netbios-ns" protocol udp
        l3proto ip
    }
    chain filter_IN_home {
        tcp dport 22 accept
        udp dport 137 ct helper set "helper-netbios-ns-udp"
    }
    chain filter_INPUT_ZONES {
        iifname "lan0" goto filter_IN_home
    }
    chain filter_INPUT {
        type filter hook input priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname "lo" accept
        ct state invalid drop
        jump filter_INPUT_ZONES
        reject with icmpx admin-prohibited
    }
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        ct state invalid drop
        reject with icmpx admin-prohibited
    }
    chain filter_OUTPUT {
        type filter hook output priority filter + 10; policy accept;
        ct state { established, related } accept
    }
    chain mangle_PREROUTING {
        type filter hook prerouting priority mangle + 10; policy accept;
    }
    chain nat_POST_external {
        meta nfproto ipv4 oifname != "lo" masquerade
    }
    chain nat_POSTROUTING {
        type nat hook postrouting priority srcnat + 10; policy accept;
        oifname "wan0" goto nat_POST_external
    }
}
"""
