"""Only a browser with the token gets in, from no other site, and loads nothing from elsewhere."""

import pytest

from cascade.web.guard import Guard, hosts_of, new_token

TOKEN = "a-token"
HOST = "127.0.0.1:8765"


async def behind(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"in"})


async def answer(
    *, path="/", query="", method="GET", kind="http", cookie="", host=HOST, origin=None
):
    """Status, headers and body of the answer; for a WebSocket, whether it was let in."""
    headers = [(b"host", host.encode())]
    if cookie:
        headers.append((b"cookie", f"cascade_8765={cookie}".encode()))
    if origin is not None:
        headers.append((b"origin", origin.encode()))
    scope = {
        "type": kind,
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": headers,
    }
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    await Guard(behind, TOKEN, hosts_of("127.0.0.1", 8765), 8765)(scope, receive, send)
    if kind == "websocket":
        return sent[0]["type"] != "websocket.close"
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, sent[-1]["body"].decode()


async def test_without_the_token_nothing_is_shown():
    status, _, body = await answer()
    assert status == 401
    assert "open the URL that `cascade web` has printed" in body
    assert (await answer(query="token=wrong"))[0] == 401
    assert (await answer(cookie="wrong"))[0] == 401
    assert (await answer(cookie="\u00fc;;=,"))[0] == 401


async def test_the_token_is_exchanged_for_a_cookie_and_leaves_the_address():
    status, headers, _ = await answer(path="/run", query=f"engine=e&token={TOKEN}&run=a%2Fb")
    assert status == 303
    assert headers["location"] == "/run?engine=e&run=a%2Fb"
    assert headers["set-cookie"] == (f"cascade_8765={TOKEN}; Path=/; HttpOnly; SameSite=Strict")
    assert (await answer(cookie=TOKEN))[0] == 200


async def test_the_exchange_never_leads_to_another_host():
    _, headers, _ = await answer(path="//evil.example/x", query=f"token={TOKEN}")
    assert headers["location"] == "/evil.example/x"


@pytest.mark.parametrize("host", ["evil.example:8765", "127.0.0.1:9", "", "localhost"])
async def test_a_request_under_another_name_is_refused(host):
    assert (await answer(cookie=TOKEN, host=host))[0] == 400


@pytest.mark.parametrize("host", [HOST, "localhost:8765", "[::1]:8765"])
async def test_a_request_under_a_name_of_this_machine_is_not(host):
    assert (await answer(cookie=TOKEN, host=host))[0] == 200


async def test_what_may_change_something_must_come_from_this_server():
    own, other = f"http://{HOST}", "https://evil.example"
    assert (await answer(method="POST", cookie=TOKEN, origin=own))[0] == 200
    assert (await answer(method="POST", cookie=TOKEN, origin=other))[0] == 403
    assert (await answer(method="POST", cookie=TOKEN))[0] == 403
    assert (await answer(method="POST", cookie=TOKEN, origin="null"))[0] == 403
    assert await answer(kind="websocket", cookie=TOKEN, origin=own)
    assert not await answer(kind="websocket", cookie=TOKEN, origin=other)
    assert not await answer(kind="websocket", cookie=TOKEN)
    assert not await answer(kind="websocket", origin=own)
    assert not await answer(kind="websocket", origin=own, query=f"token={TOKEN}")


async def test_pages_may_load_from_this_server_alone_and_be_framed_by_none():
    _, headers, _ = await answer(cookie=TOKEN)
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["referrer-policy"] == "no-referrer"


def test_each_token_is_another_one():
    assert len({new_token() for _ in range(100)}) == 100
    assert len(new_token()) >= 32
