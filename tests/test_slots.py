"""``slots``: first come, first served, under a limit that changes."""

from __future__ import annotations

import asyncio

from aioh2.exceptions import ConnectionClosed, StreamClosed
from aioh2.slots import Slots

from .wire import Case, settle


class TestSlots(Case):
    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.limit = 2
        self.taken: list[int] = []
        self.closed = False
        self.slots = Slots(lambda: self.limit - len(self.taken))

    def check(self) -> None:
        if self.closed:
            raise ConnectionClosed(reason="over")

    async def take(self, number: int) -> None:
        await self.slots.acquire(self.check)
        self.taken.append(number)

    async def queue(self, *numbers: int) -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(self.take(number)) for number in numbers]
        await settle()
        return tasks

    async def free(self, count: int = 1) -> None:
        self.limit += count
        self.slots.grant()
        await settle()

    async def test_at_once_while_there_are_any(self) -> None:
        await self.queue(1, 2)
        self.assertEqual((self.taken, self.slots.available, len(self.slots)), ([1, 2], 0, 0))

    async def test_in_order(self) -> None:
        await self.queue(1, 2, 3, 4, 5)
        self.assertEqual(len(self.slots), 3)
        await self.free()
        self.assertEqual(self.taken, [1, 2, 3])
        await self.free(2)
        self.assertEqual(self.taken, [1, 2, 3, 4, 5])

    async def test_nobody_overtakes_who_was_given_one(self) -> None:
        await self.queue(1, 2, 3)
        self.limit += 1
        self.slots.grant()
        self.assertEqual(self.slots.available, 0)
        await self.queue(4)
        self.assertEqual((self.taken, len(self.slots)), ([1, 2, 3], 1))
        await self.free()
        self.assertEqual(self.taken, [1, 2, 3, 4])

    async def test_limit_lowered_after_the_grant_keeps_the_order(self) -> None:
        await self.queue(1, 2, 3, 4, 5)
        self.limit += 2
        self.slots.grant()
        self.limit -= 2
        await settle()
        self.assertEqual((self.taken, len(self.slots)), ([1, 2], 3))
        await self.free(3)
        self.assertEqual(self.taken, [1, 2, 3, 4, 5])

    async def test_cancelled_in_the_queue(self) -> None:
        tasks = await self.queue(1, 2, 3, 4)
        tasks[2].cancel()
        await settle()
        await self.free()
        self.assertEqual(self.taken, [1, 2, 4])

    async def test_cancelled_with_a_slot_in_hand(self) -> None:
        tasks = await self.queue(1, 2, 3, 4)
        self.limit += 1
        self.slots.grant()
        tasks[2].cancel()
        await settle()
        self.assertEqual((self.taken, len(self.slots)), ([1, 2, 4], 0))

    async def test_failed(self) -> None:
        tasks = await self.queue(1, 2, 3, 4)
        self.slots.fail(ConnectionClosed(reason="gone", retryable=True))
        await settle()
        errors = [task.exception() for task in tasks[2:]]
        self.assertIsNot(errors[0], errors[1])
        for error in errors:
            assert isinstance(error, ConnectionClosed)
            self.assertTrue(error.retryable)
        self.assertEqual(len(self.slots), 0)

    async def test_cancelled_in_the_moment_it_fails(self) -> None:
        tasks = await self.queue(1, 2, 3)
        self.slots.fail(ConnectionClosed(reason="gone"))
        tasks[2].cancel()
        await settle()
        self.assertTrue(tasks[2].cancelled())
        self.assertEqual(self.slots.available, 0)

    async def test_checked_before_and_after(self) -> None:
        tasks = await self.queue(1, 2, 3)
        self.limit += 1
        self.slots.grant()
        self.closed = True
        await settle()
        self.assertIsInstance(tasks[2].exception(), ConnectionClosed)
        self.assertEqual(self.slots.available, 1)
        with self.assertRaises(ConnectionClosed):
            await self.take(4)

    async def test_rechecked(self) -> None:
        tasks = await self.queue(1, 2, 3)

        def gone() -> None:
            if self.closed:
                raise StreamClosed(5, "its parent has ended")

        waiting = await self.waiting(self.slots.acquire(gone))
        self.slots.recheck()
        self.assertEqual(len(self.slots), 2)
        self.closed = True
        self.slots.recheck()
        await settle()
        self.assertIsInstance(waiting.exception(), StreamClosed)
        self.assertIsInstance(tasks[2].exception(), ConnectionClosed)
        self.assertEqual(len(self.slots), 0)
