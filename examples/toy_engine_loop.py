"""A toy engine whose requests, blocks and steps are served by kvatlas's Scheduler.

The "model" is a random number generator; everything around it is what a real engine would do:
schedule a step, run it over the given block tables, hand the sampled tokens back.
"""

import random

from kvatlas.engine import EngineConfig, Request, Scheduler

rng = random.Random(0)
scheduler = Scheduler(EngineConfig(num_blocks=16, block_size=16, max_num_seqs=4))

system_prompt = [rng.randrange(32_000) for _ in range(40)]
for user in range(5):
    question = [rng.randrange(32_000) for _ in range(rng.randrange(8, 60))]
    scheduler.add_request(
        Request(f"user-{user}", system_prompt + question, max_tokens=12 + 8 * user)
    )


def run_model(
    block_tables: dict[str, tuple[list[int], ...]], who: tuple[str, ...]
) -> dict[str, int]:
    """Stand in for a forward pass over the paged KV cache: one token for each of `who`."""
    assert all(block_tables[name][0] for name in who)
    return {name: rng.randrange(32_000) for name in who}


step = 0
while scheduler.has_requests():
    step += 1
    output = scheduler.schedule()
    for name, hit in output.num_computed_tokens.items():
        verb = "starts" if name in output.scheduled_new else "resumes"
        blocks = output.block_tables[name][0]
        print(f"step {step:3}: {name} {verb}, {hit} tokens from the cache, blocks {blocks}")
    for name in output.preempted:
        print(f"step {step:3}: {name} gives its blocks back")
    sampled = run_model(output.block_tables, output.sampling)
    for request in scheduler.update_from_output(output, sampled):
        print(f"step {step:3}: {request.request_id} is done, pool {scheduler.usage:.0%} in use")
    scheduler.check()  # every invariant of pool, tables and queues; leave it out in production

stats = scheduler.prefix_cache_stats
print(f"{stats['hits']} of {stats['queries']} prompt tokens came from the prefix cache")
