// Gets the content again every two seconds and changes what is different, so that focus, selection, scrolling and
// opened tables stay as they are. The server has escaped everything; scripts in a parsed document do not run.
"use strict";
(() => {
  const main = document.getElementById("main");
  const address = main.dataset.fragment;
  if (!address) return;
  const PERIOD = 2000;
  const PATIENCE = 10000;
  const status = document.getElementById("connection");
  const pause = document.getElementById("pause");
  let timer = 0;
  let busy = false;
  let paused = false;

  const say = (text, lost) => {
    if (status.textContent !== text) status.textContent = text;
    status.classList.toggle("lost", lost);
  };

  const alike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && (a.id ?? "") === (b.id ?? "");

  // make `old` what `fresh` is; whether a table is open is up to the reader
  const morph = (old, fresh) => {
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    for (const { name } of [...old.attributes]) {
      if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    morphChildren(old, fresh);
  };

  const morphChildren = (old, fresh) => {
    const wanted = [...fresh.childNodes];
    let at = old.firstChild;
    for (const node of wanted) {
      // something before it may be gone: look further
      if (at && node.nodeType === Node.ELEMENT_NODE && !alike(at, node)) {
        let found = at.nextSibling;
        while (found && !alike(found, node)) found = found.nextSibling;
        while (found && at !== found) {
          const gone = at;
          at = at.nextSibling;
          gone.remove();
        }
      }
      if (at && alike(at, node)) {
        const next = at.nextSibling;
        morph(at, node);
        at = next;
      } else {
        old.insertBefore(document.importNode(node, true), at);
      }
    }
    while (at) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
  };

  const refresh = async () => {
    if (busy || paused || document.hidden) return;
    busy = true;
    try {
      const answer = await fetch(address, { signal: AbortSignal.timeout(PATIENCE), cache: "no-store" });
      if (!answer.ok) {
        say(`The server answered ${answer.status}, trying again`, true);
        return;
      }
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (!paused) {
        morphChildren(main, fresh.body);
        say("Live", false);
      }
    } catch {
      if (!paused) say("Connection lost, trying again", true);
    } finally {
      busy = false;
      plan();
    }
  };

  const plan = () => {
    clearTimeout(timer);
    if (!paused && !document.hidden) timer = setTimeout(refresh, PERIOD);
  };

  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (!document.hidden) refresh();
  });
  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Go on" : "Pause";
    say(paused ? "Paused" : "Live", false);
    clearTimeout(timer);
    if (!paused) refresh();
  });
  say("Live", false);
  plan();
})();
