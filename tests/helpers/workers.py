"""What a worker of a cluster is asked in tests: `tiny` in fp32 on a CPU, in batches of four."""

from dataclasses import replace
from typing import Any

import torch

from zeroshot_cli.classify.rejection import Rules
from zeroshot_cli.cluster.worker import ModelAt, Question
from zeroshot_cli.images.decode import EXACTLY

AT = ModelAt(
    name="tiny",
    pretrained=None,
    image_size=None,
    offline=True,
    device="cpu",
    precision="fp32",
    threads=torch.get_num_threads(),
)


def question(model: Any, **changes: Any) -> Question:
    asked = Question(
        fingerprint=model.fingerprint,
        batch_size=4,
        workers=1,
        decoding=EXACTLY,
        cache=False,
        folder="/",
        rules=Rules(),
    )
    return replace(asked, **changes)
