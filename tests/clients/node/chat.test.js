// Chat completions and completions, whole and streamed.

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { MODEL, connect, gather, letters, question, textOf, tokenize, untilIdle } from "./client.js";

const client = connect();
const TEXT = "What does a peacock butterfly eat?";
const FREE = { ignore_eos: true };

afterEach(untilIdle);

test("a stream says what the whole answer says", async () => {
  const whole = await client.chat.completions.create(question(TEXT));
  assert.equal(whole.object, "chat.completion");
  assert.equal(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens);
  const chunks = await gather(await client.chat.completions.create(question(TEXT, { stream: true })));
  assert.equal(textOf(chunks), whole.choices[0].message.content);
  assert.equal(chunks.at(-1).choices[0].finish_reason, whole.choices[0].finish_reason);
  assert.ok(chunks.every((chunk) => !chunk.usage));
});

test("usage comes last when it is asked for", async () => {
  const body = question(TEXT, { ...FREE, max_tokens: 9, stream: true, stream_options: { include_usage: true } });
  const chunks = await gather(await client.chat.completions.create(body));
  assert.deepEqual(chunks.at(-1).choices, []);
  assert.equal(chunks.at(-1).usage.completion_tokens, 9);
  assert.equal(typeof chunks.at(-1).usage.prompt_tokens_details.cached_tokens, "number");
});

test("log probabilities", async () => {
  const options = { ...FREE, skip_special_tokens: false, max_tokens: 6 };
  const body = question(TEXT, { ...options, logprobs: true, top_logprobs: 3 });
  const [choice] = (await client.chat.completions.create(body)).choices;
  assert.equal(choice.logprobs.content.length, 6);
  for (const token of choice.logprobs.content) {
    assert.equal(token.top_logprobs.length, 3);
    assert.equal(token.top_logprobs[0].token, token.token);
    assert.ok(token.logprob <= 0);
  }
  const bytes = Buffer.from(choice.logprobs.content.flatMap((token) => token.bytes));
  assert.equal(bytes.toString(), choice.message.content);
});

test("the client's stream helper", async () => {
  const texts = [];
  const runner = client.chat.completions.stream(question(TEXT));
  runner.on("content", (delta) => texts.push(delta));
  const final = await runner.finalChatCompletion();
  assert.equal(texts.join(""), final.choices[0].message.content);
});

test("seeds repeat, and choices continue them", async () => {
  const sampled = { ...FREE, temperature: 2, max_tokens: 16, logit_bias: await letters() };
  const ask = async (options) => {
    const body = question(TEXT, { ...sampled, ...options });
    return (await client.chat.completions.create(body)).choices.map((choice) => choice.message.content);
  };
  const three = await ask({ seed: 90, n: 3 });
  assert.equal(new Set(three).size, 3);
  assert.deepEqual(await ask({ seed: 90, n: 3 }), three);
  assert.deepEqual((await Promise.all([90, 91, 92].map((seed) => ask({ seed })))).flat(), three);
  const body = question(TEXT, { ...sampled, seed: 90, n: 3, stream: true });
  const chunks = await gather(await client.chat.completions.create(body));
  assert.deepEqual([0, 1, 2].map((index) => textOf(chunks, index)), three);
});

test("a stop never leaks", async () => {
  const full = (await client.chat.completions.create(question(TEXT, FREE))).choices[0].message.content;
  for (let start = 1; start < Math.min(full.length - 5, 30); start += 5) {
    const stop = full.slice(start, start + 5);
    const body = question(TEXT, { ...FREE, stop: [stop], stream: true });
    const chunks = await gather(await client.chat.completions.create(body));
    assert.equal(textOf(chunks), full.slice(0, full.indexOf(stop)));
    assert.equal(chunks.at(-1).choices[0].finish_reason, "stop");
  }
});

test("characters split over tokens", async () => {
  for (const text of ["é", "蝶", "🦋", "e\u0301"]) {
    const bias = Object.fromEntries((await tokenize(text)).map((token) => [token, 100]));
    const options = { ...FREE, logit_bias: bias, temperature: 2, seed: 6, max_tokens: 120 };
    const body = question("Say it", { ...options, logprobs: true });
    const [choice] = (await client.chat.completions.create(body)).choices;
    const bytes = Buffer.from(choice.logprobs.content.flatMap((token) => token.bytes));
    assert.equal(choice.message.content, bytes.toString("utf8"));
    const chunks = await gather(await client.chat.completions.create(question("Say it", { ...options, stream: true })));
    assert.equal(textOf(chunks), choice.message.content);
  }
});

test("completions of text and of tokens", async () => {
  const prompt = "Butterflies have four";
  const ask = async (options) => {
    const body = { model: MODEL, prompt, temperature: 0, max_tokens: 8, ...FREE, ...options };
    return client.completions.create(body);
  };
  const plain = (await ask({ add_special_tokens: false })).choices[0].text;
  assert.equal((await ask({ prompt: await tokenize(prompt) })).choices[0].text, plain);
  const echoed = await ask({ add_special_tokens: false, echo: true, logprobs: 2 });
  assert.equal(echoed.choices[0].text, prompt + plain);
  assert.equal(echoed.choices[0].logprobs.token_logprobs[0], null);
  const chunks = await gather(await ask({ add_special_tokens: false, stream: true }));
  assert.equal(chunks.map((chunk) => chunk.choices[0].text).join(""), plain);
});

test("models", async () => {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.ok(ids.includes(MODEL));
  assert.equal((await client.models.retrieve(MODEL)).id, MODEL);
});

test("the client's tool runner", async () => {
  const asked = [];
  const runner = client.chat.completions.runTools({
    ...question("What is the weather in Paris?", { max_tokens: 80 }),
    tools: [
      {
        type: "function",
        function: {
          name: "get_weather",
          description: "Weather in a city",
          parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
          parse: JSON.parse,
          function: ({ city }) => (asked.push(city), `In ${city} it rains.`),
        },
      },
    ],
  }, { maxChatCompletions: 2 });
  await runner.done().catch(() => {});
  assert.equal(asked[0], "Paris");
  assert.equal(runner.messages.find((message) => message.role === "tool").content, "In Paris it rains.");
});
