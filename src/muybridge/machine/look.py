"""The process that looks; `muybridge.machine.check` starts it.

python -m muybridge.machine.look NAME …

The question is a line of JSON on standard input. Answers are lines of JSON: which look begins, and what it finds. So what was
found before a crash is known.
"""

import json
import os
import shutil
import sys
import threading
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from muybridge.machine.finding import Asked, Finding, reason
from muybridge.runtime.launch import end_with_parent


def main(names: list[str], question: dict[str, Any]) -> None:
    """Take the looks one after the other, and say what they find."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    asked = Asked(Path(question["folder"]), Path(question["scratch"]), question["quick"])

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    for name in names:
        say({"begins": name})
        try:
            for finding in import_module(f"muybridge.machine.{name}").look(asked):
                say({"finding": finding.private(asked.folder).as_json() | {"look": name}})
        except Exception as error:  # whatever a broken machine raises: the other looks are taken
            failed = Finding(f"{name}-failed", "doubt", f"The look at {name} fails: {reason(error)}.", look=name)
            say({"finding": failed.private(asked.folder).as_json()})


if __name__ == "__main__":
    parent = os.getppid()
    asked_for = json.loads(sys.stdin.readline())
    forget = partial(shutil.rmtree, asked_for["scratch"], ignore_errors=True)  # as `check` was killed, and cannot
    threading.Thread(target=end_with_parent, args=(parent, forget), daemon=True).start()
    main(sys.argv[1:], asked_for)
