"""Runs the programs that read and change the ruleset: iptables, nft, ip."""

import os
import shutil
import subprocess
from typing import Final

IPTABLES: Final = {"ipv4": "iptables", "ipv6": "ip6tables"}
NFT_FAMILY: Final = {"ipv4": "ip", "ipv6": "ip6"}
SEARCH_PATH: Final = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"  # PATH of ordinary users often lacks sbin


class SteeringError(Exception):
    """A program is missing or failed, or the kernel refused a rule; one line for the operator."""


def program(name: str) -> str | None:
    return shutil.which(name, path=SEARCH_PATH)


def run(command: list[str], text: str = "") -> str:
    """The output of a command that must succeed."""
    path = program(command[0])
    if path is None:
        raise SteeringError(f"{command[0]}: not found; install {'nftables' if command[0] == 'nft' else 'iptables'}")
    done = subprocess.run(
        [path, *command[1:]],
        input=text,
        capture_output=True,
        text=True,
        errors="surrogateescape",  # comments of other rules may have any encoding
        check=False,
    )
    if done.returncode:
        raise SteeringError(_reason(done.stderr) or f"{command[0]} failed with status {done.returncode}")
    return done.stdout


def _reason(said: str) -> str:
    """nft: the line with `Error:`. iptables: the last line except the advice about --help."""
    lines = [line for line in said.splitlines() if line and not line.startswith("Try `")]
    return next((line for line in lines if "Error: " in line), lines[-1] if lines else "")
