"""Task submit (port 1003): tasks come in, and news of the tasks that went out.

A stream carries one message and is then ended by us: cleanly when we have acted on it, or there is
nothing to be done, by a reset when we could not, so that the sender knows.

@see: the page I{Task submit}.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from pilot.address import Address
from pilot.errors import ConnectionFailed, InvalidArgument, PilotError, WireError
from pilot.interfaces import IPilotNode
from pilot.services.taskdelivery import Delivery
from pilot.services.taskerrands import Errands
from pilot.services.taskscores import Registry, Scores
from pilot.services.tasksubmitter import Refused, RunBlocking, Submitter
from pilot.services.taskworker import Worker
from pilot.tasks.document import TaskDocument
from pilot.tasks.errors import TaskFileError
from pilot.tasks.names import check_file_type
from pilot.tasks.store import TaskStore, read_result
from pilot.wire.tasksubmit import (
    ACCEPTED,
    MAX_FILE,
    REFUSED,
    FrameReader,
    Request,
    Results,
    StatusUpdate,
    SubmitResponse,
    decode_request,
)

log = Logger()

#: Seconds without a byte for which a message may stay incomplete, and seconds for all of it.
SILENCE, PATIENCE = 15.0, 180.0

#: Streams open at the same time: of all peers, and of one.
MAX_STREAMS, MAX_STREAMS_PER_PEER = 256, 16

#: Bytes of incomplete messages kept: of all peers together.
MAX_BUFFERED = 64 * 1024 * 1024


class TaskSubmitProtocol(Protocol):
    """Reads one message, has it acted on, answers if it is a submission, and ends the stream."""

    factory: TaskSubmitFactory
    transport: Any
    _silence: IDelayedCall | None = None
    _patience: IDelayedCall | None = None
    _work: Deferred[bytes] | None = None

    def connectionMade(self) -> None:
        """Be patient, but not for ever."""
        self.node_id: int = self.transport.getPeer().address.node
        self._reader = FrameReader()
        if not self.factory.admit(self):
            self.transport.abortConnection()
            return
        clock = self.factory.clock
        self._silence = clock.callLater(SILENCE, self._expired)
        self._patience = clock.callLater(PATIENCE, self._expired)

    @property
    def buffered(self) -> int:
        """Bytes of the incomplete message."""
        return self._reader.buffered

    def dataReceived(self, data: bytes) -> None:
        """A piece of the message; what comes behind it is not read."""
        if self._silence is None or not self._silence.active() or self._work is not None:
            return
        try:
            self.factory.grow(len(data))
            frame = self._reader.feed(data)
            if frame is None:
                self._silence.reset(SILENCE)
                return
            request = decode_request(*frame)
        except WireError as error:
            self._refuse("malformed", error)
            return
        except Refused as error:
            self.factory.counters[error.counter] += 1
            self._reset()
            return
        self._quiet()
        self._work = Deferred.fromCoroutine(self.factory.service.received(self.node_id, request))
        self._work.addCallbacks(self._answer, self._failed)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The peer is gone; what it has said is done nevertheless."""
        self._quiet()
        self.factory.release(self)

    def _answer(self, answer: bytes) -> None:
        self.transport.write(answer)
        self.transport.loseConnection()

    def _failed(self, reason: Failure) -> None:
        error = reason.value
        if isinstance(error, Refused):
            self.factory.counters[error.counter] += 1
            log.info("task message of {node} refused: {error}", node=self.node_id, error=error)
        elif isinstance(error, PilotError):
            log.error("task message of {node} failed: {error}", node=self.node_id, error=error)
        elif not isinstance(error, CancelledError):
            log.failure("a task message failed", reason)
        self.transport.abortConnection()

    def _refuse(self, counter: str, error: WireError) -> None:
        """As the reference does: no answer, and a clean end."""
        self.factory.counters[counter] += 1
        log.info("task message of {node} refused: {error}", node=self.node_id, error=error)
        self._quiet()
        self.transport.loseConnection()

    def _expired(self) -> None:
        self.factory.counters["silent"] += 1
        self._reset()

    def _reset(self) -> None:
        self._quiet()
        self.transport.abortConnection()

    def _quiet(self) -> None:
        for timer in (self._silence, self._patience):
            if timer is not None and timer.active():
                timer.cancel()


class TaskSubmitFactory(Factory):
    """
    Serves port 1003.

    @ivar counters: messages and streams refused, by reason.
    """

    noisy = False
    protocol = TaskSubmitProtocol  # type: ignore[assignment]  # it says which factory it needs

    def __init__(self, service: TaskSubmitService, clock: IReactorTime) -> None:
        self.service = service
        self.clock = clock
        self.counters: Counter[str] = Counter()
        self._streams: dict[TaskSubmitProtocol, None] = {}
        self._per_peer: Counter[int] = Counter()

    def admit(self, stream: TaskSubmitProtocol) -> bool:
        """@return: whether there is room for one more."""
        if (
            len(self._streams) >= MAX_STREAMS
            or self._per_peer[stream.node_id] >= MAX_STREAMS_PER_PEER
        ):
            self.counters["streams"] += 1
            return False
        self._streams[stream] = None
        self._per_peer[stream.node_id] += 1
        return True

    def release(self, stream: TaskSubmitProtocol) -> None:
        """A stream is over."""
        if stream in self._streams:
            del self._streams[stream]
            self._per_peer[stream.node_id] -= 1
            self._per_peer += Counter()  # forgets zeros

    def grow(self, size: int) -> None:
        """@raise Refused: incomplete messages have no room for so many bytes more."""
        if size + sum(stream.buffered for stream in self._streams) > MAX_BUFFERED:
            raise Refused("buffered", "too much is on its way")


class TaskSubmitService(Service):
    """
    The task marketplace of one node.

    @ivar factory: to listen with on port 1003.
    @ivar worker: what others want done by us.
    @ivar submitter: what we want done by others.
    """

    name = "tasksubmit"

    def __init__(
        self,
        directory: Path,
        node: IPilotNode,
        registry: Registry | None,
        clock: IReactorTime,
        run_blocking: RunBlocking,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """
        @param directory: of the task files, C{~/.pilot/tasks}.
        @param run_blocking: runs a function on a worker thread.
        @param wall: Unix time.
        """
        self.factory = TaskSubmitFactory(self, clock)
        self._node = node
        self._run_blocking = run_blocking
        self._errands = Errands(clock)
        store = TaskStore(directory)
        scores, delivery = Scores(registry), Delivery(node, clock)
        self.worker = Worker(store, clock, wall, scores, delivery, self._errands, self._own)
        self.submitter = Submitter(
            store, wall, scores, delivery, self._errands, self._own, run_blocking
        )

    def startService(self) -> None:
        """Go on with what the files say is unfinished."""
        super().startService()
        self.submitter.start()
        self.worker.start()

    def stopService(self) -> None:
        """Leave the rest to the files."""
        super().stopService()
        self.worker.stop()
        self._errands.stop()

    def _own(self) -> Address:
        address: Address | None = self._node.address
        if address is None:
            raise ConnectionFailed("the node is not registered yet")
        return address

    async def received(self, peer: int, request: Request) -> bytes:
        """
        Act on a message.

        @return: the bytes to answer.
        @raise PilotError: it was not acted on.
        """
        if isinstance(request, StatusUpdate):
            try:
                self.submitter.updated(peer, request)
            except Refused as error:
                # Nobody could do anything about it, so it is not said: the stream ends cleanly.
                self.factory.counters[error.counter] += 1
                log.info("status of {node} ignored: {error}", node=peer, error=error.message)
            return b""
        if isinstance(request, Results):
            await self.submitter.finished(peer, request)
            return b""
        try:
            response = await self.worker.submitted(peer, request)
        except TaskFileError as error:
            log.error("task of {node} not stored: {error}", node=peer, error=error.message)
            response = SubmitResponse(request.task_id, REFUSED, "Task could not be stored")
        return response.encode()

    async def control(self, request: dict[str, Any]) -> dict[str, Any]:
        """
        Do what a local user asks for.

        @param request: C{op} is C{submit} (C{target}, C{task}), C{accept} (C{id}), C{decline}
            (C{id}, C{justification}), C{execute}, or C{results} (C{id} and C{text} or C{file}, a
            path of this machine).
        @return: what the command line shows.
        @raise PilotError: it cannot be done; the code says what kind of problem it is.
        """
        operation = _text(request, "op")
        if operation == "submit":
            return await self._submit(_text(request, "target"), _text(request, "task"))
        if operation == "execute":
            begun = await self.worker.execute()
            return {
                "task_id": begun.task_id,
                "task_description": begun.task_description,
                "status": begun.status,
                "from": begun.sender,
            }
        task_id = _text(request, "id")
        if operation == "accept":
            return _answered(*await self.worker.accept(task_id), "Task accepted")
        if operation == "decline":
            justification = _text(request, "justification")
            declined, told = await self.worker.decline(task_id, justification)
            answer = _answered(declined, told, "Task declined")
            return {**answer, "justification": declined.status_justification}
        if operation == "results" and request.get("file"):
            return await self._send_file(task_id, _text(request, "file"))
        if operation == "results":
            done = await self.worker.deliver(task_id, text=_text(request, "text"))
            return _delivered(done, "text")
        raise InvalidArgument(f"tasks: unknown operation {operation!r}")

    async def _submit(self, target: str, task: str) -> dict[str, Any]:
        address = await self._node.resolve(target)
        response = await self.submitter.submit(address, task)
        return {
            "target": str(address),
            "task_id": response.task_id,
            "task": task,
            "status": response.status,
            "message": response.message,
            "accepted": response.status == ACCEPTED,
        }

    async def _send_file(self, task_id: str, path: str) -> dict[str, Any]:
        check_file_type(path)
        content: bytes = await self._run_blocking(read_result, path, MAX_FILE)
        name = Path(path).name
        done = await self.worker.deliver(task_id, filename=name, content=content)
        return {**_delivered(done, "file"), "filename": name, "file_size": len(content)}


def _answered(document: TaskDocument, told: bool, message: str) -> dict[str, Any]:
    if not told:
        message += " (submitter notification failed)"
    return {"task_id": document.task_id, "status": document.status, "message": message}


def _delivered(document: TaskDocument, kind: str) -> dict[str, Any]:
    return {
        "task_id": document.task_id,
        "status": document.status,
        "sent_to": document.sender,
        "sent_type": kind,
    }


def _text(request: dict[str, Any], name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str):
        raise InvalidArgument(f"tasks: {name} is not a text")
    return value
