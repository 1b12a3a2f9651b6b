"""`answers.jsonl`: what every contender said to every question, one question a line."""

import json
from pathlib import Path

from finetune.evaluation.evaluate import Evaluation


def write_answers(evaluation: Evaluation, path: Path) -> None:
    """Write the answers of an evaluation."""
    with path.open("w", encoding="utf-8") as file:
        for question in evaluation.questions:
            sample = question.sample
            answers = {place.value: given[sample.id].text for place, given in evaluation.answers.items()}
            line = {"id": sample.id, "kind": sample.kind, "question": sample.question, "reference": sample.answer, "answers": answers}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
