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
complete -c conntrackd-py -n '__conntrackd_py_begins' -a check-config -d 'Check a configuration'
complete -c conntrackd-py -n '__conntrackd_py_begins' -a rules -d 'The iptables rules that hand packets over'
complete -c conntrackd-py -n '__conntrackd_py_begins' -a status -d 'How the daemon is, on one screen'
complete -c conntrackd-py -n '__conntrackd_py_begins' -a reload -d 'Take over a changed configuration'
complete -c conntrackd-py -n '__conntrackd_py_begins' -a top -d 'Who fills the table and what passes, live'
complete -c conntrackd-py -n '__conntrackd_py_begins' -a explain -d 'Why packets were refused: in a capture, or what the daemon saw last'
complete -c conntrackd-py -n '__conntrackd_py_begins' -a diff -d 'The daemon\'s table beside the kernel\'s, in mode observe'
complete -c conntrackd-py -n '__conntrackd_py_begins' -a lab -d 'Client, router and server in namespaces'
complete -c conntrackd-py -n '__conntrackd_py_begins' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_begins' -l version -d 'Show the version, and how it was built'
complete -c conntrackd-py -n '__conntrackd_py_at run' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_at run' -s c -l config -r -F -d 'Configuration (/etc/conntrackd-py/conntrackd.toml)'
complete -c conntrackd-py -n '__conntrackd_py_at run' -l socket -r -F -d 'Control socket, instead of the configuration\'s'
complete -c conntrackd-py -n '__conntrackd_py_at check-config' -F
complete -c conntrackd-py -n '__conntrackd_py_at check-config' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_at check-config' -s c -l config -r -F -d 'Configuration (/etc/conntrackd-py/conntrackd.toml)'
complete -c conntrackd-py -n '__conntrackd_py_begins rules' -a print -d 'Write the rules to standard output as iptables-restore text'
complete -c conntrackd-py -n '__conntrackd_py_begins rules' -a install -d 'Put them in place; can be repeated, also after a change of the configuration; in mode nat nothing passes until the daemon runs'
complete -c conntrackd-py -n '__conntrackd_py_begins rules' -a remove -d 'Take them away; needs no configuration'
complete -c conntrackd-py -n '__conntrackd_py_begins rules' -a status -d 'Tell whether they are in place: exit status 0 when they are, 3 when not or only in part'
complete -c conntrackd-py -n '__conntrackd_py_begins rules' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_at rules print' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_at rules print' -s c -l config -r -F -d 'Configuration (/etc/conntrackd-py/conntrackd.toml)'
complete -c conntrackd-py -n '__conntrackd_py_at rules install' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_at rules install' -s c -l config -r -F -d 'Configuration (/etc/conntrackd-py/conntrackd.toml)'
complete -c conntrackd-py -n '__conntrackd_py_at rules install' -l on-start -d 'As the unit does before it starts: when the configuration is wrong and no rules are in place, forward nothing'
complete -c conntrackd-py -n '__conntrackd_py_at rules remove' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_at rules remove' -s c -l config -r -F -d 'Configuration (/etc/conntrackd-py/conntrackd.toml)'
complete -c conntrackd-py -n '__conntrackd_py_at rules remove' -l on-stop -x -d 'As this systemd unit does when it has stopped: keep them after a failure, during a restart, and when steering.on_stop is keep'
complete -c conntrackd-py -n '__conntrackd_py_at rules status' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_at rules status' -s c -l config -r -F -d 'Configuration (/etc/conntrackd-py/conntrackd.toml)'
complete -c conntrackd-py -n '__conntrackd_py_at status' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_at status' -l socket -r -F -d 'The daemon\'s control socket'
complete -c conntrackd-py -n '__conntrackd_py_at status' -l json -d 'One JSON object'
complete -c conntrackd-py -n '__conntrackd_py_at reload' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_at reload' -s c -l config -r -F -d 'Configuration (/etc/conntrackd-py/conntrackd.toml)'
complete -c conntrackd-py -n '__conntrackd_py_at reload' -l socket -r -F -d 'The daemon\'s control socket, instead of the configuration\'s'
complete -c conntrackd-py -n '__conntrackd_py_at reload' -l flush-stale -d 'End the connections that the new rules would not make'
complete -c conntrackd-py -n '__conntrackd_py_at top' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_at top' -l socket -r -F -d 'The daemon\'s control socket'
complete -c conntrackd-py -n '__conntrackd_py_at top' -l once -d 'One frame as plain text, then end'
complete -c conntrackd-py -n '__conntrackd_py_at top' -l json -d 'Frames as JSON, one object a line; one without --count'
complete -c conntrackd-py -n '__conntrackd_py_at top' -s i -l interval -x -d 'Between two samples, 0.5 to 60 (2)'
complete -c conntrackd-py -n '__conntrackd_py_at top' -s n -l count -x -d 'End after N frames'
complete -c conntrackd-py -n '__conntrackd_py_at top' -l hosts -x -d 'At most N hosts (what fits; 20 without a screen)'
complete -c conntrackd-py -n '__conntrackd_py_at top' -l sort -x -a 'connections bytes new' -d 'Order of the hosts (connections)'
complete -c conntrackd-py -n '__conntrackd_py_at top' -s 4 -d 'Hosts of IPv4 only'
complete -c conntrackd-py -n '__conntrackd_py_at top' -s 6 -d 'Hosts of IPv6 only'
complete -c conntrackd-py -n '__conntrackd_py_at explain' -F
complete -c conntrackd-py -n '__conntrackd_py_at explain' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_at explain' -l recent -d 'What the daemon refused, ignored or dropped last'
complete -c conntrackd-py -n '__conntrackd_py_at explain' -l last -x -d 'Of these the last N (20)'
complete -c conntrackd-py -n '__conntrackd_py_at explain' -l socket -r -F -d 'The daemon\'s control socket'
complete -c conntrackd-py -n '__conntrackd_py_at explain' -l json -d 'One JSON object a packet, and one with the summary'
complete -c conntrackd-py -n '__conntrackd_py_at explain' -s c -l config -r -F -d 'Tunables, and with --inside NAT rules'
complete -c conntrackd-py -n '__conntrackd_py_at explain' -l inside -x -d 'Addresses that arrive from inside; the configuration\'s NAT rules then apply to the capture'
complete -c conntrackd-py -n '__conntrackd_py_at explain' -l address -x -d 'Of the outside interface, for MASQUERADE'
complete -c conntrackd-py -n '__conntrackd_py_at explain' -l no-checksum -d 'Do not verify checksums'
complete -c conntrackd-py -n '__conntrackd_py_at explain' -l only-problems -d 'Show only packets with something to say about'
complete -c conntrackd-py -n '__conntrackd_py_at explain' -l host -x -d 'Show only packets from or to this address'
complete -c conntrackd-py -n '__conntrackd_py_at explain' -l port -x -d 'And this port'
complete -c conntrackd-py -n '__conntrackd_py_at explain' -l proto -x -a 'icmp tcp udp dccp gre icmpv6 sctp udplite' -d 'And of this protocol'
complete -c conntrackd-py -n '__conntrackd_py_at diff' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_at diff' -l socket -r -F -d 'The daemon\'s control socket'
complete -c conntrackd-py -n '__conntrackd_py_at lab' -s h -l help -d 'Show a short help'
complete -c conntrackd-py -n '__conntrackd_py_at lab' -l keep -d 'Leave it up to play with, until Ctrl-C'
