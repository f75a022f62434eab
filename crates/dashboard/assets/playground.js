// A chat through the public API. What a model says goes into text nodes only.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const page = byId("playground");
  const answers = byId("answers");
  const form = byId("ask");
  const prompt = byId("prompt");
  const [send, stop, clear, figures] = ["send", "stop", "clear", "figures"].map(byId);
  const key = byId("key");
  const KEY = "vlinders-playground-key";
  let said = [];
  let running = null;

  page.hidden = false;
  if (key) {
    try {
      key.value = sessionStorage.getItem(KEY) ?? "";
    } catch {
      // storage is switched off: the key lasts as long as the page
    }
    key.addEventListener("change", () => {
      try {
        sessionStorage.setItem(KEY, key.value);
      } catch {
        // as above
      }
    });
  }

  const element = (tag, name, text = "") => {
    const made = document.createElement(tag);
    made.className = name;
    made.textContent = text;
    return made;
  };

  // a turn in the list, with places for what comes
  const turn = (role, who) => {
    const item = element("div", `turn ${role}`);
    const parts = { item, said: element("div", "said"), note: element("div", "note") };
    item.append(element("div", "who", who), parts.said, parts.note);
    answers.append(item);
    return parts;
  };

  // follow what is being said, unless the reader has scrolled up
  const following = (change) => {
    const near = answers.scrollHeight - answers.scrollTop - answers.clientHeight < 40;
    change();
    if (near) answers.scrollTop = answers.scrollHeight;
  };

  const seconds = (time) => (time < 1000 ? `${Math.round(time)} ms` : `${(time / 1000).toFixed(2)} s`);

  // an error of the API in words
  const complaint = async (answer) => {
    let text = "";
    try {
      const { error } = await answer.json();
      text = typeof error === "string" ? error : (error?.message ?? "");
    } catch {
      // no JSON: the status has to say it
    }
    const words = [`The server answered ${answer.status}${text ? `: ${text}` : ""}.`.replace(/\.\.$/, ".")];
    const after = answer.headers.get("retry-after");
    if (after) words.push(/^\d+$/.test(after) ? `Try again in ${after} s.` : `Try again after ${after}.`);
    if (answer.status === 401) words.push(key ? "Is the API key right?" : "The server needs an API key.");
    return words.join(" ");
  };

  // the data of server-sent events, one after the other
  async function* events(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    let data = [];
    for (;;) {
      const { value, done } = await reader.read();
      rest += value ?? "";
      const lines = rest.split(/\r\n|\n|\r(?!$)/);
      rest = done ? "" : lines.pop();
      for (const line of lines) {
        if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
        else if (line === "" && data.length > 0) {
          yield data.join("\n");
          data = [];
        }
      }
      if (done) return;
    }
  }

  const request = (messages) => ({
    model: byId("model").value,
    messages,
    temperature: Number(byId("temperature").value),
    max_tokens: Number(byId("max-tokens").value),
    stream: true,
    stream_options: { include_usage: true },
  });

  const converse = async (text) => {
    const abort = new AbortController();
    running = abort;
    send.disabled = true;
    stop.disabled = false;
    const question = { role: "user", content: text };
    const system = byId("system").value.trim();
    const messages = [...(system ? [{ role: "system", content: system }] : []), ...said, question];
    following(() => {
      turn("user", "You").said.textContent = text;
    });
    const answer = turn("assistant", byId("model").value);
    // read out when it is whole, not piece by piece
    answer.item.setAttribute("aria-busy", "true");
    figures.textContent = "Waiting for the first token";
    const begun = performance.now();
    let [first, last, pieces, counted, whole, thought, ending, note] = [0, 0, 0, 0, "", null, "", ""];
    let failed = false;
    const take = (event) => {
      if (event.error) throw Object.assign(new Error(event.error.message ?? String(event.error)), { told: true });
      counted = event.usage?.completion_tokens ?? counted;
      const choice = event.choices?.[0];
      ending = choice?.finish_reason ?? ending;
      const thinking = choice?.delta?.reasoning_content ?? "";
      const piece = choice?.delta?.content ?? "";
      if (thinking === "" && piece === "") return;
      last = performance.now();
      first ||= last;
      pieces += 1;
      whole += piece;
      following(() => {
        if (thinking !== "") {
          if (!thought) answer.said.before((thought = element("div", "thought")));
          thought.append(thinking);
        }
        if (piece !== "") answer.said.append(piece);
      });
      if (pieces === 1) figures.textContent = `First token after ${seconds(first - begun)}`;
    };
    try {
      const headers = { "content-type": "application/json" };
      if (key?.value) headers.authorization = `Bearer ${key.value}`;
      const got = await fetch(page.dataset.completions, {
        method: "POST",
        headers,
        body: JSON.stringify(request(messages)),
        signal: abort.signal,
      });
      if (!got.ok) throw Object.assign(new Error(await complaint(got)), { told: true });
      let ended = false;
      for await (const data of events(got.body)) {
        if (data === "[DONE]") {
          ended = true;
          break;
        }
        take(JSON.parse(data));
      }
      if (!ended) throw Object.assign(new Error("The answer broke off."), { told: true });
      if (ending === "length") note = "cut off at the max tokens";
    } catch (error) {
      if (abort.signal.aborted) note = "stopped";
      else {
        failed = true;
        note = error.told ? error.message : "The server can not be reached, or the connection was lost.";
      }
    }
    const tokens = counted || pieces;
    const rate = tokens > 1 && last > first ? ((tokens - 1) / (last - first)) * 1000 : 0;
    const measured = first
      ? [
          `${tokens} token${tokens === 1 ? "" : "s"}`,
          ...(rate ? [`${rate.toFixed(1)} tokens/s`] : []),
          `first token after ${seconds(first - begun)}`,
        ]
      : [];
    following(() => {
      answer.item.classList.toggle("failed", failed);
      answer.note.textContent = [note, ...measured].filter(Boolean).join(" \u00b7 ");
      answer.item.removeAttribute("aria-busy");
    });
    // after "Clear" nothing of this is part of the conversation
    if (running === abort) {
      figures.textContent = failed ? "Failed" : measured.join(" \u00b7 ");
      if (failed) prompt.value ||= text;
      else if (whole) said.push(question, { role: "assistant", content: whole });
      running = null;
      send.disabled = false;
      stop.disabled = true;
    }
  };

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = prompt.value.trim();
    if (running || text === "") return;
    prompt.value = "";
    converse(text);
  });
  prompt.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (!running) form.requestSubmit();
  });
  stop.addEventListener("click", () => {
    running?.abort();
    prompt.focus();
  });
  clear.addEventListener("click", () => {
    running?.abort();
    running = null;
    said = [];
    answers.replaceChildren();
    figures.textContent = "";
    send.disabled = false;
    stop.disabled = true;
    prompt.focus();
  });
})();
