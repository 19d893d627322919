"""What a model that is being trained is worth, on pairs and labelled images that it does not learn from."""

from dataclasses import dataclass

import torch
from torch import Tensor

from zeroshot_cli.clip.model import CLIP
from zeroshot_cli.images.preprocess import Preprocess
from zeroshot_cli.pairs.read import Pairs
from zeroshot_cli.train.config import TrainConfig
from zeroshot_cli.train.data import Batch, EvalBatches, batches_of, shuffled
from zeroshot_cli.train.inputs import Inputs, pair_ids
from zeroshot_cli.train.prepare import Prepared
from zeroshot_cli.train.step import Objective, Towers
from zeroshot_cli.train.validate import Validation, validate
from zeroshot_cli.train.zero_shot import Accuracy


@dataclass(frozen=True, slots=True)
class Judge:
    """Validation pairs and labelled images, where a run has them."""

    config: TrainConfig
    prepared: Prepared
    inputs: Inputs
    device: torch.device
    precision: str

    @property
    def is_needed(self) -> bool:
        return self.prepared.val is not None or self.prepared.zero_shot is not None

    def judge(self, model: CLIP) -> tuple[Validation | None, Accuracy | None]:
        """Judge a model; it is in evaluation mode afterwards."""
        model.to(self.device).eval()
        validation = None if self.prepared.val is None else self._validate(model, self.prepared.val)
        return validation, self._zero_shot(model)

    def _validate(self, model: CLIP, val: Pairs) -> Validation:
        towers = Towers(model, bf16=self.precision == "bf16")
        objective = Objective(self.config.loss)
        scale, bias = model.logit_scale.detach().exp(), model.logit_bias
        dataset = EvalBatches(val, Preprocess(self.prepared.start.preprocess))

        def embed(batch: Batch) -> tuple[Tensor, Tensor]:
            parts = [towers(*chunk())[:2] for chunk in self.inputs.chunks(batch, self.config.chunk_size)]
            return torch.cat([images for images, _ in parts]), torch.cat([texts for _, texts in parts])

        return validate(
            batches_of(dataset, shuffled(len(val), self.config.batch_size), workers=self.config.workers),
            embed,
            lambda images, texts, batch: objective.value((images, texts, scale, bias), pair_ids(batch).to(self.device)),
        )

    def _zero_shot(self, model: CLIP) -> Accuracy | None:
        if self.prepared.zero_shot is None:
            return None
        start = self.prepared.start
        return self.prepared.zero_shot.accuracy(
            model,
            start.config,
            start.preprocess,
            start.tokenizer,
            device=self.device,
            precision=self.precision,
            workers=self.config.workers or 1,
            batch_size=self.config.batch_size,
        )
