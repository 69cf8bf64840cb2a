"""Lets happen what the plan says, when its time comes; each fault in a thread of its own."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil
import redis
from sqlalchemy.exc import DBAPIError

from tests.chaos.behaviour import OK
from tests.chaos.faults import ROLES, Fault
from tests.chaos.house import House
from tests.chaos.models import RESERVED
from tests.chaos.second_look import assess_anew

DECODER = "dicom_node.decoder_child"


@dataclass(frozen=True)
class Happened:
    """What became of a fault, in words, and when."""

    at: float
    fault: Fault
    words: str


class Missed(Exception):
    """There was nothing that could have broken."""


class Killer:
    """Breaks things until it is told that it is over."""

    def __init__(
        self, house: House, clock: Callable[[], float], say: Callable[[str], None]
    ) -> None:
        self.happened: list[Happened] = []
        self.missed: list[Happened] = []
        self._house, self._clock, self._say = house, clock, say
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, faults: Sequence[Fault], copy_every_s: float) -> None:
        for fault in faults:
            self._run(self._at, fault)
        self._run(self._keep_copies, copy_every_s)

    def _run(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def end(self) -> None:
        """Heal all that is broken, and wait for it."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def counts(self) -> Counter[str]:
        """Count what happened by kind and victim."""
        return Counter(f"{each.fault.kind} {each.fault.victim}" for each in self.happened)

    def _keep_copies(self, every_s: float) -> None:
        while not self._over.wait(every_s):
            self._house.redis.keep_copy()

    def _at(self, fault: Fault) -> None:
        if self._over.wait(max(0, fault.at - self._clock())):
            return
        begun = self._clock()
        try:
            words = FAULTS[fault.kind](self, fault)
        except Missed as missed:
            self.missed.append(Happened(begun, fault, str(missed)))
        except Exception as error:
            self.missed.append(Happened(begun, fault, f"{type(error).__name__}: {error}"))
        else:
            self.happened.append(Happened(begun, fault, words))
            self._say(f"{begun:6.1f} {fault.kind} {fault.victim} {words}")

    # --- what breaks -------------------------------------------------------------------------

    def _kill(self, fault: Fault) -> str:
        """Kill a process with -9; let it stay away for the seconds of the fault."""
        role = self._house.role(fault.victim)
        if not role.runs():
            raise Missed("it did not run")
        with self._house.supervisor.held(role):
            pid = role.pid
            role.signal(signal.SIGKILL)
            self._over.wait(fault.seconds)
        return f"{pid}, away for {fault.seconds} s"

    def _kill_child(self, fault: Fault) -> str:
        return self._kill_one(fault, lambda words: DECODER not in words)

    def _kill_decoder(self, fault: Fault) -> str:
        return self._kill_one(fault, lambda words: DECODER in words)

    def _kill_one(self, fault: Fault, is_meant: Callable[[list[str]], bool]) -> str:
        _, *children = self._house.role(fault.victim).family() or [None]
        return _kill_any([each for each in children if each and _matches(each, is_meant)], fault)

    def _kill_backend(self, fault: Fault) -> str:
        return _kill_any(self._house.postgres.sessions(), fault)

    def _stop(self, fault: Fault) -> str:
        """Stop a process with all its children, or the children alone, and let it go on."""
        role = self._house.role(fault.victim)
        parent, *children = role.family() or [None]
        meant = [parent, *children] if fault.number % 3 or not children else children
        if fault.victim == "postgres":
            meant = list(self._house.postgres.processes())
        if parent is None:
            raise Missed("it did not run")
        _signal_all(meant, signal.SIGSTOP)
        self._over.wait(fault.seconds)
        _signal_all(meant, signal.SIGCONT)
        return f"{len(meant)} processes for {fault.seconds} s"

    def _term(self, fault: Fault) -> str:
        role = self._house.role(fault.victim)
        if not role.runs():
            raise Missed("it did not run")
        begun = self._clock()
        code = self._house.supervisor.end(role)
        return f"ended with {code} after {self._clock() - begun:.1f} s"

    def _rolling(self, _: Fault) -> str:
        """Tell each role to end when the one before it has been started again."""
        codes = []
        for name in ROLES:
            role = self._house.role(name)
            if not role.runs() or self._over.is_set():
                continue
            starts = role.starts
            codes.append(f"{name} ended with {self._house.supervisor.end(role)}")
            while role.starts == starts and not self._over.wait(0.1):
                pass
        return ", ".join(codes)

    def _flush(self, fault: Fault) -> str:
        try:
            self._house.redis.client().flushall()
        except redis.RedisError as error:
            raise Missed(f"Redis was away: {type(error).__name__}") from error
        return ""

    def _restore(self, fault: Fault) -> str:
        role = self._house.role("redis")
        with self._house.supervisor.held(role):
            role.signal(signal.SIGKILL)
            assert role.process is not None
            role.process.wait()
            if not self._house.redis.put_back():
                raise Missed("there was no older copy: it was only killed")
            self._over.wait(fault.seconds)
        return "an older copy"

    def _misbehave(self, fault: Fault) -> str:
        behaviour = self._house.behaviour(fault.victim)
        behaviour.behave(fault.kind)
        self._over.wait(fault.seconds)
        behaviour.behave(OK)
        return f"for {fault.seconds} s"

    def _switch(self, fault: Fault) -> str:
        """Choose the other version of the model; a second look may be another answer."""
        return self._assess_anew(self._house.models.switch(), fault)

    def _reserve(self, fault: Fault) -> str:
        """Choose the version that finds less."""
        return self._assess_anew(self._house.models.choose(RESERVED), fault)

    def _assess_anew(self, chosen: str, fault: Fault) -> str:
        count = 0
        with suppress(DBAPIError):  # nobody can ask for it then
            count = assess_anew(self._house.database_url, fault.number)
        return f"{chosen} is chosen, {count} studies are assessed anew"


FAULTS: dict[str, Callable[[Killer, Fault], str]] = {
    "kill": Killer._kill,
    "kill-child": Killer._kill_child,
    "kill-decoder": Killer._kill_decoder,
    "kill-backend": Killer._kill_backend,
    "stop": Killer._stop,
    "term": Killer._term,
    "rolling": Killer._rolling,
    "flushall": Killer._flush,
    "restore": Killer._restore,
    "busy": Killer._misbehave,
    "hang": Killer._misbehave,
    "abort": Killer._misbehave,
    "slow": Killer._misbehave,
    "switch": Killer._switch,
    "reserve": Killer._reserve,
}


def _matches(process: psutil.Process, is_meant: Callable[[list[str]], bool]) -> bool:
    with suppress(psutil.Error):
        return is_meant(process.cmdline())
    return False


def _kill_any(processes: Sequence[psutil.Process], fault: Fault) -> str:
    if not processes:
        raise Missed("there was none")
    victim = processes[fault.number % len(processes)]
    with suppress(psutil.NoSuchProcess):
        victim.kill()
    return str(victim.pid)


def _signal_all(processes: Sequence[psutil.Process | None], number: int) -> None:
    for each in processes:
        with suppress(psutil.NoSuchProcess):
            if each is not None:
                each.send_signal(number)
