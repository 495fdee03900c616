"""The thread that talks to the server. It never touches the engine, and no packet waits for it.

`send` takes frames to publish, QUEUE at most; the rest waits in the feed, where a newer record replaces an older one. A
frame is kept until the server has it. What comes in is handed to the loop by `deliver`, ROOM pieces at most at a time.

Keys, NAME being sync.name: NAME:stream has the frames, NAME:epoch the highest epoch, NAME:want counts the requests of
standbys for a snapshot. The stream holds about LENGTH frames.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final, final

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from conntrackd_py.service.sync.frames import Claim, FrameError, unpack
from conntrackd_py.settings.schema import Sync
from conntrackd_py.settings.sync import password

LENGTH: Final = 8192  # frames in the stream, 16 kB each at most
QUEUE: Final = 256  # frames to publish
AT_ONCE: Final = 32  # frames in a request
ROOM: Final = 4  # pieces that the loop has not applied yet
PATIENCE: Final = 2.0  # seconds for an answer of the server
BLOCK: Final = 200  # ms that the server waits for a new frame
TICK: Final = 0.05  # seconds between two requests of an active one
RETRY: Final = 0.5  # seconds after an error
RECENT: Final = 10_000  # ms: another router that published within them is active


@final
class Link(threading.Thread):
    """deliver(what, value), called in this thread: up, down (why), claimed (epoch), taken (epoch of another one),

    told ((epoch, requests)), idle (whether the stream is empty), frames (list of bytes; call `applied` afterwards).
    """

    def __init__(self, settings: Sync, node: bytes, deliver: Callable[[str, Any], None]) -> None:
        super().__init__(name="sync", daemon=True)
        self.settings = settings
        self.node = node
        self.deliver = deliver
        self.active = False
        self.claim: Claim | None = None
        self.epoch = 0  # claimed; 0: none
        self.wanted = False  # a snapshot
        self.outgoing: deque[tuple[int, bytes]] = deque()  # epoch, frame
        self.sending: list[tuple[int, bytes]] = []
        self.room = threading.Semaphore(ROOM)
        self.wake = threading.Event()
        self.ended = False
        self.last: bytes | str = ""  # id of the last entry read; empty: not known
        self.stream, self.epoch_key, self.want_key = (f"{settings.name}:{key}" for key in ("stream", "epoch", "want"))

    # --- for the loop ------------------------------------------------------------------------------------

    def follow(self) -> None:
        """Be a standby."""
        self.active, self.claim, self.epoch = False, None, 0
        self.outgoing.clear()
        self.last = ""
        self.wake.set()

    def lead(self, claim: Claim) -> None:
        """Be the active one, when the server has given an epoch."""
        self.claim, self.active = claim, True
        self.wake.set()

    def send(self, epoch: int, frame: bytes) -> None:
        """The caller looks at `full` before."""
        self.outgoing.append((epoch, frame))
        self.wake.set()

    @property
    def full(self) -> bool:
        return len(self.outgoing) >= QUEUE

    def applied(self) -> None:
        self.room.release()

    def end(self) -> None:
        self.ended = True
        self.wake.set()

    # --- the thread ---------------------------------------------------------------------------------------

    def run(self) -> None:
        while not self.ended:
            try:
                with self._connected() as client:
                    client.ping()
                    self.deliver("up", None)
                    while not self.ended:
                        self._lead(client) if self.active else self._follow(client)
            except (RedisError, OSError, ValueError) as error:
                self.deliver("down", str(error) or type(error).__name__)
                self.wake.clear()
                self.wake.wait(RETRY)

    def _connected(self) -> "redis.Redis":
        sync = self.settings
        tls: dict[str, Any] = {}
        if sync.url.startswith("rediss:"):
            tls = {"ssl_ca_certs": sync.ca or None, "ssl_certfile": sync.certificate or None}
            tls["ssl_keyfile"] = sync.key or None
        return redis.Redis.from_url(
            sync.url,
            username=sync.username or None,
            password=password(sync),
            socket_timeout=PATIENCE,
            socket_connect_timeout=PATIENCE,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            **tls,
        )

    def _lead(self, client: "redis.Redis") -> None:
        claim = self.claim
        if claim is not None:
            self._claim(client, claim)
            return
        self.sending = [frame for frame in self.sending if frame[0] == self.epoch]
        while self.outgoing and len(self.sending) < AT_ONCE:
            self.sending.append(self.outgoing.popleft())
        pipe = client.pipeline(transaction=False)
        for _, frame in self.sending:
            pipe.xadd(self.stream, {"f": frame}, maxlen=LENGTH, approximate=True)
        pipe.get(self.epoch_key)
        pipe.get(self.want_key)
        *_, epoch, want = pipe.execute()
        self.sending = []
        if int(epoch or 0) < self.epoch:  # the server has lost its data
            client.set(self.epoch_key, self.epoch)
        self.deliver("told", (int(epoch or 0), int(want or 0)))
        if not self.outgoing:
            self.wake.clear()
            self.wake.wait(TICK)

    def _claim(self, client: "redis.Redis", claim: Claim) -> None:
        known = int(client.get(self.epoch_key) or 0)
        if claim.polite and (known > claim.former if claim.former else self._other_is_active(client)):
            self.claim, self.active = None, False
            self.deliver("taken", known)
            return
        if known < claim.former:
            client.set(self.epoch_key, claim.former)
        epoch = int(client.incr(self.epoch_key))
        if self.claim is claim:
            self.epoch, self.claim = epoch, None
            self.deliver("claimed", epoch)

    def _other_is_active(self, client: "redis.Redis") -> bool:
        newest: Any = client.xrevrange(self.stream, count=1)
        if not newest:
            return False
        (identity, fields), (seconds, micro) = newest[0], client.time()
        try:
            mine = unpack(fields[b"f"]).head.node == self.node
        except (FrameError, KeyError):
            return False
        return not mine and seconds * 1000 + micro // 1000 - int(identity.split(b"-")[0]) < RECENT

    def _follow(self, client: "redis.Redis") -> None:
        if not self.last:
            newest: Any = client.xrevrange(self.stream, count=1)
            self.last = newest[0][0] if newest else "0-0"
        if self.wanted:
            self.wanted = False
            client.incr(self.want_key)
        found: Any = client.xread({self.stream: self.last}, count=AT_ONCE, block=BLOCK)
        if not found:
            self.deliver("idle", self.last == "0-0")
            return
        entries = found[0][1]
        while not self.room.acquire(timeout=TICK):
            if self.ended or self.active:
                return
        self.last = entries[-1][0]
        self.deliver("frames", [fields.get(b"f", b"") for _, fields in entries])
