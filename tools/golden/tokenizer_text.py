"""The text the small tokenizers learn from, and the texts they are tried on."""

LEARN = """
A butterfly begins as an egg on the underside of a leaf. The caterpillar that hatches eats its way through
the plant, sheds its skin four or five times, and then hangs itself up as a chrysalis. Inside, nearly everything
is taken apart and built anew. What comes out a fortnight later has wings, and no longer eats leaves at all.
The small tortoiseshell spends the winter as an adult, in barns and attics and hollow trees. On the first warm
day of March it flies, and people are surprised to see it. The painted lady does not stay for the winter: her
grandchildren fly back to Africa, 4,000 kilometres, at 500 metres above the ground, with the wind behind them.
Der Zitronenfalter überwintert im Freien, zwischen Efeublättern, und übersteht dabei Fröste von minus zwanzig Grad.
De dagpauwoog heeft vier ogen op zijn vleugels; vogels schrikken ervan, en dat is ook de bedoeling.
Le machaon dépose ses œufs sur le fenouil et la carotte sauvage; sa chenille est verte, rayée de noir.
Moths are not so different. Most of them fly at night, and most of them rest with their wings spread flat, but
there are moths that fly by day, and their antennae are feathered or plain, and never end in a club.
fn main() { let wings = [1, 2, 3, 4]; for w in wings { println!("{}", w * 2); } }
def count(moths):\n    return {name: len(name) for name in moths if name != "none"}\n
How many wings does a butterfly have? It has four wings. How many legs does it have? It has six legs, like every
insect. Where do they sleep? They sleep under leaves and between blades of grass. Why are they so light? Because
their bodies are small, and because their wings are covered with thin scales, and the scales weigh almost nothing.
"""

TRY = [
    "",
    "a",
    " ",
    "   ",
    "\n",
    "\t tab and\r\nnewlines\n\n\nend\n",
    "The butterfly has four wings.",
    " leading space",
    "  two leading spaces",
    "trailing space ",
    "two  spaces   three    four",
    "don't DON'T we'll it's",
    "numbers 1 12 123 1234 12345 3.14 1,000,000",
    "Ünïcödé façade naïve œuf",
    "蝶は花から花へ飛ぶ。",
    "나비가 날아간다",
    "бабочка",
    "فراشة",
    "🦋",
    "a🦋b 🦋🦋",
    "👩‍👩‍👧‍👦 family",
    "👍🏽 skin tone",
    "🇳🇱 flag",
    "e\u0301 combining, a\u030a\u0323 two marks",
    "é precomposed",
    "zero\u200bwidth\u200djoiner\ufeffbom",
    "\u0000 nul and \u001b escape",
    "▁ lower block ▁▁",
    "<0x41> looks like a byte",
    "{\"json\": [1, true, null]}",
    "https://example.org/path?q=1&r=%20",
    "fn main() { println!(\"{}\", 2); }",
    "ﬁ ligature ２ fullwidth Ⅻ roman",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 astral",
    "ไทย ผีเสื้อ",
    "नमस्ते तितली",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "word" * 20,
]

MARKUP = [
    "<s>",
    "a <s> b</s>",
    "<|begin_of_text|>x<|eot_id|>",
    "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>",
    "<|im_start|>user\nHi<|im_end|>\n",
    "x <tool_call> y </tool_call>z",
    "<|im_start|><|im_start|>",
    "<|im_star", "t|>",
    "butterfly <mask> x",
    "unbroken<mask>word",
    "moth mothball",
]
