"""The rules, as compiled code: plain functions over arrays of records (`state`).

From the ground up: `state`; blocks: `prefix_index`, `pool`; one request: `attention`, `identity`,
`lookup`, `demand`, `tables`, `caching`, `manager`; one step: `queues`, `mamba_chunks`,
`preemption`, `scheduler`; a whole workload: `arrivals`, `step_time`, `sums`, `stream`, `glide`,
`drive`. `entries` are the doors for the public classes. Python can call nothing here but what is
marked `@entry`.
"""
