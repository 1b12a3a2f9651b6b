"""The whole program behind a webhook: Telegram sends, Kefu commits, then says 200."""

import socket
from pathlib import Path

import httpx2

from tests.bot.channels.telegram.scene import CHAT, scene


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


async def test_updates_come_by_webhook(tmp_path: Path) -> None:
    """The webhook is set with a secret, and messages in a row are answered in order."""
    port = free_port()
    async with scene(tmp_path, webhook_url=f"http://127.0.0.1:{port}/telegram", webhook_port=port) as kefu:
        for number in range(3):
            kefu.telegram.say(f"hello {number}")
        await kefu.until(lambda: any("hello 2" in answer.text for answer in kefu.finished()))
        shown = "\n".join(answer.text.removeprefix("You said: ") for answer in kefu.finished())
        assert shown == "hello 0\nhello 1\nhello 2"  # some of them may share a turn
        (set_webhook,) = kefu.telegram.transcript("setWebhook")
        assert len(str(set_webhook.params["secret_token"])) == 64
        assert kefu.telegram.transcript("getUpdates") == ()


async def test_a_stranger_is_refused_while_it_runs(tmp_path: Path) -> None:
    """Whoever finds the address without the secret gets 401, and nothing of theirs is answered."""
    port = free_port()
    async with scene(tmp_path, webhook_url=f"http://127.0.0.1:{port}/telegram", webhook_port=port) as kefu:
        await kefu.until(lambda: kefu.telegram.transcript("setWebhook"))
        async with httpx2.AsyncClient(trust_env=False) as stranger:
            forged = {"update_id": 1, "message": {"message_id": 1, "date": 1, "chat": {"id": 5, "type": "private"}, "text": "hello"}}
            answer = await stranger.post(f"http://127.0.0.1:{port}/telegram", json=forged)
        assert answer.status_code == 401
        kefu.telegram.say("hello")
        await kefu.answers(1)
        assert [conversation["chat"] for conversation in await kefu.operate("conversations.list")] == [str(CHAT)]
