"""Cascade in the cells of a notebook, executed by a real kernel: ``ipykernel`` and ``nbclient``."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any

import pytest
from tests.pages import ROOT

nbclient = pytest.importorskip("nbclient", reason="pip install nbclient ipykernel")
pytest.importorskip("ipykernel", reason="pip install nbclient ipykernel")
nbformat = pytest.importorskip("nbformat", reason="pip install nbclient ipykernel")

pytestmark = pytest.mark.timeout(180)  # a kernel starts slowly on a busy machine

#: Language and text of each block on the page. Some cells await, which only a notebook can.
BLOCKS = re.findall(
    r"^```(python|ipython|text)\n(.*?)^```$",
    (ROOT / "docs" / "notebooks.md").read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)
#: Cells that the kernel's process interrupts, which on Windows would end it.
INTERRUPTS = {
    "interrupt": """
@cs.task
async def forever():
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.Event().wait()
cs.run(forever())
""",
    # The signal ends no wait of the main thread, as if it had come just before the wait began.
    "interrupt elsewhere": """
@cs.task(mode="blocking")
def elsewhere():
    time.sleep(0.1)  # until the cell waits
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)
cs.run([elsewhere(), cs.task(asyncio.Event().wait)()])
""",
    "interrupt twice": """
let_go = threading.Event()

@cs.task(mode="blocking")
def stubborn():
    os.kill(os.getpid(), signal.SIGINT)
    let_go.wait()

def again():
    # Once the first interrupt has reached the run, which then waits for the function.
    while "stubborn" not in told.getvalue():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)

import contextlib, io
told = io.StringIO()
threading.Thread(target=again).start()
try:
    with contextlib.redirect_stderr(told):
        cs.run(stubborn())
finally:
    let_go.set()
""",
}
if os.name == "nt":
    INTERRUPTS.clear()
#: Name → the source of a cell; executed in this order.
CELLS = {
    "tasks": """
import asyncio, os, signal, threading, time
import cascade as cs

@cs.task
def load(n: int) -> int:
    print("loading", n)
    return n

@cs.task
async def total(numbers: list[int]) -> int:
    await asyncio.sleep(0)
    return sum(numbers)

@cs.task(name="<b>odd</b>")
def odd(n: int) -> int:
    raise ValueError("<script>")

sums = total(load.map(n=[1, 2, 3]))
""",
    "run": "cs.run(sums)",
    "run after an await": "await asyncio.sleep(0)\ncs.run(sums)",
    "run in a function": "def value():\n    return [cs.run(sums) for _ in range(2)]\nvalue()",
    "run in a coroutine": "async def value():\n    return cs.run(sums)\nawait value()",
    "run in an asyncio task": "await asyncio.create_task(value())",
    "run_async": "await cs.run_async(sums)",
    "run in a task": "@cs.task\ndef outer():\n    return cs.run(sums)\ncs.run(outer())",
    "context": """
import contextvars
user = contextvars.ContextVar("user")
user.set("Ada")
cs.run(cs.task(user.get)())
""",
    "failure": "cs.run(odd(1))",
    **INTERRUPTS,
    "handler": "print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)",
    "lazy": "sums",
    "operators": "sums + 1",
    "odd": "odd(1)",
    "plan": "cs.dry_run(sums)",
    "progress": "cs.run(sums, progress=True)",
    "engine": "engine = await cs.Engine().__aenter__()\nengine",
    "handle": """
handle = engine.start(sums, summary=True)
await handle.result()
handle
""",
    "summary": "handle.summary()",
    "history": """
with cs.History(engine.bus) as history, cs.show_progress(engine.bus):
    try:
        await engine.run([sums, odd(1)])
    except ValueError:
        pass
history
""",
    "program": "engine.compile(sums)",
    "blueprint": "engine.compile(sums).blueprint",
    "end": "await engine.close()",
}


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The cells of the page and those above, executed by one new kernel of this Python."""
    folder = tmp_path_factory.mktemp("jupyter")
    kernels = folder / "data" / "kernels" / "here"
    kernels.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel = {"argv": command, "display_name": "here", "language": "python"}
    (kernels / "kernel.json").write_text(json.dumps(kernel), encoding="utf-8")
    sources = [*(text for language, text in BLOCKS if language != "text"), *CELLS.values()]
    made = [nbformat.v4.new_code_cell(source.strip()) for source in sources]
    book = nbformat.v4.new_notebook(cells=made)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DATA", "CONFIG", "RUNTIME"):
            patch.setenv(f"JUPYTER_{name}_DIR", str(folder / name.lower()))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.setenv("PATH", str(folder))  # without Graphviz
        nbclient.NotebookClient(
            book,
            kernel_name="here",
            allow_errors=True,
            timeout=100,
            resources={"metadata": {"path": str(ROOT)}},
        ).execute()
    return list(book.cells)


@pytest.fixture(scope="module")
def outputs(cells: list[Any]) -> dict[str, list[Any]]:
    """Name of a cell → its outputs."""
    ours = cells[len(cells) - len(CELLS) :]
    return {name: cell.outputs for name, cell in zip(CELLS, ours, strict=True)}


def data_of(outputs: list[Any]) -> dict[str, str]:
    """The value that the cell displays."""
    errors = [output for output in outputs if output.output_type == "error"]
    assert not errors
    (result,) = [output for output in outputs if output.output_type == "execute_result"]
    return dict(result.data)


def error_of(outputs: list[Any]) -> Any:
    (error,) = [output for output in outputs if output.output_type == "error"]
    return error


def printed(outputs: list[Any], name: str = "stdout") -> str:
    return "".join(o.text for o in outputs if o.output_type == "stream" and o.name == name)


@pytest.mark.parametrize("name", ["run", "run after an await", "run_async"])
def test_a_cell_gets_the_value_of_a_run(outputs: dict[str, list[Any]], name: str) -> None:
    assert data_of(outputs[name]) == {"text/plain": "6"}
    assert sorted(printed(outputs[name]).split()) == ["1", "2", "3"] + ["loading"] * 3


def test_a_function_that_a_cell_calls_can_run(outputs: dict[str, list[Any]]) -> None:
    assert data_of(outputs["run in a function"]) == {"text/plain": "[6, 6]"}


@pytest.mark.parametrize("name", ["run in a coroutine", "run in an asyncio task"])
def test_a_coroutine_is_told_to_await(outputs: dict[str, list[Any]], name: str) -> None:
    error = error_of(outputs[name])
    assert error.ename == "RunError"
    assert error.evalue.endswith("right:  value = await cs.run_async(target)")


def test_a_task_cannot_run_another_in_a_cell_either(outputs: dict[str, list[Any]]) -> None:
    assert error_of(outputs["run in a task"]).evalue.startswith("cs.run() was called inside a task")


def test_a_run_sees_the_context_variables_of_its_cell(outputs: dict[str, list[Any]]) -> None:
    assert data_of(outputs["context"]) == {"text/plain": "'Ada'"}


def test_an_error_of_a_task_is_that_of_the_cell(outputs: dict[str, list[Any]]) -> None:
    error = error_of(outputs["failure"])
    assert (error.ename, error.evalue) == ("ValueError", "<script>")
    assert "beside.py" not in "".join(error.traceback)  # no line of Cascade's own


@pytest.mark.posix
@pytest.mark.parametrize("name", ["interrupt", "interrupt elsewhere"])
def test_an_interrupt_ends_the_run(outputs: dict[str, list[Any]], name: str) -> None:
    assert error_of(outputs[name]).ename == "KeyboardInterrupt"
    assert printed(outputs["handler"]) == "True\n"


@pytest.mark.posix
def test_a_second_interrupt_abandons_plain_functions(outputs: dict[str, list[Any]]) -> None:
    assert error_of(outputs["interrupt twice"]).ename == "KeyboardInterrupt"


def test_lazy_values_are_pictures_and_stay_lazy(outputs: dict[str, list[Any]]) -> None:
    data = data_of(outputs["lazy"])
    assert data["text/vnd.mermaid"] == (
        'flowchart TD\n    n0[["load.map × 3"]]\n    n1["total"]\n    n0 -->|"numbers"| n1'
    )
    assert data["text/markdown"] == f"```mermaid\n{data['text/vnd.mermaid']}\n```"
    assert data["text/plain"].startswith("<lazy total at ")
    assert '(("add"))' in data_of(outputs["operators"])["text/vnd.mermaid"]
    assert not printed(outputs["lazy"])


def test_names_are_escaped_in_pictures(outputs: dict[str, list[Any]]) -> None:
    assert '["#lt;b>odd#lt;/b>"]' in data_of(outputs["odd"])["text/vnd.mermaid"]


def test_plans_programs_and_blueprints_are_displayed(outputs: dict[str, list[Any]]) -> None:
    plan = data_of(outputs["plan"])
    assert plan["text/plain"].startswith("2 nodes, 1 task\ntotal  (")
    assert plan["text/html"].startswith("<pre>2 nodes, 1 task\n")
    program = data_of(outputs["program"])
    assert program["text/plain"] == "<program of 'total'>"
    assert program["text/vnd.mermaid"].startswith("flowchart TD\n")
    blueprint = data_of(outputs["blueprint"])
    assert blueprint["text/plain"].startswith("blueprint total: ")
    assert blueprint["text/html"].startswith("<pre>blueprint total: ")


def test_progress_is_one_output_that_changes(outputs: dict[str, list[Any]]) -> None:
    for name, most in (("progress", 4), ("history", 5)):
        (shown,) = [o for o in outputs[name] if o.output_type == "display_data"]
        assert re.fullmatch(rf"\S+, graph path: .*\d/{most}.* in .*", shown.data["text/plain"])
        assert "<progress value=" in shown.data["text/html"]
        assert not printed(outputs[name], "stderr")


def test_handles_summaries_and_engines_are_tables(outputs: dict[str, list[Any]]) -> None:
    handle, summary = data_of(outputs["handle"]), data_of(outputs["summary"])
    assert handle["text/plain"].startswith("<RunHandle ")
    assert handle["text/html"] == summary["text/html"]
    assert (
        '<td style="text-align:left">load</td><td style="text-align:right">3</td>'
        in (summary["text/html"])
    )
    assert summary["text/plain"].startswith("total, run ")
    assert data_of(outputs["engine"]) == {
        "text/plain": "<Engine with 0 active runs>",
        "text/html": "<p>no active run</p>",
    }


def test_a_history_shows_failures_first_and_escaped(outputs: dict[str, list[Any]]) -> None:
    data = data_of(outputs["history"])
    assert re.match(r"\d+ nodes?: 1 failed", data["text/plain"])
    rows = re.findall(r"<tr>.*?</tr>", data["text/html"])
    assert "ValueError: &lt;script&gt;" in rows[1]
    assert "<b>" not in data["text/html"]


def test_the_cells_of_the_page_print_the_output_on_the_page(cells: list[Any]) -> None:
    executed = iter(cells)
    outputs: list[Any] = []
    for language, text in BLOCKS:
        if language == "text":
            assert printed(outputs) == text
        else:
            outputs = next(executed).outputs
            assert not [o for o in outputs if o.output_type == "error"], text


def test_without_a_kernel_there_is_no_cell() -> None:
    from cascade.runtime.notebook import is_in_cell
    from cascade.spec.shown import kernel

    assert kernel() is None
    assert not is_in_cell(sys._getframe())
