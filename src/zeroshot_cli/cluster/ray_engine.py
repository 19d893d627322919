"""Tasks on Ray: actors that are replaced when they die, answers in the order of the images, each exactly once.

An actor has one task while the next one waits with it. What a dead actor had goes to others.
"""

import gc
import logging
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from zeroshot_cli.cluster.ray_cluster import RayCluster, has_gpus, room_for
from zeroshot_cli.display import counted
from zeroshot_cli.errors import UsageError, ZeroshotError
from zeroshot_cli.results.shards.parts import Chosen

if TYPE_CHECKING:  # they take torch with them
    from zeroshot_cli.cluster.worker import Answer, Item, Machine, ModelAt, Question
    from zeroshot_cli.images.given import ImageItem

_log = logging.getLogger(__name__)
TASK_IMAGES = 512
_AT_ONCE = 2  # tasks of an actor: one that it does, one that is there when it is done
_AHEAD = 4  # tasks for each actor that may be done before one that is late
_MOST_DEATHS = 5  # of actors, at one task or before anything is done
_GLANCE = 0.5  # seconds between two looks at what is done
_LOOKS = 6  # until the user is told
_PATIENCE = 10.0  # seconds without an actor before the nodes are looked at again


@dataclass(frozen=True, slots=True)
class Actors:
    """How many actors there are, None for as many as fit; what each needs; how many images a task has.

    `gpus` is None for one where nodes have GPUs and the device may be one.
    """

    number: int | None = None
    cpus: float = 1.0
    gpus: float | None = None
    task_images: int = TASK_IMAGES

    @property
    def threads(self) -> int:
        """The threads of torch, and by default the decoding processes, of an actor."""
        return max(1, int(self.cpus))


class _Actor:
    """What a process of Ray does: a worker, in steps."""

    def prepare(self, device: str, precision: str) -> "Machine":
        gc.set_threshold(100_000)  # a tenth of importing torch is spent on looking for cycles
        from zeroshot_cli.cluster.worker import Machine

        return Machine.here(device, precision)

    def load(self, at: "ModelAt") -> None:
        from zeroshot_cli.cluster.worker import Worker

        self._worker = Worker(at)

    def begin(self, question: "Question") -> None:
        self._worker.begin(question)

    def work(self, items: "list[Item]") -> "list[Answer]":
        return self._worker(items)


@dataclass(slots=True, eq=False)
class _Member:
    """An actor, whether it takes tasks by now, and how many it has."""

    handle: Any
    ready: bool = False
    tasks: int = 0


@dataclass(slots=True, eq=False)
class _Task:
    """A task by the number of its first image; its answers, when they are there."""

    items: "list[Item]"
    deaths: int = 0
    answers: "list[Answer] | None" = None


class RayEngine:
    """A run on Ray, which begins at once: `start`, `machine`, `load`, then `run`; and `close` in any case.

    Errors are those of the processes, or UsageError where the cluster has no room or its actors do not live.
    """

    def __init__(self, actors: Actors, *, device: str, precision: str) -> None:
        self._actors, self._device, self._precision = actors, device, precision
        self._cluster = RayCluster()
        self._gpus, self._wanted = 0.0, 0
        self._members: list[_Member] = []
        self._asked: dict[Any, tuple[_Member, str, int]] = {}  # what is to come → whose it is, which step, which task
        self._machine: Machine | None = None
        self._at: Any = None
        self._question: Any = None
        self._held: dict[int, _Task] = {}  # tasks that are not handed on, in order
        self._again: deque[int] = deque()  # those of dead actors
        self._looks = 0  # whether there is room
        self._deaths = 0  # since anything was done
        self._seen = time.monotonic()  # when an actor last did something

    def start(self, images: int) -> None:
        """Start as many actors as there are tasks and room, when Ray is there."""
        self._cluster.wait()
        self._gpus = self._actors.gpus or 0.0
        if self._actors.gpus is None and self._device != "cpu":
            self._gpus = float(has_gpus())
        room = room_for(self._actors.cpus, self._gpus)
        tasks = max(1, -(-images // self._actors.task_images))
        self._wanted = min(self._actors.number or room, tasks)
        if self._wanted > room:
            _log.info("there is room for %s now, of %s; the others wait for room", counted(room, "actor"), self._wanted)
        for _ in range(self._wanted):
            self._add()

    def machine(self) -> "Machine":
        """Return where the first actor computes."""
        while self._machine is None:
            self._settle()
        return self._machine

    def load(self, at: "ModelAt") -> None:
        """Let the actors load the model, and do not wait for it."""
        import ray

        self._at = ray.put(at)
        for member in self._members:
            self._ask(member, "load", self._at)

    def run(self, question: "Question", images: "Iterable[ImageItem]") -> "Generator[tuple[list[Item], list[Answer]]]":
        """Yield the answers, with the items that they are to, in the order of the images."""
        import ray

        self._question = ray.put(question)
        for member in self._members:
            self._ask(member, "begin", self._question)
        items = images.numbered() if isinstance(images, Chosen) else enumerate(images)
        while self._hand_out(items) or self._held:
            self._settle()
            while self._held and (first := next(iter(self._held.values()))).answers is not None:
                del self._held[first.items[0][0]]
                yield first.items, _checked(first)

    def status(self) -> str:
        """Return who works on how many images, for a progress bar."""
        ready = sum(member.ready for member in self._members)
        waiting = sum(len(task.items) for task in self._held.values() if task.answers is None)
        return f"{counted(ready, 'actor')}, {waiting:,} in flight"

    def close(self) -> None:
        """End the actors, and Ray if it is of this machine."""
        if self._members:
            import ray

            for member in self._members:
                with suppress(Exception):
                    ray.kill(member.handle)
        self._cluster.close()

    def _add(self) -> None:
        """Start an actor, and ask it what all are asked before their first task."""
        import ray

        needs: dict[str, Any] = {"num_cpus": self._actors.cpus, "num_gpus": self._gpus, "max_restarts": 0}
        member = _Member(ray.remote(_Actor).options(**needs).remote())
        self._members.append(member)
        self._ask(member, "prepare", self._device, self._precision)
        if self._at is not None:
            self._ask(member, "load", self._at)
        if self._question is not None:
            self._ask(member, "begin", self._question)

    def _ask(self, member: _Member, step: str, *given: Any, task: int = -1) -> None:
        self._asked[getattr(member.handle, step).remote(*given)] = (member, step, task)

    def _hand_out(self, items: "Iterator[Item]") -> bool:
        """Give tasks to the actors that have fewest, those of dead ones first; return whether there may be more."""
        while free := [each for each in self._members if each.ready and each.tasks < _AT_ONCE]:
            if self._again:
                number = self._again.popleft()
            elif len(self._held) >= _AHEAD * sum(each.ready for each in self._members):
                return True
            elif new := list(islice(items, self._actors.task_images)):
                number = new[0][0]
                self._held[number] = _Task(new)
            else:
                return False
            member = min(free, key=lambda each: each.tasks)
            member.tasks += 1
            self._ask(member, "work", self._held[number].items, task=number)
        return True

    def _settle(self) -> None:
        """Wait a moment for one of the things asked, and take it."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        done, _ = ray.wait(list(self._asked), timeout=_GLANCE)
        if not done and time.monotonic() - self._seen > _PATIENCE and not any(each.ready for each in self._members):
            self._wait_for_room()
        for reference in done:
            member, step, number = self._asked.pop(reference)
            member.tasks -= step == "work"
            try:
                answer = ray.get(reference)
            except RayTaskError as error:
                raise _of_user(error) from None
            except RayError as error:
                self._died(member, number, error)
                continue
            self._seen = time.monotonic()
            self._take(member, step, number, answer)

    def _wait_for_room(self) -> None:
        """Raise UsageError where no node is left that could have an actor; say once that it takes long."""
        self._seen = time.monotonic()
        room_for(self._actors.cpus, self._gpus)
        self._looks += 1
        if self._looks == _LOOKS:
            _log.info("no actor has started for a minute: the nodes are slow, or in use by others; still waiting")

    def _take(self, member: _Member, step: str, number: int, answer: Any) -> None:
        if step == "prepare":
            machine: Machine = answer
            machine.check_versions()
            self._machine = self._machine or machine
        elif step == "begin":
            member.ready, self._deaths = True, 0  # not before: each may die as it loads the model
        elif step == "work":
            self._held[number].answers, self._deaths = answer, 0

    def _died(self, member: _Member, number: int, error: Exception) -> None:
        """Replace an actor that is gone, once; have its task done by another."""
        import ray

        most = 0
        if "failed to import" in str(error) or "ModuleNotFoundError" in str(error):
            raise _lacking(str(error))
        if number >= 0:
            task = self._held[number]
            task.deaths += 1
            most = task.deaths
            self._again.append(number)
        if member in self._members:
            self._members.remove(member)
            self._deaths += 1
            with suppress(Exception):
                ray.kill(member.handle)
        if max(most, self._deaths - len(self._members)) >= _MOST_DEATHS:
            why = str(error).strip().splitlines()
            raise UsageError(
                f"{_MOST_DEATHS} actors died one after the other ({why[0] if why else type(error).__name__}); give "
                "them more memory: fewer --actors, or a smaller --batch-size or --task-images"
            )
        if len(self._members) < self._wanted:
            self._add()


def _of_user(error: Any) -> BaseException:
    """Return the error that a process raised."""
    cause = error.cause
    if isinstance(cause, ImportError) or (isinstance(cause, RuntimeError) and "failed to import" in str(cause)):
        return _lacking(str(cause))
    return cause if isinstance(cause, BaseException) else ZeroshotError(str(error))


def _lacking(text: str) -> UsageError:
    """Return the error for a node without zeroshot."""
    reason = (text.strip().splitlines() or [""])[-1]
    return UsageError(f"a node cannot import zeroshot ({reason}); install the same zeroshot-cli[ray] on all nodes")


def _checked(task: _Task) -> "list[Answer]":
    """Return the answers to a task; ZeroshotError unless each of its images has one."""
    asked, answers = [number for number, _ in task.items], task.answers or []
    if [number for number, *_ in answers] != asked:
        raise ZeroshotError(
            f"the answers to images {asked[0] + 1} to {asked[-1] + 1} are not one for each ({len(answers)} of "
            f"{len(asked)}); nothing after these was written, and --resume continues from there"
        )
    return answers
