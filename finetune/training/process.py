"""One process of a launched run: `accelerate launch -m finetune.training.process RUN/plan.json`.

Everything it needs stands in the plan. On one device `kefu finetune train` does the same without a launcher.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from dialogue.errors import DialogueError
from finetune.training.architectures import run_plan
from finetune.training.display import TerminalDisplay
from finetune.training.plan import read_plan


def main(arguments: Sequence[str]) -> int:
    """Run the plan that the one argument names and return the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m finetune.training.process RUN/plan.json\n")
        return 2
    try:
        with TerminalDisplay() as display:
            outcome = run_plan(read_plan(Path(arguments[0])), display, tell=display.tell)
    except DialogueError as error:
        sys.stderr.write(f"{error}\n{getattr(error, 'hint', '')}\n")
        return 1
    return 130 if outcome.interrupted else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
