"""What can go wrong while a model is tuned.

DialogueError
├── ConfigurationInvalid
│   └── RecipeInvalid        a recipe that cannot be followed; names file and key
└── FinetuneError            everything else
    ├── DataInvalid          a file or row that cannot be used; names file, line and reason
    ├── DatasetInvalid       a dataset folder that is broken or was changed by hand
    └── TrainingFailed       out of memory, a loss that is no number, a full disk; names the setting to change
"""

from dialogue.errors import ConfigurationInvalid, DialogueError


class RecipeInvalid(ConfigurationInvalid):
    """A recipe cannot be followed."""


class FinetuneError(DialogueError):
    """Base of what goes wrong while working on data and models. `hint` says what to do."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class DataInvalid(FinetuneError):
    """A row of a source cannot be used.

    `reason` is a short lower-case phrase that rows are counted by, such as "broken JSON".
    """

    def __init__(self, file: str, line: int, reason: str, detail: str = "") -> None:
        place = f"{file}, line {line}" if line else file
        super().__init__(f"{place}: {reason}{f' ({detail})' if detail else ''}.")
        self.file = file
        self.line = line  # 1 = the first line; 0 = the whole file
        self.reason = reason
        self.detail = detail


class DatasetInvalid(FinetuneError):
    """A dataset folder cannot be used."""


class TrainingFailed(FinetuneError):
    """A training run cannot go on."""
