"""Who is told of long work while it goes on."""

from typing import Protocol


class Listener(Protocol):
    """What long work tells while it goes on; the command line draws bars with it."""

    def stage(self, name: str, total: int) -> None:
        """A stage of ``total`` parts begins."""

    def advance(self, values: dict[str, float]) -> None:
        """One part of the stage is done; ``values`` are named losses while training."""

    def say(self, text: str) -> None:
        """Something that one should know, in one line; the work goes on."""


class Silent:
    """A Listener that listens to nothing."""

    def stage(self, name: str, total: int) -> None: ...

    def advance(self, values: dict[str, float]) -> None: ...

    def say(self, text: str) -> None: ...
