"""A small service to put behind the gateway: one RSGI application on Granian.

python upstream.py --name users --port 9001

ANY  /echo              what arrived: method, path, query, headers, JSON body
GET  /blob?bytes=N      N bytes, with their SHA-256 in the header x-sha256
POST /blob              how many bytes arrived, and their SHA-256
GET  /login             two Set-Cookie lines
GET  /slow?seconds=S    an answer after S seconds
GET  /health            that it is well
"""

import argparse
import asyncio
import hashlib
import json
import os
from urllib.parse import parse_qs

NAME = os.environ.get("SERVICE_NAME", "upstream")


async def app(scope, protocol):
    headers = [("x-service", NAME)]
    query = {name: values[-1] for name, values in parse_qs(scope.query_string).items()}
    body = await protocol()
    match scope.method, scope.path:
        case "GET", "/blob":
            content = (b"%s speaks. " % NAME.encode() * 2**20)[: int(query.get("bytes", "1000"))]
            headers += [("content-type", "application/octet-stream"), ("x-sha256", hashlib.sha256(content).hexdigest())]
            protocol.response_bytes(200, headers, content)
            return
        case "POST", "/blob":
            answer = {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        case "GET", "/login":
            headers += [("set-cookie", "session=abc; Path=/; HttpOnly"), ("set-cookie", "theme=dark; Path=/")]
            answer = {"logged_in": True}
        case "GET", "/slow":
            await asyncio.sleep(float(query.get("seconds", "1")))
            answer = {"slept": query.get("seconds", "1")}
        case _, "/health":
            answer = {"status": "healthy"}
        case _, "/echo":
            try:
                content = json.loads(body) if body else None
            except ValueError:
                protocol.response_str(400, headers, "the body is not JSON")
                return
            answer = {
                "service": NAME,
                "method": scope.method,
                "path": scope.path,
                "query": scope.query_string,
                "headers": scope.headers.items(),
                "json": content,
            }
        case _:
            protocol.response_str(404, headers, "no such route")
            return
    protocol.response_str(200, [*headers, ("content-type", "application/json")], json.dumps(answer))


def main():
    from granian import Granian

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default=NAME, help="how the service calls itself in x-service (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=9001, help="port to listen on (default: %(default)s)")
    options = parser.parse_args()
    os.environ["SERVICE_NAME"] = options.name  # Granian imports this file once more, in its worker
    Granian("upstream:app", options.host, options.port, interface="rsgi", websockets=False).serve()


if __name__ == "__main__":
    main()
