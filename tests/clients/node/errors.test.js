// Errors are the typed ones of the client.

import assert from "node:assert/strict";
import { test } from "node:test";
import { KEY, MODEL, OpenAI, URL_GUARDED, connect, question } from "./client.js";

const client = connect();

test("a wrong value is a BadRequestError that names the field", async () => {
  for (const [param, value] of [["temperature", "hot"], ["max_tokens", 0], ["messages", []], ["n", 0]]) {
    await assert.rejects(client.chat.completions.create(question("Hi", { [param]: value })), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.equal(error.param, param);
      assert.ok(error.code);
      assert.equal(error.type, "invalid_request_error");
      return true;
    });
  }
});

test("an unknown model is a NotFoundError that lists those that are served", async () => {
  await assert.rejects(client.chat.completions.create(question("Hi", { model: "gpt-9" })), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.equal(error.code, "model_not_found");
    assert.match(error.message, new RegExp(MODEL));
    return true;
  });
});

test("a wrong key is an AuthenticationError", async () => {
  const baseURL = `${URL_GUARDED}/v1`;
  await assert.rejects(connect({ baseURL, apiKey: "wrong" }).models.list(), OpenAI.AuthenticationError);
  assert.ok((await connect({ baseURL, apiKey: KEY }).models.list()).data.length);
});

test("a full queue is a RateLimitError, and the client's own retries get through", async () => {
  const options = { baseURL: `${URL_GUARDED}/v1`, apiKey: KEY };
  const ask = (client) => client.chat.completions.create(question("Go on", { ignore_eos: true, max_tokens: 200 }));
  const eager = connect(options);
  const results = await Promise.allSettled(Array.from({ length: 24 }, () => ask(eager)));
  const refused = results.filter((result) => result.status === "rejected").map((result) => result.reason);
  assert.ok(refused.length > 0 && refused.length < 24);
  for (const error of refused) {
    assert.ok(error instanceof OpenAI.RateLimitError);
    assert.ok(Number(error.headers.get("retry-after")) >= 1);
  }
  const patient = connect({ ...options, maxRetries: 10 });
  const answers = await Promise.all(Array.from({ length: 10 }, () => ask(patient)));
  assert.ok(answers.every((answer) => answer.usage.completion_tokens === 200));
});
