"""The tasks that others have given to this node.

Every step is written down before anybody is told of it, and the file says whether the submitter
has been told: what a crash cuts short is resumed from there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from pilot.address import Address
from pilot.errors import AddressError, ConnectionFailed, NotFound, PilotError
from pilot.services.taskdelivery import Delivery
from pilot.services.taskerrands import Errands
from pilot.services.taskscores import Scores
from pilot.tasks.document import (
    ACCEPTED,
    EXECUTING,
    HEAD_PATIENCE,
    NEW,
    SUCCEEDED,
    Payment,
    TaskDocument,
)
from pilot.tasks.errors import Expired, InvalidState
from pilot.tasks.lifecycle import (
    CREATED,
    FINISHED,
    ITask,
    News,
    spent,
    transition,
)
from pilot.tasks.names import is_task_id
from pilot.tasks.polo import EXPIRY_PENALTY
from pilot.tasks.queue import TaskQueue
from pilot.tasks.store import TaskStore
from pilot.tasks.times import parse_time, time_text
from pilot.wire.tasksubmit import (
    ACCEPTED as OK,
)
from pilot.wire.tasksubmit import (
    REFUSED,
    Results,
    StatusUpdate,
    SubmitRequest,
    SubmitResponse,
)

log = Logger()

#: Seconds between looks at the task files and the deadlines.
SWEEP = 10.0

#: Tasks, finished ones included, that may lie in C{received/}; open ones of one submitter.
MAX_TASKS, MAX_OPEN_PER_PEER = 10_000, 100

#: Characters of a description, and of a justification.
MAX_DESCRIPTION, MAX_JUSTIFICATION = 1 << 20, 1 << 16

#: Seconds that C{accept} and C{decline} wait for the submitter to be told.
TELL_PATIENCE = 10.0

#: Seconds after its submission when it is no longer tried to tell a submitter about a task.
TELLING_ENDS = 7 * 86400.0

_OPEN = (NEW, ACCEPTED, EXECUTING)


class Worker:
    """
    Takes tasks, keeps their deadlines and their queue, tells submitters, and delivers results.

    @ivar counters: submissions refused, by reason.
    """

    def __init__(
        self,
        store: TaskStore,
        clock: IReactorTime,
        wall: Callable[[], float],
        scores: Scores,
        delivery: Delivery,
        errands: Errands,
        own: Callable[[], Address],
    ) -> None:
        """@param wall: Unix time.  @param own: this node's address."""
        self.counters: Counter[str] = Counter()
        self._store = store
        self._folder = store.received
        self._clock = clock
        self._wall = wall
        self._scores = scores
        self._delivery = delivery
        self._errands = errands
        self._own = own
        self._queue = TaskQueue()
        self._open: dict[str, TaskDocument] = {}
        self._arriving: set[str] = set()
        self._delivering: set[str] = set()
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """Go on where the files say we were."""
        self._sweep()

    def stop(self) -> None:
        """Keep no deadline any more; the files know them."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def open_tasks(self) -> list[TaskDocument]:
        """@return: the tasks that are new, accepted or being executed, in the order they came."""
        return list(self._open.values())

    # -- submissions ---------------------------------------------------------------------------

    async def submitted(self, peer: int, request: SubmitRequest) -> SubmitResponse:
        """
        A node wants something done.

        @return: the answer; if it says yes, the task is on the disk.
        @raise TaskFileError: it cannot be kept.
        """
        task_id = request.task_id
        if task_id in self._arriving:
            return self._no(task_id, "duplicate", "Task ID is already in use")
        self._arriving.add(task_id)
        try:
            return await self._consider(peer, request)
        finally:
            self._arriving.discard(task_id)

    async def _consider(self, peer: int, request: SubmitRequest) -> SubmitResponse:
        task_id = request.task_id
        if not is_task_id(task_id):
            return self._no(task_id[:200], "task_id", "Invalid task ID")
        if len(request.task_description) > MAX_DESCRIPTION:
            return self._no(task_id, "description", "Task description too long")
        refusal = await self._scores.refusal(peer, self._own().node)
        if refusal:
            return self._no(task_id, "score", refusal)
        # Whatever the request says: it comes from who sends it.
        sender = str(Address(0, peer))
        known = self._folder.load(task_id)
        if known is not None:
            asked = (request.task_description, sender)
            if (known.task_description, known.sender) != asked or known.status != NEW:
                return self._no(task_id, "duplicate", "Task ID is already in use")
        else:
            if self._is_full(sender):
                return self._no(task_id, "full", "Too many tasks")
            created = time_text(self._wall())
            self._write(
                TaskDocument(
                    task_id,
                    request.task_description,
                    created,
                    NEW,
                    CREATED,
                    sender,
                    str(self._own()),
                )
            )
        return SubmitResponse(task_id, OK, "Task received with status NEW")

    def _is_full(self, sender: str) -> bool:
        theirs = sum(1 for each in self._open.values() if each.sender == sender)
        return theirs >= MAX_OPEN_PER_PEER or self._folder.count() >= MAX_TASKS

    def _no(self, task_id: str, counter: str, message: str) -> SubmitResponse:
        self.counters[counter] += 1
        return SubmitResponse(task_id, REFUSED, message)

    # -- what the user does --------------------------------------------------------------------

    async def accept(self, task_id: str) -> tuple[TaskDocument, bool]:
        """
        Take a task.

        @return: the task, and whether the submitter knows already; else it will be told later.
        """
        document = self._known(task_id)
        news = News(self._wall(), number=self._queue.next_number())
        taken = transition(document, ITask.accept, news)
        deadline = document.accept_deadline
        if deadline is not None and news.at > deadline:
            self._lapse(task_id, ITask.lapse, news)
            raise Expired(
                f"task {task_id} has expired (accept deadline was 1 minute after creation)"
            )
        self._write(taken)
        return taken, await self._tell(taken)

    async def decline(self, task_id: str, justification: str) -> tuple[TaskDocument, bool]:
        """Refuse a task.  @return: as L{accept}."""
        news = News(self._wall(), justification[:MAX_JUSTIFICATION])
        declined = self._change(self._known(task_id), ITask.decline, news)
        return declined, await self._tell(declined)

    async def execute(self) -> TaskDocument:
        """Begin with the first task of the queue.  @raise NotFound: there is none."""
        self._look()
        head = self._queue.head
        if head is None:
            raise NotFound("no accepted tasks to execute")
        begun = self._change(self._known(head.task_id), ITask.execute, News(self._wall()))
        await self._tell(begun)
        return begun

    async def deliver(
        self, task_id: str, *, text: str = "", filename: str = "", content: bytes | None = None
    ) -> TaskDocument:
        """
        Take the results to the submitter.

        @param content: of the file; C{None}: the result is the C{text}.
        @raise ConnectionFailed: the submitter cannot be reached, or does not take them; the task
            is as it was, and this may be tried again.
        """
        ready = self._wall()
        document = self._known(task_id)
        transition(document, ITask.deliver, News(ready))
        if task_id in self._delivering:
            raise InvalidState(f"task {task_id} cannot receive results (they are being sent)")
        timed = spent(document, ready)
        results = Results(
            task_id,
            "text" if content is None else "file",
            text,
            filename,
            content or b"",
            timed.completed_at,
            timed.time_idle_ms,
            timed.time_staged_ms,
            timed.time_cpu_ms,
        )
        self._delivering.add(task_id)
        try:
            await self._delivery.send(_submitter(document), results.encode())
        finally:
            self._delivering.discard(task_id)
        done = self._change(self._known(task_id), ITask.deliver, News(ready))
        await self._tell(done)
        return done

    # -- time ----------------------------------------------------------------------------------

    def _sweep(self) -> None:
        self._timer = None
        try:
            self._look()
        except PilotError as error:
            log.error("task deadlines not kept: {error}", error=error.message)
        finally:
            self._timer = self._clock.callLater(SWEEP, self._sweep)

    def _look(self) -> None:
        """Take up what others have changed in the files, and what time has changed."""
        for task_id, found in self._folder.changes():
            if found is None:
                self._open.pop(task_id, None)
                self._queue.remove(task_id)
            else:
                self._note(found)
                self._settle(found)
        now = self._wall()
        for document in list(self._open.values()):
            deadline = document.accept_deadline
            if document.status == NEW and deadline is not None and now > deadline:
                self._lapse(document.task_id, ITask.lapse, News(now))
        self._stage()
        head = self._queue.head
        if head is not None and now - (parse_time(head.staged_at) or now) > HEAD_PATIENCE:
            fine = Payment(self._own().node, -EXPIRY_PENALTY)
            # Results on their way end the wait, if they get there.
            if head.task_id not in self._delivering:
                self._lapse(head.task_id, ITask.expire, News(now, owed=(fine,)))

    def _lapse(self, task_id: str, happening: Callable[[ITask, News], None], news: News) -> None:
        document = self._folder.load(task_id)
        try:
            if document is not None:
                self._settle(self._change(document, happening, news))
        except InvalidState:  # another program was quicker; the next look finds out
            return

    def _stage(self) -> None:
        """The first of the queue is told that it is, so that its time begins."""
        while (head := self._queue.head) is not None and not head.staged_at:
            found = self._folder.load(head.task_id)
            if found is None:
                self._queue.remove(head.task_id)
            elif found.status == ACCEPTED and not found.staged_at:
                self._change(found, ITask.stage, News(self._wall()))
            else:
                self._note(found)

    # -- files and debts -----------------------------------------------------------------------

    def _known(self, task_id: str) -> TaskDocument:
        document = self._folder.load(task_id)
        if document is None:
            raise NotFound(
                f"task not found: {task_id}", hint="check pilotctl task list --type received"
            )
        return document

    def _change(
        self, document: TaskDocument, happening: Callable[[ITask, News], None], news: News
    ) -> TaskDocument:
        changed = transition(document, happening, news)
        self._write(changed)
        return changed

    def _write(self, document: TaskDocument) -> None:
        self._folder.save(document)
        self._note(document)
        self._stage()

    def _note(self, document: TaskDocument) -> None:
        self._queue.update(document)
        if document.status in _OPEN or document.untold:
            self._open[document.task_id] = document
        else:
            self._open.pop(document.task_id, None)

    def _settle(self, document: TaskDocument) -> None:
        """See to it that the submitter hears of the task, and that its debts are paid."""
        task_id = document.task_id
        if document.untold:
            self._errands.start(f"tell {task_id}", lambda: self._tell_submitter(task_id))
        if document.owed:
            self._errands.start(f"fine {task_id}", lambda: self._pay(task_id))

    async def _tell(self, document: TaskDocument) -> bool:
        task_id = document.task_id
        told = self._errands.start(f"tell {task_id}", lambda: self._tell_submitter(task_id))
        patience = self._clock.callLater(TELL_PATIENCE, told.callback, False)
        try:
            return await told
        finally:
            if patience.active():
                patience.cancel()

    async def _tell_submitter(self, task_id: str) -> None:
        document = self._folder.load(task_id)
        if document is None or not document.untold:
            return
        created = parse_time(document.created_at)
        if created is None or self._wall() - created > TELLING_ENDS:
            self._write(document._replace(untold=False))
            return
        said = FINISHED if document.status == SUCCEEDED else document.status_justification
        update = StatusUpdate(task_id, document.status, said)
        try:
            await self._delivery.send(_submitter(document), update.encode())
        except ConnectionFailed as error:
            log.info("{task} not told yet: {error}", task=task_id, error=error.message)
            raise
        now = self._folder.load(task_id)
        if now is not None and now.status == document.status:
            self._write(now._replace(untold=False))

    async def _pay(self, task_id: str) -> None:
        document = self._folder.load(task_id)
        while document is not None and document.owed:
            await self._scores.pay(document.owed[0])
            document = self._folder.load(task_id) or document
            document = document._replace(owed=document.owed[1:])
            self._folder.save(document)


def _submitter(document: TaskDocument) -> Address:
    try:
        return Address.parse(document.sender)
    except AddressError as error:
        raise InvalidState(f"task {document.task_id} has no submitter: {error.message}") from None
