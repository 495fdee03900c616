"""`conntrackd-py lab`: real traffic through a real daemon, in namespaces that are gone afterwards.

0 when every step worked, 1 otherwise, 130 after a Ctrl-C that came before the end.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Final

from conntrackd_py.lab.namespaces import CLIENT, ROUTER, SERVER, SERVER6, LabError, Topology
from conntrackd_py.lab.router import CONNTRACK, METRICS, WEB_OUTSIDE, Router
from conntrackd_py.lab.screen import Events, Screen
from conntrackd_py.lab.steps import STEPS, start_servers

LISTENING_WITHIN: Final = 10.0  # seconds
INTERRUPTED: Final = 130
ENDINGS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(args: argparse.Namespace) -> int:
    if os.geteuid() != 0:
        sys.stderr.write("conntrackd-py lab: needs root for network namespaces: sudo conntrackd-py lab\n")
        return 1
    for number in ENDINGS:
        signal.signal(number, _interrupt)
    screen = Screen()
    try:
        return _lab(screen, args.keep)
    except LabError as error:
        screen.bad("the lab", "could not be set up", str(error), 0)
        return 1
    except KeyboardInterrupt:
        screen.say("interrupted, all cleaned up")
        return INTERRUPTED


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    for number in ENDINGS:  # once is enough: the second must not interrupt the cleaning up
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _lab(screen: Screen, keep: bool) -> int:
    began = time.monotonic()
    try:
        with Topology() as net:
            router = Router(net)
            screen.picture(net)
            events = _set_up(screen, net, router)
            status = _steps(screen, net, router, events)
            _summary(screen, router)
            if keep:
                with contextlib.suppress(KeyboardInterrupt):  # here it is the ordinary end
                    _keep(screen, net, router, events)
    finally:
        for number in ENDINGS:
            signal.signal(number, signal.SIG_DFL)
    screen.say(f"all cleaned up; {time.monotonic() - began:.1f} seconds")
    return status


def _set_up(screen: Screen, net: Topology, router: Router) -> Events:
    began = time.monotonic()
    router.install_rules()
    router.start()
    start_servers(net)
    words = (*CONNTRACK, "--socket", str(router.socket), "-E")
    events = Events(net.router.start(*words, stdout=subprocess.PIPE, env={"PYTHONUNBUFFERED": "1"}))
    _wait_until_listening(net, events)
    screen.good("daemon", "rules installed, queue bound, events flowing", f"pid {router.pid}", time.monotonic() - began)
    return events


def _wait_until_listening(net: Topology, events: Events) -> None:
    until = time.monotonic() + LISTENING_WITHIN
    while time.monotonic() < until:
        net.router.complete("ping", "-n", "-c", "1", "-W", "1", CLIENT)
        if events.wait(0.1):
            events.so_far()
            return
    raise LabError("conntrack-py -E shows no events")


def _steps(screen: Screen, net: Topology, router: Router, events: Events) -> int:
    """0, or 1 when one failed. Those after it run all the same: what works narrows down what does not."""
    status = 0
    for step in STEPS:
        began = time.monotonic()
        try:
            saw = step.run(net)
        except LabError as error:
            status = 1
            screen.bad(step.title, step.proves, str(error), time.monotonic() - began)
        else:
            screen.good(step.title, step.proves, saw, time.monotonic() - began)
        screen.events(events.so_far())
    if status:
        screen.section("what the daemon said")
        screen.say(router.said())
    return status


def _summary(screen: Screen, router: Router) -> None:
    screen.section("conntrack-py -L")
    screen.say(router.conntrack("-L").rstrip())
    screen.section(f"the numbers, from http://{METRICS}/metrics in the router")
    screen.numbers(router.metrics())


def _keep(screen: Screen, net: Topology, router: Router, events: Events) -> None:
    script = Path(sys.argv[0]).with_name("conntrack-py")
    conntrack = str(script.resolve()) if script.exists() else " ".join(CONNTRACK)
    client, server = net.client.name, net.server.name
    screen.section("yours to play with, until Ctrl-C; events go on below")
    screen.say(
        f"ip netns exec {client} ping {SERVER}\n"
        f"ip netns exec {client} ping {SERVER6}\n"
        f"ip netns exec {client} curl http://{SERVER}/\n"
        f"ip netns exec {server} curl http://{ROUTER}:{WEB_OUTSIDE}/\n"
        f"ip netns exec {server} tcpdump -ni eth0\n"
        f"{conntrack} --socket {router.socket} -L\n"
        f"{conntrack} --socket {router.socket} -E\n"
        f"ip netns exec {net.router.name} curl http://{METRICS}/metrics\n"
        f"{router.config} and {router.log}"
    )
    while router.running:
        if line := events.wait(1.0):
            screen.event(line)
    raise LabError(f"the daemon ended: {router.said().strip()[-2000:]}")
