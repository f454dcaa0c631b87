"""A dialog that sends a signal to a run: a form made from the annotation of the task that waits."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from nicegui import ui

from cascade.web.model.answers import start_of, value_of
from cascade.web.pages.frame import asked, button, say, tell, text
from cascade.web.site import Site

#: Seconds to wait for an engine to say what it waits for.
_PATIENCE = 4.0


async def answer(site: Site, engine: str, run: str, signal: str) -> None:
    """Ask for the value of a signal, and send it."""
    form = await _form(site, engine, run, signal)
    with ui.dialog().props("persistent") as dialog, ui.card().style("min-width: min(420px, 92vw)"):
        text(f"Send {signal}", tag="h2")
        text(f"to {run}", "muted small break")
        given: dict[str, Any] = {"value": start_of(form)}
        with ui.element("div").style("width: 100%; display: grid; gap: 10px"):
            _draw(form, given, "value", "Value")
        fault = text("", "notice small").props('role="alert"')
        fault.set_visibility(False)

        def send() -> None:
            try:
                dialog.submit((value_of(form, given["value"]),))
            except ValueError as error:
                say(fault, str(error))
                fault.set_visibility(True)

        with ui.element("div").classes("row-line"):
            button("Send", send, "act")
            button("Back", lambda: dialog.submit(None))
    sent = await asked(dialog)
    if sent is not None:
        await tell(site.signal(engine, run, signal, sent[0]))


async def _form(site: Site, engine: str, run: str, signal: str) -> Mapping[str, Any]:
    """The form that the engine gives; any JSON, if it gives none in time."""
    release = site.feed.look(run=(engine, run))
    try:
        async with asyncio.timeout(_PATIENCE):
            forms = site.feed.nodes[engine, run].forms
            while signal not in forms:  # the page looks a few times a second, too
                await asyncio.sleep(0.1)
                forms = site.feed.nodes[engine, run].forms
            return dict(forms[signal])
    except TimeoutError:
        return {"kind": "json"}
    finally:
        release()


def _draw(form: Mapping[str, Any], given: dict[str, Any], key: str, label: str) -> None:
    """The fields of a form, which write what they are given to ``given[key]``."""
    kind = form.get("kind")
    if kind == "fields":
        for field in form["fields"]:
            _draw(field["form"], given[key], field["name"], field["name"])
    elif kind == "yes or no":
        ui.checkbox(label).bind_value(given, key)
    elif kind == "choice":
        options = {value: str(value) for value in form["choices"]}
        if form.get("none"):
            options = {None: "none", **options}
        ui.select(options, label=label).bind_value(given, key).props("outlined dense")
    elif kind == "text":
        ui.textarea(label).bind_value(given, key).props("outlined dense autogrow rows=1")
    else:
        hint = 'in JSON, such as {"ok": true}' if kind == "json" else str(kind)
        ui.input(f"{label} ({hint})").bind_value(given, key).props("outlined dense")
