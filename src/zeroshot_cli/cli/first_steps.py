"""What `zeroshot` alone says: the first command to type, and where help is."""

import os
import shlex
from contextlib import suppress
from itertools import islice

from zeroshot_cli.cli.options import BUNDLED_MODEL, DEFAULT_MODEL

_ANY_IMAGE = "photo.jpg"
_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif")
_LOOKED_AT = 2000  # entries of the folder: the answer should be there at once

FIRST_STEPS = """\
zeroshot labels your images with words of your own.

Try it on one image with {bundled}, the small model that comes with it and needs no network:

  zeroshot classify {image} --model {bundled} --label cat --label dog

Then a folder, with the labels in a file, one a line; {default} knows far more, and is downloaded once:

  zeroshot classify photos/ --labels labels.txt --output labels.csv

Where help is:

  zeroshot --help                all commands
  zeroshot classify --help       the options of one
  zeroshot prompts list          sets of labels and templates that are built in
  zeroshot models list           models that --model knows
  zeroshot doctor                what this machine has, and what is missing
  zeroshot --install-completion  let Tab complete commands, options and names"""


def first_steps() -> str:
    """Return what to type first, with an image of the current folder where there is one."""
    return FIRST_STEPS.format(bundled=BUNDLED_MODEL, default=DEFAULT_MODEL, image=shlex.quote(_image_here()))


def _image_here() -> str:
    with suppress(OSError), os.scandir() as entries:
        found = [each for each in islice(entries, _LOOKED_AT) if each.name.lower().endswith(_ENDINGS)]
        names = [each.name for each in found if not each.is_dir(follow_symlinks=False)]
        readable = [name for name in names if name.isprintable() and not name.startswith(("-", "."))]
        return min(readable, default=_ANY_IMAGE)
    return _ANY_IMAGE
