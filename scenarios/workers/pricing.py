"""A worker outside Skald, in another language: it serves the activity `price.quote` over plain NATS.

A request carries its input as JSON, and in its headers the idempotency key, the attempt, the
deadline and a token. The answer's headers say how it went; without any it went well.

    python3 pricing.py nats://127.0.0.1:4222 acme
"""

import asyncio
import json
import sys

import nats

COMMAND = "skald.cmd.{tenant}.pricing.activity.{verb}"


async def main(server: str, tenant: str) -> None:
    connection = await nats.connect(server)
    quotes = {}

    async def tell(verb: str, body: dict) -> dict:
        """Gives a command about an attempt that was accepted before."""
        subject = COMMAND.format(tenant=tenant, verb=verb)
        answer = await connection.request(subject, json.dumps(body).encode(), timeout=5)
        return json.loads(answer.data)

    async def later(token: str, quote: dict, asked: dict) -> None:
        """Works for a while, says that it is alive meanwhile, and answers by token."""
        for _ in range(asked.get("beats", 0)):
            await asyncio.sleep(0.1)
            await tell("heartbeat", {"token": token})
        if asked.get("fails"):
            await tell("fail", {"token": token, "error": "NoPrice", "cause": "the market is closed"})
        else:
            await tell("complete", {"token": token, "output": quote})

    async def quote(message) -> None:
        headers = message.headers or {}
        asked = json.loads(message.data)
        key, attempt = headers["Skald-Key"], int(headers["Skald-Attempt"])
        # The same key is the same quote, however often it is asked for.
        answer = quotes.setdefault(key, {"price": 7 * asked["amount"], "currency": "EUR"})
        answer = {**answer, "attempt": attempt, "deadline": headers.get("Skald-Deadline", ""), "key": key}
        if asked.get("mood") == "busy" and attempt == 1:
            failed = {"Skald-Status": "failed", "Skald-Cause": "too much to do"}
            await connection.publish(message.reply, b"", headers=failed)
        elif asked.get("mood") == "never":
            failed = {"Skald-Status": "failed", "Skald-Kind": "permanent", "Skald-Error": "NotForSale", "Skald-Cause": "we keep it"}
            await connection.publish(message.reply, b"", headers=failed)
        elif asked.get("mood") == "later":
            await connection.publish(message.reply, b"", headers={"Skald-Status": "accepted"})
            asyncio.create_task(later(headers["Skald-Token"], answer, asked))
        else:
            await message.respond(json.dumps(answer).encode())

    await connection.subscribe(f"skald.act.{tenant}.price.quote", queue="pricing", cb=quote)
    await connection.flush()
    print("serving", flush=True)
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
