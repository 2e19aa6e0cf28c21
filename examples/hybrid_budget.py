"""One budget over device blocks, a host tier and objects: the tuning moves it and says why."""

import numpy as np

from kvatlas.pressure.hybrid import Division, HybridAllocator, Tuning

BLOCK = 1024  # bytes; a real block has millions
start = Division(device_blocks=120, host_blocks=60, object_bytes=120 * BLOCK)
most = Division(device_blocks=300, host_blocks=300, object_bytes=600_000)


def make(tuning: Tuning | None) -> HybridAllocator:
    """Return an allocator over 300 blocks' worth of memory."""
    return HybridAllocator(
        300 * BLOCK,
        block_bytes=BLOCK,
        recompute_s=1e-3,
        restore_s=1e-4,
        most=most,
        start=start,
        tuning=tuning,
    )


def serve(allocator: HybridAllocator, requests: int, image_share: float, seed: int) -> None:
    """Ask about 30 documents of 8 blocks; some requests bring one of 20 images."""
    rng = np.random.default_rng(seed)
    for _ in range(requests):
        if rng.random() < image_share:
            image = int(rng.integers(20))
            if allocator.get_object(image) is None:
                allocator.put_object(image, bytes(8_000), cost_s=40e-3)
        document = 1_000 * int(rng.integers(30))
        request = allocator.admit([document + at for at in range(8)])
        assert request is not None
        allocator.finish(request)


tuned, still = make(Tuning(interval=50, step_share=1 / 20, least_requests=50)), make(None)
for phase, share, seed in (("documents", 0.0, 1), ("with images", 0.9, 2)):
    for allocator in (tuned, still):
        serve(allocator, 1_000, share, seed)
    now = tuned.division
    print(f"{phase:12} device {now.device_blocks}, host {now.host_blocks} blocks,", end=" ")
    print(f"objects {now.object_bytes // BLOCK} KiB")
tuned.check()
for name, allocator in (("tuned", tuned), ("as it began", still)):
    print(f"{name:12} saved {allocator.counts().saved_s:.1f} s")
moves = [look for look in tuned.looks if look.moved]
print(f"{len(moves)} of {len(tuned.looks)} looks moved memory; the last two:")
for look in moves[-2:]:
    print(f"  after {look.admissions:,} requests: {look.why}")
