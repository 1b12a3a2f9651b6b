"""What can go wrong in the dialogue.

DialogueError
├── EngineError                 a generation did not end well
│   ├── EngineUnavailable       not started, crashed, unreachable: worth another try later
│   ├── EngineOverloaded        refused before it began; carries when to come back
│   ├── DeadlineExceeded        the answer came too late to be worth anything
│   ├── RequestTooLong          prompt and completion do not fit the context
│   ├── RequestPoisoned         killed the engine twice: never tried again
│   └── AdapterUnknown          names an adapter that is not loaded
├── AdapterRejected             an adapter folder that will not be loaded
├── ModelError                  a model that cannot be had
│   ├── ModelReferenceInvalid
│   ├── ModelDownloadFailed     no network, full disk, the server refused
│   └── ModelHashMismatch
├── TemplateError               a chat template that cannot be rendered safely
├── TaskUnsupported             a task that a model cannot do, such as a pair of languages that it does not know
├── ConfigurationInvalid        what an owner wrote cannot be followed; somebody must change it first
├── SkillInvalid                an installed skill that cannot be used, or a default skill that does not exist
└── DocumentInvalid             the document of a turn that cannot be read
"""


class DialogueError(Exception):
    """Base of all errors of this package. `str(error)` is a sentence for the operator, `hint` what to do about it."""

    hint: str = ""


class EngineError(DialogueError):
    """A generation did not end well."""


class EngineUnavailable(EngineError):
    """The engine is not there: not started, crashed or unreachable."""


class EngineOverloaded(EngineError):
    """Refused before it began, because the queue is full or the deadline could not be met."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(EngineError):
    """The deadline of the request passed."""


class RequestTooLong(EngineError):
    """Prompt and completion do not fit into the context."""


class RequestPoisoned(EngineError):
    """This request killed the engine twice; it is never tried again."""


class AdapterUnknown(EngineError):
    """The request names an adapter that is not loaded."""


class AdapterRejected(DialogueError):
    """An adapter folder that is not loaded, with the reason."""


class ModelError(DialogueError):
    """A model that cannot be had."""


class ModelReferenceInvalid(ModelError):
    """The text is no model reference."""


class ModelDownloadFailed(ModelError):
    """The download did not finish; what arrived is kept for the next try where it can be."""


class ModelHashMismatch(ModelError):
    """The bytes are not the ones that were promised."""


class TemplateError(DialogueError):
    """A chat template that cannot be rendered safely."""


class TaskUnsupported(DialogueError):
    """A task that a model cannot do. Languages are IETF tags; "" = unknown, or no translation was asked for."""

    def __init__(self, message: str, source: str = "", target: str = "") -> None:
        super().__init__(message)
        self.source = source
        self.target = target


class ConfigurationInvalid(DialogueError):
    """What an owner wrote cannot be followed."""


class SkillInvalid(DialogueError):
    """A skill that cannot be used; a mistake of the installation."""


class DocumentInvalid(DialogueError):
    """The document of a turn that cannot be read."""
