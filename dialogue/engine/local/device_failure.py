"""What a child does when its device has failed: end, so that the supervisor starts another one and turns are tried again there."""

import os
import sys
import traceback
from typing import Final

EXIT_DEVICE_ERROR: Final = 70


def end_process(error: Exception) -> None:
    """End a child at once: after an error of the device nothing in this process can be trusted."""
    traceback.print_exception(error)
    sys.stderr.flush()
    os._exit(EXIT_DEVICE_ERROR)
