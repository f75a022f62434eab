"""Renders chat templates with Hugging Face transformers into crates/text/tests/goldens/templates/.

    python tools/golden/make_templates.py
"""

import copy
import datetime
import json
import pathlib
import re

import jinja2
import transformers
from transformers.utils import chat_template_utils

from template_cases import CLOCK, FORMS, case
from template_snippets import MESSAGES, SNIPPETS

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "crates" / "text" / "tests" / "goldens" / "templates"
NOW = datetime.datetime(2026, 3, 8, 9, 5, 7)
SNIPPET_TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
SNIPPET_KWARGS = {
    "tool": CLOCK,
    "custom": "value",
    "nested": {"deep": [1, 2]},
    "enable_thinking": False,
}


class FrozenClock:
    """Stands in for `datetime` in transformers, so that `strftime_now` is always the same."""

    @staticmethod
    def now():
        return NOW


def main() -> None:
    chat_template_utils.datetime = FrozenClock
    for form, (tokens, cases) in FORMS.items():
        template = (FOLDER / f"{form}.jinja").read_text()
        write(
            FOLDER / f"{form}.json",
            {
                "template": f"{form}.jinja",
                "made_with": versions(),
                "now": NOW.isoformat(),
                "special_tokens": tokens,
                "cases": [c | render(template, tokens, c) for c in cases],
            },
        )
    cases = []
    for name, template in one_expression_each(SNIPPETS):
        c = case(name, MESSAGES, generate=False)
        result = render(template, SNIPPET_TOKENS, c | {"kwargs": SNIPPET_KWARGS})
        cases.append({"name": name, "template": template} | result)
    write(
        FOLDER / "snippets.json",
        {
            "made_with": versions(),
            "now": NOW.isoformat(),
            "special_tokens": SNIPPET_TOKENS,
            "messages": MESSAGES,
            "kwargs": SNIPPET_KWARGS,
            "cases": cases,
        },
    )


def one_expression_each(snippets: dict) -> list[tuple[str, str]]:
    """Splits a snippet that is a row of expressions, so that each failure shows by itself."""
    out = []
    for name, template in snippets.items():
        row = re.findall(r"\{\{.*?\}\}(?!\})", template)
        alone = "{%" not in template and "{#" not in template and "-}}" not in template
        if len(row) > 3 and alone:
            out += [(f"{name}: {item[2:-2].strip()}", f"[{item}]") for item in row]
        else:
            out.append((name, template))
    return out


def versions() -> dict:
    return {"transformers": transformers.__version__, "jinja2": jinja2.__version__}


def render(template: str, tokens: dict, c: dict) -> dict:
    """`expected`, or `error` with the kind of error and its message."""
    try:
        rendered, _ = chat_template_utils.render_jinja_template(
            conversations=[copy.deepcopy(c["messages"])],
            tools=copy.deepcopy(c["tools"]),
            documents=copy.deepcopy(c["documents"]),
            chat_template=template,
            add_generation_prompt=c["add_generation_prompt"],
            **tokens,
            **copy.deepcopy(c["kwargs"]),
        )
        return {"expected": rendered[0]}
    except (jinja2.TemplateError, TypeError, AttributeError) as error:
        raised = type(error) is jinja2.TemplateError
        return {"error": {"raised_by_template": raised, "message": str(error)}}


def write(path: pathlib.Path, value: dict) -> None:
    head = {k: v for k, v in value.items() if k != "cases"}
    lines = json.dumps(head, ensure_ascii=False, indent=1)[:-2]
    cases = ",\n".join("  " + json.dumps(c, ensure_ascii=False) for c in value["cases"])
    path.write_text(f'{lines},\n "cases": [\n{cases}\n ]\n}}\n')
    errors = sum("error" in c for c in value["cases"])
    print(f"{path.name:20} {len(value['cases']):3} cases, {errors} errors")


if __name__ == "__main__":
    main()
