"""Batches of one rank, read ahead by threads, always in the order of the samples.

Threads and not processes: nearly all of the time is spent copying out of a memory map, which numpy does without
Python's lock, page faults included. Nothing is pickled, no shared memory is filled, and pinned memory is written
directly; docs/trainer-data.md has the measurement.
"""

import itertools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from ...manifests.errors import ConfigError
from .samples import Batch, Samples


class Loader:
    """Share out the samples: at step s, rank r takes samples `s B + r b .. s B + r b + b - 1`, where b = B / ranks.

    So the samples of a step do not depend on the number of ranks or threads, and a run that has seen k samples goes on
    with `batches(k)`.

    Args:
        samples: what is shared out.
        batch_size: B, samples of all ranks together at one step.
        rank: this process.
        num_ranks: processes that train together.
        num_workers: threads that read ahead; 0 reads when asked.
        num_ahead: batches that each thread may be ahead.
        pin: put frames into pinned memory, for a GPU.

    Raises:
        ConfigError: the batch cannot be divided among the ranks.
    """

    def __init__(
        self,
        samples: Samples,
        *,
        batch_size: int,
        rank: int = 0,
        num_ranks: int = 1,
        num_workers: int = 0,
        num_ahead: int = 2,
        pin: bool = False,
    ) -> None:
        if batch_size < 1 or batch_size % num_ranks:
            raise ConfigError(
                f"run.batch_size={batch_size}: cannot be divided among {num_ranks} ranks; give a multiple"
            )
        self.samples = samples
        self.batch_size = batch_size
        self._share = batch_size // num_ranks
        self._rank = rank
        self._num_workers, self._num_ahead, self._pin = num_workers, num_ahead, pin

    def batches(self, first: int = 0, stop: int | None = None) -> Iterator[Batch]:
        """Yield this rank's batch of every step, from sample `first` on.

        Without `stop` there is no end. With it, the last batches are cut short, and left out where nothing is left.
        Close the iterator, or let it go, to end the threads.
        """
        jobs = self._jobs(first, stop)
        if self._num_workers == 0:
            yield from (self._read(job) for job in jobs)
            return
        pool = ThreadPoolExecutor(self._num_workers, thread_name_prefix="loader")
        try:
            start = itertools.islice(jobs, self._num_workers * self._num_ahead)
            waiting: deque[Future[Batch]] = deque(pool.submit(self._read, job) for job in start)
            while waiting:
                batch = waiting.popleft().result()
                waiting.extend(pool.submit(self._read, job) for job in itertools.islice(jobs, 1))
                yield batch
        finally:
            pool.shutdown(cancel_futures=True)

    def _jobs(self, first: int, stop: int | None) -> Iterator[tuple[int, int]]:
        """Yield (first sample, count) of this rank at every step."""
        for start in itertools.count(first, self.batch_size):
            if stop is not None and start >= stop:
                return
            mine = start + self._rank * self._share
            count = self._share if stop is None else min(self._share, stop - mine)
            if count > 0:
                yield mine, count

    def _read(self, job: tuple[int, int]) -> Batch:
        return self.samples.batch(*job, pin=self._pin)
