"""Trains three small tokenizers and records what they do, in crates/text/tests/goldens/tokenizers/.

    python tools/golden/make_tokenizers.py
"""

import json
import pathlib

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers

from tokenizer_text import LEARN, MARKUP, TRY

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "crates" / "text" / "tests" / "goldens" / "tokenizers"

# How words are cut: contractions, letters, at most three digits, punctuation, line ends, spaces.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def main() -> None:
    for name, build in [
        ("byte-bpe", byte_level),
        ("sentencepiece-bpe", sentencepiece),
        ("metaspace-added", metaspace_added),
    ]:
        tokenizer = build()
        tokenizer.save(str(FOLDER / f"{name}.tokenizer.json"), pretty=False)
        record(name, Tokenizer.from_file(str(FOLDER / f"{name}.tokenizer.json")))


def byte_level() -> Tokenizer:
    """Bytes as printable characters, as GPT-2 and Llama 3 do."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        [LEARN],
        trainers.BpeTrainer(
            vocab_size=512,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    tokenizer.add_special_tokens(
        ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
    )
    begin = tokenizer.token_to_id("<|begin_of_text|>")
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single="<|begin_of_text|> $A",
                pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
                special_tokens=[("<|begin_of_text|>", begin)],
            ),
        ]
    )
    return tokenizer


def learned_pieces(vocab_size: int) -> tuple[dict, list]:
    """Pieces that begin with the word mark, and the merges that make them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(
        [line for line in LEARN.split("\n") if line],
        trainers.BpeTrainer(vocab_size=vocab_size, show_progress=False),
    )
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def with_bytes(vocab_size: int) -> models.BPE:
    """SentencePiece order of ids: unknown, begin, end, 256 bytes, then pieces."""
    pieces, merges = learned_pieces(vocab_size)
    names = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    names += sorted(pieces, key=pieces.get)
    vocab = {name: i for i, name in enumerate(names)}
    return models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)


def begin_template(end: bool = False) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(
        single="<s> $A </s>" if end else "<s> $A",
        pair="<s> $A <s>:1 $B:1",
        special_tokens=[("<s>", 1), ("</s>", 2)],
    )


def sentencepiece() -> Tokenizer:
    """As Llama 2: the normalizer writes the word marks, unknown characters fall back to bytes."""
    tokenizer = Tokenizer(with_bytes(300))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(
        [AddedToken(t, normalized=False, special=True) for t in ["<unk>", "<s>", "</s>"]]
    )
    tokenizer.post_processor = begin_template()
    return tokenizer


def metaspace_added() -> Tokenizer:
    """Word marks from the pre-tokenizer, and added tokens of every kind."""
    tokenizer = Tokenizer(with_bytes(260))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(
        [AddedToken(t, normalized=False, special=True) for t in ["<unk>", "<s>", "</s>"]]
    )
    tokenizer.add_special_tokens(
        [AddedToken(t, normalized=False, special=True) for t in ["<|im_start|>", "<|im_end|>"]]
    )
    # not special: shown when special tokens are hidden
    tokenizer.add_tokens(
        [AddedToken(t, normalized=False) for t in ["<tool_call>", "</tool_call>"]]
        + [AddedToken("<mask>", lstrip=True, rstrip=False, normalized=False)]
        + [AddedToken("moth", single_word=True, normalized=False)]
    )
    tokenizer.post_processor = begin_template(end=True)
    return tokenizer


def record(name: str, tokenizer: Tokenizer) -> None:
    encode, decode = [], []
    for text in TRY + MARKUP:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        marked = tokenizer.encode(text, add_special_tokens=True).ids
        encode.append({"text": text, "ids": ids, "ids_with_special": marked})
        decode.append(decoded(tokenizer, marked))
    # answers that stop inside a character, begin inside one, or hold bytes that are no UTF-8
    butterfly = tokenizer.encode("x 🦋", add_special_tokens=False).ids
    decode += [decoded(tokenizer, butterfly[:n]) for n in range(1, len(butterfly) + 1)]
    decode += [decoded(tokenizer, butterfly[n:]) for n in range(1, len(butterfly))]
    cjk = tokenizer.encode("蝶蝶", add_special_tokens=False).ids
    decode += [decoded(tokenizer, cjk[1:-1]), decoded(tokenizer, cjk[::-1])]
    decode.append(decoded(tokenizer, []))
    head = {
        "tokenizer": f"{name}.tokenizer.json",
        "made_with": {"tokenizers": tokenizers.__version__},
        "vocab_size": tokenizer.get_vocab_size(),
    }
    rows = lambda cases: ",\n".join("  " + json.dumps(c, ensure_ascii=False) for c in cases)
    (FOLDER / f"{name}.json").write_text(
        json.dumps(head, indent=1)[:-2]
        + f',\n "encode": [\n{rows(encode)}\n ],\n "decode": [\n{rows(decode)}\n ]\n}}\n'
    )
    print(f"{name:20} vocab {tokenizer.get_vocab_size()}, {len(encode)} texts, {len(decode)} decodings")


def decoded(tokenizer: Tokenizer, ids: list[int]) -> dict:
    return {
        "ids": ids,
        "text": tokenizer.decode(ids, skip_special_tokens=True),
        "text_with_special": tokenizer.decode(ids, skip_special_tokens=False),
    }


if __name__ == "__main__":
    main()
