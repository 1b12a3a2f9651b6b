"""What goes out with the text of a reply: buttons, or a file. Written with the turn, read again when it is delivered.

Storage keeps it as opaque text (`NewTurn.extras`, `OutboxRecord.extras`); channels that have no buttons leave them out.
"""

import json
from dataclasses import dataclass
from typing import Any

from dialogue.messages import Button, ButtonRows


@dataclass(frozen=True, slots=True)
class ReplyExtras:
    """Plain values, equal when their content is."""

    is_rateable: bool = False  # an answer of the model: people may say whether it was good
    buttons: ButtonRows = ()
    document: str = ""  # what kind of file goes with the text ("export"); it is made when it is delivered

    def encode(self) -> str:
        """Return the stored form; "" = nothing."""
        if self == ReplyExtras():
            return ""
        rows = [[[button.label, button.data] for button in row] for row in self.buttons]
        return json.dumps({"rateable": self.is_rateable, "buttons": rows, "document": self.document}, ensure_ascii=False)


def decode_extras(stored: str) -> ReplyExtras:
    """Return what `encode` wrote. Raises ValueError, KeyError or TypeError for anything else."""
    if not stored:
        return ReplyExtras()
    fields: dict[str, Any] = json.loads(stored)
    rows = tuple(tuple(Button(label, data) for label, data in row) for row in fields["buttons"])
    return ReplyExtras(bool(fields["rateable"]), rows, str(fields["document"]))
