"""Options for images and outputs at addresses."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Self

import typer

from zeroshot_cli.cli.command import Panel
from zeroshot_cli.remote.address import shown_address

AllowPrivate = Annotated[
    bool,
    typer.Option(
        "--allow-private",
        rich_help_panel=Panel.IMAGES,
        help="Let a server of images redirect into your own network, and read from link-local addresses.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class OutputsElsewhere:
    """Options with an `output`, one or several, which may be at an address; `to_send` has where each of these goes."""

    to_send: Mapping[Path, str] = field(default_factory=dict)

    def with_outputs_here(self) -> Self:
        """Return the options with a file of the cache in place of each output at an address.

        Raises UsageError where an address is taken, or cannot be written to.
        """
        own: Any = self
        outputs = own.output if isinstance(own.output, tuple) else (own.output,)
        if not any(":" in str(path) for path in outputs):
            return self
        from zeroshot_cli.remote.upload import begin_output, output_address

        places: dict[Path, str] = {}
        kept: list[Path] = []
        for path in outputs:
            address = output_address(path)
            if address is None:
                kept.append(path)
                continue
            resume = bool(getattr(self, "resume", False))
            kept.append(begin_output(address, overwrite=own.overwrite, resume=resume))
            places[kept[-1]] = address
        changed: dict[str, Any] = {"output": tuple(kept) if isinstance(own.output, tuple) else kept[0]}
        return replace(self, to_send=places, **changed)

    def send_outputs(self) -> None:
        """Send what is finished to its address."""
        from zeroshot_cli.remote.upload import send_output

        for place, address in self.to_send.items():
            send_output(place, address)

    def shown_output(self, path: Path) -> str:
        """Return where an output is in the end."""
        return shown_address(self.to_send[path]) if path in self.to_send else str(path)
