"""Measures mistral.rs on the CPU: one line of JSON with tokens a second of prefill and decode, as it reports them itself.

    python mistralrs_peer.py DIR [--quantization Q8_0|Q4K] [--prompt 512] [--answer 48]

Needs the package mistralrs. Threads are those of RAYON_NUM_THREADS, which must be set by the caller.
"""

import argparse
import json

from mistralrs import Architecture, CompletionRequest, ModelDType, Runner, Which


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--quantization")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--answer", type=int, default=48)
    options = parser.parse_args()
    which = Which.Plain(model_id=options.model, arch=Architecture.Llama, dtype=ModelDType.Auto)
    runner = Runner(which=which, in_situ_quant=options.quantization, no_kv_cache=False)

    def ask(words, answer):
        # Words of the random tokenizer's own vocabulary, a token each.
        request = CompletionRequest(model="m", prompt=words, max_tokens=answer, temperature=0.0)
        return runner.send_completion_request(request).usage

    ask(text(16), 2)
    prefill = ask(text(options.prompt), 2)
    decode = ask(text(4), options.answer)
    print(
        json.dumps(
            {
                "prefill": prefill.avg_prompt_tok_per_sec,
                "decode": decode.avg_compl_tok_per_sec,
                "prompt_tokens": prefill.prompt_tokens,
                "answer_tokens": decode.completion_tokens,
            }
        )
    )


def text(tokens):
    return "a" * tokens


if __name__ == "__main__":
    main()
