"""The threads that run the agent's cycles: a few at once, and more where some only wait.

Cycles take the interpreter from one another, so more than a few at once help nobody. But one that
waits for a lock, for seconds where another program does not let go of it, must not have the others
wait too.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from syncd.agent.job import Job
from syncd.errors import BusyError
from syncd.patience import tell_of_waits


class Workers:
    """Runs ``work`` for jobs: ``at_once`` of them, not counting those that wait; ``most`` in all.

    ``on_wait`` is called, from any thread, when one begins to wait.
    """

    def __init__(
        self, work: Callable[[Job], None], on_wait: Callable[[], None], *, at_once: int, most: int
    ) -> None:
        self._work = work
        self._on_wait = on_wait
        self._at_once = at_once
        self._most = most
        self._pool = ThreadPoolExecutor(most, thread_name_prefix="cycle")
        try:
            self._pool.submit(int)  # from now on there is a thread
        except RuntimeError as error:
            raise BusyError(
                "the system has no thread to give",
                hint="Raise the limit of processes (ulimit -u, or TasksMax of the service).",
            ) from error
        self._lock = threading.Lock()
        self._queue: deque[Job] = deque()
        self._patient: deque[Job] = deque()
        self._is_turn_of_patient = False
        self._running = 0
        self._waiting: set[str] = set()
        self._is_stopping = False

    def submit(self, job: Job, *, is_patient: bool) -> None:
        """Have a job worked for as soon as a thread is free; it is claimed already.

        Those that are patient have every second turn: a single change, which somebody waits for,
        does not wait behind hundreds of them.
        """
        with self._lock:
            if job.is_new:  # a first look does not wait behind what comes again and again
                self._queue.appendleft(job)
            else:
                (self._patient if is_patient else self._queue).append(job)
            self._start()

    def is_waiting(self, job: Job) -> bool:
        """Tell whether the work for a job waits for a lock just now."""
        return job.folder in self._waiting

    def others_wait(self) -> bool:
        """Tell whether there are jobs that wait for a thread."""
        return bool(self._queue or self._patient)

    def stop(self) -> None:
        """Finish what has begun, and begin nothing more."""
        with self._lock:
            self._is_stopping = True
        self._pool.shutdown(wait=True)

    def _start(self) -> None:
        """Begin what may begin now, under the lock."""
        while (
            self.others_wait()
            and self._running < self._most
            and self._running - len(self._waiting) < self._at_once
            and not self._is_stopping
        ):
            self._running += 1
            # The pool has it in any case. Where the system has no further thread to give, one that
            # is there takes it.
            with suppress(RuntimeError):
                self._pool.submit(self._run, self._next())

    def _next(self) -> Job:
        """Return whose turn it is."""
        is_of_patient = bool(self._patient) and (self._is_turn_of_patient or not self._queue)
        self._is_turn_of_patient = not is_of_patient
        return (self._patient if is_of_patient else self._queue).popleft()

    def _run(self, job: Job) -> None:
        tell_of_waits(partial(self._note_wait, job), self._lacks_threads)
        try:
            self._work(job)
        finally:
            with self._lock:
                self._running -= 1
                self._start()

    def _lacks_threads(self) -> bool:
        """Tell whether a job waits for a thread, and all that there may be are taken."""
        return self._running >= self._most and self.others_wait()

    def _note_wait(self, job: Job, begins: bool) -> None:
        with self._lock:
            if begins:
                self._waiting.add(job.folder)
                self._start()
            else:
                self._waiting.discard(job.folder)
        if begins:
            self._on_wait()
