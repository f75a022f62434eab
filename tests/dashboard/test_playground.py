"""The playground: a chat, its end, and what goes wrong."""

import json
import os
import re

import pytest


@pytest.fixture
def play(open_page, key):
    def open_it(**options):
        page = open_page("playground", **options)
        if key:
            page.locator("#key").fill(key)
        page.locator("#temperature").fill("0")
        page.locator("#max-tokens").fill("48")
        return page

    return open_it


def done(page):
    page.wait_for_function("() => !document.getElementById('send').disabled", timeout=120_000)


def answer(page):
    return page.locator(".turn.assistant").last


def stream(*events):
    return "".join(f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n" for event in events)


def piece(text):
    return {"choices": [{"index": 0, "delta": {"content": text}}]}


def test_an_answer_is_streamed_and_measured(play, pictures):
    page = play()
    page.evaluate(
        """window.lengths = new Set();
        new MutationObserver(() => {
          const said = document.querySelector('.turn.assistant .said');
          if (said) window.lengths.add(said.textContent.length);
        }).observe(document.getElementById('answers'), { childList: true, subtree: true, characterData: true })"""
    )
    page.locator("#prompt").fill("Good morning")
    page.keyboard.press("Enter")
    assert page.locator(".turn.user .said").inner_text() == "Good morning"
    done(page)
    assert answer(page).locator(".said").inner_text() != ""
    assert page.evaluate("window.lengths.size") > 2, "the answer came in one piece"
    assert re.search(r"\d+ tokens", page.locator("#figures").inner_text())
    assert re.search(r"[\d.]+ tokens/s", page.locator("#figures").inner_text())
    assert re.search(r"first token after [\d.]+ m?s", page.locator("#figures").inner_text())
    assert page.evaluate("document.activeElement.id") == "prompt"
    page.screenshot(path=f"{pictures}/playground-answer.png", full_page=True)


def test_the_conversation_and_the_settings_are_sent(play):
    page = play()
    bodies = []

    def serve(route):
        bodies.append(route.request.post_data_json)
        route.fulfill(content_type="text/event-stream", body=stream(piece("one "), piece("two"), "[DONE]"))

    page.route("**/v1/chat/completions", serve)
    page.locator("#system").fill("Be brief.")
    page.locator("#temperature").fill("0.3")
    for text in ["first", "second"]:
        page.locator("#prompt").fill(text)
        page.keyboard.press("Enter")
        done(page)
    system = {"role": "system", "content": "Be brief."}
    said = [{"role": "user", "content": "first"}, {"role": "assistant", "content": "one two"}]
    assert bodies[0]["messages"] == [system, said[0]]
    assert bodies[1]["messages"] == [system, *said, {"role": "user", "content": "second"}]
    assert (bodies[1]["temperature"], bodies[1]["max_tokens"], bodies[1]["stream"]) == (0.3, 48, True)
    assert bodies[1]["model"] == page.locator("#model").input_value()
    page.locator("#clear").click()
    assert page.locator(".turn").count() == 0
    page.locator("#prompt").fill("third")
    page.keyboard.press("Enter")
    done(page)
    assert bodies[2]["messages"] == [system, {"role": "user", "content": "third"}]


def test_shift_enter_begins_a_line(play):
    page = play()
    page.locator("#prompt").focus()
    page.keyboard.type("a")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("b")
    assert page.locator("#prompt").input_value() == "a\nb"
    assert page.locator(".turn").count() == 0


def test_what_a_model_says_is_text(play):
    page = play()
    evil = "<img src=x onerror=\"window.hit = 1\"><script>window.hit = 1</script>"
    body = stream(piece(evil[:20]), piece(evil[20:]), "[DONE]")
    page.route("**/v1/chat/completions", lambda route: route.fulfill(content_type="text/event-stream", body=body))
    page.locator("#prompt").fill(evil)
    page.keyboard.press("Enter")
    done(page)
    assert answer(page).locator(".said").inner_text() == evil
    assert page.locator(".turn.user .said").inner_text() == evil
    assert page.locator("#answers img, #answers script").count() == 0
    assert page.evaluate("window.hit") is None


@pytest.mark.skipif(
    "VLINDERS_DASHBOARD_EXAMPLE" not in os.environ, reason="the built-in model says nothing that long"
)
def test_stop_ends_an_answer(play):
    page = play()
    page.locator("#max-tokens").fill("4000")
    page.locator("#prompt").fill("Tell me a long story. " * 20)
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('.turn.assistant .said')?.textContent.length > 0")
    page.locator("#stop").click()
    done(page)
    assert answer(page).locator(".note").inner_text().startswith("stopped")
    length = len(answer(page).locator(".said").inner_text())
    page.wait_for_timeout(500)
    assert len(answer(page).locator(".said").inner_text()) == length


def failing(page):
    """What the browser itself writes about a failed request is no error of the page."""
    page.wrong[:] = [one for one in page.wrong if "Failed to load resource" not in one]


def test_errors_are_said_in_words(play, pictures):
    page = play()
    body = json.dumps({"error": {"message": "the queue of this model is full", "type": "rate_limit_error"}})
    page.route(
        "**/v1/chat/completions",
        lambda route: route.fulfill(
            status=429, content_type="application/json", headers={"retry-after": "7"}, body=body
        ),
    )
    page.locator("#prompt").fill("hello")
    page.keyboard.press("Enter")
    done(page)
    note = answer(page).locator(".note").inner_text()
    assert note == "The server answered 429: the queue of this model is full. Try again in 7 s."
    assert page.locator("#prompt").input_value() == "hello", "what failed can be sent again"
    page.screenshot(path=f"{pictures}/playground-error.png", full_page=True)
    failing(page)


def test_a_broken_answer_is_an_error(play):
    page = play()
    for events, expected in [
        ([piece("half")], "The answer broke off."),
        ([piece("half"), {"error": {"message": "the engine has failed"}}], "the engine has failed"),
    ]:
        body = stream(*events)
        page.route("**/v1/chat/completions", lambda route: route.fulfill(content_type="text/event-stream", body=body))
        page.locator("#prompt").fill("hello")
        page.keyboard.press("Enter")
        done(page)
        assert answer(page).locator(".note").inner_text().startswith(expected)
        assert answer(page).locator(".said").inner_text() == "half"
        page.unroute("**/v1/chat/completions")


def test_an_unreachable_server_is_said(play):
    page = play()
    page.route("**/v1/chat/completions", lambda route: route.abort())
    page.locator("#prompt").fill("hello")
    page.keyboard.press("Enter")
    done(page)
    assert "can not be reached" in answer(page).locator(".note").inner_text()
    failing(page)


def test_a_wrong_key_is_said_and_the_right_one_stays_in_the_tab(play, key):
    if not key:
        pytest.skip("this server has no keys")
    page = play()
    page.locator("#key").fill("sk-wrong")
    page.locator("#prompt").fill("hello")
    page.keyboard.press("Enter")
    done(page)
    note = answer(page).locator(".note").inner_text()
    assert "401" in note and "Is the API key right?" in note
    page.locator("#key").fill(key)
    page.locator("#prompt").focus()
    page.reload()
    assert page.locator("#key").input_value() == key
    assert page.evaluate("JSON.stringify(localStorage)").find(key) == -1
    assert key not in page.content()
    failing(page)
