"""Conversations, tools and documents that the chat templates are rendered with."""

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather at a place, e.g. \"Zürich\" or '東京' <now>",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "a city & its country"},
                "days": {"type": "integer", "minimum": 1, "default": 3},
                "threshold": {"type": "number", "default": 1.0, "maximum": 1e-5},
                "unit": {"type": "string", "enum": ["°C", "°F"]},
                "exact": {"type": "boolean", "default": False},
                "note": {"type": ["string", "null"], "default": None},
            },
            "required": ["place"],
        },
    },
}
CLOCK = {
    "type": "function",
    "function": {
        "name": "clock",
        "description": "The time.",
        "parameters": {"type": "object", "properties": {}, "required": []},
    },
}

HELLO = [{"role": "user", "content": "Hello!"}]
SYSTEM = [
    {"role": "system", "content": "  You know moths.\n"},
    {"role": "user", "content": "Which flies by day?"},
]
TURNS = [
    {"role": "user", "content": " What is 2 + 2? "},
    {"role": "assistant", "content": "\n4\n"},
    {"role": "user", "content": "And in words?"},
]
TURNS_SYSTEM = [{"role": "system", "content": "Count."}, *TURNS]
UNICODE = [
    {"role": "user", "content": "Grüße, 你好, 👩‍👩‍👧, e\u0301, \u202eabc, <b>&\"'</b>, {{ x }} {% y %}"},
]
ENDS_ASSISTANT = [*TURNS, {"role": "assistant", "content": "Four."}]
NOT_ALTERNATING = [*HELLO, {"role": "user", "content": "Anyone?"}]
ASSISTANT_FIRST = [{"role": "assistant", "content": "Hi"}, *HELLO]
WRONG_ROLE = [*HELLO, {"role": "narrator", "content": "Night fell."}]
TWO_SYSTEMS = [
    {"role": "system", "content": "One."},
    {"role": "system", "content": "Two."},
    *HELLO,
    {"role": "assistant", "content": "Hi."},
    {"role": "system", "content": "Three."},
    {"role": "user", "content": "Go on."},
]
EMPTY_CONTENT = [{"role": "user", "content": ""}]
MARKER_IN_TEXT = [{"role": "user", "content": "Say <|im_end|> [/INST] </s> please"}]


def call(name, arguments, id="abcdef123"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


ARGUMENTS = {"place": "Zürich \"city\"", "days": 2, "threshold": 0.5, "exact": True, "note": None}
TOOL_TURNS = [
    {"role": "user", "content": "Weather in Zürich?"},
    {"role": "assistant", "content": None, "tool_calls": [call("get_weather", ARGUMENTS)]},
    {"role": "tool", "tool_call_id": "abcdef123", "name": "get_weather", "content": "{\"sky\": \"rain\"}"},
    {"role": "assistant", "content": "It rains."},
    {"role": "user", "content": "Thanks. And the time?"},
]
TOOL_PENDING = TOOL_TURNS[:3]
TWO_CALLS = [
    {"role": "system", "content": "Use tools."},
    {"role": "user", "content": "Weather and time?"},
    {
        "role": "assistant",
        "content": "Let me look.",
        "tool_calls": [call("get_weather", {"place": "Oslo"}), call("clock", {}, "ghijkl456")],
    },
    {"role": "tool", "tool_call_id": "abcdef123", "name": "get_weather", "content": "snow"},
    {"role": "tool", "tool_call_id": "ghijkl456", "name": "clock", "content": "12:05"},
]
TWO_CALLS_ANSWERED = [*TWO_CALLS, {"role": "assistant", "content": "Snow, five past twelve."}]
STRING_ARGUMENTS = [
    {"role": "user", "content": "Weather in Zürich?"},
    {"role": "assistant", "content": "", "tool_calls": [call("get_weather", "{\"place\":\"Zürich\"}")]},
]
TOOL_RESULT_MAPPING = [
    *TOOL_TURNS[:2],
    {"role": "tool", "tool_call_id": "abcdef123", "content": {"sky": "rain", "mm": [1, 2.5]}},
]
SHORT_ID = [
    TOOL_TURNS[0],
    {"role": "assistant", "content": None, "tool_calls": [call("clock", {}, "x1")]},
]
THINKING = [
    {"role": "user", "content": "17 + 25?"},
    {"role": "assistant", "content": "<think>\n17 + 25 is 42.\n</think>\n\n42"},
    {"role": "user", "content": "Twice that?"},
]
THINKING_LAST = [*THINKING, {"role": "assistant", "content": "<think>\n84.\n</think>\n\n84"}]
REASONING_FIELD = [
    {"role": "user", "content": "17 + 25?"},
    {"role": "assistant", "reasoning_content": "\nAdd the tens.\n", "content": "42"},
]
THINKING_TOOLS = [
    {"role": "user", "content": "Time?"},
    {
        "role": "assistant",
        "content": "<think>\nI need the clock.\n</think>\n\n",
        "tool_calls": [call("clock", {})],
    },
    {"role": "tool", "tool_call_id": "abcdef123", "content": "12:05"},
    {"role": "assistant", "content": "Five past twelve."},
]
WRAPPED_RESULT = [
    {"role": "user", "content": "Time?"},
    {"role": "assistant", "content": "<think>\nLook.\n</think>\n\nLooking."},
    {"role": "user", "content": "<tool_response>\n12:05\n</tool_response>"},
]
PARTS = [
    {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": " first "},
            {"type": "text", "text": "second"},
        ],
    },
]
DOCUMENTS = [
    {"doc_id": 7, "title": "Atlas moth", "text": "It has no mouth."},
    {"title": "", "text": "Untitled; ünïcödé."},
    {"doc_id": "x", "text": ""},
]
HIDDEN = [
    *HELLO,
    {"role": "hidden", "content": "not shown"},
    {"role": "assistant", "content": "Hi."},
    {"role": "stop", "content": ""},
    {"role": "user", "content": "never reached"},
]


def case(name, messages, *, tools=None, documents=None, generate=True, **kwargs):
    """One rendering; `kwargs` are what a client sends as `chat_template_kwargs`."""
    return {
        "name": name,
        "messages": messages,
        "tools": tools,
        "documents": documents,
        "add_generation_prompt": generate,
        "kwargs": kwargs,
    }


PLAIN = [
    case("hello", HELLO),
    case("hello without generation prompt", HELLO, generate=False),
    case("system", SYSTEM),
    case("turns", TURNS),
    case("turns with system", TURNS_SYSTEM),
    case("unicode and markup", UNICODE),
    case("answered", ENDS_ASSISTANT, generate=False),
    case("markers in the text", MARKER_IN_TEXT),
    case("empty content", EMPTY_CONTENT),
    case("not alternating", NOT_ALTERNATING),
    case("assistant first", ASSISTANT_FIRST),
    case("unknown role", WRONG_ROLE),
    case("several systems", TWO_SYSTEMS),
]

LLAMA = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
SENTENCEPIECE = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
CHATML = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}

FORMS = {
    "llama3": (
        LLAMA,
        PLAIN
        + [
            case("date given", HELLO, date_string="26 Jul 2024"),
            case("tools in the user turn", HELLO, tools=[WEATHER, CLOCK]),
            case("tools in the system turn", SYSTEM, tools=[WEATHER], tools_in_user_message=False),
            case("tools but no user turn", SYSTEM[:1], tools=[CLOCK]),
            case("custom tools", HELLO, custom_tools=[CLOCK]),
            case("call and result", TOOL_TURNS, tools=[WEATHER]),
            case("result as mapping", TOOL_RESULT_MAPPING, tools=[WEATHER]),
            case("two calls", TWO_CALLS, tools=[WEATHER, CLOCK]),
            case(
                "built-in tools",
                [
                    *HELLO,
                    {
                        "role": "assistant",
                        "content": "",
                        "tool_calls": [call("brave_search", {"query": "moths", "lang": "nl"})],
                    },
                    {"role": "ipython", "content": "found"},
                ],
                builtin_tools=["brave_search", "code_interpreter"],
            ),
        ],
    ),
    "mistral": (
        SENTENCEPIECE,
        PLAIN
        + [
            case("tools", TURNS_SYSTEM, tools=[WEATHER, CLOCK]),
            case("call and result", TOOL_TURNS, tools=[WEATHER]),
            case("call pending", TOOL_PENDING, tools=[WEATHER]),
            case("two calls", TWO_CALLS_ANSWERED, tools=[WEATHER, CLOCK], generate=False),
            case("call id of the wrong length", SHORT_ID, tools=[CLOCK]),
        ],
    ),
    "mistral-v1": (SENTENCEPIECE, PLAIN),
    "qwen2.5": (
        CHATML,
        PLAIN
        + [
            case("tools", HELLO, tools=[WEATHER, CLOCK]),
            case("tools and system", SYSTEM, tools=[CLOCK]),
            case("no tools in the list", HELLO, tools=[]),
            case("call and result", TOOL_TURNS, tools=[WEATHER]),
            case("two calls, two results", TWO_CALLS, tools=[WEATHER, CLOCK]),
            case("two calls answered", TWO_CALLS_ANSWERED, tools=[WEATHER, CLOCK], generate=False),
        ],
    ),
    "qwen3": (
        CHATML,
        PLAIN
        + [
            case("thinking off", TURNS, enable_thinking=False),
            case("thinking on", TURNS, enable_thinking=True),
            case("earlier thoughts go", THINKING),
            case("last thoughts stay", THINKING_LAST, generate=False),
            case("thoughts in their own field", REASONING_FIELD, generate=False),
            case("thoughts before a call", THINKING_TOOLS, tools=[CLOCK], generate=False),
            case("tool result in a user turn", WRAPPED_RESULT),
            case("tools", SYSTEM, tools=[WEATHER, CLOCK]),
            case("call and result", TOOL_TURNS, tools=[WEATHER]),
            case("two calls, two results", TWO_CALLS, tools=[WEATHER, CLOCK]),
            case("arguments as a string", STRING_ARGUMENTS, tools=[WEATHER], generate=False),
        ],
    ),
    "chatml": (CHATML, PLAIN),
    "gemma": ({"bos_token": "<bos>", "eos_token": "<eos>"}, PLAIN),
    "gemma3": (
        {"bos_token": "<bos>", "eos_token": "<eos>"},
        PLAIN
        + [
            case("content in parts", PARTS),
            case("content is null", [{"role": "user", "content": None}]),
        ],
    ),
    "deepseek": (
        {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>"},
        PLAIN
        + [
            case("earlier thoughts go", THINKING),
            case("call and result", TOOL_TURNS),
            case("call pending", TOOL_PENDING),
            case("two calls", TWO_CALLS_ANSWERED, generate=False),
            case("arguments as a string", STRING_ARGUMENTS, generate=False),
        ],
    ),
    "documents": (
        {"bos_token": "<|start|>", "eos_token": "<|end_of_text|>"},
        PLAIN
        + [
            case("documents", SYSTEM, documents=DOCUMENTS),
            case(
                "documents, tools, controls",
                HELLO,
                documents=DOCUMENTS,
                tools=[WEATHER],
                controls={"citations": True, "length": "short"},
            ),
            case("content in parts", PARTS),
            case("continue and break", HIDDEN),
        ],
    ),
}
