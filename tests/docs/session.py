"""A Python session that tests hold open: a line of JSON with source comes in, a line with what it printed goes out.

Both the output and the errors of a block are what it printed, as in a terminal.
"""

import io
import json
import linecache
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout


def run(source: str, name: str, namespace: dict[str, object]) -> tuple[bool, str]:
    """Whether it ran to its end, and what it printed."""
    printed = io.StringIO()
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    with redirect_stdout(printed), redirect_stderr(printed):
        try:
            exec(compile(source, name, "exec"), namespace)  # noqa: S102  this is what the session is for
        except Exception:  # noqa: BLE001  whatever a block raises is an answer
            traceback.print_exc()
            return False, printed.getvalue()
    return True, printed.getvalue()


def main() -> None:
    """Answer until the input ends; nothing but answers goes to the real output."""
    answers = sys.stdout
    namespace: dict[str, object] = {"__name__": "__main__"}
    for line in sys.stdin:
        request = json.loads(line)
        passed, printed = run(request["source"], request["name"], namespace)
        answers.write(json.dumps({"passed": passed, "printed": printed}) + "\n")
        answers.flush()


if __name__ == "__main__":
    sys.path[0] = ""  # as `python` does: the folder that it was started in
    main()
