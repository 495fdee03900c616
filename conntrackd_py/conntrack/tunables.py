"""The nf_conntrack_* sysctls, under their kernel names, with the kernel's defaults.

Times are whole seconds, as in the sysctls; trackers convert them to ms once.
Reference: Documentation/networking/nf_conntrack-sysctl.rst.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tunables:
    """One value a sysctl. Frozen: a reload replaces it."""

    nf_conntrack_max: int = 262144  # most connections in the table
    nf_conntrack_expect_max: int = 4096  # most expectations
    nf_conntrack_checksum: bool = True  # verify layer 4 checksums at PREROUTING
    nf_conntrack_acct: bool = False  # count packets and bytes per direction
    nf_conntrack_timestamp: bool = False  # keep start (and stop) time of each connection
    nf_conntrack_generic_timeout: int = 600
    nf_conntrack_icmp_timeout: int = 30
    nf_conntrack_icmpv6_timeout: int = 30
    nf_conntrack_udp_timeout: int = 30
    nf_conntrack_udp_timeout_stream: int = 120
    nf_conntrack_tcp_timeout_syn_sent: int = 120
    nf_conntrack_tcp_timeout_syn_recv: int = 60
    nf_conntrack_tcp_timeout_established: int = 432000
    nf_conntrack_tcp_timeout_fin_wait: int = 120
    nf_conntrack_tcp_timeout_close_wait: int = 60
    nf_conntrack_tcp_timeout_last_ack: int = 30
    nf_conntrack_tcp_timeout_time_wait: int = 120
    nf_conntrack_tcp_timeout_close: int = 10
    nf_conntrack_tcp_timeout_max_retrans: int = 300
    nf_conntrack_tcp_timeout_unacknowledged: int = 300
    nf_conntrack_tcp_loose: bool = True  # pick up connections in mid-stream
    nf_conntrack_tcp_be_liberal: bool = False  # only out-of-window RSTs are INVALID
    nf_conntrack_tcp_ignore_invalid_rst: bool = False
    nf_conntrack_tcp_max_retrans: int = 3
    nf_conntrack_sctp_timeout_closed: int = 10
    nf_conntrack_sctp_timeout_cookie_wait: int = 3
    nf_conntrack_sctp_timeout_cookie_echoed: int = 3
    nf_conntrack_sctp_timeout_established: int = 210
    nf_conntrack_sctp_timeout_shutdown_sent: int = 3
    nf_conntrack_sctp_timeout_shutdown_recd: int = 3
    nf_conntrack_sctp_timeout_shutdown_ack_sent: int = 3
    nf_conntrack_sctp_timeout_heartbeat_sent: int = 30
    nf_conntrack_gre_timeout: int = 30
    nf_conntrack_gre_timeout_stream: int = 180
    # not sysctls
    nf_conntrack_ftp_loose: bool = False  # helper ftp: also expect data connections of a third host
    nf_conntrack_sip_timeout: int = 3600  # helper sip: of its connections, and of a registration without an answer
    nf_conntrack_sip_direct_signalling: bool = True  # helper sip: expect calls only from the registrar
    nf_conntrack_sip_direct_media: bool = True  # helper sip: expect media only between the two ends of the signalling
    udp_stream_after: int = 2  # a UDP connection used both ways becomes a stream after this
    rfc7857_tcp_timeout_established: int = 7440
    rfc7857_tcp_timeout_transitory: int = 240
    nat_mapping_max: int = 262144  # most endpoint-independent mappings
    nat_mapping_lifetime: int = 120  # a mapping outlives its last connection by this
    nat_port_rest: int = 0  # after that, its outer port is for no other inside endpoint
