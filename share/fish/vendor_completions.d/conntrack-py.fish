# fish completion for conntrack-py
# Written by scripts/generate from the tables of the program; do not edit.

function __conntrack_py_read -S --description 'Set command (its letter), table and protocol from the line'
    set -l words (commandline -opc)
    set -l line ' '(string join ' ' -- $words[2..-1])' '
    for word in $words[2..-1]
        switch $word
            case '-L*' --dump '--dump=*'
                set command L
            case '-G*' --get '--get=*'
                set command G
            case '-D*' --delete '--delete=*'
                set command D
            case '-I*' --create '--create=*'
                set command I
            case '-A*' --add '--add=*'
                set command A
            case '-U*' --update '--update=*'
                set command U
            case '-E*' --event '--event=*'
                set command E
            case '-F*' --flush '--flush=*'
                set command F
            case '-C*' --count '--count=*'
                set command C
            case '-S*' --stats '--stats=*'
                set command S
            case '-R*' --load-file '--load-file=*'
                set command R
            case '-V*' --version '--version=*'
                set command V
            case '-h*' --help '--help=*'
                set command h
        end
    end
    set table (string match -r -- ' (?:-[A-Z]|--[a-z-]+=)?(conntrack|expect|dying|unconfirmed|mappings) ' $line)[2]
    set protocol (string lower -- (string match -r -- ' (?:-[A-Z]?p ?|--protonum[= ])([^ ]+) ' $line)[2])
    switch "$protocol"
        case icmp 1
            set protocol icmp
        case tcp 6
            set protocol tcp
        case udp 17
            set protocol udp
        case dccp 33
            set protocol dccp
        case gre 47
            set protocol gre
        case icmpv6 58
            set protocol icmpv6
        case sctp 132
            set protocol sctp
        case udplite 136
            set protocol udplite
    end
end

function __conntrack_py_begins --description 'Whether no command is on the line'
    set -l command
    set -l table
    set -l protocol
    __conntrack_py_read
    test -z "$command"
end

function __conntrack_py_takes -a connections expectations --description 'Whether it is a command that takes this'
    set -l command
    set -l table
    set -l protocol
    __conntrack_py_read
    if test -z "$command" # then only the value of an option that stands before it
        string match -q -- '-*' (commandline -opc)[-1]; or return
    end
    set -l letters $connections
    test "$table" = expect; and set letters $expectations
    string match -q -- "*$command*" $letters; or return
    test (count $argv) -lt 3; or contains -- "$protocol" $argv[3..-1]
end

function __conntrack_py_wants -a letters --description 'Whether the command is one of these letters and has no table'
    set -l command
    set -l table
    set -l protocol
    __conntrack_py_read
    test -n "$command" -a -z "$table"; and string match -q -- "*$command*" $letters
end

function __conntrack_py_several --description 'The words that are not yet among those separated by commas'
    set -l token (string replace -r -- '^--[^=]*=' '' (commandline -ct))
    set -l kept (string match -r -- '.*,' $token)
    test -n "$kept"; or set kept ''
    for word in $argv
        string match -q -- "*,$word,*" ",$kept"; or printf '%s\n' $kept$word
    end
end

complete -c conntrack-py -f
complete -c conntrack-py -n '__conntrack_py_begins' -s L -l dump -d 'List the table'
complete -c conntrack-py -n '__conntrack_py_begins' -s G -l get -d 'Show one entry'
complete -c conntrack-py -n '__conntrack_py_begins' -s D -l delete -d 'Delete the entries that match'
complete -c conntrack-py -n '__conntrack_py_begins' -s I -l create -d 'Create an entry'
complete -c conntrack-py -n '__conntrack_py_begins' -s A -l add -d 'Create an entry unless it exists'
complete -c conntrack-py -n '__conntrack_py_begins' -s U -l update -d 'Update the entries that match'
complete -c conntrack-py -n '__conntrack_py_begins' -s E -l event -d 'Show events as they happen'
complete -c conntrack-py -n '__conntrack_py_begins' -s F -l flush -d 'Empty the table'
complete -c conntrack-py -n '__conntrack_py_begins' -s C -l count -d 'Show the number of entries'
complete -c conntrack-py -n '__conntrack_py_begins' -s S -l stats -d 'Show statistics'
complete -c conntrack-py -n '__conntrack_py_begins' -s R -l load-file -r -F -d 'Execute the commands in a file, as -o save writes them; - is stdin'
complete -c conntrack-py -n '__conntrack_py_begins' -s V -l version -d 'Show the version'
complete -c conntrack-py -n '__conntrack_py_begins' -s h -l help -d 'Show this help'
complete -c conntrack-py -n '__conntrack_py_wants L' -a 'conntrack expect dying unconfirmed mappings'
complete -c conntrack-py -n '__conntrack_py_wants G' -a 'conntrack expect'
complete -c conntrack-py -n '__conntrack_py_wants D' -a 'conntrack expect'
complete -c conntrack-py -n '__conntrack_py_wants I' -a 'conntrack expect'
complete -c conntrack-py -n '__conntrack_py_wants A' -a 'conntrack'
complete -c conntrack-py -n '__conntrack_py_wants U' -a 'conntrack'
complete -c conntrack-py -n '__conntrack_py_wants E' -a 'conntrack expect'
complete -c conntrack-py -n '__conntrack_py_wants F' -a 'conntrack expect'
complete -c conntrack-py -n '__conntrack_py_wants C' -a 'conntrack expect'
complete -c conntrack-py -n '__conntrack_py_wants S' -a 'conntrack expect'
complete -c conntrack-py -n '__conntrack_py_takes R' -F
complete -c conntrack-py -n '__conntrack_py_takes LGDIAUE GDI' -s s -l src -l orig-src -x -d 'Source address, original direction'
complete -c conntrack-py -n '__conntrack_py_takes LGDIAUE GDI' -s d -l dst -l orig-dst -x -d 'Destination address, original direction'
complete -c conntrack-py -n '__conntrack_py_takes LGDIAUE GDI' -s r -l reply-src -x -d 'Source address, reply direction'
complete -c conntrack-py -n '__conntrack_py_takes LGDIAUE GDI' -s q -l reply-dst -x -d 'Destination address, reply direction'
complete -c conntrack-py -n '__conntrack_py_takes LGDIAUEh GDI' -s p -l protonum -x -a 'icmp tcp udp dccp gre icmpv6 sctp udplite' -d 'Layer 4 protocol, name or number'
complete -c conntrack-py -n '__conntrack_py_takes LDUEF L' -s f -l family -x -a 'ipv4 ipv6' -d 'Layer 3 protocol: ipv4 or ipv6'
complete -c conntrack-py -n '__conntrack_py_takes DIAU I' -s t -l timeout -x -d 'Timeout to set'
complete -c conntrack-py -n '__conntrack_py_takes LDIAU I' -s u -l status -x -a '(__conntrack_py_several ASSURED SEEN_REPLY UNSET FIXED_TIMEOUT EXPECTED OFFLOAD HW_OFFLOAD)' -d 'Status to match or set: ASSURED, SEEN_REPLY, ...'
complete -c conntrack-py -n '__conntrack_py_takes LDIAUE ""' -s m -l mark -x -d 'Connection mark to match or set'
complete -c conntrack-py -n '__conntrack_py_takes LE ""' -s c -l secmark -x -d 'SELinux mark; no connection of the daemon has one'
complete -c conntrack-py -n '__conntrack_py_takes LGDUE ""' -s l -l label -x -a '(__conntrack_py_several (command sed -n \'s/^[[:space:]]*[0-9][0-9a-fA-Fx]*[[:space:]]\\{1,\\}\\([A-Za-z0-9-]\\{1,\\}\\)[[:space:]]*$/\\1/p\' /etc/xtables/connlabel.conf 2>/dev/null))' -d 'Labels to match'
complete -c conntrack-py -n '__conntrack_py_takes IAU ""' -l label-add -x -a '(__conntrack_py_several (command sed -n \'s/^[[:space:]]*[0-9][0-9a-fA-Fx]*[[:space:]]\\{1,\\}\\([A-Za-z0-9-]\\{1,\\}\\)[[:space:]]*$/\\1/p\' /etc/xtables/connlabel.conf 2>/dev/null))' -d 'Labels to set'
complete -c conntrack-py -n '__conntrack_py_takes U ""' -l label-del -d 'Labels to clear; all if none is given'
complete -c conntrack-py -n '__conntrack_py_takes LDIAE ""' -s w -l zone -x -d 'Zone of both directions'
complete -c conntrack-py -n '__conntrack_py_takes LDIAE ""' -l orig-zone -x -d 'Zone of the original direction only'
complete -c conntrack-py -n '__conntrack_py_takes LDIAE ""' -l reply-zone -x -d 'Zone of the reply direction only'
complete -c conntrack-py -n '__conntrack_py_takes LDIAUE ""' -s n -l src-nat -d 'Source NAT to match or set'
complete -c conntrack-py -n '__conntrack_py_takes LDIAUE ""' -s g -l dst-nat -d 'Destination NAT to match or set'
complete -c conntrack-py -n '__conntrack_py_takes LE ""' -s j -l any-nat -d 'Source or destination NAT to match'
complete -c conntrack-py -n '__conntrack_py_takes LGDIAUEFCSVh LGDIEFCS' -s a -l nat-range -x -d 'Ignored, as in conntrack(8)'
complete -c conntrack-py -n '__conntrack_py_takes L ""' -s z -l zero -d 'Reset the counters after listing'
complete -c conntrack-py -n '__conntrack_py_takes E ""' -s e -l event-mask -x -a '(__conntrack_py_several ALL NEW UPDATES DESTROY)' -d 'Events to show: NEW, UPDATES, DESTROY, ALL'
complete -c conntrack-py -n '__conntrack_py_takes E ""' -s b -l buffer-size -x -d 'Buffer size for events'
complete -c conntrack-py -n '__conntrack_py_takes LGDUE LE' -s o -l output -x -a '(__conntrack_py_several extended id timestamp ktimestamp labels userspace xml) save json' -d 'Output form; see below'
complete -c conntrack-py -n '__conntrack_py_takes IAFCSVh GDIFCSVh' -s o -l output -x -a 'json' -d 'Output form; see below'
complete -c conntrack-py -n '__conntrack_py_takes LDUE I' -l mask-src -x -d 'Mask of the source address'
complete -c conntrack-py -n '__conntrack_py_takes LDUE I' -l mask-dst -x -d 'Mask of the destination address'
complete -c conntrack-py -n '__conntrack_py_takes "" I' -l tuple-src -x -d 'Expected source address'
complete -c conntrack-py -n '__conntrack_py_takes "" I' -l tuple-dst -x -d 'Expected destination address'
complete -c conntrack-py -n '__conntrack_py_takes LGDIAUE GDI tcp udp udplite sctp dccp' -l sport -l orig-port-src -x -d 'Source port'
complete -c conntrack-py -n '__conntrack_py_takes LGDIAUE GDI tcp udp udplite sctp dccp' -l dport -l orig-port-dst -x -d 'Destination port'
complete -c conntrack-py -n '__conntrack_py_takes LGDIAUE GDI tcp udp udplite sctp dccp' -l reply-port-src -x -d 'Source port of replies'
complete -c conntrack-py -n '__conntrack_py_takes LGDIAUE GDI tcp udp udplite sctp dccp' -l reply-port-dst -x -d 'Destination port of replies'
complete -c conntrack-py -n '__conntrack_py_takes LGDIAUE "" tcp' -l state -x -a 'NONE SYN_SENT SYN_RECV ESTABLISHED FIN_WAIT CLOSE_WAIT LAST_ACK TIME_WAIT CLOSE SYN_SENT2 CLOSED SYN_I2O SYN_O2I FIN_I2O FIN_O2I RST_TRANS FIN_TRANS REOPEN_SYN_I2O REOPEN_SYN_O2I LISTEN' -d 'State, for example ESTABLISHED'
complete -c conntrack-py -n '__conntrack_py_takes LGDIAUE "" sctp' -l state -x -a 'NONE CLOSED COOKIE_WAIT COOKIE_ECHOED ESTABLISHED SHUTDOWN_SENT SHUTDOWN_RECD SHUTDOWN_ACK_SENT HEARTBEAT_SENT' -d 'State, for example ESTABLISHED'
complete -c conntrack-py -n '__conntrack_py_takes LGDIAUE "" dccp' -l state -x -a 'NONE REQUEST RESPOND PARTOPEN OPEN CLOSEREQ CLOSING TIMEWAIT' -d 'State, for example ESTABLISHED'
complete -c conntrack-py -n '__conntrack_py_takes LGDIAUE "" icmp icmpv6' -l icmp-type -l icmpv6-type -x -d 'ICMP type'
complete -c conntrack-py -n '__conntrack_py_takes LGDIAUE "" icmp icmpv6' -l icmp-code -l icmpv6-code -x -d 'ICMP code'
complete -c conntrack-py -n '__conntrack_py_takes LGDIAUE "" icmp icmpv6' -l icmp-id -l icmpv6-id -x -d 'ICMP identifier'
complete -c conntrack-py -n '__conntrack_py_takes GIAU "" sctp' -l orig-vtag -x -d 'Verification tag'
complete -c conntrack-py -n '__conntrack_py_takes GIAU "" sctp' -l reply-vtag -x -d 'Verification tag of replies'
complete -c conntrack-py -n '__conntrack_py_takes IA "" dccp' -l role -x -a 'client server none' -d 'DCCP role: client, server or none; ignored'
complete -c conntrack-py -n '__conntrack_py_takes LGDIAUE GDI gre' -l srckey -l orig-key-src -x -d 'Source key'
complete -c conntrack-py -n '__conntrack_py_takes LGDIAUE GDI gre' -l dstkey -l orig-key-dst -x -d 'Destination key'
complete -c conntrack-py -n '__conntrack_py_takes LGDIAUE GDI gre' -l reply-key-src -x -d 'Source key of replies'
complete -c conntrack-py -n '__conntrack_py_takes LGDIAUE GDI gre' -l reply-key-dst -x -d 'Destination key of replies'
complete -c conntrack-py -n '__conntrack_py_takes "" I tcp udp udplite sctp dccp' -l tuple-port-src -x -d 'Expected source port'
complete -c conntrack-py -n '__conntrack_py_takes "" I tcp udp udplite sctp dccp' -l tuple-port-dst -x -d 'Expected destination port'
complete -c conntrack-py -n '__conntrack_py_takes "" I tcp udp udplite sctp dccp' -l mask-port-src -x -d 'Mask of the source port'
complete -c conntrack-py -n '__conntrack_py_takes "" I tcp udp udplite sctp dccp' -l mask-port-dst -x -d 'Ignored: the whole port is compared'
complete -c conntrack-py -n '__conntrack_py_takes LDE ""' -l host -x -d 'Address of either end, either direction'
complete -c conntrack-py -n '__conntrack_py_takes LDE ""' -l interface -x -a '(command ls /sys/class/net 2>/dev/null)' -d 'Input or output interface'
complete -c conntrack-py -n '__conntrack_py_takes LD ""' -l older-than -x -d 'Minimum age: seconds, or 15m, 2h, 3d'
complete -c conntrack-py -n '__conntrack_py_takes LD ""' -l younger-than -x -d 'Maximum age: seconds, or 15m, 2h, 3d'
complete -c conntrack-py -n '__conntrack_py_takes LD ""' -l stale -d 'Connections that the current rules would not create'
complete -c conntrack-py -n '__conntrack_py_takes L ""' -l sort -x -a '(__conntrack_py_several proto src dst sport dport state timeout packets bytes mark zone start id -proto -src -dst -sport -dport -state -timeout -packets -bytes -mark -zone -start -id)' -d 'Sort keys; -key sorts descending'
complete -c conntrack-py -n '__conntrack_py_takes L L' -l limit -x -d 'Maximum number of entries to list'
complete -c conntrack-py -n '__conntrack_py_takes LGDIAUEFCSR LGDIEFCS' -l socket -r -F -d 'The daemon\'s control socket'
