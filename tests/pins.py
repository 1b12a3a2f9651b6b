"""`make constraints`: write the versions that are installed now into constraints.txt, keeping pins of what is not installed."""

import re
from importlib.metadata import distributions
from pathlib import Path

TARGET = Path(__file__).parent.parent / "constraints.txt"
HEADER = "# Versions that this release was tested with. `pip install -c constraints.txt -e .` uses them; `make constraints` renews them.\n"
OWN = {"kefu", "pip", "setuptools"}


def main() -> None:
    """Rewrite constraints.txt in place."""
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", TARGET.read_text(encoding="utf-8"), flags=re.MULTILINE))
    # A local build such as 2.13.0+cpu is the same release; the suffix would refuse every other build of it.
    pins |= {found.metadata["Name"]: found.version.partition("+")[0] for found in distributions()}
    lines = [f"{name}=={pins[name]}\n" for name in sorted(pins, key=str.lower) if name not in OWN]
    TARGET.write_text(HEADER + "".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
