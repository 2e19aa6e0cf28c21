"""The rules, as compiled code: plain functions over arrays of records (`state`).

From the ground up: `state`; `prefix_index`, `pool` (blocks); `identity`, `lookup`, `demand`,
`tables`, `caching`, `manager` (one request); `queues`, `mamba_chunks`, `preemption`, `scheduler`
(one step); `step_time`, `sums`, `stream`, `drive` (a whole workload). `entries` are the doors for
the public classes. Nothing here is called from Python except what is marked `@entry`.
"""
