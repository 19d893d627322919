"""How the processes that torchrun has started find each other, and what they say when one is gone."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from zeroshot_cli.errors import UsageError
from zeroshot_cli.models.precision import resolve_device
from zeroshot_cli.processes import end_with_parent
from zeroshot_cli.train.distributed import World, is_under_torchrun, processes

_JOINING = timedelta(minutes=5)  # torchrun starts all of them together
_STEP = timedelta(minutes=30)  # those that are at a step wait for the slowest
_PATIENCE = timedelta(hours=12)  # the others wait while the first one validates, writes or checks the images
_GLANCE = 0.05  # seconds between two looks at who has come
_ENDED = "another process of this run has ended: its message says why, or it was killed; add --resume to continue"


@contextmanager
def joined(device: str) -> Iterator[tuple[World, torch.device]]:
    """Join the processes that torchrun has started, if it has; give this one's place among them and its device.

    A process ends with the torchrun that started it, even if that was killed: another may be about to take its place.
    Raises UsageError for a device that is not there, and where another process does not come or has ended.
    """
    size, local = processes(), os.environ.get("LOCAL_RANK", "0")
    if is_under_torchrun():
        end_with_parent(os.getppid())
    if size == 1:
        yield World(), resolve_device(device)
        return
    where = resolve_device(device)
    if where.type == "mps":
        raise UsageError("--device mps is for one process; omit torchrun, or use --device cpu")
    if where.type == "cuda":
        where = resolve_device(f"cuda:{local}")
        torch.cuda.set_device(where)
    minutes = _JOINING.seconds // 60
    with _peers_named(
        f"the {size} processes of this run did not find each other: one has ended, or did not come within {minutes} "
        "minutes; see the messages of torchrun on every machine"
    ):
        world = _meet("nccl" if where.type == "cuda" else "gloo")
    with _peers_named(_ENDED):
        yield world, where
    dist.destroy_process_group()  # not after an error: others may be waiting, and torchrun ends them


def _meet(backend: str) -> World:
    store, rank, size = next(iter(rendezvous("env://", timeout=_JOINING)))
    store = dist.PrefixStore(_session(store, rank, size), store)  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_JOINING)
    patient = dist.new_group(backend="gloo", timeout=_JOINING)  # unlike NCCL, it sees at once who is gone
    _set_timeout(_STEP)
    _set_timeout(_PATIENCE, patient)
    return World(rank, size, patient)


def _session(store: Any, rank: int, size: int) -> str:
    """Return a name that only the processes that are running now have agreed on.

    torchrun keeps its store when it starts processes again, and with it the addresses of those that are gone. So each
    process asks the first one under a name of its own, and takes part when it has got an answer to just that. Raises
    DistStoreError where one does not come.
    """
    if rank:
        asked = uuid4().hex
        store.set(f"zeroshot/asked/{rank}", asked)
        session: str = store.get(f"zeroshot/session/{asked}").decode()
        store.set(f"zeroshot/{session}/{rank}", "here")
        store.wait([f"zeroshot/{session}/all"], _JOINING)
        return session
    session, missing, end = uuid4().hex, set(range(1, size)), time.monotonic() + _JOINING.total_seconds()
    while missing:
        if time.monotonic() > end:
            raise dist.DistStoreError(f"without process {min(missing)}")
        for other in sorted(missing):
            if store.check([f"zeroshot/asked/{other}"]):
                store.set(f"zeroshot/session/{store.get(f'zeroshot/asked/{other}').decode()}", session)
            if store.check([f"zeroshot/{session}/{other}"]):
                missing.remove(other)
        time.sleep(_GLANCE)
    store.set(f"zeroshot/{session}/all", "here")
    return session


def _set_timeout(timeout: timedelta, group: Any = None) -> None:
    """Set how long a group waits from now on; older versions of torch have it under another name."""
    name = "set_timeout" if hasattr(dist, "set_timeout") else "_set_pg_timeout"
    getattr(dist.distributed_c10d, name)(timeout, group)


@contextmanager
def _peers_named(message: str) -> Iterator[None]:
    """Raise UsageError with this message in place of what torch says when another process is gone."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error).lower():
            raise UsageError(message) from error
        raise
