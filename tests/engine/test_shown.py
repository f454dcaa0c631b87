"""Answers to be looked at: their text in print, in IPython and notebooks, and in rich."""

import copy
import io
import pickle
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

import cascade as cs
from cascade.spec.blueprint import Blueprint, Call, Literal, Register


@cs.task(name="[bold]load<b>[/bold]")
def load():
    return 1


FAULTY = Blueprint([Call(abs, Register(0), [Register(1)])], 2)
ANSWERS = {
    "dry_run": lambda: cs.dry_run(load()),
    "explain": lambda: cs.explain(load),
    "explain_cache": lambda: cs.explain_cache(load()),
    "verify": lambda: cs.verify(FAULTY),
    "visualize": lambda: cs.visualize(load()),
}


class Printer:
    def __init__(self):
        self.printed = ""

    def text(self, text):
        self.printed += text


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_answers_show_their_text_everywhere(answer):
    answer = answer()
    text = str(answer)
    assert text.count("\n") >= 1 or "[bold]load" in text

    printer = Printer()
    answer._repr_pretty_(printer, False)
    assert printer.printed == text

    console = Console(file=io.StringIO(), width=200)
    console.print(answer)
    assert console.file.getvalue() == f"{text}\n"


def test_notebooks_show_text_as_it_is():
    html = cs.dry_run(load())._repr_html_()
    assert html.startswith("<pre>1 node, 1 task\n[bold]load&lt;b&gt;[/bold]  (")


@pytest.mark.parametrize(
    ("format", "kind"), [("mermaid", "text/vnd.mermaid"), ("dot", "text/vnd.graphviz")]
)
@pytest.mark.parametrize("has_graphviz", [False, True])
def test_notebooks_draw_drawings(format, kind, has_graphviz, monkeypatch):
    monkeypatch.setattr("cascade.graph.visualize.has_graphviz", lambda: has_graphviz)
    monkeypatch.setattr("cascade.graph.visualize.svg_of", lambda text, _: f"<svg>{text}</svg>")
    lazy = load()
    drawing = cs.visualize(lazy, format)
    bundle = drawing._repr_mimebundle_()
    assert bundle[kind] == bundle["text/plain"] == drawing
    assert drawing._repr_html_() is None
    if has_graphviz:
        assert bundle["image/svg+xml"] == f"<svg>{cs.visualize(lazy, 'dot')}</svg>"
    elif format == "mermaid":
        assert bundle["text/markdown"] == f"```mermaid\n{drawing}\n```"


def test_notebooks_draw_by_mermaid_where_graphviz_takes_too_long(monkeypatch):
    def too_long(_text, _timeout):
        raise cs.errors.DrawingError("too long")

    monkeypatch.setattr("cascade.graph.visualize.has_graphviz", lambda: True)
    monkeypatch.setattr("cascade.graph.visualize.svg_of", too_long)
    bundle = cs.visualize(load())._repr_mimebundle_()
    assert sorted(bundle) == ["text/markdown", "text/plain", "text/vnd.mermaid"]


def test_notebooks_do_not_draw_what_is_too_large():
    lazy = load()
    for _ in range(502):
        lazy = lazy + 1
    drawing = cs.visualize(lazy)
    assert drawing._repr_mimebundle_() == {
        "text/plain": "<mermaid drawing of 1006 lines; print() shows it, "
        "too many for a notebook to draw>"
    }


def test_a_drawing_is_text():
    drawing = cs.visualize(load())
    assert drawing.startswith("flowchart TD\n")
    assert type(str(drawing)) is str
    assert repr(drawing) == "<mermaid drawing of 2 lines; print() shows it>"
    for again in (copy.copy(drawing), pickle.loads(pickle.dumps(drawing))):
        assert (again, again.language) == (drawing, "mermaid")


def test_verify_tells_and_raises_only_if_strict():
    found = cs.verify(FAULTY)
    assert not found
    assert [(fault.instruction, fault.text) for fault in found.faults] == [
        (0, "it reads r1, which nothing writes")
    ]
    with pytest.raises(cs.errors.BlueprintError) as caught:
        cs.verify(FAULTY, strict=True)
    assert (str(caught.value), caught.value.instruction) == (str(found), 0)

    fine = cs.verify(Blueprint([Call(abs, Register(0), [Literal(-1)])], 1), strict=True)
    assert fine
    assert str(fine) == "the blueprint 'abs' has no fault"


@pytest.mark.parametrize(("has_kernel", "draws"), [(True, True), (False, False)])
def test_ipython_in_a_terminal_starts_no_graphviz(has_kernel, draws, monkeypatch):
    """It asks for all kinds of displays, and shows the text."""

    class Shell:
        kernel = object() if has_kernel else None

    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=Shell))
    monkeypatch.setattr("cascade.graph.visualize.has_graphviz", lambda: True)
    monkeypatch.setattr("cascade.graph.visualize.svg_of", lambda _text, _timeout: "<svg/>")

    assert ("image/svg+xml" in load()._repr_mimebundle_()) == draws
