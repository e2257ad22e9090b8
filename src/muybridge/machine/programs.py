"""Programs of the system that may hang: asked for an answer, and left behind where none comes."""

import os
import re
import shutil
import signal
import subprocess
import threading
from contextlib import suppress


def whole_number(text: str) -> int | None:
    """The number that a program or a setting writes as up to 12 digits; None for anything else."""
    return int(text) if re.fullmatch("[0-9]{1,12}", text) else None


def end(process: "subprocess.Popen[str]") -> None:
    """Kill a process that leads a session, and those that it started, also where it has ended before them."""
    if process.returncode is None:  # not waited for: its number is still its own
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()


def answer_of(*words: str, seconds: float) -> tuple[str, str]:
    """(what a program prints, ""), or ("", why nothing came): the program is not there, fails, or takes longer."""
    program = shutil.which(words[0])
    if program is None:
        return "", "it is not installed"
    try:
        process = subprocess.Popen(
            [program, *words[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        return "", f"it cannot be started ({error.strerror})"
    told: list[str] = []

    def listen() -> None:
        with suppress(OSError, ValueError):
            told.append(process.communicate()[0])

    listener = threading.Thread(target=listen, daemon=True)  # a process that waits for a device cannot even be ended
    listener.start()
    listener.join(seconds)
    if not told:
        end(process)
        listener.join(1.0)
        return "", f"it gives no answer within {seconds:g} seconds"
    if process.returncode:
        return "", " ".join(told[0].split()) or f"it ends with status {process.returncode}"
    return told[0], ""
