"""The rules as a table of the documentation, so that it cannot be out of date.

Owns: how a rule reads there. A test holds docs/guide/findings.md to it.
"""

from __future__ import annotations

from kvatlas.plan.rules import HEALTH_RULES, LEAST_SHOWN, RULES
from kvatlas.plan.rules.reading import DERIVED
from kvatlas.plan.rules.rule import Clause, Rule

__all__ = ["derived_table", "rules_table"]


def rules_table() -> str:
    """Return a section per rule: when it fires and why there, what it tries, what should move."""
    return "\n\n".join(map(_section, RULES + HEALTH_RULES))


def derived_table() -> str:
    """Return the figures that only rules use, with what they follow from."""
    rows = ["| Name | Says | Follows from |", "|---|---|---|"]
    for name, derived in DERIVED.items():
        needs = ", ".join(f"`{need}`" for need in derived.needs)
        rows.append(f"| `{name}` | {derived.says} | {needs} |")
    return "\n".join(rows)


def _section(rule: Rule) -> str:
    lines = [f"### {rule.name}", "", f"*{rule.tone}.* {rule.means}", ""]
    lines += ["| Fires when | because |", "|---|---|"]
    lines += [f"| {_condition(clause)} | {clause.why} |" for clause in rule.clauses]
    if rule.changes:
        tried = "; ".join(change.says for change in rule.changes)
        moves = ", ".join(f"`{name}`" for name in rule.moves)
        whither = {"up": "up", "down": "down", "keep": "not get worse"}[rule.whither]
        should = f"should go {whither}" if rule.whither != "keep" else f"should {whither}"
        first = "the first that is known of " if len(rule.moves) > 1 else ""
        lines += ["", f"Tries {tried}. What {should}: {first}{moves}."]
    if rule.advice:
        lines += ["", rule.advice]
    if rule.silenced_by:
        names = ", ".join(f"[{name}](#{name})" for name in rule.silenced_by)
        one_of = "one of " if len(rule.silenced_by) > 1 else ""
        lines += ["", f"Silent when {one_of}{names} says the same with more reason."]
    if rule in HEALTH_RULES:
        lines += ["", f"Said only while a verdict has fewer than {LEAST_SHOWN} findings."]
    if rule.alone:
        lines += ["", "Silent when any other rule but a good one has fired."]
    return "\n".join(lines)


def _condition(clause: Clause) -> str:
    return f"`{clause.figure}` {clause.side} {clause.bound:g}"
