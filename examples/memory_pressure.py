"""A pool far too small: the ladder that finds blocks anyway, and every answer still right."""

from kvatlas.engine import EngineConfig, KVCacheManager, Request
from kvatlas.errors import InputError
from kvatlas.pressure import OOMHandler

BLOCKS, BLOCK_SIZE = 12, 4
config = EngineConfig(num_blocks=BLOCKS, block_size=BLOCK_SIZE, max_num_seqs=4, max_model_len=64)
manager = KVCacheManager(config, secret=b"example")
handler = OOMHandler(manager)

waiting = [Request(f"request {i}", list(range(10 * i, 10 * i + 8)), 16) for i in range(4)]
steps = 0
while waiting or handler.running:
    handler.new_step()
    steps += 1
    scheduled: dict[str, int] = {}
    for request in handler.running:  # the most entitled first: the last ones may have to give way
        if request in handler.running:
            tokens = request.num_tokens - request.num_computed_tokens
            if handler.grow(request, tokens) is not None:
                scheduled[request.request_id] = tokens
            for victim in handler.take_preempted():
                scheduled.pop(victim.request_id, None)
                waiting.append(victim)
                print(f"step {steps:2}: {victim.request_id} gives way for {request.request_id}")
    for request in handler.order(waiting):
        admitted = handler.admit(request)
        if admitted is not None:
            waiting.remove(request)
            scheduled[request.request_id] = admitted.new_tokens
            found = admitted.hit_tokens
            print(f"step {steps:2}: {request.request_id} is admitted, {found} tokens found")
    for request in handler.running:
        request.num_computed_tokens += scheduled[request.request_id]
        request.append_output_token_ids(7)  # your model here
        if len(request.output_token_ids) == request.max_tokens:
            handler.finish(request)
            print(f"step {steps:2}: {request.request_id} is done")
    handler.check()

for rung, count in handler.stats.as_dict().items():
    if count:
        print(f"{rung:16} {count:4}")
try:
    handler.admit(Request("too large", list(range(40)), 20))
except InputError as error:
    print(error)
