"""Requests as a client without manners sends them: nothing is added, nothing is hidden, nothing is retried."""

import dataclasses
import http.client
import json
import socket

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
JSON = {"Content-Type": "application/json"}
HELLO = [{"role": "user", "content": "Hello"}]


@dataclasses.dataclass
class Answer:
    """One response."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        return self.json["error"]

    @property
    def choices(self):
        return self.json["choices"]

    @property
    def choice(self):
        assert self.status == 200, self.body
        return self.choices[0]

    @property
    def text(self):
        return self.choice["text"]

    @property
    def events(self):
        """The data of a stream's events, checked for its framing."""
        assert self.status == 200, self.body
        text = self.body.decode()
        assert text.endswith("data: [DONE]\n\n"), text[-200:]
        events = []
        for event in text.removesuffix("\n\n").split("\n\n"):
            if event.startswith(":"):
                continue
            assert event.startswith("data: ") and "\n" not in event and "\r" not in event, event
            events.append(event.removeprefix("data: "))
        assert events.pop() == "[DONE]" and "[DONE]" not in events
        return [json.loads(event) for event in events]


class Wire:
    """Speaks to one server."""

    def __init__(self, server):
        self.server = server

    def send(self, method, path, body=None, headers=None):
        """One request on a connection of its own. A body that is not bytes is made JSON."""
        connection = http.client.HTTPConnection(*self.server.host_and_port, timeout=60)
        try:
            if body is not None and not isinstance(body, (bytes, str)):
                body = json.dumps(body)
            connection.request(method, path, body, dict(JSON if headers is None else headers))
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path, headers=None):
        return self.send("GET", path, headers=headers or {})

    def post(self, path, headers=None, **fields):
        return self.send("POST", path, fields, headers)

    def complete(self, prompt="Once upon a time", **fields):
        return self.post(COMPLETIONS, **{"prompt": prompt, "max_tokens": 8, "temperature": 0, **fields})

    def chat(self, messages=HELLO, **fields):
        return self.post(CHAT, **{"messages": messages, "max_tokens": 8, "temperature": 0, **fields})

    def tokens(self, text, **fields):
        return self.post("/tokenize", prompt=text, **fields).json["tokens"]

    def raw(self, *pieces, timeout=20):
        """Everything that comes back for these bytes until the server closes or a whole response is there."""
        with socket.create_connection(self.server.host_and_port, timeout=timeout) as connection:
            for piece in pieces:
                connection.sendall(piece if isinstance(piece, bytes) else piece.encode())
            response = http.client.HTTPResponse(connection)
            response.begin()
            return Answer(response.status, response.headers, response.read())
