"""How processes find each other: torch's own store, in which torchrun leaves what earlier processes wrote."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import torch.distributed as dist

from zeroshot_cli.errors import UsageError
from zeroshot_cli.train import joining
from zeroshot_cli.train.joining import _peers_named, _session


@pytest.fixture
def store() -> Any:
    store = dist.HashStore()  # type: ignore[attr-defined]
    store.set_timeout(timedelta(seconds=20))
    return store


def together(store: Any, size: int) -> list[str]:
    """Return what processes, as threads, agree on."""
    found = [""] * size

    def join(rank: int) -> None:
        found[rank] = _session(store, rank, size)

    threads = [threading.Thread(target=join, args=(rank,)) for rank in reversed(range(size))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return found


@pytest.mark.parametrize("size", [2, 5])
def test_all_agree_on_one_name_and_on_another_when_started_again(store: Any, size: int) -> None:
    rounds = [set(together(store, size)) for _ in range(3)]
    assert [len(names) for names in rounds] == [1, 1, 1]
    assert "" not in set.union(*rounds)
    assert len(set.union(*rounds)) == 3


def test_nobody_takes_the_word_of_one_that_is_gone(store: Any) -> None:
    """A process that was killed after it had asked, and one that had got an answer, left these."""
    store.set("zeroshot/asked/1", "of a process that is gone")
    store.set("zeroshot/session/of a process that is gone", "old")
    store.set("zeroshot/old/1", "here")
    store.set("zeroshot/old/all", "here")
    first, second = together(store, 2)
    assert first == second != "old"


@pytest.mark.parametrize("rank", [0, 1])
def test_one_that_does_not_come_ends_the_waiting(store: Any, monkeypatch: pytest.MonkeyPatch, rank: int) -> None:
    monkeypatch.setattr(joining, "_JOINING", timedelta(seconds=0.3))
    store.set_timeout(timedelta(seconds=0.3))
    store.set("zeroshot/asked/1", "of a process that is gone")
    with pytest.raises(UsageError, match="alone"), _peers_named("alone"):
        _session(store, rank, 2)


def failing(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    "error",
    [
        dist.DistNetworkError("Failed to recv, got 0 bytes"),
        dist.DistBackendError("NCCL communicator was aborted"),
        RuntimeError("[third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4242"),
        RuntimeError("Gloo connectFullMesh failed with timed out connecting"),
    ],
)
def test_torchs_words_for_a_process_that_is_gone_become_a_sentence(error: Exception) -> None:
    with pytest.raises(UsageError, match="another one has ended"), _peers_named("another one has ended"):
        failing(error)()


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shape"), _peers_named("another one has ended"):
        failing(RuntimeError("the shape is wrong"))()
