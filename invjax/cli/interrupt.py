"""Ctrl-C: the command ends at once with exit code 130, whatever it is doing."""

import os
import signal
import threading

finishing = threading.Lock()
"""Held while files are written: Ctrl-C waits for it, so that nothing is left half written."""


def exit_on_interrupt() -> None:
    """End the process on SIGINT, from a thread of its own.

    A KeyboardInterrupt would not do: raised while a compiled module is imported it crashes the interpreter or is lost, and
    while XLA compiles it waits for many seconds.
    """
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.signal(signal.SIGINT, lambda number, frame: None)
    signal.set_wakeup_fd(write_end)
    threading.Thread(target=_wait, args=(read_end,), daemon=True).start()


def _wait(read_end: int) -> None:
    while os.read(read_end, 1) != bytes([signal.SIGINT]):
        pass
    with finishing:
        show_cursor = b"\x1b[?25h\n" if os.isatty(2) else b""  # the progress display hides it
        os.write(2, show_cursor + b"invjax: interrupted\n")
        os._exit(130)
