"""Accepted tasks in the order of their acceptance."""

from __future__ import annotations

from collections.abc import Iterable

from pilot.tasks.document import ACCEPTED, TaskDocument, queue_order


class TaskQueue:
    """First in, first out; the order is in the tasks' documents and survives with them."""

    def __init__(self) -> None:
        self._waiting: dict[str, TaskDocument] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def next_number(self) -> int:
        """@return: the place of the next task; later ones are greater."""
        self._last += 1
        return self._last

    def update(self, document: TaskDocument) -> None:
        """A document has changed: the task comes in, stays where it is, or leaves."""
        self._last = max(self._last, document.queue_number)
        if document.status == ACCEPTED:
            self._waiting[document.task_id] = document
        else:
            self._waiting.pop(document.task_id, None)

    def remove(self, task_id: str) -> None:
        """A task is gone."""
        self._waiting.pop(task_id, None)

    @property
    def head(self) -> TaskDocument | None:
        """The task whose turn it is.  One that has been the first stays the first."""
        staged = [each for each in self._waiting.values() if each.staged_at]
        return min(staged or self._waiting.values(), key=queue_order, default=None)


def in_order(documents: Iterable[TaskDocument]) -> list[TaskDocument]:
    """@return: the accepted ones among some documents, the next to be executed first."""
    accepted = [each for each in documents if each.status == ACCEPTED]
    return sorted(accepted, key=lambda each: (not each.staged_at, *queue_order(each)))
