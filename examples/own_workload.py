"""Describe your own traffic as columns, without a trace file.

Twenty reports are asked about by 400 users. A prompt is one report (a shared prefix) and a question
of the user's own. All that kvatlas needs to know is which blocks of tokens are equal.
"""

import numpy as np

from kvatlas.engine import EngineConfig, Replay
from kvatlas.workload import Workload, chain_ids

BLOCK_TOKENS = 16
rng = np.random.default_rng(0)
users = 400

report = rng.integers(0, 20, users)
report_blocks, question_blocks = 60, rng.integers(2, 12, users)
prompt_blocks = report_blocks + question_blocks

# Raw identities: any numbers, equal where the text is equal. Block j of report r gets r * 1000 + j,
# a block of somebody's question a number that nobody else has.
pieces = []
next_own = 1_000_000
for user in range(users):
    pieces.append(report[user] * 1000 + np.arange(report_blocks))
    pieces.append(next_own + np.arange(question_blocks[user]))
    next_own += question_blocks[user]
offsets = np.concatenate([[0], np.cumsum(prompt_blocks)])
# Chained: afterwards equal numbers mean equal whole prefixes, which is what a prefix cache sees.
ids, num_ids = chain_ids(np.concatenate(pieces), offsets, np.zeros(users, np.int32))

unknown = np.full(users, -1, np.int32)
none = np.zeros(users, np.int32)
workload = Workload(
    name="reports",
    source="examples/own_workload.py",
    arrival_s=np.cumsum(rng.exponential(0.05, users)),
    prompt_tokens=(prompt_blocks * BLOCK_TOKENS).astype(np.int32),
    output_tokens=rng.integers(20, 200, users).astype(np.int32),
    tokens_per_id=BLOCK_TOKENS,
    ids=ids,
    id_offsets=offsets,
    num_ids=num_ids,
    prefix_known=True,
    outputs_identified=False,
    session=unknown,
    parent=unknown,
    priority=none,
    salt=none,
)
workload.check()  # every promise between the columns, in milliseconds

for caching in (True, False):
    config = EngineConfig(num_blocks=4_000, enable_prefix_caching=caching)
    decisions = Replay(workload, config).run().decisions
    print(
        f"prefix caching {'on ' if caching else 'off'}: {decisions['scheduled_tokens']:,} tokens "
        f"computed in {decisions['steps']:,} steps, hit rate {decisions['hit_rate']:.1%}"
    )
