"""Writes what the blocks of pages print into the pages, where they show something else.

    python -m tests.docs.refresh docs/tutorial.md ...

An output that is shown with "..." was shortened by hand: what is printed now is printed here, and the page left alone.
"""

import sys
import tempfile
from pathlib import Path

from tests.docs.running import Ran, run_page


def refreshed(page: str, ran: Ran) -> str:
    """The page with what was printed in the place of what is shown."""
    between = "```\n\n```text\n" if ran.block.language == "python" else "\n"
    return page.replace(f"{ran.source}{between}{ran.shown}", f"{ran.source}{between}{ran.printed}", 1)


def main() -> None:
    """Refresh the pages that are named."""
    for path in map(Path, sys.argv[1:]):
        page = path.read_text()
        with tempfile.TemporaryDirectory() as folder:
            for ran in run_page(page, Path(folder)):
                where = f"{path}:{ran.block.line}: {ran.source.splitlines()[0]}"
                if not ran.passed:
                    print(f"{where}: failed\n{ran.printed}")
                elif not ran.as_shown:
                    print(f"{where}: {'left as it is' if '...' in ran.shown else 'refreshed'}\n{ran.printed}")
                    page = page if "..." in ran.shown else refreshed(page, ran)
        path.write_text(page)


if __name__ == "__main__":
    main()
