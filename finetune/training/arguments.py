"""A recipe's training section as the arguments of transformers' Trainer."""

import math
from pathlib import Path

import torch
import transformers

from finetune.config import TrainSection
from finetune.errors import RecipeInvalid
from finetune.training.trainer import HELD_OUT_LOSS


def training_arguments(
    section: TrainSection, seed: int, folder: Path, packs: int, *, held_out: bool, resumes: bool
) -> transformers.TrainingArguments:
    """Return the arguments of a run over `packs` examples that keeps its checkpoints in `folder`. Raises RecipeInvalid."""
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        seed=seed,
        data_seed=seed,
        per_device_train_batch_size=section.rows_per_device,
        per_device_eval_batch_size=1,  # so that what is computed twice to keep devices in step can be left out of the mean
        num_train_epochs=section.epochs,
        max_steps=section.max_steps or -1,
        learning_rate=section.learning_rate,
        weight_decay=section.weight_decay,
        max_grad_norm=section.max_grad_norm,
        activation_checkpointing=section.gradient_checkpointing,
        bf16=torch.cuda.is_available() and torch.cuda.is_bf16_supported(),
        eval_strategy="steps" if held_out else "no",
        eval_steps=section.evaluate_every,
        eval_on_start=held_out and not resumes,
        save_strategy="steps",
        save_steps=section.evaluate_every,
        save_total_limit=2,  # the newest and the best
        load_best_model_at_end=held_out,
        metric_for_best_model=HELD_OUT_LOSS if held_out else None,
        greater_is_better=False if held_out else None,
        logging_steps=1,
        logging_nan_inf_filter=False,  # a loss that is no number must be seen
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=True,
        report_to="none",
    )
    set_schedule(arguments, section, packs)
    return arguments


def set_schedule(arguments: transformers.TrainingArguments, section: TrainSection, packs: int) -> None:
    """Set what depends on the number of devices: rows of one step, and steps. Raises RecipeInvalid."""
    if torch.cuda.device_count() > 1 and arguments.world_size == 1:
        arguments._n_gpu = 1  # one process trains on one device; `accelerate launch` starts one for each
    at_once = section.rows_per_device * arguments.world_size
    if section.rows_per_step % at_once:
        devices = f" on {arguments.world_size} devices" if arguments.world_size > 1 else ""
        raise RecipeInvalid(
            f"train.rows_per_step = {section.rows_per_step} is no multiple of the {at_once} rows that are computed at once"
            f" (train.rows_per_device = {section.rows_per_device}{devices})."
        )
    arguments.gradient_accumulation_steps = section.rows_per_step // at_once
    arguments.max_steps = total_steps(section, packs)


def total_steps(section: TrainSection, packs: int) -> int:
    """Return the optimiser steps of a run."""
    steps = max(1, math.ceil(math.ceil(packs / section.rows_per_step) * section.epochs))
    return steps if section.max_steps is None else min(steps, section.max_steps)
