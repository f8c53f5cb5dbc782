"""Two nodes with task services, a registry with scores, and files; all in simulated time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from pilot.address import PORT_TASK_SUBMIT
from pilot.node.node import PilotNode
from pilot.services.tasksubmit import TaskSubmitService
from pilot.tasks.document import TaskDocument
from pilot.tasks.store import TaskStore
from tests.simulation.nodes import World

EPOCH = 1_795_170_900.0


class TaskWorld(World):
    """
    A world in which nodes have task services.

    @ivar services_of_tasks: the running ones, by the name of the node.
    """

    def __init__(self, directory: Path, **more: Any) -> None:
        super().__init__(directory, **more)
        self.tasks: dict[str, TaskSubmitService] = {}
        self._directory = directory
        self._ports: dict[str, Any] = {}
        self.failing: Callable[..., None] | None = None

    def wall(self) -> float:
        """Unix time."""
        return EPOCH + self.internet.seconds()

    def files(self, name: str) -> TaskStore:
        """A look of one's own at the task files of a node."""
        return TaskStore(self._directory / name / "tasks")

    def path(self, name: str) -> Path:
        """Where they are."""
        return self._directory / name / "tasks"

    def serve(self, name: str, node: PilotNode) -> TaskSubmitService:
        """Start the task service of a node, or start it again."""

        async def run_blocking(function: Callable[..., Any], *arguments: Any) -> Any:
            if self.failing is not None:
                self.failing(*arguments)
            return function(*arguments)

        service = TaskSubmitService(
            self.path(name),
            node,
            node.parts.registry,
            self.internet,
            run_blocking,
            self.wall,
        )
        service.startService()
        self.tasks[name] = service
        self._ports[name] = self.wait(node.listen(PORT_TASK_SUBMIT, service.factory))
        return service

    def leave(self, name: str) -> None:
        """The task service of a node ends, as if its daemon had been killed."""
        self._ports.pop(name).stopListening()
        self.tasks.pop(name).stopService()

    def pair(self) -> tuple[TaskSubmitService, TaskSubmitService]:
        """Alice, who submits, and bob, who works."""
        alice, bob = self.start("alice"), self.start("bob")
        self.introduce(alice, bob)
        return self.serve("alice", alice), self.serve("bob", bob)

    def submit(self, description: str = "Analyze") -> str:
        """Alice gives bob a task.  @return: its id."""
        answer = self.ask("alice", op="submit", target="2", task=description)
        assert answer["accepted"], answer
        return str(answer["task_id"])

    def ask(self, name: str, **request: Any) -> dict[str, Any]:
        """What the command line asks for.  @return: its answer."""
        answer = self.wait(self.tasks[name].control(request), 120.0)
        assert isinstance(answer, dict)
        return answer

    def received(self, task_id: str) -> TaskDocument:
        """Bob's document."""
        found = self.files("bob").received.load(task_id)
        assert found is not None
        return found

    def sent(self, task_id: str) -> TaskDocument:
        """Alice's document."""
        found = self.files("alice").submitted.load(task_id)
        assert found is not None
        return found

    def scores(self) -> tuple[int, int]:
        """Alice's and bob's."""
        node = next(iter(self.services.values())).node
        asked = [self.wait(node.parts.registry.get_polo_score(each)) for each in (1, 2)]
        return asked[0]["polo_score"], asked[1]["polo_score"]

    def raw(self, name: str, target: int, data: bytes) -> Talk:
        """Dial port 1003 of a node from another, send bytes, and wait until it ends the stream."""
        talk = Talk(data)
        node = self.services[name].node
        self.wait(node.dial(target, PORT_TASK_SUBMIT, Factory.forProtocol(lambda: talk)))
        self.internet.until(lambda: talk.ended, 300.0)
        return talk

    def close(self) -> None:
        for name in list(self.tasks):
            self.leave(name)
        super().close()


class Talk(Protocol):
    """Says something and listens."""

    def __init__(self, data: bytes) -> None:
        self._say = data
        self.heard = b""
        self.ended: Failure | None = None

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self._say)

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.ended = reason
