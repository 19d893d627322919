"""The Ray cluster of a run: the one that RAY_ADDRESS names, else one of this machine, which ends with the run.

Ray starts in a thread, beside all that a run does first, and its own messages stay out of the terminal.
"""

import atexit
import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from zeroshot_cli.display import brief
from zeroshot_cli.errors import UsageError
from zeroshot_cli.images.decoder_pool import auto_workers

if sys.platform != "win32":
    import fcntl

ADDRESS = "RAY_ADDRESS"
_PATIENCE = 120.0  # seconds for a cluster to answer
_KNOCK = 5.0  # seconds for its port to open
_OBJECTS = 256 << 20  # bytes of results on their way, on this machine
_FOLDER, _LOCK = "zeroshot-ray-", "in-use"
_SILENT = logging.CRITICAL + 1
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
_NO_WORD = {"RAY_DEDUP_LOGS": "1", "RAY_DEDUP_LOGS_SKIP_REGEX": "^"}  # on standard output, of processes that died
_LOCAL = {  # an actor is started when it is asked for: none is wanted before
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_AUTH_MODE": "token",  # Ray's ports are open to other machines
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",  # of agents that look for a driver that was killed; 60 by default
}


def check_ray() -> None:
    """Raise UsageError now where Ray is not installed, or nothing answers where RAY_ADDRESS says."""
    if find_spec("ray") is None:
        raise UsageError("--engine ray needs Ray: pip install 'zeroshot-cli[ray]'")
    address = os.environ.get(ADDRESS, "")
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK):
            pass
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"no Ray cluster answers at {ADDRESS}={address} ({reason.lower()}); {_WAY_OUT}") from None


_WAY_OUT = f"start one with ray start --head, or unset {ADDRESS} for one of this machine"


class RayCluster:
    """A connection to Ray, begun at once; `wait` gives what it led to, `close` ends it."""

    def __init__(self) -> None:
        self._folder: str | None = None
        self._lock: BinaryIO | None = None  # open as long as the folder is somebody's
        self._error: BaseException | None = None
        self._up, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._live, name="ray", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Return when Ray is there; raises UsageError where it is not."""
        if not self._up.wait(_PATIENCE):
            raise UsageError(f"Ray did not start within {_PATIENCE:g} seconds; {_WAY_OUT}")
        if self._error is not None:
            text = brief(" ".join(str(self._error).split())) or type(self._error).__name__
            raise UsageError(f"Ray does not start ({text.rstrip('.')}); {_WAY_OUT}")

    def close(self) -> None:
        """End the connection, and with it the processes of a cluster of this machine."""
        self._over.set()
        self._thread.join(_PATIENCE if self._up.is_set() else 0)
        if self._lock is not None:
            self._lock.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            if self._thread.is_alive():  # it writes there until the process ends
                atexit.register(shutil.rmtree, self._folder, ignore_errors=True)

    def _live(self) -> None:
        """Be the parent of Ray's processes: on Linux they end with the thread that started them."""
        try:
            self._start()
        except BaseException as error:  # Ray raises all kinds
            self._error = error
        self._up.set()
        self._over.wait()
        with suppress(Exception):
            import ray

            ray.shutdown()

    def _start(self) -> None:
        address = os.environ.get(ADDRESS) or "local"
        for name, value in (_QUIET | (_LOCAL if address == "local" else {})).items():
            os.environ.setdefault(name, value)
        os.environ.update(_NO_WORD)
        given: dict[str, Any] = {"address": address}
        if address == "local":
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
            self._folder, self._lock = own_folder()
            given |= {
                "num_cpus": auto_workers(),
                "include_dashboard": False,
                "object_store_memory": _OBJECTS,
                "_temp_dir": self._folder,
            }
            _start_only_what_computes()
        import ray

        logging.getLogger("ray").setLevel(_SILENT)
        ray.init(**given, log_to_driver=False, configure_logging=False, logging_level=_SILENT)


def _start_only_what_computes() -> None:
    """Leave out what a cluster of one run has no use for: three programs in Python, each a second of CPU.

    They would scale the cluster, serve a dashboard and copy logs. Ray has no option for it; the names are not public,
    and where they change, the programs are started as before.
    """
    with suppress(ImportError):
        from ray._private.node import Node

        for name in ("start_monitor", "start_api_server", "start_log_monitor"):
            if hasattr(Node, name):
                setattr(Node, name, lambda *_, **__: None)


def own_folder() -> tuple[str, BinaryIO]:
    """Return a new folder for Ray, with the lock that says it is in use; those of runs that were killed are removed."""
    short = "/tmp" if os.name == "posix" and os.access("/tmp", os.W_OK) else tempfile.gettempdir()  # for sockets
    if sys.platform == "win32":
        folder = tempfile.mkdtemp(prefix=_FOLDER)
        return folder, Path(folder, _LOCK).open("xb")
    for lock in Path(short).glob(f"{_FOLDER}*/{_LOCK}"):
        with suppress(OSError):  # it is in use, or gone
            if lock.parent.lstat().st_uid == os.getuid():
                with lock.open("rb") as file:
                    _hold(file)
                    shutil.rmtree(lock.parent, ignore_errors=True)
    folder = tempfile.mkdtemp(prefix=_FOLDER, dir=short)
    held = Path(folder, f"{_LOCK}.new").open("xb")  # noqa: SIM115 (the run closes it, or its end)
    _hold(held)
    Path(held.name).rename(Path(folder, _LOCK))  # nobody sees it before it is held
    return folder, held


def _hold(file: BinaryIO) -> None:
    """Lock a file until it is closed, or its process ends; OSError where another process has done so."""
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def room_for(cpus: float, gpus: float) -> int:
    """Return how many actors the living nodes have room for; raises UsageError where none has, with what they have."""
    nodes = [node for node in _nodes() if node.get("Alive")]
    found = sum(_fitting(node["Resources"], cpus, gpus) for node in nodes)
    if found:
        return found
    have = "; ".join(f"{node['NodeManagerHostname']} has {_what(node['Resources'])}" for node in nodes[:5])
    more = f"; {len(nodes) - 5} more have no more" if len(nodes) > 5 else ""
    raise UsageError(
        f"no node has room for an actor of {_what({'CPU': cpus, 'GPU': gpus})}: {have or 'there is none'}{more}; give "
        "fewer --actor-cpus or --actor-gpus"
    )


def has_gpus() -> bool:
    """Return whether a living node has a GPU."""
    return any(node["Resources"].get("GPU", 0) > 0 for node in _nodes() if node.get("Alive"))


def _nodes() -> list[dict[str, Any]]:
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return nodes


def _fitting(resources: Mapping[str, float], cpus: float, gpus: float) -> int:
    wanted = {"CPU": cpus, "GPU": gpus}
    return min(int(resources.get(name, 0) / each + 1e-9) for name, each in wanted.items() if each)


def _what(resources: Mapping[str, float]) -> str:
    return (
        " and ".join(
            f"{resources[name]:g} {name}{'s' * (resources[name] != 1)}"
            for name in ("CPU", "GPU")
            if resources.get(name)
        )
        or "none"
    )
