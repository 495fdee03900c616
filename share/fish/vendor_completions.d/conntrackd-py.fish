# fish completion for conntrackd-py
# Written by scripts/generate from the tables of the program; do not edit.

function __conntrackd_py_at --description 'Whether the line began with these subcommands'
    set -l words
    for word in (commandline -opc)[2..-1]
        string match -q -- '-*' $word; or set -a words $word
    end
    set -l last (count $argv)
    test (count $words) -ge $last; and test "$words[1..$last]" = "$argv"
end

function __conntrackd_py_begins --description 'Whether these subcommands are all there is on the line'
    set -l words
    for word in (commandline -opc)[2..-1]
        string match -q -- '-*' $word; or set -a words $word
    end
    test "$words" = "$argv"
end

complete -c conntrackd-py -f
complete -c conntrackd-py -n '__conntrackd_py_begins' -a run -d 'Run the daemon'
complete -c conntrackd-py -n '__conntrackd_py_begins' -a check-config -d 'Check the configuration: report errors and warnings, list the rules'
complete -c conntrackd-py -n '__conntrackd_py_begins' -a rules -d 'Print, install, remove or check the nft or iptables rules that queue packets to the daemon'
complete -c conntrackd-py -n '__conntrackd_py_begins' -a import-rules -d 'Print the NAT and raw rules of a firewall of iptables or nft as configuration; list those that cannot be translated: exit status 0 if there are none, 1 if there are some, 2 if the text cannot be used'
complete -c conntrackd-py -n '__conntrackd_py_begins' -a status -d 'Show the state of the daemon'
complete -c conntrackd-py -n '__conntrackd_py_begins' -a reload -d 'Make the daemon apply a changed configuration'
complete -c conntrackd-py -n '__conntrackd_py_begins' -a targets -d 'List the targets of DNAT rules with several, or mark one down: it gets no new connections'
complete -c conntrackd-py -n '__conntrackd_py_begins' -a top -d 'Show the table, the traffic and the hosts, live'
complete -c conntrackd-py -n '__conntrackd_py_begins' -a explain -d 'Explain why packets were refused, in a capture or by the running daemon'
complete -c conntrackd-py -n '__conntrackd_py_begins' -a diff -d 'Compare the daemon\'s table with the kernel\'s, in mode observe'
complete -c conntrackd-py -n '__conntrackd_py_begins' -a lab -d 'Send real traffic through a daemon in network namespaces'
complete -c conntrackd-py -n '__conntrackd_py_begins' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_begins' -l version -d 'Show the version and the build'
complete -c conntrackd-py -n '__conntrackd_py_at run' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_at run' -s c -l config -r -F -d 'Configuration file (/etc/conntrackd-py/conntrackd.toml)'
complete -c conntrackd-py -n '__conntrackd_py_at run' -l socket -r -F -d 'Control socket, instead of the configured one'
complete -c conntrackd-py -n '__conntrackd_py_at check-config' -F
complete -c conntrackd-py -n '__conntrackd_py_at check-config' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_at check-config' -s c -l config -r -F -d 'Configuration file (/etc/conntrackd-py/conntrackd.toml)'
complete -c conntrackd-py -n '__conntrackd_py_at check-config' -l strict -d 'Exit with status 1 if there are warnings'
complete -c conntrackd-py -n '__conntrackd_py_begins rules' -a print -d 'Print the rules as text of nft or iptables-restore'
complete -c conntrackd-py -n '__conntrackd_py_begins rules' -a install -d 'Install the rules, or update them after a change of the configuration; in mode nat nothing is forwarded until the daemon runs'
complete -c conntrackd-py -n '__conntrackd_py_begins rules' -a confirm -d 'Keep the rules of `rules install --for`: from another session, to be sure that it still works'
complete -c conntrackd-py -n '__conntrackd_py_begins rules' -a remove -d 'Remove the rules; needs no configuration'
complete -c conntrackd-py -n '__conntrackd_py_begins rules' -a status -d 'Check whether the rules are installed: exit status 0 if they are, 3 if none or only some are'
complete -c conntrackd-py -n '__conntrackd_py_begins rules' -a check -d 'Name the rules and settings of this machine that conflict with conntrackd-py, and the remedies: exit status 0 if there are none, 1 for warnings, 3 for errors'
complete -c conntrackd-py -n '__conntrackd_py_begins rules' -a translate -d 'Print a ruleset of iptables or nft with its ct state matches as matches of the packet mark, for a firewall whose packets the kernel does not track; the rest stays as it is. Rules that cannot be translated are listed: exit status 0 if there are none, 3 if there are some, 1 after a failure'
complete -c conntrackd-py -n '__conntrackd_py_begins rules' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_at rules print' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_at rules print' -s c -l config -r -F -d 'Configuration file (/etc/conntrackd-py/conntrackd.toml)'
complete -c conntrackd-py -n '__conntrackd_py_at rules print' -l format -x -a 'nft iptables' -d 'Print the rules of this program (steering.program)'
complete -c conntrackd-py -n '__conntrackd_py_at rules install' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_at rules install' -s c -l config -r -F -d 'Configuration file (/etc/conntrackd-py/conntrackd.toml)'
complete -c conntrackd-py -n '__conntrackd_py_at rules install' -l on-start -d 'For the systemd unit, before the daemon starts: if the configuration is wrong and no rules are installed, install rules that forward nothing'
complete -c conntrackd-py -n '__conntrackd_py_at rules install' -l for -x -d 'Restore the former rules after SECONDS, unless Enter or `rules confirm` keeps the new ones'
complete -c conntrackd-py -n '__conntrackd_py_at rules install' -l force -d 'Install the rules even if they cut off this SSH session'
complete -c conntrackd-py -n '__conntrackd_py_at rules confirm' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_at rules remove' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_at rules remove' -s c -l config -r -F -d 'Configuration file (/etc/conntrackd-py/conntrackd.toml)'
complete -c conntrackd-py -n '__conntrackd_py_at rules remove' -l on-stop -x -d 'For this systemd unit, after the daemon stopped: keep the rules after a failure, during a restart, and if steering.on_stop is keep'
complete -c conntrackd-py -n '__conntrackd_py_at rules status' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_at rules status' -s c -l config -r -F -d 'Configuration file (/etc/conntrackd-py/conntrackd.toml)'
complete -c conntrackd-py -n '__conntrackd_py_at rules check' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_at rules check' -s c -l config -r -F -d 'Configuration file (/etc/conntrackd-py/conntrackd.toml)'
complete -c conntrackd-py -n '__conntrackd_py_at rules check' -l json -d 'Print one JSON object a finding'
complete -c conntrackd-py -n '__conntrackd_py_at rules translate' -F
complete -c conntrackd-py -n '__conntrackd_py_at rules translate' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_at rules translate' -s c -l config -r -F -d 'Configuration file (/etc/conntrackd-py/conntrackd.toml)'
complete -c conntrackd-py -n '__conntrackd_py_at rules translate' -l format -x -a 'iptables ip6tables nft' -d 'Of FILE, if it is not recognised; without FILE, print only the rules of this program'
complete -c conntrackd-py -n '__conntrackd_py_at import-rules' -F
complete -c conntrackd-py -n '__conntrackd_py_at import-rules' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_at import-rules' -l format -x -a 'iptables ip6tables nft' -d 'Of FILE, if it is not recognised'
complete -c conntrackd-py -n '__conntrackd_py_at status' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_at status' -l socket -r -F -d 'The daemon\'s control socket'
complete -c conntrackd-py -n '__conntrackd_py_at status' -l json -d 'Print one JSON object'
complete -c conntrackd-py -n '__conntrackd_py_at reload' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_at reload' -s c -l config -r -F -d 'Configuration file (/etc/conntrackd-py/conntrackd.toml)'
complete -c conntrackd-py -n '__conntrackd_py_at reload' -l socket -r -F -d 'The daemon\'s control socket, instead of the configured one'
complete -c conntrackd-py -n '__conntrackd_py_at reload' -l flush-stale -d 'End the connections that the new rules would not create'
complete -c conntrackd-py -n '__conntrackd_py_begins targets' -a down -d 'No new connections to this target'
complete -c conntrackd-py -n '__conntrackd_py_begins targets' -a up -d 'New connections again'
complete -c conntrackd-py -n '__conntrackd_py_begins targets' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_begins targets' -l socket -r -F -d 'The daemon\'s control socket'
complete -c conntrackd-py -n '__conntrackd_py_begins targets' -l json -d 'Print one JSON list'
complete -c conntrackd-py -n '__conntrackd_py_at targets down' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_at targets up' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_at top' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_at top' -l socket -r -F -d 'The daemon\'s control socket'
complete -c conntrackd-py -n '__conntrackd_py_at top' -l once -d 'Print one frame as plain text and exit'
complete -c conntrackd-py -n '__conntrackd_py_at top' -l json -d 'Print one JSON object a frame; one frame without --count'
complete -c conntrackd-py -n '__conntrackd_py_at top' -s i -l interval -x -d 'Time between two samples, 0.5 to 60 (default 2)'
complete -c conntrackd-py -n '__conntrackd_py_at top' -s n -l count -x -d 'Exit after N frames'
complete -c conntrackd-py -n '__conntrackd_py_at top' -l hosts -x -d 'Show at most N hosts (default: what fits; 20 without a terminal)'
complete -c conntrackd-py -n '__conntrackd_py_at top' -l sort -x -a 'connections bytes new' -d 'Order of the hosts (connections)'
complete -c conntrackd-py -n '__conntrackd_py_at top' -s 4 -d 'IPv4 hosts only'
complete -c conntrackd-py -n '__conntrackd_py_at top' -s 6 -d 'IPv6 hosts only'
complete -c conntrackd-py -n '__conntrackd_py_at explain' -F
complete -c conntrackd-py -n '__conntrackd_py_at explain' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_at explain' -l recent -d 'The packets that the daemon refused, ignored or dropped last'
complete -c conntrackd-py -n '__conntrackd_py_at explain' -l follow -d 'The packets that the daemon refuses, ignores or drops, as they come'
complete -c conntrackd-py -n '__conntrackd_py_at explain' -l last -x -d 'With --recent, the last N packets (20); with --follow, the last N first'
complete -c conntrackd-py -n '__conntrackd_py_at explain' -l socket -r -F -d 'The daemon\'s control socket'
complete -c conntrackd-py -n '__conntrackd_py_at explain' -l json -d 'Print one JSON object a packet, then the summary as one'
complete -c conntrackd-py -n '__conntrackd_py_at explain' -s c -l config -r -F -d 'Use the tunables of FILE, and with --inside its NAT rules'
complete -c conntrackd-py -n '__conntrackd_py_at explain' -l inside -x -d 'Source addresses of the inner network; needed to apply the NAT rules of --config'
complete -c conntrackd-py -n '__conntrackd_py_at explain' -l address -x -d 'Address of the outer interface, for MASQUERADE'
complete -c conntrackd-py -n '__conntrackd_py_at explain' -l no-checksum -d 'Do not verify checksums'
complete -c conntrackd-py -n '__conntrackd_py_at explain' -l only-problems -d 'Show only packets with a reason or a hint'
complete -c conntrackd-py -n '__conntrackd_py_at explain' -l host -x -d 'Show only packets from or to this address'
complete -c conntrackd-py -n '__conntrackd_py_at explain' -l port -x -d 'Show only packets from or to this port'
complete -c conntrackd-py -n '__conntrackd_py_at explain' -l proto -x -a 'icmp tcp udp dccp gre icmpv6 sctp udplite' -d 'Show only packets of this protocol'
complete -c conntrackd-py -n '__conntrackd_py_at explain' -l reason -x -a 'ip_truncated ip_version ip_header ip_fragment l4_truncated l4_checksum tcp_flags tcp_not_syn tcp_state tcp_seq_over_window tcp_ack_over_window tcp_invalid_rst icmp_type icmp_cannot_start icmp_inner_header icmp_unrelated icmp_outer_address icmp_redirect tuple_not_invertible sctp_chunks sctp_cannot_start sctp_verification_tag sctp_state copy_truncated tcp_ignored tcp_more_than_window tcp_seq_under_window tcp_ack_under_window tcp_challenge_ack table_full nat_exhausted nat_no_address nat_interface_changed nat_not_rewritable leak_guard connection_lost insert_failed filter_drop filter_reject nat_interface_unknown helper_partial helper_refused expired_in_use mark_overwritten helper_not_enabled' -d 'Show only packets with this reason; several options: with one of them'
complete -c conntrackd-py -n '__conntrackd_py_at diff' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_at diff' -l socket -r -F -d 'The daemon\'s control socket'
complete -c conntrackd-py -n '__conntrackd_py_at lab' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_at lab' -l keep -d 'Keep the lab running after the tests, until Ctrl-C'
