"""`make catalogues`: compile every `.po` of the packages into the `.mo` beside it."""

from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Final

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

ROOT = Path(__file__).parent.parent
UNDATED: Final = datetime(2026, 1, 1, tzinfo=UTC)  # Babel would write the time of the compilation, and no two files were alike


def sources() -> list[Path]:
    """Return every `.po` file of the packages."""
    return sorted(path for room in ("bot", "dialogue") for path in (ROOT / room / "locale").rglob("*.po"))


def compiled(source: Path) -> bytes:
    """Return what a `.po` file compiles to."""
    with source.open("rb") as file:
        catalogue = read_po(file, locale=source.parts[-3])
    catalogue.creation_date = catalogue.revision_date = UNDATED
    out = BytesIO()
    write_mo(out, catalogue)
    return out.getvalue()


def main() -> None:
    """Compile them all."""
    for source in sources():
        source.with_suffix(".mo").write_bytes(compiled(source))
        print(source.relative_to(ROOT))


if __name__ == "__main__":
    main()
