"""The frame of all pages, and the elements that they share.

Texts of engines and stores go into labels and cells of tables, which show them as they are, and
never into HTML.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import urlencode

from nicegui import ui

from cascade.spec.wording import visible
from cascade.web.model.history import Answer
from cascade.web.site import Site

#: Path → its name in the navigation.
PAGES: Final = {
    "/": "Overview",
    "/agents": "Agents",
    "/limits": "Limits",
    "/history": "History",
    "/cache": "Cache",
}
_THEMES: Final = {"auto": None, "dark": True, "light": False}
_THEME_COOKIE: Final = "cascade_theme"
_ICONS: Final = {"auto": "brightness_auto", "dark": "dark_mode", "light": "light_mode"}
#: Seconds between two looks at the data.
EVERY: Final = 1.0

#: The kind of a column: a *number* is aligned to the right, a *link* leads to ``<name>_to`` of its
#: row, a *state* has a colour, *wide* is for long texts, and *spark* for lines of bars.
Kind: TypeAlias = Literal["number", "link", "state", "wide", "spark"]


@contextmanager
def frame(site: Site, path: str, title: str = "") -> Iterator[None]:
    """The parts around a page: navigation, theme, whether the connection holds, and a title."""
    ui.link("Skip to the content", "#content").classes("skip")
    with ui.header().classes("bar"), ui.element("div").classes("bar-row"):
        with ui.element("div").classes("brand"):
            ui.element("img").props('src="/static/favicon.svg" alt=""')
            text("Cascade", tag="span")
        with ui.element("nav").classes("nav").props('aria-label="Pages"'):
            for target, name in PAGES.items():
                link = ui.element("a").props(f'href="{target}"')
                if target == path:
                    link.props('aria-current="page"')
                with link:
                    text(name, tag="span")
        _theme()
    with ui.element("div").props('id="content"').classes("nicegui-content"):
        lost = text("", "notice").props('role="status"')
        _watch_connection(site, lost)
        if site.read_only:
            text("This view is read-only.", "muted small")
        if title:
            text(title, tag="h1")
        yield


def _watch_connection(site: Site, lost: ui.element) -> None:
    def look() -> None:
        state = site.feed.connector.state
        lost.set_visibility(not state.connected)
        if not state.connected:
            say(lost, f"No connection to the engines: {state.reason}. What is shown may be old.")

    look()
    ui.timer(EVERY, look)


def _theme() -> None:
    cookies = ui.context.client.request.cookies
    chosen = cookies.get(_THEME_COOKIE, "auto")
    name = chosen if chosen in _THEMES else "auto"
    dark = ui.dark_mode(_THEMES[name])
    button = ui.button(icon=_ICONS[name], color=None).props("flat round dense")

    def turn() -> None:
        nonlocal name
        names = list(_THEMES)
        name = names[(names.index(name) + 1) % len(names)]
        dark.set_value(_THEMES[name])
        button.props(f"icon={_ICONS[name]}")
        label()
        ui.run_javascript(
            f'document.cookie = "{_THEME_COOKIE}={name}; path=/; max-age=31536000; samesite=strict"'
        )

    def label() -> None:
        button.props(f'aria-label="Colours: {name}" title="Colours: {name}"')

    label()
    button.on_click(turn)


def text(content: str, classes: str = "", tag: str = "div") -> ui.element:
    """An element with a text that is shown as it is."""
    element = ui.element(tag).classes(classes)
    say(element, content)
    return element


def say(element: ui.element, content: str) -> None:
    """Change the text of such an element."""
    shown = visible(content, lines=True)
    if element._text != shown:
        element._text = shown
        element.update()


def badge(state: str, content: str = "") -> ui.element:
    """A state, by colour and in words."""
    element = ui.element("span").classes("badge")
    set_badge(element, state, content)
    return element


def set_badge(element: ui.element, state: str, content: str = "") -> None:
    """Change the state of such an element."""
    say(element, content or state)
    element.classes(replace=f"badge s-{state}" if state.isalpha() else "badge")


@contextmanager
def panel(title: str, flush: bool = False, classes: str = "") -> Iterator[ui.element]:
    """A part of a page, with a heading."""
    with ui.element("section").classes(f"panel {'flush' if flush else ''} {classes}"):
        with ui.element("div").classes("row-line spread") as head:
            text(title, tag="h2")
        yield head


def address(path: str, **query: str) -> str:
    """An address within this server."""
    return f"{path}?{urlencode(query)}"


class Table:
    """A table whose rows are replaced, if they differ.

    Args:
        columns: Name → heading.
        kinds: Name → the kind of a column that is not one of short texts.
        key: Name of the value that tells rows apart.
        empty: The text in place of a table without rows.
    """

    def __init__(
        self,
        columns: Mapping[str, str],
        kinds: Mapping[str, Kind],
        *,
        key: str,
        empty: str,
    ) -> None:
        specs = [
            {
                "name": name,
                "label": label,
                "field": name,
                "align": "right" if kinds.get(name) == "number" else "left",
                "classes": "" if kinds.get(name) in _SLOTS else kinds.get(name, ""),
            }
            for name, label in columns.items()
        ]
        self.element = ui.table(columns=specs, rows=[], row_key=key).classes("plain-table")
        self.element.props("flat hide-bottom")
        self.empty = text(empty, "hint")
        for name, kind in kinds.items():
            if kind in _SLOTS:
                self.element.add_slot(f"body-cell-{name}", _SLOTS[kind])
        self.element.set_visibility(False)

    def show(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Show these rows."""
        new = [
            {n: visible(v, lines=True) if isinstance(v, str) else v for n, v in row.items()}
            for row in rows
        ]
        if new != self.element.rows:
            self.element.rows[:] = new
            self.element.update()
        self.element.set_visibility(bool(new))
        self.empty.set_visibility(not new)

    def act(self, name: str, label: str, react: Callable[[Mapping[str, Any]], Any]) -> None:
        """Let a column have a button that calls ``react`` with its row.

        Args:
            name: The name of the column.
            label: What the button does; fixed text.
            react: Called with the row.
        """
        self.element.add_slot(
            f"body-cell-{name}",
            f'''<q-td :props="props"><q-btn v-if="props.row.{name}" dense no-caps class="quiet"
            label="{label}" padding="2px 10px"
            @click="$parent.$emit('{name}', props.row)" /></q-td>''',
        )
        self.element.on(name, lambda event: react(event.args))


_LINK: Final = """<q-td :props="props">
<a v-if="props.row[props.col.name + '_to']" :href="props.row[props.col.name + '_to']">
{{ props.value }}</a><span v-else>{{ props.value }}</span></q-td>"""
_STATE: Final = """<q-td :props="props">
<span :class="'badge s-' + String(props.value).split(' ')[0]">{{ props.value }}</span></q-td>"""
_SLOTS: Final[Mapping[Kind, str]] = {"link": _LINK, "state": _STATE}


def every(refresh: Callable[[], Any], seconds: float = EVERY) -> None:
    """Call ``refresh`` now, and again and again while the page is open."""
    refresh()
    ui.timer(seconds, refresh)


def until_closed(release: Callable[[], None]) -> None:
    """Call ``release`` when the page is closed."""
    ui.context.client.on_delete(release)


async def tell(answer: Awaitable[Answer]) -> bool:
    """Show how something went; whether it was done."""
    done, said = await answer
    ui.notify(visible(said), type="positive" if done else "negative", multi_line=True)
    return done


async def asked(dialog: ui.dialog) -> Any:
    """Open a dialog, and wait for its answer; None if the page is left instead."""
    answer = await dialog
    if not dialog.is_deleted:
        dialog.delete()
    return answer


async def sure_to_cancel(run: str) -> bool:
    """Ask whether a run is really to be cancelled."""
    with ui.dialog() as dialog, ui.card():
        text("Cancel this run?", tag="h2")
        text(run, "break")
        text("Its coroutines are cancelled, and its plain functions are waited for.", "hint")
        with ui.element("div").classes("row-line"):
            button("Cancel the run", lambda: dialog.submit(True), "danger")
            button("Back", lambda: dialog.submit(False))
    return bool(await asked(dialog))


def button(label: str, act: Callable[[], Any], kind: str = "quiet") -> ui.button:
    """A button; ``kind`` is ``act``, ``quiet`` or ``danger``."""
    return ui.button(label, on_click=act, color=None).props("unelevated no-caps").classes(kind)
