"""`conntrackd-py lab`: sends real traffic through a real daemon in network namespaces and deletes them afterwards."""

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

EVENTS_TIMEOUT: Final = 10.0  # seconds until conntrack-py -E shows the first event
INTERRUPTED: Final = 130
END_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(args: argparse.Namespace) -> int:
    """0 if every step passed, 1 otherwise, 130 if interrupted before the end."""
    if os.geteuid() != 0:
        sys.stderr.write("conntrackd-py lab: needs root to create network namespaces: sudo conntrackd-py lab\n")
        return 1
    for number in END_SIGNALS:
        signal.signal(number, _interrupt)
    screen = Screen()
    try:
        return _lab(screen, args.keep)
    except LabError as error:
        screen.step("the lab", "failed", str(error), 0, passed=False)
        return 1
    except KeyboardInterrupt:
        screen.say("interrupted; everything is deleted")
        return INTERRUPTED


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    for number in END_SIGNALS:  # a second signal must not interrupt the clean-up
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
                with contextlib.suppress(KeyboardInterrupt):  # the normal end
                    _keep(screen, net, router, events)
    finally:
        for number in END_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
    screen.say(f"everything is deleted; {time.monotonic() - began:.1f} seconds")
    return status


def _set_up(screen: Screen, net: Topology, router: Router) -> Events:
    began = time.monotonic()
    router.install_rules()
    router.start()
    start_servers(net)
    words = (*CONNTRACK, "--socket", str(router.socket), "-E")
    events = Events(net.router.start(*words, stdout=subprocess.PIPE, env={"PYTHONUNBUFFERED": "1"}))
    _wait_until_listening(net, events)
    screen.step("daemon", "rules installed, queues bound, events arrive", f"pid {router.pid}", time.monotonic() - began)
    return events


def _wait_until_listening(net: Topology, events: Events) -> None:
    until = time.monotonic() + EVENTS_TIMEOUT
    while time.monotonic() < until:
        net.router.complete("ping", "-n", "-c", "1", "-W", "1", CLIENT)
        if events.wait(0.1):
            events.so_far()
            return
    raise LabError("conntrack-py -E shows no events")


def _steps(screen: Screen, net: Topology, router: Router, events: Events) -> int:
    """0, or 1 if a step failed. The others run in any case: they help to find the cause."""
    status = 0
    for step in STEPS:
        began = time.monotonic()
        try:
            result, passed = step.run(net), True
        except LabError as error:
            result, passed, status = str(error), False, 1
        screen.step(step.title, step.checks, result, time.monotonic() - began, passed=passed)
        screen.events(events.so_far())
    if status:
        screen.section("log of the daemon")
        screen.say(router.said())
    return status


def _summary(screen: Screen, router: Router) -> None:
    screen.section("conntrack-py -L")
    screen.say(router.conntrack("-L").rstrip())
    screen.section(f"metrics, from http://{METRICS}/metrics in the router")
    screen.numbers(router.metrics())


def _keep(screen: Screen, net: Topology, router: Router, events: Events) -> None:
    script = Path(sys.argv[0]).with_name("conntrack-py")
    conntrack = str(script.resolve()) if script.exists() else " ".join(CONNTRACK)
    client, server = net.client.name, net.server.name
    screen.section("commands to try; Ctrl-C ends the lab; events follow")
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
