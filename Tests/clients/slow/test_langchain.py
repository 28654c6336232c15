"""LangChain's chat model on this server: whole, streamed, at once, and what it makes of a prompt that is too long."""

import asyncio

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAI
from pydantic import BaseModel, Field

from conftest import MODEL_NAME


@pytest.fixture
def chat(server):
    return ChatOpenAI(
        base_url=server.base_url, api_key="none", model=MODEL_NAME, temperature=0, max_tokens=24, max_retries=0
    )


CONVERSATION = [
    SystemMessage("You are terse."), HumanMessage("Hello."), AIMessage("Hello."), HumanMessage("Name one colour."),
]


def test_a_conversation_is_answered(chat):
    answer = chat.invoke(CONVERSATION)
    assert answer.content
    assert answer.usage_metadata["input_tokens"] > 0
    assert answer.usage_metadata["output_tokens"] <= 24
    assert answer.response_metadata["finish_reason"] in ("stop", "length")


def test_a_stream_joins_to_the_whole_answer(chat):
    chunks = list(chat.stream(CONVERSATION, stream_usage=True))
    whole = chat.invoke(CONVERSATION)
    assert "".join(chunk.content for chunk in chunks) == whole.content
    joined = chunks[0]
    for chunk in chunks[1:]:
        joined += chunk
    assert joined.usage_metadata["output_tokens"] == whole.usage_metadata["output_tokens"]


def test_a_batch_runs_at_once(chat):
    async def run():
        return await chat.abatch([[HumanMessage(f"Say {index}.")] for index in range(8)])

    assert all(answer.content for answer in asyncio.run(run()))


def test_completions(server):
    text = OpenAI(base_url=server.base_url, api_key="none", model=MODEL_NAME, temperature=0, max_tokens=8)
    assert text.invoke("One, two, three,").strip()


def test_a_prompt_that_is_too_long_has_the_words_it_looks_for(chat):
    with pytest.raises(Exception, match="maximum context length"):
        chat.invoke([HumanMessage("word " * 100_000)])


class Bird(BaseModel):
    """A bird."""

    name: str = Field(max_length=20)
    hovers: bool


def test_structured_output_is_a_model(chat):
    for method in ("json_schema", "function_calling"):
        chain = chat.model_copy(update={"max_tokens": 200}).with_structured_output(Bird, method=method)
        assert isinstance(chain.invoke("Describe the common swift."), Bird)


def test_tools_are_bound_and_called(chat):
    def add(left: int, right: int) -> int:
        """Adds two numbers."""
        return left + right

    tools = chat.model_copy(update={"max_tokens": 200}).bind_tools([add], tool_choice="any", parallel_tool_calls=False)
    question = HumanMessage("What is 2 + 3?")
    answer = tools.invoke([question])
    (call,) = answer.tool_calls
    assert call["name"] == "add" and {type(value) for value in call["args"].values()} == {int}
    result = ToolMessage(str(add(**call["args"])), tool_call_id=call["id"])
    assert chat.invoke([question, answer, result]).content
