"""What the help screen says.

Owns: the words. Leaves to others: what the keys do (`app`).
"""

__all__ = ["HELP"]

HELP = """\
[bold]kvatlas top[/bold]: the KV memory of an engine, as it changes

[bold]q[/bold] quit  [bold]o[/bold] overview  [bold]m[/bold] map  [bold]r[/bold] requests  \
[bold]d[/bold] details  [bold]b[/bold] map by owner or state
[bold]n[/bold] [bold]p[/bold] next, previous engine  [bold]1[/bold]-[bold]9[/bold] engine by number
A recording: [bold]space[/bold] pause  [bold].[/bold] one step  [bold]left right[/bold] 10 s  \
[bold]home end[/bold]  [bold]+ -[/bold] speed

[bold]Pool[/bold]       owned blocks of all blocks; free ones that are still cached
[bold]Slots[/bold]      slots that hold a token, of all: the true occupancy;
           wasted: what owned blocks leave empty
[bold]Hit rate[/bold]   prompt tokens found in the prefix cache, of those asked for
[bold]Tokens/s[/bold]   computed, mean over 10 s
[bold]Preempted[/bold]  requests that lost their blocks; refused tries to get some
[bold]Evicted[/bold]    cached blocks that lost their content; too early: those
           that were asked for again

In the table: computed tokens are told once per block while a request
decodes; hit: tokens found in the cache; lost: how often preempted.
Curves show the last ten minutes up to their own highest value, the hit
rate's up to 100%.                                     [dim]any key: back[/dim]
"""
