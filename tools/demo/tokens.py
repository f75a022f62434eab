"""The tokenizer and the chat template: training the one, rendering with the other.

Byte-level BPE, so that any text survives the round trip; every digit is a token of its own, which is what
makes sums and counting learnable.
"""

import itertools
import json
from pathlib import Path

import jinja2.sandbox
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

END_OF_TEXT, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL = [END_OF_TEXT, START, END]
# Ordinary text to a client, but one token each to the model.
MARKERS = ["<tool_call>", "</tool_call>"]
PIECES = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

ASSETS = Path(__file__).resolve().parents[2] / "crates" / "demo" / "assets"


class Template:
    """chat_template.jinja, rendered as Hugging Face does it."""

    def __init__(self):
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
        self.template = environment.from_string((ASSETS / "chat_template.jinja").read_text(encoding="utf-8"))

    def render(self, messages, tools=None, add_generation_prompt=False) -> str:
        return self.template.render(messages=messages, tools=tools, add_generation_prompt=add_generation_prompt)


def train_tokenizer(texts, vocab_size: int) -> Tokenizer:
    """A tokenizer for `texts` with exactly `vocab_size` tokens: special ones first, then 256 bytes, then merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL + MARKERS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    # The markers must show up in decoded text, so they are added again as tokens that are not special.
    described = json.loads(tokenizer.to_str())
    for token in described["added_tokens"]:
        token["special"] = token["content"] in SPECIAL
    return Tokenizer.from_str(json.dumps(described))


def write_tokenizer(tokenizer: Tokenizer, max_length: int):
    """tokenizer.json and tokenizer_config.json."""
    tokenizer.save(str(ASSETS / "tokenizer.json"), pretty=False)
    added = {
        str(token_id): {
            "content": token.content,
            "lstrip": False,
            "normalized": token.normalized,
            "rstrip": False,
            "single_word": False,
            "special": token.special,
        }
        for token_id, token in sorted(tokenizer.get_added_tokens_decoder().items())
    }
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": False,
        "add_eos_token": False,
        "added_tokens_decoder": added,
        "additional_special_tokens": [START, END],
        "bos_token": None,
        "eos_token": END,
        "pad_token": END_OF_TEXT,
        "unk_token": None,
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_length,
    }
    write_json("tokenizer_config.json", config)


def write_json(name: str, value):
    (ASSETS / name).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def corpus(stream, template: Template, count: int):
    """`count` rendered conversations, without the template's frame of special tokens."""
    for example in itertools.islice(stream, count):
        text = template.render(example.messages, example.tools)
        for token in SPECIAL + MARKERS:
            text = text.replace(token, "")
        yield text


__all__ = ["ASSETS", "END", "END_OF_TEXT", "START", "AddedToken", "Template", "corpus", "train_tokenizer", "write_json", "write_tokenizer"]
