"""Who gets which task and in which order answers come, with a Ray that is made up and whose actors die at random."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError, RayTaskError

from zeroshot_cli.cluster import ray_cluster, ray_engine
from zeroshot_cli.cluster.ray_cluster import own_folder
from zeroshot_cli.cluster.ray_engine import Actors, RayEngine
from zeroshot_cli.errors import DataError, UsageError, ZeroshotError

TWO_NODES = [
    {"Alive": True, "NodeManagerHostname": "one", "Resources": {"CPU": 4.0, "memory": 1.0}},
    {"Alive": True, "NodeManagerHostname": "two", "Resources": {"CPU": 2.0, "GPU": 1.0}},
    {"Alive": False, "NodeManagerHostname": "gone", "Resources": {"CPU": 99.0}},
]
Work = Callable[[list[Any]], list[Any]]


class MadeUp:
    """A Ray of one process: what is asked is done when it is looked at, in any order of tasks, or its actor is dead."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, work: Work, deaths: float, seed: int) -> None:
        self.dice, self.work, self.deaths = random.Random(seed), work, deaths
        self.started = self.killed = 0
        self.most_waiting = 0
        monkeypatch.setattr(ray_engine, "RayCluster", lambda: SimpleNamespace(wait=lambda: None, close=lambda: None))
        monkeypatch.setattr(ray_cluster, "_nodes", lambda: TWO_NODES)
        monkeypatch.setattr(ray, "remote", lambda kind: SimpleNamespace(options=self.options))
        monkeypatch.setattr(ray, "put", lambda value: value)
        monkeypatch.setattr(ray, "wait", self.wait)
        monkeypatch.setattr(ray, "get", self.get)
        monkeypatch.setattr(ray, "kill", self.kill)

    def options(self, **needs: object) -> Any:
        def start() -> Any:
            self.started += 1
            actor = SimpleNamespace(alive=True)
            for step in ("prepare", "load", "begin", "work"):
                method = SimpleNamespace(remote=lambda *given, step=step: Asked(actor, step, given))
                setattr(actor, step, method)
            return actor

        return SimpleNamespace(remote=start)

    def wait(self, asked: "list[Asked]", timeout: float) -> "tuple[list[Asked], list[Asked]]":
        assert len(asked) == len(set(asked))
        self.most_waiting = max(self.most_waiting, sum(each.step == "work" for each in asked))
        oldest: dict[int, Asked] = {}
        for each in asked:  # an actor does one after the other
            oldest.setdefault(id(each.actor), each)
        chosen = self.dice.choice(list(oldest.values()))
        return [chosen], [each for each in asked if each is not chosen]

    def get(self, asked: "Asked") -> Any:
        if self.dice.random() < self.deaths:
            asked.actor.alive = False
        if not asked.actor.alive:
            raise ActorDiedError
        if asked.step == "prepare":
            return SimpleNamespace(device="cpu", precision="fp32", check_versions=lambda: None)
        return self.work(*asked.given) if asked.step == "work" else None

    def kill(self, actor: Any) -> None:
        actor.alive = False
        self.killed += 1


class Asked:
    def __init__(self, actor: Any, step: str, given: tuple[Any, ...]) -> None:
        self.actor, self.step, self.given = actor, step, given


def doubled(items: list[Any]) -> list[Any]:
    return [(number, f"2 x {image}".encode(), "") for number, image in items]


def answers(engine: RayEngine, images: list[str]) -> list[Any]:
    engine.start(len(images))
    engine.machine()
    engine.load(object())  # type: ignore[arg-type]
    done = [each for _, task in engine.run(object(), images) for each in task]  # type: ignore[arg-type]
    engine.close()
    return done


@pytest.mark.parametrize("deaths", [0.0, 0.05, 0.15])
@pytest.mark.parametrize("seed", range(8))
def test_every_answer_comes_once_and_in_order(monkeypatch: pytest.MonkeyPatch, deaths: float, seed: int) -> None:
    monkeypatch.setattr(ray_engine, "_MOST_DEATHS", 100)
    made_up = MadeUp(monkeypatch, doubled, deaths, seed)
    images = [f"{number}.jpg" for number in range(203)]
    found = answers(RayEngine(Actors(3, task_images=5), device="cpu", precision="auto"), images)
    assert found == [(number, f"2 x {image}".encode(), "") for number, image in enumerate(images)]
    assert deaths or made_up.most_waiting <= 2 * 3
    assert made_up.started - 3 == made_up.killed - 3  # each dead one had one in its place
    assert made_up.started == 3 or deaths


def test_there_are_no_more_actors_than_tasks_or_room(monkeypatch: pytest.MonkeyPatch) -> None:
    for number, images, expected in ((None, 1000, 6), (None, 15, 2), (2, 1000, 2), (None, 0, 1), (9, 1000, 9)):
        made_up = MadeUp(monkeypatch, doubled, 0, 0)
        answers(RayEngine(Actors(number, task_images=10), device="cpu", precision="auto"), ["x"] * images)
        assert made_up.started == expected, (number, images)


def test_a_task_that_kills_whoever_has_it_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    MadeUp(monkeypatch, doubled, 1.0, 0)
    with pytest.raises(UsageError, match=r"^5 actors died one after the other \(.*\); give them more memory"):
        answers(RayEngine(Actors(1), device="cpu", precision="auto"), ["x"])


@pytest.mark.parametrize(
    "spoilt", [lambda found: found[:-1], lambda found: [*found, found[-1]], lambda found: found[::-1]]
)
def test_answers_that_are_not_one_for_each_are_a_defect(monkeypatch: pytest.MonkeyPatch, spoilt: Any) -> None:
    MadeUp(monkeypatch, lambda items: spoilt(doubled(items)), 0, 0)
    with pytest.raises(ZeroshotError, match=r"^the answers to images 1 to 5 are not one for each") as error:
        answers(RayEngine(Actors(2, task_images=5), device="cpu", precision="auto"), ["x"] * 20)
    assert error.value.exit_code == 1


@pytest.mark.parametrize(
    ("raised", "expected", "text"),
    [
        (DataError("no image"), DataError, "no image"),
        (MemoryError("big"), MemoryError, "big"),
        (ModuleNotFoundError("No module named 'zeroshot_cli'"), UsageError, "a node cannot import zeroshot (No module"),
    ],
)
def test_what_an_actor_raises_is_what_the_user_gets(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, expected: type[Exception], text: str
) -> None:
    def work(items: list[Any]) -> list[Any]:
        raise RayTaskError("work", "traceback", raised)

    MadeUp(monkeypatch, work, 0, 0)
    with pytest.raises(expected) as error:
        answers(RayEngine(Actors(1), device="cpu", precision="auto"), ["x"])
    assert type(error.value) is expected
    assert str(error.value).startswith(text)


def test_the_folder_of_a_run_that_was_killed_is_removed_by_the_next() -> None:
    """The lock is held by an open file, which a killed process does not have."""
    (killed, lock), (living, held) = own_folder(), own_folder()
    assert Path(killed).exists()
    lock.close()
    new, own = own_folder()
    assert (Path(killed).exists(), Path(living).exists(), Path(new).exists()) == (False, True, True)
    for folder, file in ((living, held), (new, own)):
        file.close()
        shutil.rmtree(folder)


def test_room_is_what_living_nodes_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "_nodes", lambda: TWO_NODES)
    assert ray_cluster.room_for(1, 0) == 6
    assert ray_cluster.room_for(3, 0) == 1
    assert ray_cluster.room_for(0.3, 0) == 13 + 6
    assert ray_cluster.room_for(1, 0.5) == 2
    assert ray_cluster.has_gpus()
    with pytest.raises(UsageError) as error:
        ray_cluster.room_for(8, 2)
    assert str(error.value) == (
        "no node has room for an actor of 8 CPUs and 2 GPUs: one has 4 CPUs; two has 2 CPUs and 1 GPU; give fewer "
        "--actor-cpus or --actor-gpus"
    )


@pytest.mark.parametrize(("cpus", "threads"), [(0.5, 1), (1, 1), (3.9, 3), (8, 8)])
def test_an_actor_has_a_thread_for_every_cpu(cpus: float, threads: int) -> None:
    assert Actors(cpus=cpus).threads == threads
