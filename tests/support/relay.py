"""A program whose work is done by this process: it sends what it was called with, and gives the answer.

A script under test may call it a hundred times; a shell and a socket cost a few milliseconds each time,
a Python that imports what is needed would cost a hundred.
"""

import socketserver
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

# The request: how many arguments, how many bytes of input, the arguments with a NUL after each, the input.
# The answer: exit status, how many bytes of errors, the errors, the output.
PROGRAM = """#!/bin/bash
LC_ALL=C
exec 3<>/dev/tcp/127.0.0.1/{port}
stdin=
case " $* " in *" -f - "* | *" --param-file=- "*)
  stdin=$(cat && printf .)
  stdin=${{stdin%.}} ;;
esac
printf '%s\\n%s\\n' "$#" "${{#stdin}}" >&3
[ "$#" = 0 ] || printf '%s\\0' "$@" >&3
printf '%s' "$stdin" >&3
read -r status length <&3
[ "$length" = 0 ] || head -c "$length" <&3 >&2
cat <&3
exit "$status"
"""
IN_C = Path(__file__).with_name("relay.c")


class Done(NamedTuple):
    status: int
    output: str = ""
    errors: str = ""


class Relay:
    """Answers the calls of the programs that it writes, one at a time."""

    def __init__(self, answer: Callable[[list[str], str], Done]) -> None:
        lock = threading.Lock()

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                count, length = int(self.rfile.readline()), int(self.rfile.readline())
                words = [self._read_word() for _ in range(count)]
                stdin = self.rfile.read(length).decode()
                with lock:
                    done = answer(words, stdin)
                errors = done.errors.encode()
                self.wfile.write(f"{done.status} {len(errors)}\n".encode() + errors)
                self.wfile.write(done.output.encode())

            def _read_word(self) -> str:
                read = bytearray()
                while (byte := self.rfile.read(1)) != b"\0":
                    assert byte, "the program went away"
                    read += byte
                return read.decode()

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def write_program(self, file: Path) -> None:
        file.write_text(PROGRAM.format(port=self.port))
        file.chmod(0o755)

    def write_windows_program(self, file: Path) -> None:
        compiler = "x86_64-w64-mingw32-gcc"
        command = [
            compiler,
            "-O1",
            "-s",
            f"-DPORT={self.port}",
            "-o",
            str(file),
            str(IN_C),
            "-lws2_32",
        ]
        subprocess.run(command, check=True)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
