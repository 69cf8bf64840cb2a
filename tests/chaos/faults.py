"""What may break, how often and for how long, as data."""

from __future__ import annotations

from dataclasses import dataclass

GPU, IO = ("gpu-1", "gpu-2"), ("io-1", "io-2")
WORKERS = (*GPU, *IO)
ROLES = ("node", "relay", *WORKERS)
SERVERS = ("redis", "postgres", "pacs")
RECEIVERS = ("webhook", "hl7")  # of notices


@dataclass(frozen=True)
class Fault:
    """One thing that breaks.

    `number` decides what is left to chance when it happens: which of several processes it is.
    """

    at: float
    kind: str
    victim: str
    seconds: float
    number: int

    @property
    def kills_classifying(self) -> bool:
        return self.victim in GPU and self.kind in ("kill", "kill-child")


@dataclass(frozen=True)
class Dish:
    """A kind of fault, whom it may meet, for how many seconds, and how often it is chosen."""

    kind: str
    victims: tuple[str, ...]
    seconds: tuple[float, float]
    weight: float


NOW = (0.0, 0.0)

MENU = (
    # kill -9; a server stays away for that long, a role is started again at once.
    Dish("kill", ("node",), NOW, 3),
    Dish("kill", ("relay",), NOW, 1),
    Dish("kill", IO, NOW, 4),
    Dish("kill", GPU, NOW, 2),
    Dish("kill-child", GPU, NOW, 3),
    Dish("kill-decoder", GPU, NOW, 2),
    Dish("kill", ("redis",), (0, 6), 3),
    Dish("kill", ("postgres",), (0, 5), 3),
    Dish("kill-backend", ("postgres",), NOW, 3),
    Dish("kill", ("pacs",), (0, 8), 3),
    # SIGSTOP, and SIGCONT after that long.
    Dish("stop", ("node",), (1, 8), 1.5),
    Dish("stop", WORKERS, (2, 12), 4),
    Dish("stop", ("redis",), (1, 12), 2),
    Dish("stop", ("postgres",), (1, 10), 2),
    Dish("stop", ("pacs",), (1, 10), 1),
    # SIGTERM to one role, or to one after the other: a rolling restart.
    Dish("term", ROLES, NOW, 4),
    Dish("rolling", ("roles",), NOW, 1),
    # A broker that forgets, or remembers what is long done.
    Dish("flushall", ("redis",), NOW, 2),
    Dish("restore", ("redis",), (0, 2), 2),
    # A PACS that is there and does not do its part.
    Dish("busy", ("pacs",), (2, 10), 2),
    Dish("hang", ("pacs",), (2, 12), 2),
    Dish("abort", ("pacs",), (1, 6), 1),
)

# What concerns notices alone, and comes beside the others.
NOTICES_MENU = (
    Dish("kill", RECEIVERS, (0, 8), 2),
    Dish("stop", RECEIVERS, (1, 10), 1),
    Dish("busy", RECEIVERS, (2, 10), 1.5),
    # One that hangs or breaks off may have kept what it was told, or not.
    Dish("hang", RECEIVERS, (2, 12), 1.5),
    Dish("abort", RECEIVERS, (1, 6), 1),
    Dish("slow", RECEIVERS, (2, 10), 1),
    # A person chooses another version of the model, which stays chosen for so long at least, and
    # has some studies assessed anew.
    Dish("switch", ("model",), (8, 20), 4),
)
