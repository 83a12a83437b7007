"""One client before an upstream that answers with whatever it is told to. For each method on standard input it sends
one request for /row on a new connection and prints what came of it as a line of JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import Any

import peers

PATIENCE = 1.0


async def _one(name: str, base_url: str, method: str) -> dict[str, Any]:
    client = await peers.connect(name, base_url, "gateway")
    try:
        async with asyncio.timeout(PATIENCE):
            status, _, body = await client.forward(method, "/row", [("accept", "*/*")], None)
        return {"status": status, "body": bytes(body).decode("latin-1")}
    except TimeoutError:
        return {"error": "waits"}
    except Exception as error:  # whatever a client raises
        return {"error": type(error).__name__}
    finally:
        await client.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--client", required=True, choices=list(peers.CLIENTS))
    parser.add_argument("--base-url", required=True)
    args = parser.parse_args()
    with asyncio.Runner() as runner:
        try:
            runner.run((runner.run(peers.connect(args.client, args.base_url, "gateway"))).close())
        except ImportError as error:
            print(json.dumps({"missing": f"{error.name} cannot be imported"}), flush=True)
            return
        print(json.dumps({"ready": True}), flush=True)
        for line in sys.stdin:
            print(json.dumps(runner.run(_one(args.client, args.base_url, line.strip()))), flush=True)


if __name__ == "__main__":
    main()
