"""Work that repeats what it is given: an edit of code, JSON said again."""

import json
import time
import urllib.request

from conftest import MODEL_NAME

CODE = '''def area_of_rectangle(width, height):
    if width < 0 or height < 0:
        raise ValueError("width and height must not be negative")
    return width * height


def perimeter_of_rectangle(width, height):
    if width < 0 or height < 0:
        raise ValueError("width and height must not be negative")
    return 2 * (width + height)


def diagonal_of_rectangle(width, height):
    if width < 0 or height < 0:
        raise ValueError("width and height must not be negative")
    return (width ** 2 + height ** 2) ** 0.5
'''
PEOPLE = [
    {"id": number, "name": name, "city": city, "email": f"{name.lower()}@example.org", "active": number % 3 != 0}
    for number, (name, city) in enumerate(
        [("Ada", "London"), ("Grace", "New York"), ("Edsger", "Rotterdam"), ("Barbara", "Los Angeles"), ("Alan", "London"),
         ("Donald", "Milwaukee"), ("Radia", "Portsmouth"), ("Leslie", "New York")]
    )
]
JSON = json.dumps(PEOPLE, indent=2)
# Conversations. The model is small, so it is shown once what to say again.
TASKS = {
    "code edit": [f"Add a docstring to each function. Keep everything else as it is.\n\n```python\n{CODE}```"],
    "JSON echo": [f"Repeat this JSON exactly as it is:\n\n{JSON}", JSON, "Repeat it once more, exactly as it is."],
}


def answer(server, task, most=400):
    """The text of a greedy answer, its tokens per second after the first, and their number."""
    roles = ("user", "assistant") * len(TASKS[task])
    messages = [{"role": role, "content": content} for role, content in zip(roles, TASKS[task])]
    body = {
        "model": MODEL_NAME, "messages": messages, "temperature": 0,
        "max_tokens": most, "stream": True, "stream_options": {"include_usage": True},
    }
    request = urllib.request.Request(
        server.base_url + "/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    text, first, usage = "", None, None
    with urllib.request.urlopen(request, timeout=120) as response:
        for line in response:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            usage = event.get("usage") or usage
            for choice in event["choices"]:
                if content := choice["delta"].get("content"):
                    first = first or time.monotonic()
                    text += content
    tokens = usage["completion_tokens"]
    return text, (tokens - 1) / (time.monotonic() - first), tokens
