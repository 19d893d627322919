"""The processes of a run, which make one batch and end when they are asked: one, or as many as torchrun has started."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.parametrize import ParametrizationList

from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.errors import UsageError, ZeroshotError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class World:
    """This process among `size`; a method is called by all of them or by none."""

    rank: int = 0
    size: int = 1
    patient: Any = field(default=None, compare=False)  # the group in which they wait for long

    @property
    def is_first(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    def gathered(self, rows: Tensor) -> Tensor:
        """Return the rows of every process, one process after the other, without gradient."""
        if self.size == 1:
            return rows
        everyone = rows.new_empty(self.size * len(rows), *rows.shape[1:])
        dist.all_gather_into_tensor(everyone, rows.contiguous())
        return everyone

    def summed(self, values: Tensor) -> Tensor:
        """Return the sum over all processes; `values` is overwritten."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def collected(self, items: Sequence[T]) -> list[T]:
        """Return the items of every process, one process after the other."""
        if self.size == 1:
            return list(items)
        everyone: list[Sequence[T] | None] = [None] * self.size
        dist.all_gather_object(everyone, items)
        return [item for some in everyone for item in some or ()]

    def told(self, find: Callable[[], T]) -> T:
        """Return what the first process finds, or raise its error, in every process."""
        if self.size == 1:
            return find()
        found: T | ZeroshotError | None = None
        if self.is_first:
            try:
                found = find()
            except ZeroshotError as error:
                found = error
        found = self.collected([found])[0]
        if isinstance(found, ZeroshotError):
            raise found
        return cast(T, found)

    def wait(self) -> None:
        """Wait until every process has come here, for hours if need be; a process that ends meanwhile ends the rest."""
        if self.size > 1:
            dist.barrier(self.patient)


def is_under_torchrun() -> bool:
    """Return whether torchrun started this process; other launchers set variables of the same names."""
    return dist.is_torchelastic_launched()


def processes() -> int:
    """Return how many processes torchrun has started."""
    return int(os.environ["WORLD_SIZE"]) if is_under_torchrun() else 1


def processes_here() -> int:
    """Return how many processes of the run share this machine's cores."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if is_under_torchrun() else 1


def is_first_process() -> bool:
    """Return whether this process reports to the user."""
    return not is_under_torchrun() or os.environ["RANK"] == "0"


def replicated(towers: nn.Module, model: CLIP, device: torch.device) -> nn.Module:
    """Give every process the whole model and the mean of the gradients.

    Batch norm has the statistics of all processes on GPUs, and those of its own share on the CPU.
    """
    _share_statistics(model, device)
    return DistributedDataParallel(towers, device_ids=[device] if device.type == "cuda" else None)


def _share_statistics(model: CLIP, device: torch.device) -> None:
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]


def sharded(towers: nn.Module, model: CLIP, device: torch.device) -> nn.Module:
    """Give every process a share of each parameter, gathered block by block when it is needed (FSDP2).

    The model is on the CPU, and goes to `device` a block at a time. The temperature and the bias, which have no
    dimension to divide, stay whole (see `share_scalar_gradients`).
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    _share_statistics(model, device)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    scalar = set(scalars(model))
    for parameter in scalar:
        parameter.data = parameter.data.to(device)
    for module in list(model.modules()):
        if isinstance(module, nn.ModuleList) and not isinstance(module, ParametrizationList):
            for block in module:
                fully_shard(block, mesh=mesh)
    fully_shard(towers, mesh=mesh, ignored_params=scalar)
    return towers


def scalars(model: CLIP) -> list[nn.Parameter]:
    """Return the parameters without a dimension: temperature and bias."""
    return [parameter for parameter in model.parameters() if parameter.ndim == 0]


def share_scalar_gradients(model: CLIP, world: World) -> None:
    """Give every process the mean gradients of the parameters that `sharded` leaves whole."""
    for parameter in scalars(model):
        if parameter.grad is not None:
            world.summed(parameter.grad).div_(world.size)


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> float:
    """Scale gradients down to `max_norm` if their norm is larger; return the norm over all processes' shares."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    kinds = ([g for g in gradients if _is_share(g)], [g for g in gradients if not _is_share(g)])
    norms = [whole(nn.utils.get_total_norm(kind)) for kind in kinds if kind]
    norm = float(torch.stack(norms).norm()) if norms else 0.0
    if norm > max_norm:
        for kind in kinds:
            if kind:
                torch._foreach_mul_(kind, max_norm / (norm + 1e-6))
    return norm


def _is_share(tensor: Tensor) -> bool:
    """Return whether it is a DTensor; importing that takes half a second, and most runs have none."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor that may be in shares as a whole, on every process."""
    return tensor.full_tensor() if _is_share(tensor) else tensor  # type: ignore[attr-defined]


@torch.no_grad()
def put(values: Tensor, into: Tensor) -> None:
    """Copy a whole tensor into one that may be in shares."""
    if _is_share(into):
        from torch.distributed.tensor import distribute_tensor

        values = distribute_tensor(values.to(into.device, into.dtype), into.device_mesh, into.placements)  # type: ignore
    into.copy_(values)


def check_processes(*, batch_size: int, fsdp: bool, ema: bool, alone: Sequence[str] = ()) -> None:
    """Raise UsageError for what the number of processes does not allow; `alone` are options for a single one."""
    size = processes()
    if batch_size % size:
        raise UsageError(
            f"--batch-size {batch_size} cannot be shared by {size} processes; "
            f"use {batch_size // size * size or size} or another multiple of {size}"
        )
    if alone and size > 1:
        raise UsageError(f"{alone[0]} is for one process, and there are {size}; omit it, or torchrun")
    if fsdp and size == 1:
        raise UsageError("--fsdp shares a model among processes, and there is one; use torchrun, or omit it")
    if fsdp and ema:
        raise UsageError("--ema keeps a second whole model, which --fsdp is to avoid; omit one of them")


@dataclass
class Stop:
    """Whether the user has asked the run to end."""

    asked: bool = False


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Let Ctrl-C and SIGTERM end the run after the current step; a second Ctrl-C ends it at once.

    Only the main thread can do so; elsewhere nothing changes.
    """
    stop = Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True

    previous: dict[signal.Signals, Any] = {}
    try:
        for name in (signal.SIGINT, signal.SIGTERM):
            previous[name] = signal.signal(name, ask)
    except ValueError:  # not the main thread
        pass
    try:
        yield stop
    finally:
        for name, handler in previous.items():
            signal.signal(name, handler)
