"""The Trainer of transformers, told what to minimise by an `Objective`.

Its own are the optimiser, the schedule, several devices, checkpoints and going on from them. Ours are the loss, which is an average
over the trained tokens of the whole step and not of each batch, and the look at the held-out loss.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import transformers
from torch.utils.data import Dataset

from finetune.training.batches import Batch
from finetune.training.objective import Objective

HELD_OUT_LOSS = "eval_loss"


class Examples(Dataset[Any]):
    """Examples as torch wants them."""

    def __init__(self, examples: Sequence[Any]) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Any:
        return self._examples[index]


class ObjectiveTrainer(transformers.Trainer):
    """Minimises an objective over examples."""

    loss_is_scaled_for_ga = True  # `compute_loss` divides by the tokens of the whole step

    def __init__(  # noqa: PLR0917 - what a Trainer is made of
        self,
        model: Any,
        objective: Objective,
        schedule: Callable[[int], float],
        arguments: transformers.TrainingArguments,
        train: Sequence[Any],
        valid: Sequence[Any],
        callbacks: list[transformers.TrainerCallback],
    ) -> None:
        held_out = Examples(valid) if valid else None
        super().__init__(model, arguments, objective.collate, Examples(train), held_out, callbacks=callbacks)
        self.goal = objective
        self.schedule = schedule  # step, counted from 0 → what the learning rate is multiplied with
        self.tokens_done = 0  # trained tokens of all devices since this process began
        self.remove_callback(transformers.PrinterCallback)

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:  # noqa: ARG002 - as its parent
        """Set the learning rate's schedule."""
        chosen: Any = optimizer or self.optimizer
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(chosen, self.schedule)
        return self.lr_scheduler

    def get_batch_samples(self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device) -> tuple[list[Batch], Any]:
        """Return the batches of one step and their number of trained tokens, over all devices."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        count = torch.tensor(sum(self.goal.trained_tokens(batch) for batch in batches), device=device)
        total: Any = self.accelerator.reduce(count, reduction="sum")
        self.tokens_done += int(total)
        return batches, torch.clamp(total, min=1)

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,  # noqa: FBT001, FBT002 - as its parent
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return this batch's share of the step's mean loss, in nats per trained token."""
        loss = self.goal.loss(model, inputs)
        # gradients are averaged over the devices afterwards, hence the factor
        share = loss * self.accelerator.num_processes / num_items_in_batch
        return (share, None) if return_outputs else share

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Return the mean held-out loss in nats per trained token."""
        model = self.model_wrapped
        model.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=self.args.device)
        for batch in self.get_eval_dataloader():
            with torch.no_grad(), self.compute_loss_context_manager():
                loss = self.goal.loss(model, self._prepare_inputs(batch))
            each = torch.tensor([float(loss), float(self.goal.trained_tokens(batch))], dtype=torch.float64, device=loss.device)
            sums += self.accelerator.gather_for_metrics(each.unsqueeze(0)).sum(0)
        metrics = {HELD_OUT_LOSS: float(sums[0] / sums[1].clamp(min=1))}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics
