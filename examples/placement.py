"""Which free blocks a request gets: runs of consecutive ids in its block table, and hits."""

from kvatlas.engine import DriveConfig, EngineConfig
from kvatlas.plan.placement import compare_placements
from kvatlas.workload import generate

workload = generate("conversation", seed=0, num_requests=400)
config = EngineConfig(num_blocks=2_500, max_num_seqs=16, max_num_batched_tokens=2_048)

for title, drive in (("one request after another", None), ("full scheduler", DriveConfig())):
    print(f"{title:<28}runs/request   by id  hit rate  hits")
    for row in compare_placements(workload, config, drive=drive).rows:
        by_id = row.measured.tables.mean("any_order_runs")
        print(
            f"  {row.title:<26}{row.runs_per_request:>12.2f}{by_id:>8.2f}"
            f"{row.token_hit_rate:>10.2%}  {'same' if row.same_hits else 'other'}"
        )
