"""Carry out a session's tasks, as far as the guard lets them through."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from server.domain.people import Person, PersonType
from server.domain.sentences import because
from server.services import issues
from server.store import Link, new_id
from server.sync.items import Told, made_by
from server.sync.plan import Guard
from server.sync.run import Run
from server.sync.writing import Task, Writer, shown

LATE = 20  # sessions, or turns at one: so long after its session a double of ours may turn up
GUARD_KEY = issues.key_of("mailbox", "guard")


def apply(run: Run, writer: Writer, tasks: Sequence[Task], *, linked: int) -> None:
    """Do what the guard lets through; `linked` is how many pairs there are. What it holds back is told and waits for a yes."""
    by_action: dict[str, list[Task]] = defaultdict(list)
    for task in _guarded(run, writer, tasks, linked):
        by_action[task.action.do].append(task)
    writer.total = max(writer.total, writer.done + len(tasks))
    _recreate(run, writer, by_action["create_item"])
    merges = by_action["merge"]
    writer.merge([task for task in merges if not task.action.merge.to_record])
    writer.merge([task for task in merges if task.action.merge.to_record])
    writer.unlink(by_action["unlink"])
    writer.remove_items([*by_action["delete_item"], *by_action["release_item"]])
    writer.retire_records(by_action["obsolete"])
    if forgotten := [task.link for task in by_action["forget"]]:
        run.mend(*(issues.key_of(link.type, link.id) for link in forgotten))
        run.keep(drop=[link.id for link in forgotten])


def _recreate(run: Run, writer: Writer, tasks: Iterable[Task]) -> None:
    """Create contacts again that were deleted where that is not allowed."""
    by_type: dict[PersonType, list[tuple[Link, Person]]] = defaultdict(list)
    for task in tasks:
        if task.person is not None:
            by_type[task.link.type].append((task.link, task.person))
    for new in by_type.values():
        run.counts["restored"] += len(new)
        writer.create_items(new)


def _guarded(run: Run, writer: Writer, tasks: Sequence[Task], linked: int) -> Sequence[Task]:
    """Return what may be done. What would change too much of one side waits for a person's yes."""
    sync = run.sync
    if not tasks:
        return []
    guard = Guard(run.profile.guard_items, run.profile.guard_share, linked)
    unasked = [task for task in tasks if task.link.code != "guard"]
    if sync.allowed_at is None:  # a yes is one to what was held; until then that is no matter of how much of it comes again
        waits = {task.link.id for task in tasks if task.link.code == "guard" and (_risks_items(task) or _risks_records(task))}
        writer.waiting += len(waits)
        tasks = [task for task in tasks if task.link.id not in waits]
    risky = {"mailbox": [t for t in unasked if _risks_items(t)], "c4c": [t for t in unasked if _risks_records(t)]}
    stopped = {side: some for side, some in risky.items() if some and guard.holds(run.risked[side] + len(some))}
    run.risked.update({side: len(some) for side, some in risky.items() if side not in stopped})
    if not stopped:
        return tasks
    held = {task.link.id: task for some in stopped.values() for task in some}
    run.counts["held_back"] += len(held)
    writer.waiting += len(held)
    run.held.update({side: len(some) for side, some in stopped.items()})
    cause = because("guard", items=run.held["mailbox"], records=run.held["c4c"], linked=guard.linked)
    run.tell(issues.Finding("mailbox", GUARD_KEY, "guard", cause, choices=issues.GUARD))
    run.keep([replace(task.link, state="linked", code="guard") for task in held.values()])
    return [task for task in tasks if task.link.id not in held]


def remove_doubles(run: Run, writer: Writer, doubles: Sequence[Told], *, linked: int) -> None:
    """Delete contacts that we created twice of late, unless they are too many.

    Others may be what their owner restored, with more in them than is mirrored. They stay, are not mirrored, and are told.
    """
    late = {told.item.ref: told.item for told in doubles if run.sync.fence - made_by(told.item) <= LATE}
    if not Guard(run.profile.guard_items, run.profile.guard_share, linked).holds(run.risked["mailbox"] + len(late)):
        run.risked["mailbox"] += len(late)
        writer.remove_doubles(late.values())
        doubles = [told for told in doubles if told.item.ref not in late]
    if not doubles:
        return
    cause = because("doubles", number=len(doubles))
    run.tell(issues.Finding("mailbox", issues.key_of("mailbox", "doubles"), "doubles", cause, choices=(issues.DISMISS,)))
    new = [run.new_link(told.type, new_id(), state="ignored", origin="mailbox", code="double") for told in doubles]
    run.keep([writer.with_item(link, told.item) for link, told in zip(new, doubles, strict=True)])


def _risks_items(task: Task) -> bool:
    return task.action.do in ("delete_item", "release_item") or bool(task.action.merge.to_item and task.link.item_base)


def _risks_records(task: Task) -> bool:
    """Say whether a record would be overwritten, or lose its contact: many gone at once may be a folder emptied by mistake."""
    gone = task.action.do == "obsolete" or (task.action.do == "unlink" and task.action.code == "deleted")
    return gone or bool(task.action.merge.to_record and task.link.record_base)


def spoken(task: Task) -> tuple[str, PersonType, str]:
    """Return what a task does, with which type, and with whom, as a dry run tells it."""
    read = task.item or task.person
    return _spoken(task), task.link.type, shown(read.contact) if read is not None else ""


def _spoken(task: Task) -> str:
    merge = task.action.merge
    if task.action.do != "merge":
        return task.action.do.replace("_", " ")
    sides = [name for name, given in (("the mailbox", merge.to_item), ("C4C", merge.to_record)) if given]
    return f"change in {' and in '.join(sides)}" if sides else "link"
