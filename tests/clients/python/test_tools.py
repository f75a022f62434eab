"""Tools: what the model calls, and conversations that hold calls and results."""

import json

import pytest
from conftest import MODEL

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
QUESTION = "What is the weather in Paris?"


def conversation(arguments: str, result) -> list:
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    return [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": result},
    ]


def test_a_call(chat):
    [choice] = chat(QUESTION, tools=[WEATHER], max_tokens=80).choices
    assert choice.finish_reason == "tool_calls"
    [call] = choice.message.tool_calls
    assert call.id and call.type == "function"
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    assert "<tool_call>" not in (choice.message.content or "")


def test_a_streamed_call_is_the_same(chat):
    [whole] = chat(QUESTION, tools=[WEATHER], max_tokens=80).choices
    name, arguments, text, reasons = "", "", "", []
    for chunk in chat(QUESTION, tools=[WEATHER], max_tokens=80, stream=True):
        choice = chunk.choices[0]
        text += choice.delta.content or ""
        for call in choice.delta.tool_calls or []:
            assert call.index == 0
            name += call.function.name or ""
            arguments += call.function.arguments or ""
        reasons += [choice.finish_reason] if choice.finish_reason else []
    function = whole.message.tool_calls[0].function
    assert (name, arguments) == (function.name, function.arguments)
    assert text == (whole.message.content or "")
    assert reasons == ["tool_calls"]


def test_the_stream_helper_gathers_the_call(client):
    with client.chat.completions.stream(
        model=MODEL,
        messages=[{"role": "user", "content": QUESTION}],
        tools=[WEATHER],
        temperature=0,
        max_tokens=80,
    ) as stream:
        for _ in stream:
            pass
        [choice] = stream.get_final_completion().choices
    assert json.loads(choice.message.tool_calls[0].function.arguments) == {"city": "Paris"}


def test_no_call_when_none_is_wanted(chat):
    [choice] = chat(QUESTION, tools=[WEATHER], tool_choice="none", max_tokens=40).choices
    assert not choice.message.tool_calls
    assert choice.finish_reason in ("stop", "length")


@pytest.mark.parametrize("arguments", ['{"city": "Paris"}', "", "not JSON", "[1]", '{"city": "Par'])
@pytest.mark.parametrize("result", ["rain", "", [{"type": "text", "text": "rain"}]])
def test_histories_of_calls_are_taken_as_they_are(client, arguments, result):
    """Whatever an earlier model said, the conversation can go on."""
    answer = client.chat.completions.create(
        model=MODEL, messages=conversation(arguments, result), tools=[WEATHER], temperature=0, max_tokens=8
    )
    assert answer.choices


@pytest.mark.parametrize("tools", [[{}], [5], "get_weather", [{"type": "function"}], [{"type": "x", "x": {}}]])
def test_wrong_tools(server, tools):
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "tools": tools, "max_tokens": 1}
    status, answer = server.post("/v1/chat/completions", body)
    assert status == 400
    assert answer["error"]["param"].startswith("tools")
