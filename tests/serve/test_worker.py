import asyncio
import threading

import pytest

from clips4.serve.worker import BusyError, Worker


def test_worker_with_full_queue_refuses_and_recovers() -> None:
    async def scenario() -> None:
        worker, gate = Worker(limit=3, limit_of_one=2), threading.Event()
        first = [asyncio.create_task(worker.run("a", gate.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError):  # its own share
            await worker.run("a", int)
        other = asyncio.create_task(worker.run("b", int, "5"))
        await asyncio.sleep(0)
        with pytest.raises(BusyError):  # all of it
            await worker.run("c", int)
        assert not worker.idle
        gate.set()
        assert await other == 5
        await asyncio.gather(*first)
        assert worker.idle
        assert await worker.run("a", int, "7") == 7
        worker.close()

    asyncio.run(scenario())


def test_worker_error_in_function_is_raised_and_frees_its_place() -> None:
    async def scenario() -> None:
        worker = Worker(limit=1)
        for _ in range(3):
            with pytest.raises(ValueError, match="invalid literal"):
                await worker.run("a", int, "x")
        worker.close()

    asyncio.run(scenario())
