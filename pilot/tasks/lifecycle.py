"""The life of a task, as a state machine, for who does it and for who wants it done.

The machine decides and does nothing else: its inputs are what the worker, the clock and the other
side do, its result is the task's new document.  Whoever asked for the transition writes the
document first and tells others afterwards.  A state is what a document says, so a task goes on
from its file where it was.

States of the worker bear the name of the status; the status C{ACCEPTED} has two, because only
the first task of the queue may be executed, and may expire.  States of the submitter are called
C{sent_...}.

@see: protocol notes, I{Statuses and who moves them}; drawn in C{docs/services/task-submit.md}.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from automat import NoTransition, TypeMachineBuilder

from pilot.tasks import document as status
from pilot.tasks.document import Payment, TaskDocument
from pilot.tasks.errors import InvalidState
from pilot.tasks.times import parse_time, time_text

CREATED = "A new task was created"
TAKEN = "Task accepted"
STARTED = "Task execution started"
LAPSED = "Task cancelled: no response within 1 minute"
OVERDUE = "Task expired: at head of queue for over 1 hour"
DELIVERED = "Results sent successfully"
SETTLED = "Task completed with results"
FINISHED = "Task completed successfully"
"""The last one goes on the wire only; the others are justifications in task files."""


class News(NamedTuple):
    """
    What an input has to say.

    @ivar at: own Unix time.
    @ivar text: the justification.
    @ivar number: place in the queue.
    @ivar owed: what has to be paid because of it.
    """

    at: float
    text: str = ""
    number: int = 0
    owed: tuple[Payment, ...] = ()


class ITask(Protocol):
    """Everything that can happen to a task."""

    def accept(self, news: News) -> None:
        "The worker takes it."

    def decline(self, news: News) -> None:
        "The worker does not want it."

    def lapse(self, news: News) -> None:
        "Nobody answered in time."

    def stage(self, news: News) -> None:
        "It has become the first in the queue."

    def execute(self, news: News) -> None:
        "The worker begins."

    def expire(self, news: News) -> None:
        "It was the first in the queue for too long."

    def deliver(self, news: News) -> None:
        "The submitter has the results; C{news.at} is when they were ready."

    def hear_accepted(self, news: News) -> None:
        "The worker says that it has taken it."

    def hear_declined(self, news: News) -> None:
        "The worker says that it does not want it."

    def hear_cancelled(self, news: News) -> None:
        "The worker says that nobody answered."

    def hear_executing(self, news: News) -> None:
        "The worker says that it has begun."

    def hear_expired(self, news: News) -> None:
        "The worker says that it let it expire."

    def hear_results(self, news: News) -> None:
        "The results are here."

    def hear_succeeded(self, news: News) -> None:
        "The worker knows that the results are here."

    def state_name(self) -> str:
        "Where it stands."


@dataclass
class Core:
    """
    What the states work on.

    @ivar document: what is known of the task.
    """

    document: TaskDocument

    def becomes(self, status: str, justification: str, **changes: Any) -> None:
        """Take on another status."""
        self.document = self.document._replace(
            status=status, status_justification=justification, **changes
        )

    def answered(self, news: News) -> dict[str, Any]:
        """@return: what every end of the wait for an answer puts down."""
        idle = _since(self.document.created_at, news.at)
        return {"accepted_at": time_text(news.at), "time_idle_ms": idle, "untold": True}


def _since(start: str, now: float) -> int:
    """Milliseconds, never negative: clocks may be set back."""
    began = parse_time(start)
    return 0 if began is None else max(0, round((now - began) * 1000))


def spent(document: TaskDocument, ready: float) -> TaskDocument:
    """@return: the document of a task whose results were C{ready} then, with the times it took."""
    document = document._replace(completed_at=time_text(ready))
    if document.execute_started_at:
        return document._replace(time_cpu_ms=_since(document.execute_started_at, ready))
    if document.staged_at:
        return document._replace(time_staged_ms=_since(document.staged_at, ready))
    return document


def _build() -> tuple[Any, dict[str, Any]]:
    builder = TypeMachineBuilder(ITask, Core)
    new = builder.state("new")
    accepted = builder.state("accepted")
    staged = builder.state("staged")
    executing = builder.state("executing")
    succeeded = builder.state("succeeded")
    declined = builder.state("declined")
    cancelled = builder.state("cancelled")
    expired = builder.state("expired")
    sent_new = builder.state("sent_new")
    sent_accepted = builder.state("sent_accepted")
    sent_executing = builder.state("sent_executing")
    sent_completed = builder.state("sent_completed")
    sent_succeeded = builder.state("sent_succeeded")
    sent_declined = builder.state("sent_declined")
    sent_cancelled = builder.state("sent_cancelled")
    sent_expired = builder.state("sent_expired")
    received = (new, accepted, staged, executing, succeeded, declined, cancelled, expired)
    sent = (
        *(sent_new, sent_accepted, sent_executing, sent_completed),
        *(sent_succeeded, sent_declined, sent_cancelled, sent_expired),
    )

    # -- the worker ------------------------------------------------------------------------------

    @new.upon(ITask.accept).to(accepted)
    def takes(task: ITask, core: Core, news: News) -> None:
        core.becomes(status.ACCEPTED, TAKEN, queue_number=news.number, **core.answered(news))

    @new.upon(ITask.decline).to(declined)
    def declines(task: ITask, core: Core, news: News) -> None:
        core.becomes(status.DECLINED, news.text, **core.answered(news))

    @new.upon(ITask.lapse).to(cancelled)
    def lapses(task: ITask, core: Core, news: News) -> None:
        core.becomes(status.CANCELLED, LAPSED, **core.answered(news))

    @accepted.upon(ITask.stage).to(staged)
    def comes_first(task: ITask, core: Core, news: News) -> None:
        moment = time_text(news.at, milliseconds=True)
        core.document = core.document._replace(staged_at=moment)

    @staged.upon(ITask.execute).to(executing)
    def begins(task: ITask, core: Core, news: News) -> None:
        core.becomes(
            status.EXECUTING,
            STARTED,
            execute_started_at=time_text(news.at, milliseconds=True),
            time_staged_ms=_since(core.document.staged_at, news.at),
            untold=True,
        )

    @staged.upon(ITask.expire).to(expired)
    def expires(task: ITask, core: Core, news: News) -> None:
        waited = _since(core.document.staged_at, news.at)
        core.becomes(status.EXPIRED, OVERDUE, time_staged_ms=waited, untold=True, owed=news.owed)

    for state in (accepted, staged, executing):

        @state.upon(ITask.deliver).to(succeeded)
        def delivers(task: ITask, core: Core, news: News) -> None:
            core.document = spent(core.document, news.at)
            core.becomes(status.SUCCEEDED, DELIVERED, untold=True)

    # -- the submitter ---------------------------------------------------------------------------

    # News of a step may have been lost, or come after that of the next one: later ones count as
    # well, and earlier ones change nothing any more.

    @sent_new.upon(ITask.hear_accepted).to(sent_accepted)
    def is_taken(task: ITask, core: Core, news: News) -> None:
        core.becomes(status.ACCEPTED, news.text)

    @sent_new.upon(ITask.hear_declined).to(sent_declined)
    def is_declined(task: ITask, core: Core, news: News) -> None:
        core.becomes(status.DECLINED, news.text)

    @sent_new.upon(ITask.hear_cancelled).to(sent_cancelled)
    def is_cancelled(task: ITask, core: Core, news: News) -> None:
        core.becomes(status.CANCELLED, news.text)

    @sent_new.upon(ITask.hear_executing).to(sent_executing)
    @sent_accepted.upon(ITask.hear_executing).to(sent_executing)
    def is_begun(task: ITask, core: Core, news: News) -> None:
        core.becomes(status.EXECUTING, news.text)

    @sent_new.upon(ITask.hear_expired).to(sent_expired)
    @sent_accepted.upon(ITask.hear_expired).to(sent_expired)
    def is_expired(task: ITask, core: Core, news: News) -> None:
        core.becomes(status.EXPIRED, news.text)

    @sent_new.upon(ITask.hear_results).to(sent_completed)
    @sent_accepted.upon(ITask.hear_results).to(sent_completed)
    @sent_executing.upon(ITask.hear_results).to(sent_completed)
    def is_done(task: ITask, core: Core, news: News) -> None:
        core.becomes(status.COMPLETED, SETTLED, owed=news.owed)

    @sent_completed.upon(ITask.hear_succeeded).to(sent_succeeded)
    def is_finished(task: ITask, core: Core, news: News) -> None:
        core.becomes(status.SUCCEEDED, news.text)

    known = {
        sent_accepted: (ITask.hear_accepted,),
        sent_executing: (ITask.hear_accepted, ITask.hear_executing),
        sent_completed: (ITask.hear_accepted, ITask.hear_executing, ITask.hear_results),
        sent_succeeded: (
            ITask.hear_accepted,
            ITask.hear_executing,
            ITask.hear_results,
            ITask.hear_succeeded,
        ),
        sent_declined: (ITask.hear_declined,),
        sent_cancelled: (ITask.hear_cancelled,),
        sent_expired: (ITask.hear_accepted, ITask.hear_expired),
    }
    for state, inputs in known.items():
        for happening in inputs:
            state.upon(happening).loop().returns(None)

    for state in (*received, *sent):
        state.upon(ITask.state_name).loop().returns(state.name)

    return builder.build(), {state.name: state for state in (*received, *sent)}


#: The machine itself, at module level where C{automat-visualize} finds it.
task_machine, states = _build()

_HEARD: dict[str, Callable[[ITask, News], None]] = {
    status.ACCEPTED: ITask.hear_accepted,
    status.DECLINED: ITask.hear_declined,
    status.CANCELLED: ITask.hear_cancelled,
    status.EXECUTING: ITask.hear_executing,
    status.EXPIRED: ITask.hear_expired,
    status.SUCCEEDED: ITask.hear_succeeded,
}


def state_of(document: TaskDocument, *, sent: bool) -> str:
    """
    @param sent: whether it is the submitter's document.
    @return: the name of the state that a document stands for.
    @raise InvalidState: a status that there is not.
    """
    name = document.status.lower() if document.status in status.STATUSES else ""
    if sent:
        name = "sent_" + name
    elif name == "accepted" and document.staged_at:
        name = "staged"
    if name not in states:
        raise InvalidState(f"task {document.task_id} has an unknown status: {document.status}")
    return name


def restore(core: Core, *, sent: bool) -> ITask:
    """@return: the machine in the state that the core's document stands for."""
    task: ITask = task_machine(core, states[state_of(core.document, sent=sent)])
    return task


def transition(
    document: TaskDocument,
    happening: Callable[[ITask, News], None],
    news: News,
    *,
    sent: bool = False,
) -> TaskDocument:
    """
    Let something happen to a task.

    @param happening: the input, named by its method: C{ITask.accept}.
    @param sent: whether it is the submitter's document.
    @return: the new document; equal to the old one if this was no news.  Nothing was written yet.
    @raise InvalidState: that cannot happen to a task of this status, on this side.
    """
    core = Core(document)
    task = restore(core, sent=sent)
    try:
        # The protocol's own method has no body; the machine's method of that name has.
        getattr(task, happening.__name__)(news)
    except NoTransition:
        raise _refusal(document, happening.__name__) from None
    return core.document


def heard(name: str) -> Callable[[ITask, News], None]:
    """
    @param name: a status that the worker has told.
    @return: what happens to the submitter's task.
    @raise InvalidState: no such status, or none that is told.
    """
    if name not in _HEARD:
        raise InvalidState(f"unknown status {name[:40]!r}")
    return _HEARD[name]


def _refusal(document: TaskDocument, happening: str) -> InvalidState:
    task = f"task {document.task_id}"
    if happening in ("accept", "decline"):
        return InvalidState(f"{task} is already {document.status}")
    if happening == "deliver":
        return InvalidState(f"{task} cannot receive results (status: {document.status})")
    verb = happening.replace("_", " ")
    return InvalidState(f"{task} cannot {verb} (status: {document.status})")
