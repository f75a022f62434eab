// Cancelling, and many streams at once.

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { connect, gather, letters, metric, question, textOf, untilIdle } from "./client.js";

const client = connect();
const AT_ONCE = 100;

afterEach(untilIdle);

function endless(text) {
  return question(text, { ignore_eos: true, temperature: 1, max_tokens: undefined, stream: true });
}

/** `begin` starts a request and returns how to leave it. A busy machine may hold up one attempt, but not three. */
async function freedAtOnce(begin) {
  const times = [];
  for (let attempt = 0; attempt < 3; attempt++) {
    const leave = await begin();
    assert.ok((await metric("vllm:num_requests_running")) > 0, "the answer was over before it could be cancelled");
    assert.ok((await metric("vllm:kv_cache_usage_perc")) > 0);
    await leave();
    times.push(await untilIdle());
    if (times.at(-1) <= AT_ONCE) return;
  }
  assert.fail(`freed only after ${Math.min(...times)} ms`);
}

test("an aborted stream frees everything at once", async () => {
  await freedAtOnce(async () => {
    const stream = await client.chat.completions.create(endless("Tell me everything."));
    const iterator = stream[Symbol.asyncIterator]();
    for (let i = 0; i < 3; i++) await iterator.next();
    return () => stream.controller.abort();
  });
});

test("leaving the loop over a stream aborts it", async () => {
  await freedAtOnce(async () => {
    const iterator = (await client.chat.completions.create(endless("Tell me more.")))[Symbol.asyncIterator]();
    await iterator.next();
    return () => iterator.return();
  });
});

test("a whole answer can be aborted too", async () => {
  await freedAtOnce(async () => {
    const controller = new AbortController();
    const body = { ...endless("Go on."), stream: false, n: 4 };
    const answer = client.chat.completions.create(body, { signal: controller.signal });
    while ((await metric("vllm:num_requests_running")) < 4) await new Promise((resolve) => setTimeout(resolve, 2));
    return async () => {
      controller.abort();
      await assert.rejects(answer);
    };
  });
});

test("64 streams at once, each as if it were alone", async () => {
  const bias = await letters();
  const ask = async (i) => {
    const body = question(`Question ${i}: what colour?`, { ignore_eos: true, max_tokens: 8 + (i % 13), stream: true });
    if (i % 2) Object.assign(body, { temperature: 2, seed: i, logit_bias: bias });
    const chunks = await gather(await client.chat.completions.create(body));
    assert.equal(chunks.at(-1).choices[0].finish_reason, "length");
    return textOf(chunks);
  };
  const alone = [];
  for (let i = 0; i < 64; i++) alone.push(await ask(i));
  const together = await Promise.all(Array.from({ length: 64 }, (_, i) => ask(i)));
  assert.deepEqual(together, alone);
});
