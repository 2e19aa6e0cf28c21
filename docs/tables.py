"""Tables of the documentation that come from the code, so that they cannot be out of date.

A page says `<!-- table: NAME ARGUMENT... -->` and gets the table when the site is built: this
module is a hook of mkdocs. Owns: which tables there are.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

_TAG = re.compile(r"<!-- table: (?P<name>[\w-]+)(?P<arguments>(?: [\w-]+)*) -->")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page with its tables (called by mkdocs)."""
    return _TAG.sub(lambda tag: TABLES[tag["name"]](*tag["arguments"].split()), markdown)


def flags(*command: str) -> str:
    """Return the arguments and flags of a command, by the panels of its help."""
    parameters = [p for p in find_command(command).params if not getattr(p, "hidden", False)]
    lines: list[str] = []
    panels = dict.fromkeys(getattr(p, "rich_help_panel", None) or "" for p in parameters)
    for panel in panels:
        if panel:
            lines += [f"**{panel}**", ""]
        inside = [p for p in parameters if (getattr(p, "rich_help_panel", None) or "") == panel]
        lines += [*_table(("Flag", "Default", "Meaning"), map(_flag, inside)), ""]
    return "\n".join(lines)


def find_command(path: Sequence[str]) -> Any:
    """Return the click command under these words, such as ("traces", "fetch")."""
    command = _root_command()
    for word in path:
        command = command.commands[word]
    return command


@cache
def _root_command() -> Any:
    """Return the click command of the whole program: a third of a second to make."""
    import typer

    from kvatlas.cli.app import app

    return typer.main.get_command(app)


def _flag(parameter: Any) -> tuple[str, str, str]:
    if parameter.param_type_name == "argument":
        shown = "none" if parameter.required is False else "required"
        return f"`{parameter.metavar or parameter.name.upper()}`", shown, parameter.help or ""
    names = "`" + "`, `".join([*parameter.opts, *parameter.secondary_opts]) + "`"
    if parameter.metavar:
        names += f" {parameter.metavar.replace('|', ' or ')}"
    default = parameter.default
    if parameter.secondary_opts:
        default = (parameter.opts if default else parameter.secondary_opts)[0]
    shown = "" if default is None or default is False else f"`{default}`"
    return names, shown, parameter.help or ""


def formats() -> str:
    """Return the trace formats: name and what each holds."""
    from kvatlas.workload import format_names, reader_for

    rows = ((f"`{name}`", reader_for(name).summary) for name in format_names())
    return "\n".join(_table(("Format", "What it holds"), rows))


def reader_options() -> str:
    """Return the options that the readers take in `load(path, **options)`."""
    from kvatlas.workload import format_names, reader_for

    rows = [
        (f"`{name}`", f"`{option}`", what)
        for name in format_names()
        for option, what in reader_for(name).options.items()
    ]
    return "\n".join(_table(("Format", "Option", "Meaning (default)"), rows))


def generators() -> str:
    """Return the built-in workloads."""
    from kvatlas.workload.generators import GENERATORS

    rows = ((f"[`{g.name}`](#{g.name})", g.summary) for g in GENERATORS.values())
    return "\n".join(_table(("Workload", "Traffic"), rows))


def knobs(name: str) -> str:
    """Return the knobs of one built-in workload."""
    from kvatlas.workload.generators import GENERATORS

    rows = (
        (f"`{knob.name}`", f"{knob.default} {knob.unit}".rstrip(), knob.what)
        for knob in GENERATORS[name].knob_infos
    )
    return "\n".join(_table(("Knob", "Default", "Meaning"), rows))


def public_traces() -> str:
    """Return the public traces that can be fetched."""
    from kvatlas.units import format_bytes
    from kvatlas.workload.public_traces import TRACES

    rows = (
        (
            f"`{trace.name}`",
            trace.what,
            "unknown" if trace.size_bytes is None else format_bytes(trace.size_bytes),
            trace.licence,
            f"[source]({trace.source})",
        )
        for trace in TRACES.values()
    )
    return "\n".join(_table(("Name", "What", "Size", "Licence", ""), rows))


def models() -> str:
    """Return the models that are known by name."""
    from kvatlas.model import catalogue_names, load_model

    rows = []
    for name in catalogue_names():
        kinds = load_model(name).kinds
        rows.append((f"`{name}`", ", ".join(sorted(kinds))))
    return "\n".join(_table(("Model", "Kinds of layers"), rows))


def devices() -> str:
    """Return the devices that are known by name."""
    from kvatlas.budget import DEVICES
    from kvatlas.units import format_bytes

    rows = (
        (
            f"`{device.name}`",
            device.title,
            format_bytes(device.total_bytes),
            device.source if device.reported else "nominal: no public output was found",
        )
        for device in DEVICES.values()
    )
    return "\n".join(_table(("Name", "Device", "Total", "Where that is from"), rows))


def versions() -> str:
    """Return the engine versions whose rules are known."""
    from kvatlas.engine.nano import NANO_VERSIONS
    from kvatlas.engine.versions import VLLM_VERSIONS

    rows = [("`vllm`", f"`{version}`") for version in VLLM_VERSIONS]
    rows += [("`nano-vllm`", f"`{version}`") for version in NANO_VERSIONS]
    return "\n".join(_table(("`--engine`", "`--engine-version`"), rows))


def policies() -> str:
    """Return the eviction policies: name, what goes first, by leaf or flat, who published it."""
    from kvatlas.eviction import POLICIES

    rows = (
        (f"`{p.name}`", p.summary, "by leaf" if p.by_leaf else "flat", p.source)
        for p in POLICIES.values()
    )
    return "\n".join(_table(("Policy", "Evicts first", "", "Source"), rows))


def layouts() -> str:
    """Return the layouts of keys and values: name, order of the axes, which engine has them."""
    from kvatlas.storage import LAYOUTS

    rows = (
        (f"`{each.name}`", each.summary, f"`{', '.join(each.axes)}`", each.source)
        for each in LAYOUTS.values()
    )
    return "\n".join(_table(("Layout", "What it is", "Axes, slowest first", "Who has it"), rows))


def placements() -> str:
    """Return the placement policies: name, what a request gets, whether hits stay, who says so."""
    from kvatlas.placement import PLACEMENTS

    rows = (
        (f"`{p.name}`", p.summary, "the queue's" if p.same_victims else "may differ", p.source)
        for p in PLACEMENTS.values()
    )
    return "\n".join(_table(("Policy", "A request gets", "Hits", "Source"), rows))


def events() -> str:
    """Return the events and what they say."""
    from kvatlas.events import EVENTS

    return "\n".join(_table(("Event", "What it says"), ((f"`{n}`", s) for n, s in EVENTS.items())))


def event_causes() -> str:
    """Return the causes, each with the events that can have it."""
    from kvatlas.events import CAUSES, EVENTS

    rows = (
        (
            f"`{cause}`",
            ", ".join(f"`{event}`" for event, says in EVENTS.items() if f"`{cause}`" in says),
        )
        for cause in CAUSES
    )
    return "\n".join(_table(("Cause", "Of the events"), rows))


def event_columns() -> str:
    """Return the columns of a file of events."""
    from kvatlas.events import COLUMNS

    types = {"text": "text (dictionary)"}
    rows = [(f"`{c.name}`", types.get(c.type, c.type), c.meaning) for c in COLUMNS]
    rows += [
        ("`blocks`", "list of int32", "block ids, where a row lists them"),
        ("`name`", "text", "`arrived`: the request's own id, where it has one"),
    ]
    return "\n".join(_table(("Column", "Type", "Meaning"), rows))


def event_header() -> str:
    """Return the fields of a recording's header."""
    from kvatlas.events import Header

    return "\n".join(_table(("Field", "Meaning"), _attributes(Header)))


def event_groups() -> str:
    """Return the fields of a KV cache group in a header."""
    from kvatlas.events import Group

    return "\n".join(_table(("Field", "Meaning"), _attributes(Group)))


def wire_records() -> str:
    """Return the records of a live recording: code, name and words."""
    from kvatlas.wire.layout import FIELDS

    rows = ((str(code), f"`{name}`", said) for code, (name, said) in enumerate(FIELDS.items(), 1))
    return "\n".join(_table(("Code", "Record", "Words behind the first"), rows))


def memory_gc() -> str:
    """Return what a sample of memory says of Python's collector."""
    from kvatlas.events.live.memory import GcPauses

    return "\n".join(_table(("Field", "Meaning"), _attributes(GcPauses)))


def memory_torch() -> str:
    """Return what a sample of memory says of torch's allocator on one device."""
    from kvatlas.events.live.memory import TorchMemory

    return "\n".join(_table(("Field", "Meaning"), _attributes(TorchMemory)))


def memory_devices() -> str:
    """Return what a sample of memory says of one device of the machine."""
    from kvatlas.events.live.memory import DeviceMemory

    return "\n".join(_table(("Field", "Meaning"), _attributes(DeviceMemory)))


def metrics() -> str:
    """Return the Prometheus metrics: name, labels and meaning."""
    from kvatlas.watch.metric_table import METRICS

    rows = (
        (f"`{m.name}`", ", ".join(f"`{label}`" for label in m.labels), m.kind, m.help)
        for m in METRICS
    )
    return "\n".join(_table(("Name", "Labels", "Kind", "Meaning"), rows))


def measurements(of: str) -> str:
    """Return the names that the page on measurements says are in `of` (or in both), by prefix."""
    page = Path(__file__).parent / "reference" / "measurements.md"
    names = measurement_names(page.read_text(encoding="utf-8"), of)
    prefixes = dict.fromkeys(name.split(".")[0] for name in names)
    rows = (
        (f"`{prefix}.`", ", ".join(f"`{n}`" for n in names if n.startswith(f"{prefix}.")))
        for prefix in prefixes
    )
    return "\n".join(_table(("", "Names"), rows))


def measurement_names(text: str, of: str) -> list[str]:
    """Return the names in the tables of the page on measurements that are in `of` or in both."""
    rows = re.findall(r"^\| (`[a-z_]+\..*`) \| (\w+) \| ", text, re.MULTILINE)
    return [name for names, where in rows if where in (of, "both")
            for name in re.findall(r"`([\w.]+)`", names)]  # fmt: skip


def _attributes(described: type) -> Iterator[tuple[str, str]]:
    """Yield names and meanings from the section "Attributes" of a class's docstring."""
    section = (inspect.getdoc(described) or "").split("Attributes:\n")[1].split("\n\n")[0]
    for entry in re.split(r"\n(?=    \w)", section):
        names, _, meaning = entry.strip().partition(": ")
        yield ", ".join(f"`{name}`" for name in names.split(", ")), " ".join(meaning.split())


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"


TABLES: dict[str, Callable[..., str]] = {
    "devices": devices,
    "event-causes": event_causes,
    "event-columns": event_columns,
    "event-groups": event_groups,
    "event-header": event_header,
    "events": events,
    "flags": flags,
    "formats": formats,
    "generators": generators,
    "knobs": knobs,
    "layouts": layouts,
    "measurements": measurements,
    "memory-devices": memory_devices,
    "memory-gc": memory_gc,
    "memory-torch": memory_torch,
    "metrics": metrics,
    "models": models,
    "placements": placements,
    "policies": policies,
    "public-traces": public_traces,
    "reader-options": reader_options,
    "versions": versions,
    "wire-records": wire_records,
}
