"""Submits and follows runs through the command `ress` and its `--json` output; nothing of the wire format is known here."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass


ENDED = ("finished", "failed", "cancelled", "paused")


class RessError(Exception):
    """The command failed. The message is what it printed; `code` is 1 failed, 2 wrong use, 3 cannot be placed."""

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code


@dataclass
class Ress:
    """The command, and the coordinator that it asks."""

    program: str = "ress"
    # `tcp://HOST:PORT`; None is the command's default, the coordinator of this machine.
    coordinator: str | None = None

    def submit(
        self, configuration: str, *, resume: bool = False, workers: int | None = None, set: dict | None = None,
        options: list[str] | None = None,
    ) -> "Run":
        """Submits a run and returns at once. `set` overrides keys of the configuration: `{"training.steps": 100}`."""
        arguments = ["submit", str(configuration)] + (["--resume"] if resume else [])
        if workers is not None:
            arguments += ["--workers", str(workers)]
        for key, value in (set or {}).items():
            arguments += ["--set", f"{key}={json.dumps(value) if not isinstance(value, str) else value}"]
        line = self._lines(arguments + (options or []) + ["--json"])[0]
        return Run(self, line["run"], line["id"])

    def runs(self) -> list[dict]:
        """The coordinator's runs, in order of submission, as `ress runs --json` prints them."""
        return self._lines(["runs", "--json"])

    def run(self, name: str) -> "Run":
        """A run of the coordinator, by its name or identifier."""
        state = self._lines(["status", name, "--json"])[0]
        return Run(self, state["run"], state["id"])

    def command(self, *arguments: str) -> str:
        """What any other command prints. Raises RessError where it fails."""
        done = subprocess.run([self.program, *arguments], capture_output=True, text=True)
        if done.returncode != 0:
            raise RessError((done.stderr or done.stdout).strip(), done.returncode)
        return done.stdout

    def _lines(self, arguments: list[str]) -> list[dict]:
        return [json.loads(line) for line in self.command(*arguments, *self._address()).splitlines() if line]

    def _address(self) -> list[str]:
        return [] if self.coordinator is None else ["--coordinator", self.coordinator]


@dataclass
class Run:
    ress: Ress
    name: str
    identifier: str

    def status(self) -> dict:
        """The run's line of `ress status RUN --json`: `state`, `reason`, `step`, …"""
        return self.ress._lines(["status", self.identifier, "--json"])[0]

    def follow(self) -> Iterator[dict]:
        """The run's events from the first on, as they happen, until the run has ended.

        `event` is `began`, `placed`, `step`, `evaluation`, `router`, `checkpoint`, `state` or `message`. If the loop is left early, the
        command that follows the run is ended; the run continues.
        """
        with tempfile.TemporaryFile("w+") as complaints:
            process = subprocess.Popen(
                [self.ress.program, "logs", self.identifier, "--follow", "--json", *self.ress._address()],
                stdout=subprocess.PIPE, stderr=complaints, text=True)
            ended = False
            try:
                with process.stdout:
                    for line in process.stdout:
                        yield json.loads(line)
                ended = True
            finally:
                if not ended:
                    process.terminate()
                code = process.wait()
            complaints.seek(0)
            # A run that has failed or was cancelled ends the command with a code too; its last event reports that.
            if code != 0 and self.status()["state"] not in ENDED:
                raise RessError(complaints.read().strip(), code)

    def wait(self) -> dict:
        """Waits until the run has ended, and returns its status."""
        for _ in self.follow():
            pass
        return self.status()

    def cancel(self) -> None:
        self.ress.command("cancel", self.identifier, *self.ress._address())

    def pause(self) -> None:
        self.ress.command("pause", self.identifier, *self.ress._address())
