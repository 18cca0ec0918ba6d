"""The reference's examples, run from top to bottom in one session as the page says."""

import re
from typing import Any

from hvib.house.project import PROJECT


def examples(page: str) -> list[str]:
    text = (PROJECT / page).read_text()
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_the_examples_run() -> None:
    session: dict[str, Any] = {}
    found = examples("book/reference.md")
    for example in found:
        exec(compile(example, "book/reference.md", "exec"), session)
    assert len(found) >= 8
    assert len(session["rows"]) == 5
    assert session["logits"].shape == (1, 128, 10)
    assert not any("Gated" in repr(type(m)) for m in session["deployed"].modules())
