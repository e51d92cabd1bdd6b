"""Where the web API listens."""

from __future__ import annotations

import asyncio
import socket

from worker.web.serve import listener


def test_answers_do_not_wait_for_acknowledgements() -> None:
    """What is accepted has TCP_NODELAY: header and body of an answer are two packets, and Nagle would cost 40 ms."""

    async def accepted() -> int:
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            own: socket.socket = writer.get_extra_info("socket")
            found.set_result(own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()
            await writer.wait_closed()

        listening = listener("127.0.0.1", 0)
        async with await asyncio.start_server(serve, sock=listening):
            _, writer = await asyncio.open_connection(*listening.getsockname()[:2])
            delays_not = await asyncio.wait_for(found, 30)
            writer.close()
            await writer.wait_closed()
            return delays_not

    assert asyncio.run(accepted())
