"""Every command and option of conntrack(8), given to it and to conntrack-py: same exit status, same lines.

Both begin with an empty table and get the same lines in the same order, so both tables stay the same. Where the two
differ on purpose stands in tools/generators/differences.py, with the reason.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator

import pytest
from generators.differences import DIFFERENCES, Difference

from tests.support.sidebyside import Answer, Pair, pair

V4 = "-s 10.1.1.1 -d 10.2.2.2"
V6 = "-s fd00::1 -d fd00::2"
UDP = f"{V4} -p udp --sport"

CREATED = f"""
-I {V4} -p tcp --sport 1 --dport 80 -t 100 --state SYN_SENT
-I {V4} -p tcp --sport 2 --dport 80 -t 100 --state ESTABLISHED -u SEEN_REPLY,ASSURED -m 7
-I {V4} -p tcp --sport 3 --dport 80 -t 100 --state LISTEN -u UNSET
-I {V4} -p TCP --sport 4 --dport 443 -t 100 --state TIME_WAIT -u ASSURED
-I {V6} -p tcp --sport 1 --dport 80 -t 100 --state ESTABLISHED -n [fd00::9]:77
-I {V4} -p udp --sport 1 --dport 53 -t 100
-I {V4} -p 17 --sport 2 --dport 53 -t 100 -u SEEN_REPLY
-I {V4} -p udp --sport 3 --dport 53 -t 100 -n 192.0.2.1
-I {V4} -p udp --sport 4 --dport 53 -t 100 -n 192.0.2.1:99
-I {V4} -p udp --sport 5 --dport 53 -t 100 -g 192.0.2.2:99
-I {V4} -p udp --sport 6 --dport 53 -t 100 -g 192.0.2.2 -n 192.0.2.1
-I {V4} -p udp --sport 7 --dport 53 -t 100 -n
-I {V4} -p udp --sport 8 --dport 53 -t 100 -r 192.0.2.3 -q 192.0.2.4 --reply-port-src 8 --reply-port-dst 9
-I {V4} -p udp --sport 9 --dport 53 -t 100 --reply-port-src 10 --reply-port-dst 11
-I -r 10.2.2.2 -q 10.1.1.1 -p udp --reply-port-src 53 --reply-port-dst 10 -t 100
-I {V4} -p udp --sport 11 --dport 53 -t 100 -w 3
-I {V4} -p udp --sport 12 --dport 53 -t 100 --orig-zone 4
-I {V4} -p udp --sport 13 --dport 53 -t 100 --reply-zone 5 -u FIXED_TIMEOUT,SEEN_REPLY
-I {V4} -p udp --sport 14 --dport 53 -t 100 --label-add foo,baz
-I {V4} -p udp --sport 15 --dport 53 -t 100 -u OFFLOAD -m 0x10
-I {V6} -p udp --sport 1 --dport 53 -t 100 -g fd00::9
-I {V4} -p icmp --icmp-type 8 --icmp-code 0 --icmp-id 3 -t 100
-I {V4} -p icmp --icmp-type 13 --icmp-code 0 -t 100
-I {V6} -p icmpv6 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 3 -t 100
-I {V4} -p gre --srckey 1 --dstkey 0x2 -t 100
-I {V4} -p udplite --sport 1 --dport 2 -t 100
-I {V4} -p dccp --sport 1 --dport 2 -t 100 --state OPEN --role client
-I {V4} -p 2 -t 100
-I {V4} -p esp -t 100
-A {V4} -p udp --sport 16 --dport 53 -t 100
""".strip().splitlines()

REFUSED = f"""
-I {V4} -p udp --sport 1 --dport 53 -t 100
-I -r 10.2.2.2 -q 10.1.1.1 -p udp --reply-port-src 53 --reply-port-dst 1 -t 100
-A {V4} -p udp --sport 1 --dport 53 -t 100
-I {UDP} 20 --dport 53
-I {UDP} 20 -t 100
-I {V4} -p udp --dport 53 -t 100
-I {V4} -p udp -t 100
-I -s 10.1.1.1 -p udp --sport 20 --dport 53 -t 100
-I -d 10.1.1.1 -p udp --sport 20 --dport 53 -t 100
-I {V4} --sport 20 --dport 53 -t 100
-I {UDP} 20 --dport 53 -t 100 -r 192.0.2.3
-I {UDP} 20 --dport 53 -t 100 -q 192.0.2.3
-I {UDP} 20 --dport 53 -t 100 -u EXPECTED
-I {UDP} 20 --dport 53 -t 100 -u BOGUS
-I {UDP} 20 --dport 53 -t 100 -n 192.0.2.1:1-2
-I {UDP} 20 --dport 53 -t 100 -n 192.0.2.1:x
-I {UDP} 20 --dport 53 -t 100 -n 192.0.2.1:70000
-I {UDP} 20 --dport 53 -t 100 -n 192.0.2.1-192.0.2.9
-I {UDP} 20 --dport 53 -t 100 -n fd00::1
-I {UDP} 20 --dport 53 -t 100 -g bogus
-I {V6} -p tcp --sport 1 --dport 80 -t 100 --state ESTABLISHED -g [2001:db8::1]
-I {V6} -p tcp --sport 1 --dport 80 -t 100 --state ESTABLISHED -n [2001:db8::1
-I {V6} -p tcp --sport 1 --dport 80 -t 100 --state ESTABLISHED -n [2001:db8::1]:
-I {UDP} 20 --dport 53 -t 100 -j 192.0.2.1
-I {UDP} 20 --dport 53 -t 100 -w 1 --orig-zone 2
-I {UDP} 20 --dport 53 -t 100 -l foo
-I {UDP} 20 --dport 53 -t 100 -c 1
-I {UDP} 20 --dport 53 -t 100 -e NEW
-I {UDP} 20 --dport 53 -t 100 -z
-I {UDP} 20 --dport 53 -t 100 -o id
-I {UDP} 20 --dport 53 -t 100 -f ipv4
-I {UDP} 20 --dport 53 -t 100 --label-add bogus
-I {UDP} 20 --dport 53 -t 100 --label-del foo
-I {UDP} 20 --dport 53 -t 100 --mask-src 255.0.0.0
-I {UDP} 20 --dport 53 -t 100 --tuple-src 10.0.0.1
-I {UDP} 20 --dport 53 -t 100 --state ESTABLISHED
-I -s 10.1.1.1 -d fd00::2 -p udp --sport 20 --dport 53 -t 100
-I -s 10.1.1.0/24 -d 10.2.2.2 -p udp --sport 20 --dport 53 -t 100
-I -s bogus -d 10.2.2.2 -p udp --sport 20 --dport 53 -t 100
-I {V4} -p tcp --sport 20 --dport 80 -t 100
-I {V4} -p tcp --sport 20 --dport 80 -t 100 --state BOGUS
-I {V4} -p tcp --sport 20 --dport 80 -t 100 --state established
-I {V4} -p icmp --icmp-type 8 -t 100
-I {V4} -p icmp --icmp-type 3 --icmp-code 0 -t 100
-I {V6} -p icmp --icmp-type 8 --icmp-code 0 -t 100
-I {V4} -p icmpv6 --icmpv6-type 128 --icmpv6-code 0 -t 100
-I {V4} -p sctp --sport 1 --dport 3 -t 100
-I {V4} -p sctp --sport 1 --dport 3 -t 100 --state ESTABLISHED
-I {V4} -p sctp --sport 1 --dport 3 -t 100 --state ESTABLISHED --orig-vtag 1
-I {V4} -p gre -t 100
-I {V4} -p gre --srckey 1 -t 100
-I {V4} -p dccp --sport 1 --dport 3 -t 100 --state OPEN
-I {V4} -p dccp --sport 1 --dport 3 -t 100 --state OPEN --role bogus
-I {V4} -p unknown -t 100
-I {V4} -p 256 -t 100
-I {V4} -p -100 -t 100
-I
-A
-A {V4}
-A expect
-U expect
-I dying
-I bogus
""".strip().splitlines()

LISTED = """
-L
--dump
-L conntrack
-Lconntrack
-L -p tcp
-L -p TCP
-L -p 6
-L -p 0x11
-L --protonum=udp
-L -p udp --sport 1
-L -p udp --sport=2
-L -p udp --orig-port-src 2 --orig-port-dst 53
-L -p udp --reply-port-dst 99
-L -p udp --reply-port-src 99
-L -p udp --dport 54
-L -p tcp --state ESTABLISHED
-L -p tcp --state LISTEN
-L -p sctp --state ESTABLISHED
-L -p icmp --icmp-type 8
-L -p icmp --icmp-type 13 --icmp-code 0
-L -p icmp --icmp-id 3
-L -p icmpv6 --icmpv6-type 128
-L -p gre --srckey 1
-L -p gre --dstkey 2
-L -p gre --reply-key-src 2
-L -p dccp
-L -p 2
-L -p esp
-L -f ipv4
-L -f ipv6
-L -f ipv6 -p tcp
-L -s 10.1.1.1
-L --orig-src 10.1.1.1
-L -s 10.1.1.2
-L -s 10.1.0.0/16
-L -s 10.1.1.7/24
-L -s 0.0.0.0/0
-L -s fd00::1
-L -s fd00::/16
-L -s 10.1.9.9 --mask-src 255.255.0.0
-L -d 10.2.2.2
-L -d 10.2.0.0/16 -p tcp
-L -d 10.9.2.2 --mask-dst 255.0.255.255
-L -r 10.2.2.2
-L -r 192.0.2.2
-L -q 192.0.2.1
-L --reply-dst 10.1.1.1
-L -u ASSURED
-L -u SEEN_REPLY
-L -u SEEN_REPLY,ASSURED
-L -u FIXED_TIMEOUT
-L -u EXPECTED
-L -m 7
-L -m 0
-L -m 0x10/0xf0
-L -m 7/1
-L -c 1
-L -l foo
-L -l foo,baz
-L -l bar
-L -w 3
-L -w 0
-L --orig-zone 4
-L --reply-zone 5
-L --orig-zone 9
-L -n
-L -n 192.0.2.1
-L -n 192.0.2.1:99
-L -n 192.0.2.1:98
-L -n 192.0.2.9
-L -g
-L -g 192.0.2.2
-L -g 192.0.2.2:99
-L -j
-L -j 192.0.2.2
-L -n -g
-L -n fd00::9
-L -n [fd00::9]:77
-L -p udp -n 192.0.2.1 -s 10.1.1.1
-L dying
-L unconfirmed
-L expect
-L expect -f ipv4
""".strip().splitlines()

OUTPUTS = ("extended", "id", "ktimestamp", "labels", "timestamp", "userspace", "extended,id,labels", "save", "xml")

MISTAKES = f"""
-L bogus
-L -L
-L -D
-h -L
-V -L
-x
--bogus
--list
--d
-L --sr 10.1.1.1
-L --zero=1
-L -p
-L -p bogus
-L -p 256
-L -p -1
-L -f
-L -f ipv5
-L -f inet
-L -s
-L -s bogus
-L -s 10.1.1.1/33
-L -s 10.1.1.1/-1
-L -s 10.1.1.1/255.255.255.0
-L -s fd00::1/129
-L -s 10.1.1.1 -d fd00::2
-L -s 10.1.1.1 -f ipv6
-L -n fd00::1 -f ipv4
-L --mask-src 255.0.0.0
-L --mask-dst 255.0.0.0
-L -p tcp --state BOGUS
-L -p tcp --state
-L -p udp --state ESTABLISHED
-L -p tcp --icmp-type 8
-L --sport 1
-L -p icmp --sport 1
-L -p tcp --tuple-port-src 1
-L -p sctp --orig-vtag 1
-L -p dccp --role client
-L -t 5
-L -u BOGUS
-L -u
-L -m
-L -l bogus
-L -l
-L --label-add foo
-L --label-del foo
-L -n bogus
-L -n 10.1.1.1:70000
-L -n [fd00::9]
-L -g [fd00::9]
-L -j [fd00::9
-L -n [fd00::9]:
-L -n [fd00::9]x
-L -n []
-L -n [10.1.1.1]
-L -n [10.1.1.1]:5
-D -n [fd00::9]
-U -n [fd00::9] -m 5
-E -n [fd00::9]
-L -n -j
-L -j -g 10.1.1.1
-L -e ALL
-L -b 5
-L -o
-L -o bogus
-L -o save,id
-L -z -p udp
-L -z -s 10.1.1.1
-L --tuple-src 10.1.1.1
-L expect -p tcp
-L expect -s 10.1.1.1
-L expect -z
-L expect -e ALL
-p tcp
-s 10.1.1.1
-E -u ASSURED
-E -t 5
-E -z
-E -e
-E -e BOGUS
-E -e NEW,BOGUS
-E -o save,id
-E dying
-E bogus
-E --label-add foo
-D -j
-D -c 1
-D -z
-D -e NEW
-D -b 5
-D dying
-D expect
-D expect -s 10.1.1.1
-G
-G -p tcp
-G -p tcp -s 10.1.1.1
-G {V4} -p tcp
-G {V4} -p tcp --sport 1
-G {V4} -p icmp --icmp-type 8
-G {V4} -p gre
-G {V4} -p udp --sport 1 --dport 53 -t 5
-G {V4} -p udp --sport 1 --dport 53 -m 5
-G {V4} -p udp --sport 1 --dport 53 -w 5
-G {V4} -p udp --sport 1 --dport 53 -f ipv4
-G -s 10.1.0.0/16 -d 10.2.2.2 -p udp --sport 1 --dport 53
-G expect
-G expect -s 10.1.1.1 -d 10.2.2.2
-G dying
-U -w 5
-U -c 5
-U -j
-U -f ipv4 --label-add bogus
-U dying
-F -p tcp
-F -s 10.1.1.1
-F expect -f ipv4
-F dying
-F bogus
-C -p tcp
-C -f ipv4
-C -o id
-C dying
-C bogus
-S -p tcp
-S bogus
-V bogus
-V -o id
-h -s 10.1.1.1
-R
-R /nonexistent/file
-I expect {V4} -p tcp --sport 1 --dport 80
-I expect {V4} -p tcp --sport 1 --dport 80 -t 5 --tuple-src 10.1.1.1
""".strip().splitlines()

FINE = [
    "-h",
    "-h -p tcp",
    "--help",
    "-V",
    "--version",
    "-C",
    "--count",
    "-C expect",
    "-S",
    "-S expect",
    "-L -a 10.0.0.1",
    "",
]

CHANGES = f"""
-G {V4} -p tcp --sport 1 --dport 80
-G {V4} -p tcp --sport 1 --dport 80 -o id,extended
-G {V4} -p tcp --sport 1 --dport 80 -o save
-G {V4} -p tcp --sport 1 --dport 80 --state SYN_SENT
-G {V4} -p tcp --sport 1 --dport 80 --state CLOSE
-G {V4} -p tcp --sport 1 --dport 81
-G {V6} -p udp --sport 1 --dport 53
-G {V4} -p icmp --icmp-type 8 --icmp-code 0 --icmp-id 3
-G {V4} -p gre --srckey 1 --dstkey 2
-G {V4} -p udp --sport 14 --dport 53 -l foo -o labels
-U -f ipv4 -p tcp -m 5
-U -f ipv4 -p tcp -m 5
-U -f ipv4 -p tcp --sport 1 -m 0x100/0xf00
-U -s 10.1.1.1 -p udp --sport 1 -t 50
-U -s 10.1.1.1 -p udp --sport 1 -t 50
-U -s 10.1.1.1 -p udp --sport 1 -u ASSURED
-U -s 10.1.1.1 -p udp --sport 1 -u ASSURED
-U -s 10.1.1.1 -p udp --sport 1 -u SEEN_REPLY
-U -s 10.1.1.1 -p udp --sport 1 -u UNSET
-U -s 10.1.1.1 -p udp --sport 1 -u FIXED_TIMEOUT
-U -s 10.1.1.1 -p udp
-U -f ipv4
-U -s 10.9.9.9 -m 1
-U -f ipv4 -p tcp --state CLOSE -t 50
-U -f ipv4 -p tcp --state CLOSE
-U -f ipv4 -p udp --dport 54 -m 1
-U -f ipv4 -l foo --label-add bar
-U -f ipv4 -l bar --label-del
-U -f ipv4 -l bar -m 3
-U -f ipv6 -m 3 -o save
-U -f ipv6 -m 4 -o extended,id
-U -f ipv6 -m 6 -o xml
-L
-L -z
-D -p udp --sport 1 -o save
-D -p udp --sport 1
-D -m 5 -o extended,id
-D -f ipv6 -o xml
-D -t 5 -p icmp
-D -t 5 -p tcp --sport 4
-D -w 3
-D --orig-zone 4
-D -s 10.1.1.0/24 -p sctp
-D -u ASSURED
-D -n
-D -l bogus2
-D -g
-L
-D -s 10.9.9.9
-F
-D
-U -f ipv4 -m 1
-L
""".strip().splitlines()


@pytest.fixture(scope="module")
def two() -> Iterator[Pair]:
    with pair() as made:
        yield made


@pytest.fixture
def filled(two: Pair) -> Pair:
    """Both tables hold the connections of CREATED."""
    two.forget()
    two.order(CREATED)
    return two


def differences(two: Pair, lines: list[str]) -> str:
    """The lines to which the two answer differently, and what only one of them says; compared are status and output."""
    found = []
    for line in lines:
        real, ours = two.both(line)
        said = [real.saying, ours.saying] if real.status == 0 else ["", ""]
        if line.startswith("-U") and len(ours.lines) > 2 and set(real.lines) < set(ours.lines):
            continue  # of several it updates, the real program shows some
        if (real.status, real.lines, said[0]) != (ours.status, ours.lines, said[1]):
            found += [f"{line}", f"  status {real.status} {ours.status} {said}"]
            found += difflib.unified_diff(real.lines, ours.lines, "real", "ours", n=0, lineterm="")
    return "\n".join(found)


def statuses(two: Pair, lines: list[str]) -> list[str]:
    found = []
    for line in lines:
        real, ours = two.both(line, seconds=0.4)
        if real.status != ours.status:
            found.append(f"{line}\n  real {real}\n  ours {ours}")
        if ours.status == 2:
            assert ours.err.count("\n") == 1, ours
    return found


def test_creating_one_by_one(two: Pair) -> None:
    two.forget()
    assert differences(two, CREATED) == ""
    assert differences(two, ["-L", "-C"]) == ""


def test_what_was_made_is_listed_alike_through_every_filter(filled: Pair) -> None:
    assert differences(filled, LISTED) == ""


@pytest.mark.parametrize("output", OUTPUTS)
def test_every_form(filled: Pair, output: str) -> None:
    assert differences(filled, [f"-L -o {output}", f"-L -p udp -o {output}", f"-L -p 99 -o {output}"]) == ""


def test_mistakes_and_their_exit_status(filled: Pair) -> None:
    assert statuses(filled, REFUSED) == []
    assert statuses(filled, MISTAKES) == []
    assert statuses(filled, FINE) == []


def test_changes_in_a_row(filled: Pair) -> None:
    assert differences(filled, CHANGES) == ""


@pytest.mark.parametrize("difference", DIFFERENCES, ids=[difference.line for difference in DIFFERENCES])
def test_differences_on_purpose(filled: Pair, difference: Difference) -> None:
    real, ours = filled.both(difference.line)
    assert (real.status, ours.status) == (difference.conntrack_status, difference.status), difference.why


# Same exit status, another effect: an order, a question, and how many lines answer it there and here.
OTHERWISE = (
    ("-F -f ipv6", "-L", 0, 27),
    ("-U -s 10.1.1.1 -p udp --sport 14 --label-del=foo", "-L -l baz", 0, 1),
    ("-C", "-L -p gre --srckey 9", 1, 0),
)


@pytest.mark.parametrize(("order", "question", "theirs", "mine"), OTHERWISE)
def test_what_has_another_effect(filled: Pair, order: str, question: str, theirs: int, mine: int) -> None:
    assert [answer.status for answer in filled.both(order)] == [0, 0]
    real, ours = filled.both(question)
    assert (len(real.lines), len(ours.lines)) == (theirs, mine)


SAVED = [line for line in CREATED if "--role" not in line and "reply-port-dst 11" not in line]


def test_what_one_saves_the_other_reads_back(two: Pair) -> None:
    """Both ways; but for a port behind two translations at once, which the real program forgets when it reads."""
    two.forget()
    two.order([line for line in SAVED if not (" -g " in line and " -n " in line)])
    real, ours = two.both("-L -o save")
    assert real.lines == ours.lines
    assert len(real.lines) > 20
    two.forget()
    for line in ours.out.splitlines():  # one at a time: some files are too long for it
        assert two.real("-R -", line) == Answer(0, "", ""), line
    assert two.ours("-R -", real.out) == Answer(0, "", "")
    again = two.both("-L -o save")
    assert [answer.lines for answer in again] == [real.lines, real.lines]


def test_files_that_are_refused(two: Pair) -> None:
    two.forget()
    made = CREATED[5]
    for text in ("-L", "-E", "-G", "-A bogus", made + "\n-I", f"{made}\n{made}", "-F", "# nothing", "", "-D -p udp"):
        real, ours = two.both("-R -", text)
        assert real.status == ours.status, (text, real, ours)
