"""Folders with a Debian 12 in them, made once by debootstrap and kept below .setup/, and copies of them to spoil.

`.setup/roots/NAME` is never written to once it is made: a copy is an overlay over it. Packages come from the mirror
this machine uses. `.setup/wheels` has all that pip needs, so an installation in a copy needs no network.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).parents[2]
SETUP: Final = SOURCE / ".setup"
ROOTS: Final = SETUP / "roots"
WHEELS: Final = SETUP / "wheels"
ARCHIVES: Final = SETUP / "archives"  # packages once fetched
CLONE: Final = "/usr/src/conntrackd-py"  # in a copy

BASE: Final = ("systemd", "systemd-sysv", "dbus", "ca-certificates")
# Each root and what it has beyond the one named first; base is debootstrap's.
LAYERS: Final = {
    "tools": (
        "base",
        # of scripts/install and scripts/build-deb, and programs the tests run inside
        *("python3", "python3-venv", "python3-dev", "gcc", "libnetfilter-queue-dev", "iptables", "nftables"),
        *("build-essential", "debhelper", "iproute2", "procps", "curl"),
    ),
    "firewalls": ("base", "iptables", "nftables", "iproute2", "procps", "curl", "python3", "ufw", "firewalld"),
}
PACKAGED: Final = ("pyproject.toml", "setup.py", "LICENSE", "conntrackd_py", "share", "config", "systemd", "debian")
QUICK_BUILD: Final = "CONNTRACKD_PY_OPT_LEVEL=0"  # see setup.py
AT_MOST: Final = 900.0  # seconds for anything that fetches or compiles


def run(*words: str | Path, timeout: float = AT_MOST) -> str:
    """What the command prints. RuntimeError with the end of that when it fails."""
    done = subprocess.run(
        [str(word) for word in words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, words))}: status {done.returncode}\n{done.stdout[-4000:]}")
    return done.stdout


def root(name: str) -> Path:
    """The folder of this root, made if it was not there or was made for other packages."""
    ROOTS.mkdir(parents=True, exist_ok=True)
    with alone("roots"):
        return _root(name)


@contextlib.contextmanager
def alone(work: str) -> Iterator[None]:
    """Two processes may run tests: one of them makes what both need."""
    with (SETUP / f"{work}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _root(name: str) -> Path:
    below, *packages = LAYERS.get(name, ("", *BASE))
    stamp = hashlib.sha256(repr((BASE, LAYERS)).encode()).hexdigest()
    folder, mark = ROOTS / name, ROOTS / f"{name}.stamp"
    if mark.exists() and mark.read_text() == stamp:
        return folder
    mark.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    if below:
        run("cp", "-a", _root(below), folder)
        apt_install(folder, *packages)
    else:
        run("debootstrap", "--variant=minbase", f"--include={','.join(packages)}", "bookworm", folder, mirror())
        # Each that is booted makes its own; without one systemd asks for the machine's details.
        (folder / "etc/machine-id").write_text("")
    mark.write_text(stamp)
    return folder


def mirror() -> str:
    """Where this machine gets bookworm from."""
    targets = run("apt-get", "indextargets", "--format", "$(CODENAME) $(COMPONENT) $(REPO_URI)", "Created-By: Packages")
    for line in targets.splitlines():
        release, component, address = line.split(maxsplit=2)
        if (release, component) == ("bookworm", "main"):
            return address
    raise RuntimeError("no source of bookworm main in this machine's apt")


def apt_install(folder: Path, *packages: str) -> None:
    """With the network of this machine."""
    with mounted(folder):
        shutil.copy("/etc/resolv.conf", folder / "etc/resolv.conf")
        environment = ("env", "DEBIAN_FRONTEND=noninteractive")
        run("chroot", folder, *environment, "apt-get", "-qy", "update")
        run("chroot", folder, *environment, "apt-get", "-qy", "install", "--no-install-recommends", *packages)


@contextlib.contextmanager
def mounted(folder: Path) -> Iterator[None]:
    """With /proc, /dev/null and its like, and the packages that were fetched before: apt locks their folder."""
    with alone("archives"), contextlib.ExitStack() as mounts:
        ARCHIVES.mkdir(parents=True, exist_ok=True)
        for options, inside in (
            (("-t", "proc", "proc"), "proc"),
            (("--bind", "/dev"), "dev"),
            (("--bind", str(ARCHIVES)), "var/cache/apt/archives"),
        ):
            run("mount", *options, folder / inside)
            mounts.callback(run, "umount", "-l", folder / inside)
        yield


def wheels() -> Path:
    """All that building and running need, for the Python of Debian 12: `pip install --no-index --find-links`."""
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text())
    wanted = [*project["build-system"]["requires"], *project["project"]["dependencies"], "wheel"]
    wanted += project["project"]["optional-dependencies"]["sync"]
    stamp, text = WHEELS / "stamp", "\n".join(wanted)
    with alone("roots"):
        if not stamp.exists() or stamp.read_text() != text:
            run(sys.executable, "-m", "pip", "wheel", "-q", "-w", WHEELS, *wanted)
            stamp.write_text(text)
    return WHEELS


def package() -> Path:
    """The Debian package of these sources, built by scripts/build-deb, or as it was built of the same ones before."""
    names = (*PACKAGED, "scripts/build-deb", "scripts/_setup.sh")
    files = sorted(path for name in names for path in (SOURCE / name, *(SOURCE / name).rglob("*")) if path.is_file())
    texts = [(str(path), path.read_bytes()) for path in files if "__pycache__" not in path.parts]
    folder = SETUP / "package" / hashlib.sha256(repr(texts).encode()).hexdigest()[:16]
    with alone("package"):
        if not list(folder.glob("*.deb")):
            shutil.rmtree(folder.parent, ignore_errors=True)
            with copy("tools") as building, mounted(building):
                pip = ("PIP_NO_INDEX=1", "PIP_FIND_LINKS=/wheels", QUICK_BUILD)
                run("chroot", building, "env", *pip, f"{CLONE}/scripts/build-deb", "/root/built")
                shutil.copytree(building / "root/built", folder)
    return next(folder.glob("*.deb"))


def as_version(deb: Path, version: str, target: Path) -> None:
    """The same package once more under another version, as `target`."""
    with tempfile.TemporaryDirectory() as name:
        run("dpkg-deb", "-R", deb, name)
        control = Path(name) / "DEBIAN/control"
        lines = control.read_text().splitlines(keepends=True)
        control.write_text("".join(f"Version: {version}\n" if line.startswith("Version:") else line for line in lines))
        run("dpkg-deb", "-Znone", "-b", name, target)


@contextlib.contextmanager
def copy(name: str, *, bare: bool = False) -> Iterator[Path]:
    """A root of one's own, gone afterwards; unless it is bare, with the sources and the wheels in it."""
    lower = root(name)
    with contextlib.ExitStack() as cleanup:
        work = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="copy-", dir=ROOTS)))
        for part in ("upper", "work", "root"):
            (work / part).mkdir()
        folder = work / "root"
        layers = f"lowerdir={lower},upperdir={work / 'upper'},workdir={work / 'work'}"
        run("mount", "-t", "overlay", "overlay", "-o", layers, folder)
        cleanup.callback(run, "umount", "-l", folder)
        if not bare:
            (folder / "wheels").mkdir()
            run("mount", "--bind", "-o", "ro", wheels(), folder / "wheels")
            cleanup.callback(run, "umount", "-l", folder / "wheels")
            clone(folder)
        yield folder


def clone(folder: Path) -> None:
    """The files that git has or would take, as a clone would have them."""
    target = folder / CLONE.lstrip("/")
    target.mkdir(parents=True, exist_ok=True)
    git = ("git", "-c", "safe.directory=*", "-C", str(SOURCE), "ls-files", "-z", "--cached", "--others")
    names = run(*git, "--exclude-standard").split("\0")
    for name in filter(None, names):
        if (SOURCE / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(SOURCE / name, target / name)
