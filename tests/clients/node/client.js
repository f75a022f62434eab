// The official client, found where run.sh installed it, and a look at the server from outside.

import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.env.VLINDERS_TEST_CLIENTS, "package.json"));

export const { OpenAI } = require("openai");
export const MODEL = "vlinders-demo";
export const URL_OPEN = process.env.VLINDERS_TEST_URL;
export const URL_GUARDED = process.env.VLINDERS_TEST_GUARDED_URL;
export const KEY = process.env.VLINDERS_TEST_KEY;

/** A client that does not retry, so that each test sees the first answer. */
export function connect(options = {}) {
  return new OpenAI({ baseURL: `${URL_OPEN}/v1`, apiKey: "unused", maxRetries: 0, timeout: 120_000, ...options });
}

export function user(text) {
  return [{ role: "user", content: text }];
}

/** Body of a greedy question. */
export function question(text, options = {}) {
  return { model: MODEL, messages: user(text), temperature: 0, max_tokens: 32, ...options };
}

/** All chunks of a stream. */
export async function gather(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

/** The text of one choice of a stream. */
export function textOf(chunks, index = 0) {
  return chunks
    .flatMap((chunk) => chunk.choices)
    .filter((choice) => choice.index === index)
    .map((choice) => choice.delta.content ?? "")
    .join("");
}

export async function tokenize(text) {
  const answer = await fetch(`${URL_OPEN}/tokenize`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ prompt: text, add_special_tokens: false }),
  });
  return (await answer.json()).tokens;
}

/** A bias that leaves nothing but single letters, of which the model is never sure. */
export async function letters() {
  const tokens = await Promise.all([..."abcdefghijklmnopqrstuvwxyz"].map(tokenize));
  return Object.fromEntries(tokens.map(([token]) => [token, 100]));
}

/** Sum of the series of a metric. */
export async function metric(name) {
  const text = await (await fetch(`${URL_OPEN}/metrics`)).text();
  return text
    .split("\n")
    .filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
}

export async function idle() {
  const names = ["vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"];
  const values = await Promise.all(names.map(metric));
  return values.every((value) => value === 0);
}

/** Waits until nothing runs; milliseconds from the call to the start of the look that found it so. */
export async function untilIdle() {
  const start = performance.now();
  for (;;) {
    const looked = performance.now() - start;
    if (await idle()) return looked;
    if (looked > 30_000) throw new Error("requests are still running after 30 s");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
