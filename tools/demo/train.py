"""Trains the demo model on generated conversations and writes it to crates/demo/assets.

    python train.py                    # the whole recipe: tokenizer, training, export
    python train.py --steps 50         # a quick look
    python train.py --resume           # go on from the latest checkpoint
    python train.py --export-only      # write the latest checkpoint again

Loss falls on what the assistant says; the rest counts a little, so that the language is learnt too.
Matrices are trained by Muon (momentum made orthogonal), which needs about half the steps of AdamW here;
embeddings and norms by AdamW. Products are computed in bf16, weights and their updates kept in f32.
"""

import argparse
import itertools
import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save
from tokenizers import Tokenizer

import generate
from model import Config, Llama
from tokens import ASSETS, END, END_OF_TEXT, START, Template, corpus, train_tokenizer, write_json, write_tokenizer

BUILD = Path(__file__).parent / "build"
PROMPT_WEIGHT = 0.05
ENDING_WEIGHT = 4.0


class Muon(torch.optim.Optimizer):
    """Momentum whose update is replaced by the nearest orthogonal matrix (Newton-Schulz iteration)."""

    def __init__(self, parameters, lr, workers, momentum=0.95):
        super().__init__(parameters, {"lr": lr, "momentum": momentum})
        self.workers = workers

    def step(self):
        for group in self.param_groups:
            list(self.workers.map(lambda parameter, group=group: self.update(parameter, group), group["params"]))

    @torch.no_grad()
    def update(self, parameter, group):
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        velocity = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
        update = orthogonal(parameter.grad.lerp(velocity, group["momentum"]).bfloat16()).float()
        rows, columns = parameter.shape
        parameter.mul_(1 - group["lr"] * 0.05)
        parameter.add_(update, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)


def orthogonal(matrix, steps: int = 5):
    x = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


class Batches:
    """Batches of about `size` tokens: conversations of similar length side by side, so that little is padding."""

    def __init__(self, tokenizer, template, size: int, seed: int, shares: dict, pool: int = 1536):
        self.tokenizer, self.template, self.size, self.pool = tokenizer, template, size, pool
        self.stream, self.rng = generate.training(seed, shares), random.Random(seed)
        self.opening = tokenizer.encode(f"{START}assistant\n").ids
        self.end = tokenizer.token_to_id(END)

    def encode(self, example):
        ids = self.tokenizer.encode(self.template.render(example.messages, example.tools)).ids
        weights, index, speaking = [PROMPT_WEIGHT] * len(ids), 0, False
        while index < len(ids):
            if ids[index : index + 3] == self.opening:
                speaking, index = True, index + 3
                continue
            if speaking:
                weights[index] = example.weight
                speaking = ids[index] != self.end
                if not speaking:
                    # When to stop is one decision among many easy tokens: a count must not run on.
                    weights[index - 1 : index + 1] = [ENDING_WEIGHT * example.weight] * 2
            index += 1
        return ids, weights

    def __iter__(self):
        while True:
            encoded = sorted((self.encode(e) for e in itertools.islice(self.stream, self.pool)), key=lambda e: len(e[0]))
            batches, batch = [], []
            for item in encoded:
                if batch and (len(batch) + 1) * len(item[0]) > self.size:
                    batches.append(batch)
                    batch = []
                batch.append(item)
            batches.append(batch)
            self.rng.shuffle(batches)
            yield from map(self.tensors, batches)

    @staticmethod
    def tensors(batch):
        longest = max(len(ids) for ids, _ in batch)
        tokens, weights = torch.zeros(len(batch), longest, dtype=torch.long), torch.zeros(len(batch), longest)
        for row, (ids, weight) in enumerate(batch):
            tokens[row, : len(ids)] = torch.tensor(ids)
            weights[row, : len(ids)] = torch.tensor(weight)
        return tokens, weights


def loss_of(model, tokens, weights):
    hidden = model(tokens[:, :-1]).flatten(0, 1)
    targets, weights = tokens[:, 1:].flatten(), weights[:, 1:].flatten()
    kept = weights > 0
    losses = F.cross_entropy(model.logits(hidden[kept]), targets[kept], reduction="none")
    weights = weights[kept]
    spoken = weights > PROMPT_WEIGHT
    return (losses * weights).sum() / weights.sum(), losses[spoken].mean().detach()


def train(options, tokenizer, template):
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)
    workers = ThreadPoolExecutor(options.threads, initializer=torch.set_num_threads, initargs=(1,))
    model = Llama(Config(vocab_size=tokenizer.get_vocab_size()))
    start_step, checkpoint = 0, BUILD / "last.pt"
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizers = [Muon(matrices, options.lr, workers), torch.optim.AdamW(others, lr=options.adam_lr, betas=(0.9, 0.98), weight_decay=0.0)]
    peaks = [options.lr, options.adam_lr]
    if options.resume:
        state = torch.load(checkpoint)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        start_step = state["step"]
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    batches = iter(Batches(tokenizer, template, options.batch_tokens, options.seed, options.shares))
    for _ in range(start_step * options.accumulate):
        next(batches)
    began, saved_at, seen, shown = time.time(), time.time(), 0, []
    parameters = list(model.parameters())
    for step in range(start_step, options.steps):
        progress = step / options.steps
        # Warm-up, then a plateau, then a linear descent to zero.
        factor = min(1.0, (step + 1) / 60, (1 - progress) / (1 - options.plateau))
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = peak * factor
        parts = [next(batches) for _ in range(options.accumulate)]
        shown.append(accumulate(model, parameters, parts, workers))
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        seen += sum(tokens.numel() for tokens, _ in parts)
        if step % 20 == 0:
            rate = seen / (time.time() - began)
            print(f"step {step} progress {progress:.3f} loss {sum(shown) / len(shown):.4f} tokens {seen / 1e6:.2f}M {rate:.0f}/s", flush=True)
            shown = []
        if time.time() - saved_at > 240:
            save_checkpoint(checkpoint, model, optimizers, step + 1)
            saved_at = time.time()
        if options.probe and step % options.probe == options.probe - 1:
            print(json.dumps(probe(model, tokenizer, template)), flush=True)
    save_checkpoint(checkpoint, model, optimizers, options.steps)
    print(json.dumps(probe(model, tokenizer, template, 60)), flush=True)
    return model


def accumulate(model, parameters, parts, workers) -> float:
    """Sets the mean gradient over `parts` and gives the mean loss of what the assistant says.

    Each worker takes one part at a time, so that one busy core does not hold up the others.
    """

    def gradients(part):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss, spoken = loss_of(model, *part)
        return torch.autograd.grad(loss, parameters), float(spoken)

    found = list(workers.map(gradients, parts))
    for index, parameter in enumerate(parameters):
        parameter.grad = sum(grads[index] for grads, _ in found) / len(found)
    return sum(spoken for _, spoken in found) / len(found)


def save_checkpoint(path, model, optimizers, step):
    state = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "step": step}
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def probe(model, tokenizer, template, count: int = 8) -> dict:
    """Held-out accuracy of a few examples of each task."""
    model.eval()
    result = {}
    for task in generate.SHARES:
        examples = generate.held_out(task, count, seed=99)
        result[task] = round(sum(answers_rightly(model, tokenizer, template, e) for e in examples) / len(examples), 3)
    model.train()
    return result


def reply_to(model, tokenizer, template, messages, tools=None, limit: int = 512):
    """The greedy answer of the model in text, and its smallest gap between the two best logits."""
    prompt = tokenizer.encode(template.render(messages, tools, add_generation_prompt=True)).ids
    stop = {tokenizer.token_to_id(END), tokenizer.token_to_id(END_OF_TEXT)}
    tokens, gap = model.generate(prompt, stop, limit)
    return tokenizer.decode(tokens), gap


def answers_rightly(model, tokenizer, template, example) -> bool:
    limit = len(tokenizer.encode(template.render(example.messages[-1:])).ids)
    reply, _ = reply_to(model, tokenizer, template, example.messages[:-1], example.tools, limit)
    return example.is_right({"content": reply})


def export(model, tokenizer):
    """Writes tokenizer, weights (bf16) and configuration, all at the end: the folder always holds one whole model."""
    write_tokenizer(tokenizer, model.config.max_position_embeddings)
    eos = [tokenizer.token_to_id(END), tokenizer.token_to_id(END_OF_TEXT)]
    tensors = {name: value.to(torch.bfloat16).contiguous() for name, value in model.state_dict().items()}
    (ASSETS / "model.safetensors").write_bytes(save(tensors, metadata={"format": "pt"}))
    write_json("config.json", model.config.to_hugging_face(eos, pad=eos[1]))
    write_json("generation_config.json", {"eos_token_id": eos, "pad_token_id": eos[1], "do_sample": False, "max_length": model.config.max_position_embeddings})


def shares(text: str) -> dict:
    changed = (part.split("=") for part in text.split(","))
    return {**generate.SHARES, **{task: float(share) for task, share in changed}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch-tokens", type=int, default=1024)
    parser.add_argument("--accumulate", type=int, default=4, help="batches in a step, shared among the threads")
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--adam-lr", type=float, default=3e-3)
    parser.add_argument("--plateau", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--vocab", type=int, default=2048)
    parser.add_argument("--probe", type=int, default=400, help="measure some held-out accuracy every so many steps; 0 for never")
    parser.add_argument("--resume", action="store_true", help="go on from the latest checkpoint as if it had not stopped")
    parser.add_argument("--shares", type=shares, default=generate.SHARES, help="other shares of tasks: counting=25,tools=20")
    parser.add_argument("--export-only", action="store_true")
    options = parser.parse_args()
    BUILD.mkdir(exist_ok=True)
    template = Template()
    if options.resume or options.export_only:
        tokenizer = Tokenizer.from_file(str(BUILD / "tokenizer.json"))
    else:
        tokenizer = train_tokenizer(corpus(generate.training(11), template, 40000), options.vocab)
        tokenizer.save(str(BUILD / "tokenizer.json"))
    if options.export_only:
        model = Llama(Config(vocab_size=tokenizer.get_vocab_size()))
        model.load_state_dict(torch.load(BUILD / "last.pt")["model"])
    else:
        model = train(options, tokenizer, template)
    export(model, tokenizer)


if __name__ == "__main__":
    main()
