"""The tasks that this node has given to others."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.logger import Logger

from pilot.address import Address
from pilot.errors import AddressError, ConnectionFailed, InvalidArgument, PilotError, WireError
from pilot.services.taskdelivery import Delivery, Unreachable
from pilot.services.taskerrands import Errands
from pilot.services.taskscores import Scores
from pilot.services.taskworker import MAX_DESCRIPTION, MAX_JUSTIFICATION
from pilot.tasks.document import NEW, Payment, TaskDocument
from pilot.tasks.errors import InvalidState, TaskFileError
from pilot.tasks.lifecycle import CREATED, ITask, News, heard, transition
from pilot.tasks.names import check_file_type, is_task_id
from pilot.tasks.polo import SUBMISSION_PRICE, reward
from pilot.tasks.store import TaskStore
from pilot.tasks.times import parse_time, time_text
from pilot.wire.tasksubmit import ACCEPTED, Results, StatusUpdate, SubmitRequest, SubmitResponse

log = Logger()

#: Runs something that blocks on a worker thread.
RunBlocking = Callable[..., Awaitable[Any]]

#: Seconds after which a submission without an answer is forgotten.
FORGOTTEN = 2 * 86400.0


class Refused(PilotError):
    """
    What a peer has sent is not taken.

    @ivar counter: name of the reason.
    """

    def __init__(self, counter: str, message: str) -> None:
        super().__init__(message)
        self.counter = counter


class Submitter:
    """
    Submits tasks, hears what becomes of them, keeps the results and pays for them.

    @ivar counters: messages not taken, by reason.
    """

    def __init__(
        self,
        store: TaskStore,
        wall: Callable[[], float],
        scores: Scores,
        delivery: Delivery,
        errands: Errands,
        own: Callable[[], Address],
        run_blocking: RunBlocking,
    ) -> None:
        """@param wall: Unix time.  @param own: this node's address."""
        self.counters: Counter[str] = Counter()
        self._store = store
        self._folder = store.submitted
        self._wall = wall
        self._scores = scores
        self._delivery = delivery
        self._errands = errands
        self._own = own
        self._run_blocking = run_blocking
        self._storing: set[str] = set()

    def start(self) -> None:
        """Go on paying; forget submissions that nobody has ever spoken of."""
        for task_id, document in self._folder.changes():
            if document is not None and document.owed:
                self._settle(task_id)
        for task_id, document in list(self._store.submitting.changes()):
            created = document and parse_time(document.created_at)
            if created is None or self._wall() - created > FORGOTTEN:
                self._store.submitting.remove(task_id)

    # -- submitting ----------------------------------------------------------------------------

    async def submit(self, target: Address, description: str) -> SubmitResponse:
        """
        Give a task to a node.

        What we have sent is written down before: should we, or the answer, be lost on the way,
        the task is known again as soon as the worker speaks of it.

        @raise ConnectionFailed: the node cannot be reached, or did not answer.
        """
        if len(description) > MAX_DESCRIPTION:
            raise InvalidArgument(f"task description too long (max {MAX_DESCRIPTION} characters)")
        task_id = new_task_id()
        own = str(self._own())
        created = time_text(self._wall())
        document = TaskDocument(task_id, description, created, NEW, CREATED, own, str(target))
        frame = SubmitRequest(task_id, description, own, str(target)).encode()
        try:
            self._store.submitting.save(document)
            answer = await self._delivery.ask(target, frame)
        except (Unreachable, TaskFileError):  # nobody has got anything
            self._store.submitting.remove(task_id)
            raise
        try:
            response = SubmitResponse.decode(*answer)
        except WireError as error:
            raise ConnectionFailed(f"submit: the answer makes no sense: {error}") from None
        if response.status == ACCEPTED:
            self._promote(task_id)
        elif self._folder.load(task_id) is None:
            self._store.submitting.remove(task_id)
        return response._replace(task_id=task_id)

    def _promote(self, task_id: str) -> TaskDocument | None:
        """@return: the document of a task that its worker knows."""
        known = self._folder.load(task_id)
        if known is None:
            known = self._store.submitting.load(task_id)
            if known is None:
                return None
            self._folder.save(known)
        self._store.submitting.remove(task_id)
        return known

    # -- hearing -------------------------------------------------------------------------------

    def updated(self, peer: int, update: StatusUpdate) -> None:
        """
        A worker tells where it is.

        @raise Refused: no task of ours, not of this worker, or nothing that could be.
        @raise TaskFileError: it cannot be written down.
        """
        document = self._of(peer, update.task_id)
        news = News(self._wall(), update.justification[:MAX_JUSTIFICATION])
        try:
            changed = transition(document, heard(update.status), news, sent=True)
        except InvalidState as error:
            raise Refused("status", error.message) from None
        if changed != document:
            self._folder.save(changed)

    async def finished(self, peer: int, results: Results) -> None:
        """
        A worker delivers.  Results count once; on return they are on the disk.

        @raise Refused: no task of ours, not of this worker, nothing that results may be, or not
            now.
        @raise TaskFileError: they cannot be kept.
        """
        task_id = results.task_id
        document = self._of(peer, task_id)
        news = News(self._wall(), owed=self._price(peer, document, results))
        if self._complete(document, news) == document:
            return  # they are here already
        is_file = results.result_type == "file"
        if is_file:
            try:
                check_file_type(results.filename)
            except InvalidArgument as error:
                raise Refused("file_type", error.message) from None
        if task_id in self._storing:
            raise Refused("busy", f"results of task {task_id} are just being stored")
        self._storing.add(task_id)
        try:
            name = results.filename if is_file else ""
            content = results.file_data if is_file else results.result_text.encode()
            await self._run_blocking(self._store.save_result, task_id, name, content)
            # The worker may have said something else meanwhile.
            document = self._of(peer, task_id)
            completed = self._complete(document, news)
            if completed != document:
                self._folder.save(completed)
                self._settle(task_id)
        finally:
            self._storing.discard(task_id)

    def _complete(self, document: TaskDocument, news: News) -> TaskDocument:
        try:
            return transition(document, ITask.hear_results, news, sent=True)
        except InvalidState as error:
            raise Refused("status", error.message) from None

    def _of(self, peer: int, task_id: str) -> TaskDocument:
        if not is_task_id(task_id):
            raise Refused("task_id", "invalid task id")
        document = self._folder.load(task_id) or self._store.submitting.load(task_id)
        if document is None:
            raise Refused("unknown", f"no task {task_id}")
        if _node(document.recipient) != peer:
            raise Refused("not_a_party", f"task {task_id} is not of node {peer}")
        return self._promote(task_id) or document

    # -- paying --------------------------------------------------------------------------------

    def _price(self, peer: int, document: TaskDocument, results: Results) -> tuple[Payment, ...]:
        # Nobody can have worked for longer than the task is old.
        created = parse_time(document.created_at)
        age = 0 if created is None else max(0, round((self._wall() - created) * 1000))
        earned = reward(
            results.time_idle_ms,
            results.time_staged_ms,
            min(max(results.time_cpu_ms, 0), age),
        )
        return Payment(self._own().node, -SUBMISSION_PRICE), Payment(peer, earned)

    def _settle(self, task_id: str) -> None:
        self._errands.start(f"pay {task_id}", lambda: self._pay(task_id))

    async def _pay(self, task_id: str) -> None:
        document = self._folder.load(task_id)
        while document is not None and document.owed:
            await self._scores.pay(document.owed[0])
            document = self._folder.load(task_id)
            if document is not None:
                document = document._replace(owed=document.owed[1:])
                self._folder.save(document)


def new_task_id() -> str:
    """@return: 16 random bytes in hex, grouped as in a UUID."""
    text = secrets.token_hex(16)
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _node(address: str) -> int | None:
    try:
        return Address.parse(address).node
    except AddressError:
        return None
